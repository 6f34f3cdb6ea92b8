"""MaskWriter through `predict` in a real Trainer."""

from pathlib import Path

import numpy as np
import pytest
import torch
from lightning import LightningDataModule
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader

from segaudit.callbacks import MaskWriter
from segaudit.data import ShortcutScenes
from segaudit.training.task import SegmentationTask
from segaudit.training.trainer import Trainer


def test_predict_writes_the_class_map_of_every_image(tmp_path):
    torch.manual_seed(0)
    task = SegmentationTask(nn.Conv2d(3, 4, 1), class_names=["a", "b", "c", "d"])
    data = ShortcutScenes(size=24, test_images=3, batch_size=2)
    trainer = Trainer(
        default_root_dir=tmp_path, callbacks=[MaskWriter()], accelerator="cpu", enable_progress_bar=False, logger=None
    )
    predictions = trainer.predict(task, data)
    ids = [name for batch in predictions for name in batch["id"]]
    maps = torch.cat([batch["mask"] for batch in predictions])
    files = sorted(tmp_path.glob("version_0/predictions/*.png"))
    assert [file.stem for file in files] == sorted(ids)
    for name, expected in zip(ids, maps, strict=True):
        written = np.asarray(Image.open(tmp_path / "version_0" / "predictions" / f"{name}.png"))
        np.testing.assert_array_equal(written, expected.numpy())


class Named(LightningDataModule):
    """One bright image for each id; image k has the value k everywhere."""

    def __init__(self, ids: list[str]) -> None:
        super().__init__()
        self.items = [{"image": torch.full((1, 4, 4), float(k)), "id": name} for k, name in enumerate(ids)]

    def predict_dataloader(self) -> DataLoader:
        return DataLoader(self.items, batch_size=2)


class Counts(nn.Module):
    """Predicts the class ``offset + k`` for an image of the value k."""

    def __init__(self, classes: int, offset: int) -> None:
        super().__init__()
        self.classes, self.offset = classes, offset

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return nn.functional.one_hot(images[:, 0].long() + self.offset, self.classes).movedim(-1, 1).float()


def predicted(folder: Path, ids: list[str], classes: int = 8, offset: int = 0) -> dict[str, int]:
    """Predict, and read the class of every file by its path in the folder of the masks."""
    task = SegmentationTask(Counts(classes, offset), class_names=[f"c{k}" for k in range(classes)])
    trainer = Trainer(default_root_dir=folder, callbacks=[MaskWriter()], accelerator="cpu", enable_progress_bar=False)
    trainer.predict(task, Named(ids))
    files = {str(path.relative_to(folder / "version_0" / "predictions")): path for path in folder.rglob("*.png")}
    values = {name: np.unique(np.asarray(Image.open(path))) for name, path in files.items()}
    assert all(len(value) == 1 for value in values.values())
    return {name: int(value[0]) for name, value in sorted(values.items())}


def test_ids_of_one_name_in_different_folders_stay_apart(tmp_path):
    found = predicted(tmp_path, ["a/1", "a/2", "b/1", "/b/c/1", "..\\..\\d\\1"])
    assert found == {"a/1.png": 0, "a/2.png": 1, "b/1.png": 2, "b/c/1.png": 3, "d/1.png": 4}


def test_two_images_of_one_id_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"two images have the id 'a'.*give every image an id of its own"):
        predicted(tmp_path, ["a", "b", "a"])


def test_classes_above_255_need_16_bits(tmp_path):
    assert predicted(tmp_path, ["a", "b", "c"], classes=300, offset=254) == {"a.png": 254, "b.png": 255, "c.png": 256}
