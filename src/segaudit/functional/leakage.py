"""Scores whether credit stays on the target and, where it does not, whether the model really looks there."""

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["off_target_leakage", "unsupported_leakage"]

#: The largest effect, relative to S(x), that counts as none.
EPSILON = 0.01

_MAX_POOL = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}


def off_target_leakage(attribution: Tensor, region: Tensor, tolerance: int = 0) -> Tensor:
    """Compute the share of the positive mass outside the region.

    Lower is better.

    Unit:
        share of the positive mass

    Cost:
        0

    Definition:
        Our reading of arXiv 2603.22624.

    Pitfalls:
        Honest context counts as leakage. The target mask has 0 by construction. NaN without positive mass, and where the
        region, dilated, is the whole image: nothing is outside then.

    Args:
        attribution: ``(N, *S)``.
        region: ``(N, *S)`` bool.
        tolerance: pixels by which the region is dilated first, along each axis and diagonal.

    Returns:
        ``(N,)`` in [0, 1]; NaN for an empty region, one that is the whole image once it is dilated, or a map without
        positive, finite mass.

    Example:
        >>> off_target_leakage(torch.tensor([[3.0, 1.0, -9.0]]), torch.tensor([[True, False, False]]))
        tensor([0.2500])

    """
    outside = ~dilate(region, tolerance)
    return _where_some(outside, mass_share(attribution, outside, region))


def unsupported_leakage(
    attribution: Tensor, region: Tensor, effect_map: Tensor, tolerance: int = 0, epsilon: float = EPSILON
) -> Tensor:
    """Compute the share of the positive mass that is outside the region, on pixels that the model does not use.

    A pixel counts as not used if filling its segment lowers the confidence by no more than the share ``epsilon``. Lower is
    better. Off-target leakage minus this is honest context.

    Unit:
        share of the positive mass

    Cost:
        64·F/T

    Definition:
        Our reading. The segments are not those that maps are made of.

    Pitfalls:
        It is never above ``off_target_leakage``. It depends on the fill, which must be able to show that a pixel is used. A
        segment across the border of what is used counts as used. NaN where the region, dilated, is the whole image.

    Args:
        attribution: ``(N, *S)``.
        region: ``(N, *S)`` bool.
        effect_map: ``(N, *S)``, how far the confidence falls when the segment at a pixel is filled, relative to it.
        tolerance: pixels by which the region is dilated first.
        epsilon: largest effect that counts as none.

    Returns:
        ``(N,)`` in [0, 1]; NaN for an empty region, one that is the whole image once it is dilated, a map without positive
        mass, or an effect map that is not finite.

    """
    outside = ~dilate(region, tolerance)
    share = _where_some(outside, mass_share(attribution, outside & (effect_map <= epsilon), region))
    return share.where(effect_map.flatten(1).isfinite().all(dim=1), torch.nan)


def covers_image(region: Tensor, tolerance: int = 0) -> Tensor:
    """Tell which regions ``(N, *S)`` are the whole image once they are dilated, ``(N,)`` bool: nothing can leak there."""
    return dilate(region, tolerance).flatten(1).all(dim=1)


def _where_some(outside: Tensor, share: Tensor) -> Tensor:
    return share.where(outside.flatten(1).any(dim=1), torch.nan)


def dilate(region: Tensor, pixels: int) -> Tensor:
    """Grow ``(N, *S)`` bool by a box of ``pixels`` to every side."""
    if pixels < 0:
        raise ValueError(f"tolerance is a number of pixels of at least 0, got {pixels}.")
    if pixels == 0:
        return region
    pool = _MAX_POOL[region.ndim - 1]
    return pool(region[:, None].float(), 2 * pixels + 1, stride=1, padding=pixels)[:, 0].bool()


def mass_share(attribution: Tensor, where: Tensor, needed: Tensor) -> Tensor:
    """Return the share of the positive mass at ``where``, ``(N,)``.

    NaN where ``needed`` is empty or the mass is zero or infinite.
    """
    mass = attribution.clamp_min(0).flatten(1).double()
    share = (mass * where.flatten(1)).sum(dim=1) / mass.sum(dim=1)  # NaN for no mass and for a non-finite map
    finite = attribution.flatten(1).isfinite().all(dim=1)
    return share.where(needed.flatten(1).any(dim=1) & finite, torch.nan).float()
