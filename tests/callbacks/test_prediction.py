"""MaskWriter through `predict` in a real Trainer."""

import numpy as np
import torch
from PIL import Image
from torch import nn

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
