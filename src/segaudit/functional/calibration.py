"""Scores whether segments have the effects that a map credits them with.

Every segment of a partition is filled alone, and the relative fall of the confidence is its effect. The map claims its mean
over the segment. Means are taken and not sums: a random map's sum grows with the area of the segment, as the effect does,
and would seem to know it. In an audit the partition is one that no map is made of, see
:attr:`segaudit.Probe.judge_partition`.
"""

import torch
from torch import Tensor

from segaudit.functional.subset import without
from segaudit.functional.tied_ranks import mean_ranks

__all__ = ["effect_calibration", "effect_calibration_error"]


def effect_calibration(segment_attribution: Tensor, segment_effect: Tensor, segment_area: Tensor | None = None) -> Tensor:
    """Compute the rank correlation, over segments, of the map's mean with the effect of filling the segment, at equal area.

    Spearman's partial correlation given the segments' areas: ties have their mean rank, what the ranks of the areas explain
    is taken off by least squares, and the partitions are averaged. Filling a larger segment has a larger effect, and a map
    of few values has other means in larger segments; neither says that the map knows the effects. Higher is better, 0 on
    average for a random map.

    Unit:
        Spearman's correlation

    Cost:
        64·F/T

    Definition:
        Our reading.

    Pitfalls:
        Segments that hardly matter count as much as the others; :func:`effect_calibration_error` weighs them by their
        effect. Segments are filled one at a time, so evidence that the image holds twice is missed.

    Args:
        segment_attribution: mean of the map over each segment of K partitions, ``(N, K, R)``.
        segment_effect: how far the confidence falls, relative to it, when the segment is filled, ``(N, K, R)``; NaN where an
            image has no such segment.
        segment_area: share of the image's pixels that each segment has, ``(N, K, R)``. Defaults to equal areas.

    Returns:
        ``(N,)`` in [-1, 1], the mean over the partitions in which both vary beyond what the areas explain; NaN where there
        is none, or a segment has a mean or an effect that is not finite.

    Example:
        >>> effect = torch.tensor([[[0.0, 0.1, 0.7, torch.nan]]])
        >>> effect_calibration(10 * effect - 3, effect), effect_calibration(torch.tensor([[[5.0, 1.0, 2.0, 0.0]]]), effect)
        (tensor([1.]), tensor([-0.5000]))

    """
    has = ~segment_effect.isnan()

    def centred(values: Tensor) -> Tensor:
        # Missing segments come last, where they change no other's rank.
        ranks = mean_ranks(values.where(has, torch.inf).flatten(0, 1)).view(values.shape)
        mean = (ranks * has).sum(dim=2, keepdim=True) / has.sum(dim=2, keepdim=True)
        return ((ranks - mean) * has).where(has, 0.0)

    claimed, found = centred(segment_attribution.nan_to_num()), centred(segment_effect)
    known = torch.ones(len(has), dtype=torch.bool, device=has.device)
    if segment_area is not None:
        known = (segment_area.isfinite() | ~has).flatten(1).all(dim=1)
        area = centred(segment_area)
        claimed, found = without(claimed, area), without(found, area)
    correlation = (claimed * found).sum(dim=2) / (claimed.norm(dim=2) * found.norm(dim=2))
    return _where_finite(correlation.nanmean(dim=1).where(known, torch.nan), segment_attribution, segment_effect)


def effect_calibration_error(segment_attribution: Tensor, segment_effect: Tensor) -> Tensor:
    """Compute the share of the credit that lies on other segments than the effects say.

    ½ Σ |c − e| over the segments of a partition, averaged over the partitions. It is the total variation distance between
    the shares c of the map's credit and e of the effects, both of their positive parts. Lower is better: it is 0 where each
    segment is credited with its share of the effects, and 1 where all credit lies on segments without any. It is the part
    of the credit that would have to move. For a map that is the same everywhere, it says how uneven the effects are. A
    random map has about as much.

    Unit:
        share of the credit

    Cost:
        64·F/T

    Definition:
        Our reading: an expected calibration error of shares.

    Pitfalls:
        Only positive parts count. It depends on the scale of the map's values: a monotone transform changes it.

    Args:
        segment_attribution: mean of the map over each segment of K partitions, ``(N, K, R)``.
        segment_effect: how far the confidence falls, relative to it, when the segment is filled, ``(N, K, R)``; NaN where an
            image has no such segment.

    Returns:
        ``(N,)`` in [0, 1], the mean over the partitions that have a segment with positive credit and one with a positive
        effect; NaN where there is none, or a segment has a mean or an effect that is not finite.

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
