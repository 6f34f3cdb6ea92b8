"""Scores whether the map's sum over a random set of segments tells how far the confidence falls when that set is filled."""

import torch
from torch import Tensor

__all__ = ["faithfulness_correlation", "infidelity", "sensitivity_n"]

#: Values that differ by less than this share of the largest differ by rounding alone: single precision holds no more.
_ROUNDING = 1e-6


def infidelity(subset_attribution: Tensor, subset_effect: Tensor) -> Tensor:
    """Compute the squared error of the map's sums as predictions of the effects, over the effects' own square.

    Σ(β·a − e)² / Σe² over the subsets, with the best scale β. Lower is better. The division by Σe² gives a map of zeros 1
    and cancels the model's own units. β is not negative, so that a map of the opposite sign is no better than one of zeros.

    Unit:
        share of the effects' square

    Cost:
        48/T

    Definition:
        Yeh et al. 2019, definition 2.1, for perturbations that fill subsets, with the best scale as in the authors' code.
        The division by the effects' square is our reading.

    Pitfalls:
        Any map of one sign does better than 1, because larger subsets have a larger sum and a larger effect, and the area
        is not taken off: it predicts values and correlates nothing. Read it beside ``random``, or take
        ``faithfulness_correlation``. NaN where nothing has an effect.

    Args:
        subset_attribution: the map's sum over each of M random subsets, ``(N, M)``.
        subset_effect: how far the confidence falls, relative to it, when the subset is filled, ``(N, M)``.

    Returns:
        ``(N,)`` in [0, 1]; NaN where no subset has an effect or a value is not finite.

    Example:
        >>> infidelity(torch.tensor([[1.0, 2.0], [1.0, 1.0]]), torch.tensor([[0.2, 0.4], [0.0, 0.4]]))
        tensor([0.0000, 0.5000])

    """
    sums, effects = subset_attribution.double(), subset_effect.double()
    sums = sums / sums.abs().amax(dim=1, keepdim=True).clamp_min(torch.finfo(sums.dtype).tiny)  # squares must not overflow
    explained = (sums * effects).sum(dim=1).clamp_min(0).square() / sums.square().sum(dim=1)
    explained = explained.where(sums.any(dim=1), 0.0)
    value = (1 - explained / effects.square().sum(dim=1)).clamp_min(0)  # 0 / 0 is NaN, and no clamp changes that
    return value.where(_finite(subset_attribution, subset_effect), torch.nan).float()


def faithfulness_correlation(
    subset_attribution: Tensor, subset_effect: Tensor, subset_size: Tensor, subset_area: Tensor | None = None
) -> Tensor:
    """Compute Pearson's correlation of the map's sums over random sets of segments with the sets' effects, at equal area.

    Higher is better, 0 on average for a random map. The mean of each size is taken off first, and then what the filled area
    explains, by least squares: this is the partial correlation given number and area. Otherwise the mere area would
    correlate a random map, whose sums grow with it, with the effects, which grow with it too.

    Unit:
        Pearson's correlation

    Cost:
        48/T

    Definition:
        Bhatt, Weller, Moura 2020, for subsets of one size. Several sizes, and taking off the area, are our reading. With
        segments of equal area and one size it is theirs.

    Pitfalls:
        NaN where sums or effects vary within no size beyond what the area explains, as in an image of one segment.

    Args:
        subset_attribution: the map's sum over each of M random subsets, ``(N, M)``.
        subset_effect: how far the confidence falls, relative to it, when the subset is filled, ``(N, M)``.
        subset_size: how many segments each subset has, ``(M,)``.
        subset_area: share of the image's pixels that each subset has, ``(N, M)``. Defaults to the same for all subsets of
            one size, as in a grid.

    Returns:
        ``(N,)`` in [-1, 1]; NaN where a value is not finite, or sums or effects do not vary within any size.

    Example:
        >>> effect, size = torch.tensor([[0.1, 0.3, 0.6, 0.7]]), torch.tensor([1, 1, 2, 2])
        >>> faithfulness_correlation(10 * effect, effect, size), faithfulness_correlation(size[None], effect, size)
        (tensor([1.]), tensor([nan]))

    """
    sums, effects = _within_sizes(subset_attribution, subset_size), _within_sizes(subset_effect, subset_size)
    given = [subset_attribution, subset_effect]
    if subset_area is not None:
        given.append(subset_area)
        area = _within_sizes(subset_area, subset_size).flatten(1)
        sums, effects = without(sums.flatten(1), area), without(effects.flatten(1), area)
    return _cosine(sums.flatten(1), effects.flatten(1)).where(_finite(*given), torch.nan).float()


def sensitivity_n(
    subset_attribution: Tensor, subset_effect: Tensor, subset_size: Tensor, subset_area: Tensor | None = None
) -> Tensor:
    """Compute Pearson's correlation of sums and effects among subsets of n segments at equal area, averaged over n.

    Higher is better, 0 on average for a random map. What the filled area explains is taken off, as in
    :func:`faithfulness_correlation`, here within each size.

    Unit:
        Pearson's correlation

    Cost:
        48/T

    Definition:
        Ancona et al. 2018, their curve averaged over n. Segments for features, and taking off the area, are our reading.

    Pitfalls:
        There are 16 draws a size, so single values are noisy.

    Args:
        subset_attribution: the map's sum over each of M random subsets, ``(N, M)``.
        subset_effect: how far the confidence falls, relative to it, when the subset is filled, ``(N, M)``.
        subset_size: how many segments each subset has, ``(M,)``.
        subset_area: share of the image's pixels that each subset has, ``(N, M)``. Defaults to the same for all subsets of
            one size, as in a grid.

    Returns:
        ``(N,)`` in [-1, 1], the mean over the sizes at which sums and effects vary; NaN where there is none or a value is
        not finite.

    Example:
        >>> effect, size = torch.tensor([[0.1, 0.3, 0.6, 0.7]]), torch.tensor([1, 1, 2, 2])
        >>> sensitivity_n(torch.tensor([[1.0, 2.0, 5.0, 4.0]]), effect, size)
        tensor([0.])

    """
    sums, effects = _within_sizes(subset_attribution, subset_size), _within_sizes(subset_effect, subset_size)
    given = [subset_attribution, subset_effect]
    if subset_area is not None:
        given.append(subset_area)
        area = _within_sizes(subset_area, subset_size)
        sums, effects = without(sums, area), without(effects, area)
    return _cosine(sums, effects).nanmean(dim=1).where(_finite(*given), torch.nan).float()


def _within_sizes(values: Tensor, size: Tensor) -> Tensor:
    """Take the mean of their size off values ``(N, M)``: ``(N, sizes, M)`` in units of the largest; 0 at other sizes."""
    if size.shape != values.shape[1:]:
        raise ValueError(f"there are {values.shape[1]} subsets, but {len(size)} sizes were given.")
    among: Tensor = size.unique()[:, None] == size
    values = values.double()
    values = (values / values.abs().amax(dim=1, keepdim=True).clamp_min(torch.finfo(values.dtype).tiny))[:, None]
    mean = (values * among).sum(dim=2, keepdim=True) / among.sum(dim=1, keepdim=True)
    apart = (values - mean) * among
    return apart.where(apart.abs().amax(dim=2, keepdim=True) > _ROUNDING, 0.0)


def without(values: Tensor, explained: Tensor) -> Tensor:
    """Take off the part of values ``(..., M)`` of mean 0 that is proportional to ``explained`` ``(..., M)``, of mean 0 too.

    What is left of a row is 0 where it is rounding alone, and the row itself where nothing varies in ``explained``.

    Example:
        >>> without(torch.tensor([3.0, -1.0, -2.0]), torch.tensor([1.0, 0.0, -1.0]))
        tensor([ 0.5000, -1.0000,  0.5000])

    """
    square = explained.square().sum(dim=-1, keepdim=True)
    slope = (values * explained).sum(dim=-1, keepdim=True) / square.where(square > 0, 1.0)
    left = values - slope * explained
    return left.where(left.abs().amax(dim=-1, keepdim=True) > _ROUNDING, 0.0)


def _cosine(a: Tensor, b: Tensor) -> Tensor:
    cosine: Tensor = (a * b).sum(dim=-1) / (a.norm(dim=-1) * b.norm(dim=-1))
    return cosine


def _finite(*evidence: Tensor) -> Tensor:
    finite: Tensor = torch.stack([values.isfinite().all(dim=1) for values in evidence]).all(dim=0)
    return finite
