"""Orders a map's pixels or segments for curves: which is filled or shown first, and which of several that tie.

Ties go in a random order. It follows from the image's content, so that all explainers of an image share it, whatever else
is in the batch. An order by place would decide for maps of few values: a mask's upper rows would always go first.

Scores of the map alone share the places of ties: see :mod:`segaudit.functional.tied_ranks`.
"""

import torch
from torch import Tensor

from segaudit import randomness

#: Derives the keys of ties from those of images, which draw other things as well.
_TIES = 0x71E5


def tie_keys(images: Tensor) -> Tensor:
    """Compute a key ``(B,)`` for the order of ties from the content of each image ``(B, C, *S)``."""
    return randomness.combine(randomness.image_keys(images), _TIES)


def tie_order(keys: Tensor, pixels: int) -> Tensor:
    """Shuffle the places of ``pixels`` pixels by each of the keys ``(N,)``: ``(N, P)`` int64, the first of ties first.

    Example:
        >>> tie_order(torch.tensor([1, 2]), 4).sort(dim=1).values.tolist()
        [[0, 1, 2, 3], [0, 1, 2, 3]]

    """
    return randomness.uniform(keys, (pixels,)).argsort(dim=1, stable=True)


def pixel_ranks(attribution: Tensor, ties: Tensor) -> Tensor:
    """Return the rank of each pixel in its map ``(N, *S)``, 0 for the most attributed.

    Args:
        attribution: ``(N, *S)``.
        ties: the places of all pixels in the order in which ties go, ``(N, P)``; see :func:`tie_order`.

    Example:
        >>> pixel_ranks(torch.tensor([[0.5, 2.0, 0.5]]), torch.tensor([[2, 1, 0]])).tolist()
        [[2, 0, 1]]

    """
    shuffled = attribution.flatten(1).gather(1, ties)
    order = ties.gather(1, shuffled.argsort(dim=1, descending=True, stable=True))
    return _places(order).view(attribution.shape)


def segment_ranks(attribution: Tensor, labels: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
    """Rank the segments by the map's mean in them.

    Args:
        attribution: ``(N, *S)``.
        labels: segment of each pixel, ``(N, *S)`` int64 from 0.
        keys: of each map's image, ``(N,)``: segments of equal means go in a random order that follows from the key; see
            :func:`tie_keys`.

    Returns:
        The rank of each pixel's segment ``(N, *S)`` int64, 0 for the highest mean, and the numbers of pixels of the segments
        in that order ``(N, R)`` int64; segments that an image does not have come last, with 0.

    Example:
        >>> segment_ranks(torch.tensor([[0.5, 2.0, 0.5]]), torch.tensor([[0, 1, 1]]), torch.tensor([7]))
        (tensor([[1, 0, 0]]), tensor([[2, 1]]))

    """
    sums, sizes = segment_sums(attribution, labels, int(labels.max()) + 1 if len(labels) else 1)
    # Segments that an image does not have come last, whatever the means of the others.
    ties = randomness.uniform(keys, sizes.shape[1:]).where(sizes > 0, torch.inf).argsort(dim=1, stable=True)
    means = (sums / sizes).where(sizes > 0, -torch.inf).gather(1, ties)
    order = ties.gather(1, means.argsort(dim=1, descending=True, stable=True))
    return _places(order).gather(1, labels.flatten(1)).view(labels.shape), sizes.gather(1, order).long()


def unit_ranks(attribution: Tensor, labels: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
    """Rank the segments in pixels: count the pixels of all segments before a pixel's own.

    Returns:
        The ranks ``(N, *S)``, and the numbers of pixels in the first 0 to R segments ``(N, R + 1)``.

    Example:
        >>> unit_ranks(torch.tensor([[0.5, 2.0, 0.5]]), torch.tensor([[0, 1, 1]]), torch.tensor([7]))
        (tensor([[2, 0, 0]]), tensor([[0, 2, 3]]))

    """
    place, sizes = segment_ranks(attribution, labels, keys)
    totals = torch.cat([torch.zeros_like(sizes[:, :1]), sizes.cumsum(dim=1)], dim=1)
    return totals.gather(1, place.flatten(1)).view(place.shape), totals


def nearest(counts: Tensor, totals: Tensor) -> Tensor:
    """Return the nearest of the ascending ``totals`` ``(N, R + 1)`` to each of ``counts`` ``(N, M)``; of two, the lower."""
    after = torch.searchsorted(totals, counts.contiguous()).clamp(1, totals.shape[1] - 1)
    low, high = totals.gather(1, after - 1), totals.gather(1, after)
    return low.where(counts - low <= high - counts, high)


def segment_sums(attribution: Tensor, labels: Tensor, segments: int) -> tuple[Tensor, Tensor]:
    """Sum each map ``(N, *S)`` over its segments, and count their pixels; ``(N, R)`` float64 each."""
    values, flat = attribution.flatten(1).double(), labels.flatten(1)
    zeros = values.new_zeros(len(values), segments)
    return zeros.scatter_add(1, flat, values), zeros.scatter_add(1, flat, torch.ones_like(values))


def _places(order: Tensor) -> Tensor:
    """Invert permutations ``(N, P)``."""
    place = torch.arange(order.shape[1], device=order.device).expand_as(order)
    return torch.empty_like(order).scatter_(1, order, place)
