"""SegmentationDataModule: the base class of all datamodules here."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import albumentations as A
import torch
from lightning import LightningDataModule
from torch.utils.data import DataLoader, Dataset, DistributedSampler, default_collate

from segaudit.data.error import DataError
from segaudit.data.pipeline import IMAGENET_MEAN, IMAGENET_STD, Pipeline

Split = Literal["train", "val", "test"]
Item = dict[str, Any]


class SegmentationDataModule(LightningDataModule, ABC):
    """Makes loaders whose batches are `{"image": (B, C, H, W) float, "mask": (B, H, W) int64, "id": list[str]}`.

    In a mask, 255 means "ignore". A subclass defines its splits (`dataset`) and its class names. Prediction uses the test
    split.

    Args:
        batch_size: Images per batch (per process).
        num_workers: Processes that load data; 0 loads in the main process.
        image_size: (height, width) to which every image is resized; None does not resize.
        train_transforms: Albumentations transforms for training images, between resizing and normalisation. A
            transform that pads needs `fill_mask: 255`, or else the padding counts as class 0.
        mean: Mean of each channel for the normalisation, on the scale 0..1. Defaults to ImageNet's.
        std: Standard deviation of each channel, on the same scale. Defaults to ImageNet's.
        seed: Seed of the training order and of the random transforms.
    """

    class_names: list[str]

    def __init__(
        self,
        batch_size: int = 8,
        num_workers: int = 0,
        image_size: tuple[int, int] | None = None,
        train_transforms: list[A.BasicTransform] | None = None,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.image_size = image_size
        self.train_transforms = train_transforms or []
        self.mean = mean
        self.std = std
        self.seed = seed

    @abstractmethod
    def dataset(self, split: Split) -> Dataset[Item]:
        """Build the dataset of one split, with `self.pipeline(split)` as its attribute `pipeline`."""

    @property
    def num_classes(self) -> int:
        """The number of classes, background included."""
        return len(self.class_names)

    def pipeline(self, split: Split) -> Pipeline:
        """Build the pipeline of one split; only training images go through the random transforms."""
        transforms = self.train_transforms if split == "train" else []
        return Pipeline(self.image_size, transforms, self.mean, self.std, self.seed)

    def train_dataloader(self) -> DataLoader[Item]:
        """Return the shuffled training loader. It drops the last batch if that is not full, unless it is the only one."""
        return self._loader("train")

    def val_dataloader(self) -> DataLoader[Item]:
        """Return the validation loader, in order."""
        return self._loader("val")

    def test_dataloader(self) -> DataLoader[Item]:
        """Return the test loader, in order."""
        return self._loader("test")

    def predict_dataloader(self) -> DataLoader[Item]:
        """Return the loader of the test split, in order."""
        return self._loader("test")

    def _loader(self, split: Split) -> DataLoader[Item]:
        dataset = self.dataset(split)
        train = split == "train"
        processes = self.trainer.world_size if self.trainer else 1
        sampler = None
        if train:
            sampler = TrainingOrder(dataset, processes, self.trainer.global_rank if self.trainer else 0, self.seed)
            if self.trainer:  # a resumed run reads ahead before Lightning sets the epoch
                sampler.set_epoch(self.trainer.current_epoch)
        per_process = -(-len(dataset) // processes)  # type: ignore[arg-type]
        return DataLoader(
            dataset,
            batch_size=self.batch_size,
            sampler=sampler,
            drop_last=train and per_process > self.batch_size,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=torch.cuda.is_available(),
            collate_fn=_collate,
            generator=torch.Generator().manual_seed(self.seed),  # or else iterating draws from the global one
        )


class TrainingOrder(DistributedSampler[Item]):
    """Gives each epoch a new order and new random transforms; both depend on the seed and the epoch alone.

    Lightning sets the epoch. Iterating again without setting it gives the next epoch.

    Args:
        dataset: Dataset with a `pipeline`.
        processes: Number of processes that share the images.
        rank: Rank of this process.
        seed: Seed of the order.
    """

    def __init__(self, dataset: Dataset[Item], processes: int, rank: int, seed: int) -> None:
        super().__init__(dataset, processes, rank, shuffle=True, seed=seed)
        self._epoch_is_set = True

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch that comes next."""
        super().set_epoch(epoch)
        pipeline: Pipeline = self.dataset.pipeline  # type: ignore[attr-defined]
        pipeline.set_epoch(epoch)
        self._epoch_is_set = True

    def __iter__(self) -> Iterator[int]:  # type: ignore[override]
        """Yield the indices of this process."""
        if not self._epoch_is_set:
            self.set_epoch(self.epoch + 1)
        self._epoch_is_set = False
        return super().__iter__()  # type: ignore[return-value]


def _collate(items: list[Item]) -> Any:
    sizes = {tuple(item["image"].shape[1:]) for item in items}
    if len(sizes) > 1:
        raise DataError(
            f"The images of one batch have different sizes, such as {' and '.join(map(str, sorted(sizes)[:2]))}: set "
            "`image_size: [height, width]`, or `batch_size: 1`."
        )
    return default_collate(items)
