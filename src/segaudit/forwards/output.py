"""Brings the output of segmentation networks to one form: logits at the input's size."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

_LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}


def logits_of(output: Any, size: Sequence[int]) -> Tensor:
    """Take the logits out of a network's output and bring them to the input's spatial size.

    Args:
        output: a tensor ``(B, C, *S')``, or a list of one; a mapping or an object with ``out`` (torchvision) or ``logits``
            (transformers); or one with ``class_queries_logits`` ``(B, Q, C + 1)`` and ``masks_queries_logits``
            ``(B, Q, *S')``, as MaskFormer and its successors return (we read its class scores as probabilities).
        size: spatial size ``*S`` of the input.

    Returns:
        Logits ``(B, C, *S)``, linearly interpolated if the network works at a lower resolution.

    Raises:
        ValueError: if the output holds no dense logits.

    """
    if isinstance(output, Sequence) and len(output) == 1:
        output = output[0]
    logits = output if isinstance(output, Tensor) else _entry(output, "out")
    logits = logits if logits is not None else _entry(output, "logits")
    if logits is None:
        classes, masks = _entry(output, "class_queries_logits"), _entry(output, "masks_queries_logits")
        if classes is not None and masks is not None:
            return _logits_of_queries(classes, masks, size)
        several = isinstance(output, Sequence) and bool(output) and all(isinstance(one, Tensor) for one in output)
        got = f"{len(output)} tensors, as deep supervision gives" if several else type(output).__name__
        raise ValueError(
            "the model's output holds no logits: expected a tensor (B, C, *S), a dict with the key 'out' or an object with "
            f"'.logits', got {got}. Wrap the model in a module whose forward returns the logits."
        )
    if logits.ndim != len(size) + 2:
        raise ValueError(
            f"the model's output has the shape {tuple(logits.shape)}, but a dense prediction (B, C, *S) with {len(size)} "
            "spatial dimensions is needed: is this a classifier, is its class dimension missing, or does deep supervision "
            "add one?"
        )
    return resize(logits, size)


def _entry(output: Any, name: str) -> Tensor | None:
    found = output.get(name) if isinstance(output, Mapping) else getattr(output, name, None)
    return found if isinstance(found, Tensor) else None


def _logits_of_queries(classes: Tensor, masks: Tensor, size: Sequence[int]) -> Tensor:
    """Return logits whose softmax is the share of each class in MaskFormer's class scores (Cheng et al. 2021, section 3.4).

    A class score at a pixel is the sum over the queries of the probabilities of the class times those of the mask.
    """
    scores = torch.einsum("bqc,bq...->bc...", classes.softmax(dim=-1)[..., :-1], masks.sigmoid())  # the last: "no object"
    return resize(scores, size).clamp_min(torch.finfo(scores.dtype).tiny).log()


def resize(values: Tensor, size: Sequence[int]) -> Tensor:
    """Interpolate ``(B, C, *S')`` linearly to the spatial size ``*S``; return the same tensor if it has that size."""
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
    """Return class probabilities ``(B, C, *S)`` in [0, 1]: softmax, or [1 - p, p] for a one-channel model.

    Example:
        >>> probabilities(torch.zeros(1, 1, 1)).tolist()
        [[[0.5], [0.5]]]

    """
    logits = logits.float()
    return torch.sigmoid(class_logits(logits)) if logits.shape[1] == 1 else torch.softmax(logits, dim=1)


def predict(logits: Tensor) -> Tensor:
    """Return the class map ``(B, *S)`` of logits ``(B, C, *S)``: argmax, or logit > 0 for a one-channel model."""
    return (logits[:, 0] > 0).long() if logits.shape[1] == 1 else logits.argmax(dim=1)
