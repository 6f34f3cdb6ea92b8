"""Networks of a few weights beside those of segaudit.testing, which our own tests share with outsiders."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segaudit.testing.networks import CONV, NORM, Breaks, differences, images, state_of, uneven_targets
from segaudit.testing.networks import SmallNet as Net

__all__ = [
    "CONV",
    "NORM",
    "Breaks",
    "Counting",
    "Lambda",
    "Net",
    "Threshold",
    "differences",
    "images",
    "logits_of",
    "state_of",
    "uneven_targets",
]

torch.set_num_threads(1)


class Counting(nn.Module):
    """Counts how many images a model has seen, and the size of each batch."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.batches: list[int] = []

    def forward(self, x: Tensor) -> Any:
        self.batches.append(len(x))
        return self.model(x)

    @property
    def images(self) -> int:
        return sum(self.batches)


class Threshold(nn.Module):
    """Class 1 exactly where channel 0 exceeds a half: a model whose every score is known."""

    def __init__(self, steepness: float = 200.0) -> None:
        super().__init__()
        self.steepness = steepness

    def forward(self, x: Tensor) -> Tensor:
        z = self.steepness * (x[:, :1] - 0.5)
        return torch.cat([-z, z], dim=1)


class Lambda(nn.Module):
    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(x)


def logits_of(model: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        output = model(x)
    output = output["out"] if isinstance(output, dict) else getattr(output, "logits", output)
    mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[x.ndim - 2]
    return F.interpolate(output, size=x.shape[2:], mode=mode)
