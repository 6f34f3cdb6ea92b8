from types import SimpleNamespace

import albumentations as A
import pytest
import torch
from jsonargparse import ArgumentParser
from lightning import LightningDataModule
from lightning.pytorch.cli import LightningCLI

from segaudit.data import DataError, FolderDataModule, SegmentationDataModule, ShortcutScenes

YAML = """
data:
  class_path: segaudit.data.ShortcutScenes
  init_args:
    size: 32
    batch_size: 4
    image_size: [24, 40]
    train_images: 12
    seed: 5
    train_transforms:
      - class_path: albumentations.HorizontalFlip
        init_args: {p: 0.5}
      - class_path: albumentations.RandomResizedCrop
        init_args: {size: [24, 40], scale: [0.5, 1.0]}
      - class_path: albumentations.ColorJitter
        init_args: {brightness: [0.8, 1.2], hue: [-0.1, 0.1]}
"""


def from_python(**kwargs):
    transforms = [
        A.HorizontalFlip(p=0.5),
        A.RandomResizedCrop(size=(24, 40), scale=(0.5, 1.0)),
        A.ColorJitter(brightness=(0.8, 1.2), hue=(-0.1, 0.1)),
    ]
    arguments = {"size": 32, "batch_size": 4, "image_size": (24, 40), "train_images": 12, "seed": 5, **kwargs}
    return ShortcutScenes(train_transforms=transforms, **arguments)


def batches(data):
    return list(data.train_dataloader())


def assert_equal_batches(a, b):
    assert len(a) == len(b)
    for x, y in zip(a, b, strict=True):
        assert x["id"] == y["id"]
        for name in ("image", "mask", "cue"):
            assert torch.equal(x[name], y[name])


def test_yaml_builds_the_same_pipeline():
    parser = ArgumentParser()
    parser.add_subclass_arguments(LightningDataModule, "data")
    data = parser.instantiate_classes(parser.parse_string(YAML)).data
    assert isinstance(data, ShortcutScenes)
    assert [type(t) for t in data.train_transforms] == [A.HorizontalFlip, A.RandomResizedCrop, A.ColorJitter]
    found, expected = batches(data), batches(from_python())
    assert found[0]["image"].shape == (4, 3, 24, 40)
    assert_equal_batches(found, expected)


def test_lightning_cli_builds_it(tmp_path, monkeypatch):
    from lightning.pytorch.demos.boring_classes import BoringModel

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["cli"])
    (tmp_path / "config.yaml").write_text(YAML)
    cli = LightningCLI(
        BoringModel,
        SegmentationDataModule,
        subclass_mode_data=True,
        run=False,
        args=["--config", "config.yaml", "--trainer.logger=false"],
        save_config_callback=None,
        seed_everything_default=False,
    )
    assert_equal_batches(batches(cli.datamodule), batches(from_python()))


def test_training_data_repeat_with_the_seed():
    assert_equal_batches(batches(from_python()), batches(from_python()))
    assert batches(from_python())[0]["id"] != batches(from_python(seed=6))[0]["id"]
    loader = from_python().train_dataloader()
    first, second = list(loader), list(loader)
    assert [b["id"] for b in first] != [b["id"] for b in second]


def test_workers_change_nothing():
    data = from_python(num_workers=2, shortcut=0.5)
    loader = data.train_dataloader()
    assert loader.persistent_workers
    alone = from_python(shortcut=0.5).train_dataloader()
    for _ in range(2):  # the second epoch reaches workers that were there before
        assert_equal_batches(list(loader), list(alone))


def test_an_epoch_can_be_entered_at_once():
    loader, other = from_python().train_dataloader(), from_python().train_dataloader()
    epochs = [list(loader) for _ in range(3)]
    other.sampler.set_epoch(2)
    assert_equal_batches(list(other), epochs[2])
    assert not torch.equal(epochs[0][0]["image"], epochs[1][0]["image"])


class OneImage(torch.utils.data.Dataset):
    """The same image again and again: what differs comes from the random transforms."""

    def __init__(self, pipeline):
        self.pipeline = pipeline
        self.scene = ShortcutScenes(size=32).dataset("train").scene(0)

    def __len__(self):
        return 16

    def __getitem__(self, index):
        return self.pipeline(self.scene.image, str(index), mask=self.scene.mask)


class OneImageData(SegmentationDataModule):
    class_names = ["background", "disc", "square", "triangle"]  # noqa: RUF012

    def dataset(self, split):
        return OneImage(self.pipeline(split))


def test_workers_draw_their_own_transforms():
    data = OneImageData(batch_size=8, num_workers=2, train_transforms=[A.RandomCrop(16, 16), A.D4()])
    one, two = batches(data)
    assert not torch.equal(one["image"], two["image"])


def test_only_training_images_are_transformed():
    data = from_python()
    for split in ("val", "test"):
        a, b = data.dataset(split)[0], data.dataset(split)[0]
        assert torch.equal(a["image"], b["image"])
    train, val = data.dataset("train"), data.dataset("val")
    before = train[0]["image"], val[0]["image"]
    for split in (train, val):
        split.pipeline.set_epoch(1)
    assert not torch.equal(train[0]["image"], before[0])
    assert torch.equal(val[0]["image"], before[1])


@pytest.mark.parametrize(("images", "expected"), [(3, [3]), (4, [4]), (9, [4, 4])])
def test_the_last_batch(images, expected):
    data = ShortcutScenes(size=16, batch_size=4, train_images=images, val_images=9)
    assert [len(b["id"]) for b in data.train_dataloader()] == expected
    assert [len(b["id"]) for b in data.val_dataloader()] == [4, 4, 1]


def test_processes_of_a_distributed_run():
    def in_process(rank, images=12, **options):
        data = from_python(train_images=images, **options)
        data.trainer = SimpleNamespace(world_size=2, global_rank=rank, current_epoch=0)
        return data.train_dataloader()

    whole = batches(from_python(batch_size=1))
    shared = [batch for rank in (0, 1) for batch in in_process(rank, batch_size=1)]
    order = [one["id"][0] for one in whole]
    assert_equal_batches(sorted(shared, key=lambda batch: order.index(batch["id"][0])), whole)  # each image once
    assert in_process(0).drop_last
    assert not in_process(0, images=7).drop_last  # four images for each: the only batch must stay


def test_predict_is_test():
    data = ShortcutScenes(size=16, test_images=3)
    assert next(iter(data.predict_dataloader()))["id"] == next(iter(data.test_dataloader()))["id"]
    assert next(iter(data.predict_dataloader()))["id"][0] == "test-00000"


def test_images_of_different_sizes(pair_folder):
    pair_folder("train", {"a": (8, 8), "b": (8, 10)})
    root = pair_folder.root
    with pytest.raises(DataError, match=r"different sizes.*\(8, 8\) and \(8, 10\).*image_size"):
        batches(FolderDataModule(root))
    assert batches(FolderDataModule(root, image_size=(8, 8)))[0]["image"].shape == (2, 3, 8, 8)


def test_the_trainer_runs_it():
    from lightning import Trainer
    from lightning.pytorch.demos.boring_classes import BoringModel

    class Small(BoringModel):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Conv2d(3, 4, 1)

        def step(self, batch):
            return torch.nn.functional.cross_entropy(self.layer(batch["image"]), batch["mask"])

        def training_step(self, batch, batch_idx):
            return self.step(batch)

        def validation_step(self, batch, batch_idx):
            return {"x": self.step(batch)}

        def test_step(self, batch, batch_idx):
            return {"y": self.step(batch)}

    trainer = Trainer(max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False, accelerator="cpu")
    data = ShortcutScenes(size=16, train_images=8, val_images=4, test_images=4)
    trainer.fit(Small(), data)
    trainer.test(Small(), data, verbose=False)
    assert trainer.state.finished
