"""What a segmentation network returns, brought to one form."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

_LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}


def logits_of(output: Any, size: Sequence[int]) -> Tensor:
    """Take the logits out of a network's output and bring them to the input's spatial size.

    Args:
        output: a tensor ``(B, C, *S')``, a mapping with the key ``"out"`` (torchvision), or an object with ``.logits``
            (transformers).
        size: the spatial size ``*S`` of the input.

    Returns:
        Logits ``(B, C, *S)``; linearly interpolated where the network works at a lower resolution.

    Raises:
        ValueError: if the output holds no dense logits.

    """
    if isinstance(output, Mapping):
        output = output.get("out", output.get("logits"))
    elif hasattr(output, "logits"):
        output = output.logits
    if not isinstance(output, Tensor):
        raise ValueError(
            "the model's output holds no logits: expected a tensor (B, C, *S), a dict with the key 'out' or an object with "
            f"'.logits', got {type(output).__name__}. Wrap the model in a module whose forward returns the logits."
        )
    if output.ndim != len(size) + 2:
        raise ValueError(
            f"the model's output has the shape {tuple(output.shape)}, but a dense prediction (B, C, *S) with {len(size)} "
            "spatial dimensions is needed: is this a classifier, or is its class dimension missing?"
        )
    return resize(output, size)


def resize(values: Tensor, size: Sequence[int]) -> Tensor:
    """Interpolate ``(B, C, *S')`` linearly to the spatial size ``*S``; the same tensor where nothing is to do."""
    if tuple(values.shape[2:]) == tuple(size):
        return values
    return F.interpolate(values, size=tuple(size), mode=_LINEAR[len(size)], align_corners=False)


def class_logits(logits: Tensor) -> Tensor:
    """Give one channel to each class: a one-channel model's logit z becomes (-z, z), background and foreground.

    Example:
        >>> class_logits(torch.tensor([[[2.0]]])).tolist()
        [[[-2.0], [2.0]]]

    """
    return torch.cat([-logits, logits], dim=1) if logits.shape[1] == 1 else logits


def probabilities(logits: Tensor) -> Tensor:
    """Class probabilities ``(B, C, *S)`` in [0, 1]: softmax over the classes, or [1 - p, p] for a one-channel model.

    Example:
        >>> probabilities(torch.zeros(1, 1, 1)).tolist()
        [[[0.5], [0.5]]]

    """
    logits = logits.float()
    return torch.sigmoid(class_logits(logits)) if logits.shape[1] == 1 else torch.softmax(logits, dim=1)


def predict(logits: Tensor) -> Tensor:
    """The class map ``(B, *S)`` of logits ``(B, C, *S)``: argmax, or logit > 0 for a one-channel model."""
    return (logits[:, 0] > 0).long() if logits.shape[1] == 1 else logits.argmax(dim=1)
