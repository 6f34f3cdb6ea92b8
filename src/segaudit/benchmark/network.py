"""Prepares the networks of a benchmark: loads or trains their weights."""

import time
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import lightning
import torch
from lightning.pytorch import LightningDataModule
from torch import nn

from segaudit.records.files import atomic_write
from segaudit.training.task import SegmentationTask
from segaudit.training.trainer import Trainer
from segaudit.training.weights import load_weights


@dataclass
class BenchmarkNetwork:
    """Holds a network to audit. Its weights are those it was built with, those of a checkpoint, or trained first.

    Attributes:
        network: maps images to logits.
        checkpoint: file with its weights, read with ``weights_only=True``.
        epochs: epochs of training on each data set's training split; 0 leaves the weights alone.
        learning_rate: learning rate of AdamW at the start; it falls along a cosine.
        loss: loss of :class:`~segaudit.training.task.SegmentationTask`. Defaults to cross entropy.

    """

    network: nn.Module
    checkpoint: Path | None = None
    epochs: int = 0
    learning_rate: float = 2e-3
    loss: nn.Module | None = None

    def __post_init__(self) -> None:
        """Check that the settings do not contradict each other."""
        if self.checkpoint is not None and self.epochs:
            raise ValueError("a network of a benchmark takes either a checkpoint or epochs of training, not both.")
        if self.epochs < 0 or self.learning_rate <= 0:
            raise ValueError(f"epochs must be 0 or more and learning_rate above 0, got {self.epochs}, {self.learning_rate}.")


def prepare(entry: BenchmarkNetwork, data: LightningDataModule, path: Path, seed: int) -> float:
    """Write the weights to audit to ``path``, unless the file is there.

    Args:
        entry: the network.
        data: data for training.
        path: path of the weights.
        seed: seed of training.

    Returns:
        Seconds taken; 0 if the file was there.

    """
    if path.exists():
        return 0.0
    started, network = time.perf_counter(), deepcopy(entry.network)
    if entry.checkpoint is not None:
        load_weights(network, entry.checkpoint)
    if entry.epochs:
        _train(network, entry, data, seed)
    # torch.save would write a file's name into the file, and change its hash: it gets an open file.
    with atomic_write(path) as draft, open(draft, "wb") as file:
        torch.save({name: value.contiguous() for name, value in network.state_dict().items()}, file)
    return time.perf_counter() - started


def _train(network: nn.Module, entry: BenchmarkNetwork, data: LightningDataModule, seed: int) -> None:
    def adam(parameters: object) -> torch.optim.Optimizer:
        return torch.optim.AdamW(parameters, lr=entry.learning_rate, weight_decay=0.01)  # type: ignore[arg-type]

    def cosine(optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
        return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=entry.epochs)

    lightning.seed_everything(seed, verbose=False)
    trainer = Trainer(
        max_epochs=entry.epochs,
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        limit_val_batches=0,
    )
    trainer.fit(SegmentationTask(network, entry.loss, optimizer=adam, lr_scheduler=cosine), data)
