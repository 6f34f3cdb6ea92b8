"""Makes small networks, images and targets, and looks at everything that an explanation could disturb."""

import random
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segaudit.forwards import Targets, TargetSelector
from segaudit.forwards.output import logits_of

CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
NORM = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
#: Small images of one, two and three dimensions.
SIZES = {1: (40,), 2: (12, 8), 3: (6, 7, 8)}


class SmallNet(nn.Module):
    """Segments with two convolutions, batch norm and dropout, and a head.

    Its weights are large, so that effects are large beside rounding errors, and every class is predicted somewhere.

    Args:
        channels: of the images.
        classes: channels of the logits.
        form: of the output: ``tensor``, ``dict`` (under ``out``) or ``logits`` (an object's attribute).
        inplace: whether its activations change their input.
        stride: of the first layer. The logits are as many times smaller than the images.
        dims: spatial dimensions, 1 to 3.
        seed: another seed, other weights.

    Example:
        >>> SmallNet(form="dict")(images(2))["out"].shape
        torch.Size([2, 3, 12, 10])

    """

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
        conv, norm = CONV[dims], NORM[dims](6)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.features = nn.Sequential(
                conv(channels, 6, 3, padding=1, stride=stride),
                norm,
                nn.ReLU(inplace),
                nn.Dropout(0.3),
                conv(6, 5, 3, padding=1),
                nn.ReLU(inplace),
            )
            self.head = conv(5, classes, 1)
            with torch.no_grad():
                for parameter in self.parameters():
                    parameter.normal_(0, 0.5)
                norm.get_buffer("running_mean").normal_(0, 0.3)
                norm.get_buffer("running_var").uniform_(0.5, 2)
                self.head.weight.mul_(6)
        self.form = form
        self.eval()
        with torch.no_grad():  # logits around 0, so that all classes are predicted somewhere
            logits = self.head(self.features(images(8, channels, (12, 10, 8)[:dims], seed=1)))
            self.head.get_parameter("bias").sub_(logits.mean((0, *range(2, dims + 2))))

    def forward(self, x: Tensor) -> Any:
        """Return logits as a tensor, ``{"out": logits}`` or an object with ``.logits``, as ``form`` says."""
        logits = self.head(self.features(x))
        if self.form == "dict":
            return {"out": logits, "aux": 0 * logits}
        return SimpleNamespace(logits=logits) if self.form == "logits" else logits


class Breaks(nn.Module):
    """Draws global random numbers and counts its passes in a buffer, and raises at the end of its ``nth`` pass.

    Args:
        nth: the pass that fails, from 1.
        net: the network. Defaults to a :class:`SmallNet`.

    """

    def __init__(self, nth: int, net: nn.Module | None = None) -> None:
        super().__init__()
        self.net, self.nth, self.calls = net or SmallNet(), nth, 0
        self.register_buffer("passes", torch.zeros(()))

    def forward(self, x: Tensor) -> Any:
        """Return the network's output."""
        self.calls += 1
        self.get_buffer("passes").add_(1)
        output = self.net(x)
        random.random(), np.random.rand(), torch.rand(1)  # noqa: NPY002
        if self.calls == self.nth:
            raise RuntimeError("the model broke")
        return output


def images(n: int = 4, channels: int = 3, size: Sequence[int] = (12, 10), seed: int = 0) -> Tensor:
    """Draw smooth random images ``(n, channels, *size)``: enlarged noise of low resolution, and a little fine noise.

    Example:
        >>> images(2, 1, (7,)).shape
        torch.Size([2, 1, 7])

    """
    generator = torch.Generator().manual_seed(seed)
    small = torch.randn(n, channels, *[max(2, s // 3) for s in size], generator=generator)
    mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[len(size)]
    fine = torch.randn(n, channels, *size, generator=generator)
    return F.interpolate(small, size=tuple(size), mode=mode) + 0.2 * fine


def uneven_targets(model: nn.Module, x: Tensor) -> Targets:
    """Choose targets in at least four images: all classes that the model predicts, none in image 1, one less in image 2.

    Raises:
        ValueError: if fewer than two are left.

    """
    with torch.no_grad():
        logits = logits_of(model(x.clone()), x.shape[2:])
    classes = [0, 1] if logits.shape[1] == 1 else None
    targets = TargetSelector(min_area=0.0, max_per_image=9, classes=classes)(logits)
    keep = targets.image_index != 1
    keep[(targets.image_index == 2).nonzero()[:1, 0]] = False
    chosen = targets[keep]
    if len(chosen) < 2:
        raise ValueError("the model predicts too few classes to choose targets from: let it predict several in each image.")
    return chosen


def cues_of(x: Tensor) -> Tensor:
    """Plant cues ``(B, *S)`` where the first channel is high, by turns for class 1 and class 2."""
    high = (x[:, 0] > 0.5).long()
    return high * (1 + (x[:, 0] > 1).long())


def state_of(model: nn.Module) -> dict[str, Any]:
    """Copy everything that an explanation must leave as it was: of the model, of the caller and of the process."""
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return {
        "values": {name: value.detach().clone() for name, value in model.state_dict().items()},
        "modes": [module.training for module in model.modules()],
        "requires_grad": [parameter.requires_grad for parameter in model.parameters()],
        "grads": [None if p.grad is None else p.grad.clone() for p in model.parameters()],
        "hooks": [[len(getattr(module, kind)) for kind in kinds] for module in model.modules()],
        **process_state(),
        "grad_enabled": torch.is_grad_enabled(),
        "inference": torch.is_inference_mode_enabled(),
        "autocast": torch.is_autocast_enabled("cpu"),
    }


def process_state() -> dict[str, Any]:
    """Copy the global random states."""
    return {
        "torch": torch.get_rng_state(),
        "numpy": np.random.get_state(),  # noqa: NPY002
        "python": random.getstate(),
    }


def differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """List the parts of a state that are not the same bit for bit.

    Example:
        >>> before = state_of(model := SmallNet())
        >>> _ = model.train(), torch.rand(1)
        >>> differences(before, state_of(model))
        ['modes', 'torch']

    """
    return [key for key in before if not _same(before[key], after[key])]


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        return isinstance(a, Tensor) and isinstance(b, Tensor) and torch.equal(a, b)
    if isinstance(a, np.ndarray):
        return bool(np.array_equal(a, b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(_same(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)
