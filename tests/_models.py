"""Networks of a few weights, targets for them, and a look at everything an explanation could disturb."""

import random
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segaudit.forwards.target import Targets, TargetSelector

torch.set_num_threads(1)

CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
NORM = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}


class Net(nn.Module):
    """Three convolutions with batch norm and dropout. ``form`` is what its forward returns."""

    def __init__(
        self,
        channels: int = 3,
        classes: int = 3,
        form: str = "tensor",
        inplace: bool = False,
        stride: int = 1,
        dims: int = 2,
        seed: int = 0,
    ) -> None:
        super().__init__()
        conv = CONV[dims]
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.features = nn.Sequential(
                conv(channels, 6, 3, padding=1, stride=stride),
                NORM[dims](6),
                nn.ReLU(inplace),
                nn.Dropout(0.3),
                conv(6, 5, 3, padding=1),
                nn.ReLU(inplace),
            )
            self.head = conv(5, classes, 1)
            for parameter in self.parameters():
                parameter.data.normal_(0, 0.5)
            self.features[1].running_mean.normal_(0, 0.3)
            self.features[1].running_var.uniform_(0.5, 2)
            self.head.weight.data.mul_(6)  # confident, so that effects are large beside rounding errors
        self.form = form
        self.eval()
        with torch.no_grad():  # logits around 0, so that all classes are predicted somewhere
            self.head.bias -= self.head(self.features(images(8, channels, (12, 10, 8)[:dims], seed=1))).mean(
                (0, *range(2, dims + 2))
            )

    def forward(self, x: Tensor) -> Any:
        logits = self.head(self.features(x))
        return {"tensor": logits, "dict": {"out": logits, "aux": 0 * logits}, "logits": SimpleNamespace(logits=logits)}[
            self.form
        ]


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


class Breaks(nn.Module):
    """Raises in its ``nth`` forward pass, after its first half has run."""

    def __init__(self, nth: int) -> None:
        super().__init__()
        self.net, self.nth, self.calls = Net(), nth, 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        hidden = self.net.features(x)
        random.random(), np.random.rand(), torch.rand(1)  # noqa: NPY002
        if self.calls == self.nth:
            raise RuntimeError("the model broke")
        return self.net.head(hidden)


def images(n: int = 4, channels: int = 3, size: Sequence[int] = (12, 10), seed: int = 0) -> Tensor:
    """Smooth random images: low-resolution noise, enlarged."""
    generator = torch.Generator().manual_seed(seed)
    small = torch.randn(n, channels, *[max(2, s // 3) for s in size], generator=generator)
    mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[len(size)]
    fine = torch.randn(n, channels, *size, generator=generator)
    return F.interpolate(small, size=tuple(size), mode=mode) + 0.2 * fine


def logits_of(model: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        output = model(x)
    output = output["out"] if isinstance(output, dict) else getattr(output, "logits", output)
    mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[x.ndim - 2]
    return F.interpolate(output, size=x.shape[2:], mode=mode)


def uneven_targets(model: nn.Module, x: Tensor) -> Targets:
    """All classes' predicted regions, but image 1 has none and image 2 loses one."""
    classes = [0, 1] if logits_of(model, x).shape[1] == 1 else None
    targets = TargetSelector(min_area=0.0, max_per_image=9, classes=classes)(logits_of(model, x))
    keep = targets.image_index != 1
    keep[(targets.image_index == 2).nonzero()[0]] = False
    chosen = targets[keep]
    counts = torch.bincount(chosen.image_index, minlength=len(x))
    assert counts[1] == 0
    assert counts.max() > 1
    assert len(counts.unique()) > 2  # what "uneven" promises
    return chosen


def state_of(model: nn.Module) -> dict[str, Any]:
    """Everything that an explanation must leave as it was, copied."""
    return {
        "values": {name: value.detach().clone() for name, value in model.state_dict().items()},
        "modes": [module.training for module in model.modules()],
        "requires_grad": [parameter.requires_grad for parameter in model.parameters()],
        "grads": [None if p.grad is None else p.grad.clone() for p in model.parameters()],
        "hooks": [
            [len(getattr(m, kind)) for kind in ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks")]
            for m in model.modules()
        ],
        "torch": torch.get_rng_state(),
        "numpy": np.random.get_state(),  # noqa: NPY002
        "python": random.getstate(),
        "grad_enabled": torch.is_grad_enabled(),
        "inference": torch.is_inference_mode_enabled(),
        "autocast": torch.is_autocast_enabled("cpu"),
    }


def same(a: Any, b: Any) -> bool:
    """Equal bit for bit, whatever the containers."""
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        return isinstance(a, Tensor) and isinstance(b, Tensor) and torch.equal(a, b)
    if isinstance(a, np.ndarray):
        return bool(np.array_equal(a, b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)


def differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    return [key for key in before if not same(before[key], after[key])]
