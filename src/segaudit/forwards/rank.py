"""In which order a map's pixels are filled or shown: one by one, or whole units at a time."""

import torch
from torch import Tensor


def pixel_ranks(attribution: Tensor) -> Tensor:
    """Place of each pixel of maps ``(N, *S)`` in the order of its map, 0 for the most attributed; ties go to the first.

    Example:
        >>> pixel_ranks(torch.tensor([[0.5, 2.0, 0.5]])).tolist()
        [[1, 0, 2]]

    """
    return _places(attribution.flatten(1).argsort(dim=1, descending=True, stable=True)).view(attribution.shape)


def segment_ranks(attribution: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Place of each pixel's region in the order of the map's means in them, and the regions' pixels in that order.

    Args:
        attribution: ``(N, *S)``.
        labels: region of each pixel, ``(N, *S)`` int64 from 0; regions of equal means go in the order of their labels.

    Returns:
        Places ``(N, *S)`` int64, 0 for the region of the highest mean, and sizes ``(N, R)`` int64; regions that an image
        does not have come last, with 0.

    Example:
        >>> segment_ranks(torch.tensor([[0.5, 2.0, 0.5]]), torch.tensor([[0, 1, 1]]))
        (tensor([[1, 0, 0]]), tensor([[2, 1]]))

    """
    sums, sizes = segment_sums(attribution, labels, int(labels.max()) + 1 if len(labels) else 1)
    order = (sums / sizes).where(sizes > 0, -torch.inf).argsort(dim=1, descending=True, stable=True)
    return _places(order).gather(1, labels.flatten(1)).view(labels.shape), sizes.gather(1, order).long()


def unit_ranks(attribution: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Ranks ``(N, *S)`` in pixels, one for all of a region, and the numbers of pixels in whole regions ``(N, R + 1)``.

    Example:
        >>> unit_ranks(torch.tensor([[0.5, 2.0, 0.5]]), torch.tensor([[0, 1, 1]]))
        (tensor([[2, 0, 0]]), tensor([[0, 2, 3]]))

    """
    place, sizes = segment_ranks(attribution, labels)
    whole = torch.cat([torch.zeros_like(sizes[:, :1]), sizes.cumsum(dim=1)], dim=1)
    return whole.gather(1, place.flatten(1)).view(place.shape), whole


def nearest(counts: Tensor, whole: Tensor) -> Tensor:
    """Of the ascending numbers ``whole`` ``(N, R + 1)``, the nearest to each of ``counts`` ``(N, M)``; the lower of two."""
    after = torch.searchsorted(whole, counts.contiguous()).clamp(1, whole.shape[1] - 1)
    low, high = whole.gather(1, after - 1), whole.gather(1, after)
    return low.where(counts - low <= high - counts, high)


def segment_sums(attribution: Tensor, labels: Tensor, regions: int) -> tuple[Tensor, Tensor]:
    """Sum of each map ``(N, *S)`` over each of its regions, and the region's pixels: ``(N, R)`` float64 each."""
    values, flat = attribution.flatten(1).double(), labels.flatten(1)
    zeros = values.new_zeros(len(values), regions)
    return zeros.scatter_add(1, flat, values), zeros.scatter_add(1, flat, torch.ones_like(values))


def _places(order: Tensor) -> Tensor:
    """The inverse of permutations ``(N, P)``."""
    place = torch.arange(order.shape[1], device=order.device).expand_as(order)
    return torch.empty_like(order).scatter_(1, order, place)
