"""Draws random numbers that depend on a key alone: not on the batch, the rank, the device or the global seed."""

from collections.abc import Sequence
from math import pi, prod

import torch
from torch import Tensor

# The constants of SplitMix64 (Steele, Lea, Flood 2014), as signed 64-bit integers.
_GOLDEN, _MIX_1, _MIX_2 = (c - (1 << 64) for c in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


def _shift(x: Tensor, bits: int) -> Tensor:
    return (x >> bits) & ((1 << (64 - bits)) - 1)  # torch shifts signed integers arithmetically


def _mix(x: Tensor) -> Tensor:
    x = (x ^ _shift(x, 30)) * _MIX_1
    x = (x ^ _shift(x, 27)) * _MIX_2
    return x ^ _shift(x, 31)


def image_keys(images: Tensor, seed: int = 0) -> Tensor:
    """Compute a key ``(B,)`` from the content of each image ``(B, C, *S)``, so that noise does not depend on the batch.

    Example:
        >>> x = torch.rand(3, 1, 4, 4)
        >>> bool((image_keys(x)[1:] == image_keys(x[1:])).all())
        True

    """
    bits = images.detach().float().contiguous().flatten(1).view(torch.int32).long()
    place = torch.arange(bits.shape[1], device=bits.device, dtype=torch.int64)
    return _mix(_mix(bits + _GOLDEN * (place + 1)).sum(dim=1) + _mix(torch.tensor(seed + 1, device=bits.device)))


def combine(keys: Tensor, extra: Tensor | int) -> Tensor:
    """Derive new keys from keys ``(N,)`` and a number or numbers ``(N,)``, such as class indices."""
    return _mix(keys * 3 + _GOLDEN * (torch.as_tensor(extra, device=keys.device) + 1))


def uniform(keys: Tensor, shape: Sequence[int]) -> Tensor:
    """Draw uniform numbers in (0, 1) of the shape ``(N, *shape)``; each row depends on its key alone.

    Example:
        >>> u = uniform(torch.tensor([1, 2]), (1000,))
        >>> bool((u.mean(dim=1) - 0.5).abs().max() < 0.05)
        True

    """
    place = torch.arange(prod(shape), device=keys.device, dtype=torch.int64)
    bits = _shift(_mix(keys[:, None] + _GOLDEN * (place + 1)), 40)  # 24 bits: all that a float32 holds
    return ((bits.float() + 0.5) / (1 << 24)).view(len(keys), *shape)


def normal(keys: Tensor, shape: Sequence[int]) -> Tensor:
    """Draw standard normal numbers ``(N, *shape)``; each row depends on its key alone (Box and Muller 1958)."""
    radius = (-2.0 * uniform(combine(keys, 1), shape).log()).sqrt()
    return radius * (2.0 * pi * uniform(combine(keys, 2), shape)).cos()
