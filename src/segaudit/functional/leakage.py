"""Does credit stay on the target, and where it does not, does the model really look there?"""

import torch
import torch.nn.functional as F
from torch import Tensor

#: The largest effect, relative to S(x), that counts as none.
EPSILON = 0.01

_MAX_POOL = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}


def off_target_leakage(attribution: Tensor, region: Tensor, tolerance: int = 0) -> Tensor:
    """Share of the positive mass outside the region, in [0, 1]; lower is better (our reading).

    Args:
        attribution: ``(N, *S)``.
        region: ``(N, *S)`` bool.
        tolerance: pixels by which the region is dilated first, along each axis and diagonal.

    Returns:
        ``(N,)``; NaN for an empty region or a map without positive, finite mass.

    Example:
        >>> off_target_leakage(torch.tensor([[3.0, 1.0, -9.0]]), torch.tensor([[True, False, False]]))
        tensor([0.2500])

    """
    return mass_share(attribution, ~dilate(region, tolerance), region)


def unsupported_leakage(
    attribution: Tensor, region: Tensor, effect_map: Tensor, tolerance: int = 0, epsilon: float = EPSILON
) -> Tensor:
    """Share of the positive mass that is outside the region and where the model does not look; lower is better.

    Credit for pixels whose removal lowers the score by no more than ``epsilon`` of it (our reading). Off-target leakage
    minus this is honest context.

    Args:
        attribution: ``(N, *S)``.
        region: ``(N, *S)`` bool.
        effect_map: ``(N, *S)``, how far the score falls when a pixel's region is filled, relative to it.
        tolerance: pixels by which the region is dilated first.
        epsilon: largest effect that counts as none.

    Returns:
        ``(N,)`` in [0, 1]; NaN for an empty region, a map without positive mass, or an effect map that is not finite.

    """
    unsupported = ~dilate(region, tolerance) & (effect_map <= epsilon)
    share = mass_share(attribution, unsupported, region)
    return share.where(effect_map.flatten(1).isfinite().all(dim=1), torch.nan)


def dilate(region: Tensor, pixels: int) -> Tensor:
    """Grow ``(N, *S)`` bool by a box of ``pixels`` to every side."""
    if pixels < 0:
        raise ValueError(f"tolerance is a number of pixels of at least 0, got {pixels}.")
    if pixels == 0:
        return region
    pool = _MAX_POOL[region.ndim - 1]
    return pool(region[:, None].float(), 2 * pixels + 1, stride=1, padding=pixels)[:, 0].bool()


def mass_share(attribution: Tensor, where: Tensor, needed: Tensor) -> Tensor:
    """Share of the positive mass at ``where``, ``(N,)``; NaN where ``needed`` is empty or the mass is zero or infinite."""
    mass = attribution.clamp_min(0).flatten(1).double()
    share = (mass * where.flatten(1)).sum(dim=1) / mass.sum(dim=1)  # NaN for no mass and for a non-finite map
    finite = attribution.flatten(1).isfinite().all(dim=1)
    return share.where(needed.flatten(1).any(dim=1) & finite, torch.nan).float()
