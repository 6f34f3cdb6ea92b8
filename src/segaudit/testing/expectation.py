"""Says in one sentence what a check found wrong."""

import torch
from torch import Tensor


def expect(holds: bool, sentence: str) -> None:
    """Raise AssertionError with a sentence unless something holds."""
    if not holds:
        raise AssertionError(sentence)


def same(a: Tensor, b: Tensor) -> bool:
    """Tell whether two tensors are equal bit for bit, NaN included."""
    return a.shape == b.shape and a.dtype == b.dtype and torch.allclose(a, b, rtol=0, atol=0, equal_nan=True)


def apart(a: Tensor, b: Tensor) -> float:
    """Return the largest difference of two batches of maps, in shares of each map's own largest absolute value.

    Infinite where only one of two values is finite, or where the shapes differ. Equal maps are 0 apart, NaN included.

    Args:
        a: ``(N, ...)``.
        b: ``(N, ...)``, the maps whose largest values count.

    """
    if a.shape != b.shape:
        return float("inf")
    if not a.numel():
        return 0.0
    a, b = a.detach().double().reshape(len(a), -1), b.detach().double().reshape(len(b), -1)
    equal = (a == b) | (a.isnan() & b.isnan())
    scale = b.abs().nan_to_num(0.0, posinf=0.0).amax(dim=1, keepdim=True)
    share = (a - b).abs() / scale
    return float(share.nan_to_num(torch.inf).where(~equal, 0.0).max())
