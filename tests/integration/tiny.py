"""Small data, a small network and a quick audit, for the tests that train."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from segaudit.callbacks import AttributionAudit
from segaudit.intervention import Intervention, SuperpixelRegions
from segaudit.training.task import SegmentationTask
from segaudit.training.trainer import Trainer

CLASSES = ["background", "red", "green"]


class Squares(Dataset[Any]):
    """Squares on noise, whose class is their brightest channel; an item is a function of its index alone."""

    def __init__(self, count: int, augment: bool = False, size: int = 16, binary: bool = False) -> None:
        self.count, self.augment, self.size, self.binary = count, augment, size, binary

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, Any]:
        draw = torch.Generator().manual_seed(index)
        image = 0.3 * torch.randn(3, self.size, self.size, generator=draw)
        mask = torch.zeros(self.size, self.size, dtype=torch.long)
        top, left = torch.randint(0, self.size // 2, (2,), generator=draw).tolist()
        place = (slice(top, top + self.size // 2), slice(left, left + self.size // 2))
        image[(index % 2, *place)] += 1.5
        mask[place] = 1 if self.binary else 1 + index % 2
        if self.augment:  # from each of the three global random states
            image = image + 0.1 * torch.randn(1) + 0.1 * np.random.randn()  # noqa: NPY002
            if random.random() < 0.5:
                image, mask = image.flip(2), mask.flip(1)
        return {"image": image.float(), "mask": mask, "id": f"square-{index:03d}"}


def loader(count: int, train: bool = False, batch_size: int = 4, **options: Any) -> DataLoader[Any]:
    return DataLoader(Squares(count, augment=train, **options), batch_size=batch_size, shuffle=train)


class TinyNetwork(nn.Module):
    """Two convolutions with batch normalisation and dropout; works at half the resolution.

    It starts out knowing what training would teach it: red and green are the bright channels.
    """

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.2),
            nn.Conv2d(8, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
        )  # fmt: skip
        self.head = nn.Conv2d(8, channels, 1)
        with torch.no_grad():
            for layer in (self.body[0], self.body[4]):
                layer.weight *= 0.1
                layer.bias.zero_()
                for channel in range(3):
                    layer.weight[channel, channel, 1, 1] += 1
            self.head.weight *= 0.1
            self.head.bias.zero_()
            if channels == 1:
                self.head.weight[0, :2], self.head.bias[0] = 6.0, -4.0
            else:
                self.head.weight[1, 0] = self.head.weight[2, 1] = 6.0
                self.head.bias[0] = 4.0

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))


def adam(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=0.002)


def still(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.0)


def halve(optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.StepLR:
    return torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)


def task(
    seed: int = 0, network: nn.Module | None = None, class_names: Any = CLASSES, optimizer: Any = adam
) -> SegmentationTask:
    torch.manual_seed(seed)
    return SegmentationTask(network or TinyNetwork(), class_names=class_names, optimizer=optimizer, lr_scheduler=halve)


def small_intervention(**changes: Any) -> Intervention:
    return Intervention(regions=SuperpixelRegions(counts=[4]), steps=3, **changes)


def audit(cls: type[AttributionAudit] = AttributionAudit, **changes: Any) -> AttributionAudit:
    """All default explainers and metrics on four images."""
    options = {"intervention": small_intervention(), "max_images": 4, "batch_size": 2, "panels": 0}
    return cls(**(options | changes))


def quick(cls: type[AttributionAudit] = AttributionAudit, **changes: Any) -> AttributionAudit:
    """One explainer, two metrics: for what does not depend on how many there are."""
    return audit(cls, **({"explainers": ["saliency"], "metrics": ["faithfulness_gap", "off_target_leakage"]} | changes))


def trainer(*callbacks: Callback, folder: Path | str | None = None, **options: Any) -> Trainer:
    """A quiet Trainer, which keeps logs where it is given a folder."""
    quiet = {
        "accelerator": "cpu", "devices": 1, "num_sanity_val_steps": 0, "enable_progress_bar": False,
        "enable_model_summary": False, "log_every_n_steps": 1, "enable_checkpointing": False, "max_epochs": 1,
    }  # fmt: skip
    quiet |= {"logger": False} if folder is None else {"default_root_dir": folder}
    return Trainer(callbacks=list(callbacks), **(quiet | options))


def figures(values: Any, prefix: str = "") -> dict[str, float]:
    """Scores as plain numbers, without those that a clock gives."""
    return {
        name.removeprefix(prefix): float(value)
        for name, value in values.items()
        if name.startswith(prefix) and not name.endswith("seconds")
    }
