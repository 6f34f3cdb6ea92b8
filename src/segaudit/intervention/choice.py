"""Chooses the fill of each target from the image and the region alone."""

from collections.abc import Sequence

import torch
from torch import Tensor

#: Distances that differ by less are equal: rounding errors, which change with the batch, must not decide.
_TIE = 1e-6


def fill_distances(images: Tensor, filled: Sequence[Tensor] | Tensor, image_index: Tensor, region: Tensor) -> Tensor:
    """Compute how far each filled image is from the image over each target's region.

    The distance is the root mean square of the difference over the region's pixels and the channels. Each channel is
    divided by its range in the image, so neither the units of the input nor an offset matter. A filled image that leaves
    this range counts as its nearer end: else a fill that is brighter than all pixels would be the farthest from
    bright regions too. No distance exceeds 1.

    Args:
        images: ``(B, channels, *S)``.
        filled: images with everything removed by each of F fills, ``(F, B, channels, *S)``.
        image_index: which image each of N targets is in, ``(N,)``.
        region: the pixels of each target, ``(N, *S)`` bool.

    Returns:
        ``(F, N)`` float64 in [0, 1]; 0 for an empty region, and where the image or a filled image is not finite.

    Example:
        >>> image = torch.tensor([[[0.0, 0.0, 10.0]]])
        >>> region = torch.tensor([[True, True, False]])
        >>> fill_distances(image, [image.clone().fill_(0.0), image.clone().fill_(10.0)], torch.tensor([0]), region).tolist()
        [[0.0], [1.0]]

    """
    axes = tuple(range(2, images.ndim))
    low, high = images.amin(axes, keepdim=True), images.amax(axes, keepdim=True)
    span = (high.double() - low.double()).where(high > low, 1.0)
    pixels = region.flatten(1).sum(dim=1).clamp_min(1)
    found = []
    for one in filled:
        inside = torch.maximum(torch.minimum(one, high), low)
        squares = ((inside.double() - images.double()) / span).square().mean(dim=1)
        found.append((squares[image_index] * region).flatten(1).sum(dim=1) / pixels)
    return torch.stack(found).sqrt().nan_to_num(nan=0.0, posinf=0.0)


def ranked(distances: Tensor) -> Tensor:
    """Rank the fills of each target by their distances ``(F, N)``, the farthest first; equals keep their order.

    Returns:
        Indices of fills ``(F, N)``: a column holds each of 0 to F - 1 once.

    Example:
        >>> ranked(torch.tensor([[0.2], [0.9], [0.9 + 1e-9]])).T.tolist()
        [[1, 2, 0]]

    """
    left, order = distances.clone(), []
    for _ in range(len(distances)):
        farthest = (left >= left.amax(dim=0) - _TIE).int().argmax(dim=0)
        order.append(farthest)
        left = left.scatter(0, farthest[None], -1.0)
    return torch.stack(order)
