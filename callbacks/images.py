"""Reads the images of an audit as the model sees them."""

import random
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from torch.utils.data import DataLoader, default_collate

from segaudit.callbacks.lightning_internals import before_transfer


class AuditImages:
    """Reads single images of the data set behind the first of a loop's loaders.

    Args:
        trainer: brings batches to the device.
        pl_module: module whose hooks change batches first.
        loaders: the loop's loaders.

    Raises:
        MisconfigurationException: if the data set does not give images by number.

    """

    def __init__(self, trainer: Trainer, pl_module: LightningModule, loaders: Any) -> None:
        self.trainer, self.pl_module, loader = trainer, pl_module, first_loader(loaders)
        self.dataset = getattr(loader, "dataset", None)
        if not (hasattr(self.dataset, "__getitem__") and hasattr(self.dataset, "__len__")):
            raise MisconfigurationException(
                "AttributionAudit audits a fixed subset of the images, so the validation loader needs a data set with "
                f"__len__ and __getitem__; {type(self.dataset).__name__} has not both."
            )
        own = loader.collate_fn if isinstance(loader, DataLoader) else None
        self.collate: Any = own or default_collate

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]

    def order(self, most: int | None, seed: int) -> list[int]:
        """Return the numbers of at most ``most`` images (all for None), always the same and in the same order for a seed."""
        generator = torch.Generator().manual_seed(seed)
        return torch.randperm(len(self), generator=generator)[:most].tolist()

    def batch(self, indices: Sequence[int]) -> Any:
        """Return some of the images as one batch, on the device; call it where random states are isolated."""
        batch = self.collate([self._read(index) for index in indices])
        batch = self.trainer.precision_plugin.convert_input(batch)
        batch = before_transfer(self.pl_module, batch)
        return self.trainer.strategy.batch_to_device(batch, self.pl_module.device, 0)

    def _read(self, index: int) -> Any:
        """Read an image; transforms that draw from the global generators give the same at every audit."""
        torch.default_generator.manual_seed(index)
        random.seed(index)
        np.random.seed(index)  # noqa: NPY002 -- transforms use the global state
        return self.dataset[index]  # type: ignore[index]


def class_names(module: LightningModule, datamodule: LightningDataModule | None) -> list[str]:
    """Return the class names of the module, else of its data; an empty list where neither has any."""
    return list(getattr(module, "class_names", None) or getattr(datamodule, "class_names", None) or [])


def first_loader(loaders: Any) -> Any:
    """Return the first of a loop's loaders; None where there is none."""
    while isinstance(loaders, Mapping | list | tuple):
        loaders = next(iter(loaders.values() if isinstance(loaders, Mapping) else loaders), None)
    return loaders
