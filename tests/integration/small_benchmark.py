"""A benchmark of seconds: two networks, one of them trained, on squares."""

from pathlib import Path
from typing import Any

import torch
from integration.tiny import CLASSES, Squares, TinyNetwork, small_intervention
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from segaudit.benchmark import Benchmark, BenchmarkNetwork

CONFIG = {"explainers": ["saliency", "dea", "random"], "max_images": 7}


class SquareData(LightningDataModule):
    class_names = CLASSES

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(Squares(8), batch_size=4)

    def val_dataloader(self) -> DataLoader[Any]:
        return DataLoader(Squares(9), batch_size=4)

    test_dataloader = val_dataloader


def small(folder: Path, devices: int = 1, **changes: Any) -> Benchmark:
    torch.manual_seed(0)
    networks = {"as_built": BenchmarkNetwork(TinyNetwork()), "trained": BenchmarkNetwork(TinyNetwork(), epochs=1)}
    options: dict[str, Any] = {
        "networks": networks,
        "data": {"squares": SquareData()},
        "explainers": CONFIG["explainers"],
        "metrics": [
            "deletion_auc",
            "faithfulness_gap",
            "stability",
            "off_target_leakage",
            "fill_residual",
            "forwards",
            "seconds",
        ],
        "intervention": small_intervention(),
        "max_images": 7,
        "batch_size": 2,
        "folder": folder,
        "accelerator": "cpu",
        "devices": devices,
    }
    return Benchmark(**(options | changes))


def run(folder: Path, devices: int) -> None:
    small(folder, devices).run(CONFIG)
