"""Do regions have the effects that a map credits them with?

Every region of each of the intervention's partitions is filled alone, and the fall of the score is what it is worth. What
the map claims is its mean over the region. Means, not sums: regions of one partition are of about the same size, and the
effect map of one partition, which gives each pixel its region's effect, shall be calibrated perfectly.
"""

import torch
from torch import Tensor

from segaudit.functional.order import mean_ranks


def effect_calibration(segment_attribution: Tensor, segment_effect: Tensor) -> Tensor:
    """Rank correlation over an image's regions between the map's mean and the region's effect; higher is better.

    Spearman's, ties given their mean rank, averaged over the partitions (our reading). About 0 for a random map, which need
    not be calibrated to say where to look first. Regions that hardly matter count as much as the others; for what the
    credit is worth see :func:`effect_calibration_error`.

    Args:
        segment_attribution: mean of the map over each region of K partitions, ``(N, K, R)``.
        segment_effect: how far the score falls, relative to it, when the region is filled, ``(N, K, R)``; NaN where an image
            has no such region.

    Returns:
        ``(N,)`` in [-1, 1], the mean over the partitions in which both vary; NaN where there is none, or a region has a mean
        or an effect that is not finite.

    Example:
        >>> effect = torch.tensor([[[0.0, 0.1, 0.7, torch.nan]]])
        >>> effect_calibration(10 * effect - 3, effect), effect_calibration(torch.tensor([[[5.0, 1.0, 2.0, 0.0]]]), effect)
        (tensor([1.]), tensor([-0.5000]))

    """
    has = ~segment_effect.isnan()

    def centred(values: Tensor) -> Tensor:
        # Missing regions come last, where they change no other's rank.
        ranks = mean_ranks(values.where(has, torch.inf).flatten(0, 1)).view(values.shape)
        mean = (ranks * has).sum(dim=2, keepdim=True) / has.sum(dim=2, keepdim=True)
        return ((ranks - mean) * has).where(has, 0.0)

    claimed, found = centred(segment_attribution.nan_to_num()), centred(segment_effect)
    correlation = (claimed * found).sum(dim=2) / (claimed.norm(dim=2) * found.norm(dim=2))
    return _where_finite(correlation.nanmean(dim=1), segment_attribution, segment_effect)


def effect_calibration_error(segment_attribution: Tensor, segment_effect: Tensor) -> Tensor:
    """Share of the credit that lies on other regions than the effects say; lower is better.

    ½ Σ |c − e| over the regions of a partition, averaged over the partitions: the total variation distance between the
    shares c of the map's credit and e of the effects, both of their positive parts (our reading, an expected calibration
    error of shares). 0 where each region is credited with its share of the effects, 1 where all credit lies on regions
    without any: it is the part of the credit that would have to move. A map that is the same everywhere has what the effects
    differ from evenness; a random map about as much.

    Args:
        segment_attribution: mean of the map over each region of K partitions, ``(N, K, R)``.
        segment_effect: how far the score falls, relative to it, when the region is filled, ``(N, K, R)``; NaN where an image
            has no such region.

    Returns:
        ``(N,)`` in [0, 1], the mean over the partitions that have a region with positive credit and one with a positive
        effect; NaN where there is none, or a region has a mean or an effect that is not finite.

    Example:
        >>> effect = torch.tensor([[[0.0, 0.2, 0.6, torch.nan]]])
        >>> effect_calibration_error(torch.tensor([[[3.0, 1.0, 0.0, 0.0]]]), effect)
        tensor([0.7500])

    """
    has = ~segment_effect.isnan()

    def shares(values: Tensor) -> Tensor:
        positive = values.double().clamp_min(0).where(has, 0.0)
        positive = positive / positive.amax(dim=2, keepdim=True)  # their sum must not overflow
        return positive / positive.sum(dim=2, keepdim=True)

    apart = (shares(segment_attribution) - shares(segment_effect)).abs().sum(dim=2) / 2
    return _where_finite(apart.nanmean(dim=1), segment_attribution, segment_effect)


def _where_finite(value: Tensor, attribution: Tensor, effect: Tensor) -> Tensor:
    finite = (attribution.isfinite() | effect.isnan()).flatten(1).all(dim=1) & ~effect.isinf().flatten(1).any(dim=1)
    return value.where(finite, torch.nan).float()
