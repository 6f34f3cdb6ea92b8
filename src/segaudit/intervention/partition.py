"""Partitions: cut images into the segments that are removed one at a time."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from segaudit import randomness

#: Derives the keys of scattered centres from those of images, which draw other things as well.
_SCATTER = 0x5CA7

#: Largest number of distances between pixels and centres held at once: 8 MiB, the size of a processor's cache.
_MOST_DISTANCES = 1 << 20


class Regions(ABC):
    """Cuts each image into segments, at one or several scales.

    Args:
        counts: approximate number of segments for each scale.

    """

    def __init__(self, counts: Sequence[int] = (24, 64, 140)) -> None:
        if not counts or min(counts) < 2:
            raise ValueError(f"counts needs at least one scale of at least 2 segments, got {list(counts)}.")
        self.counts = list(counts)

    def __call__(self, images: Tensor) -> list[Tensor]:
        """Return a label map ``(B, *S)`` int64 for each scale, with labels from 0, of images ``(B, channels, *S)``."""
        return [self.partition(images, count) for count in self.counts]

    @abstractmethod
    def partition(self, images: Tensor, count: int) -> Tensor:
        """Return a label map ``(B, *S)`` int64 of about ``count`` segments, with labels from 0; a label may be unused."""


class GridRegions(Regions):
    """Cuts all images into the same boxes of nearly equal size."""

    def partition(self, images: Tensor, count: int) -> Tensor:
        """Return the labels of boxes that are as close to cubes as the image's shape allows."""
        size = images.shape[2:]
        labels = torch.zeros(size, dtype=torch.int64, device=images.device)
        for axis, cells in enumerate(_cells(size, count)):
            place = torch.arange(size[axis], device=images.device) * cells // size[axis]
            labels = labels * cells + place.view(-1, *[1] * (len(size) - 1 - axis))
        return labels.expand(len(images), *size)


class SuperpixelRegions(Regions):
    """Cuts images into superpixels that follow their edges, by k-means over colour and place that starts on a grid.

    The distance is SLIC's (Achanta et al. 2012, equation 3) without its search window, so that all images of a batch are
    cut together on their device, in any number of spatial dimensions.

    Args:
        counts: approximate number of segments for each scale.
        compactness: weight of place against colour; the larger, the more the segments resemble boxes.
        iterations: rounds of k-means.

    """

    def __init__(self, counts: Sequence[int] = (24, 64, 140), compactness: float = 1.0, iterations: int = 5) -> None:
        super().__init__(counts)
        if compactness <= 0:
            raise ValueError(f"compactness must be above 0, got {compactness}.")
        self.compactness = compactness
        self.iterations = iterations

    def partition(self, images: Tensor, count: int) -> Tensor:
        """Return the labels ``(B, *S)`` after the last round."""
        at_once = max(1, _MOST_DISTANCES // (prod(_cells(images.shape[2:], count)) * prod(images.shape[2:])))
        return torch.cat([self._cut(part, count) for part in images.split(at_once)])

    def _start(self, images: Tensor, count: int) -> Tensor:
        """Return the labels ``(B, *S)`` before the first round."""
        return GridRegions([count]).partition(images, count)

    def _cut(self, images: Tensor, count: int) -> Tensor:
        # In double precision, rounding is far below any difference. So the rest of the batch, the number of threads and the
        # device, which change the order of sums, do not change a pixel's segment.
        images = images.double()
        size, batch = images.shape[2:], len(images)
        cells = _cells(size, count)
        axes = tuple(range(2, images.ndim))
        colour = images / images.std(dim=(1, *axes), keepdim=True, correction=0).clamp_min(1e-6)
        # Place in units of a segment's side, colour in units of the image's contrast.
        grid = torch.meshgrid(
            *[torch.arange(s, device=images.device, dtype=images.dtype) * (c / s) for s, c in zip(size, cells, strict=True)],
            indexing="ij",
        )
        place = self.compactness * torch.stack(grid).expand(batch, *[-1] * (len(size) + 1))
        features = torch.cat([colour, place], dim=1).flatten(2)  # (B, F, P)
        labels = self._start(images, count).flatten(1)
        segments = prod(cells)
        ones = torch.ones_like(features[:, :1])
        at_once = max(1, _MOST_DISTANCES // (batch * segments))  # pixels of a large volume
        for _ in range(self.iterations):
            index = labels[:, None].expand(-1, features.shape[1] + 1, -1)
            sums = features.new_zeros(batch, features.shape[1] + 1, segments)
            sums.scatter_add_(2, index, torch.cat([features, ones], dim=1))
            centres = sums[:, :-1] / sums[:, -1:].clamp_min(1)
            # ‖f − c‖² without ‖f‖², which is the same for all centres.
            constant = centres.square().sum(dim=1).masked_fill(sums[:, -1] == 0, float("inf"))[:, :, None]
            labels = torch.cat(
                [
                    torch.baddbmm(constant, centres.mT, part, alpha=-2.0).argmin(dim=1)
                    for part in features.split(at_once, dim=2)
                ],
                dim=1,
            )
        return labels.view(batch, *size)


class ScatteredRegions(SuperpixelRegions):
    """Cuts images into superpixels that start from centres at random places, one in each box of a grid.

    No grid and no superpixels that start on one have the same segments, so they serve to judge maps that were made of
    those. The places follow from the image's content and the seed.

    Args:
        counts: approximate number of segments for each scale.
        compactness: weight of place against colour; the larger, the more the segments resemble boxes.
        iterations: rounds of k-means; few, as many would lead all starts to the same edges. 0 leaves the cells of the
            nearest centre, whatever the colours.
        seed: another seed, other centres.

    """

    def __init__(self, counts: Sequence[int] = (64,), compactness: float = 1.0, iterations: int = 2, seed: int = 0) -> None:
        super().__init__(counts, compactness, iterations)
        self.seed = seed

    def _start(self, images: Tensor, count: int) -> Tensor:
        size = images.shape[2:]
        cells = _cells(size, count)
        keys = randomness.combine(randomness.image_keys(images, self.seed), _SCATTER)
        # The last axes draw alike, and an axis that is not cut draws nothing: a thin volume is cut like its slices.
        shift = torch.stack(
            [
                randomness.uniform(randomness.combine(keys, len(size) - axis), (prod(cells),))
                if cells[axis] > 1
                else torch.full((len(keys), prod(cells)), 0.5, device=keys.device)
                for axis in range(len(size))
            ],
            dim=-1,
        )
        box = torch.stack(torch.unravel_index(torch.arange(prod(cells), device=images.device), cells), dim=1)
        centres = (box + shift).double()  # in units of a box's sides
        grid = torch.meshgrid(
            *[(torch.arange(s, device=images.device) + 0.5) * (c / s) for s, c in zip(size, cells, strict=True)],
            indexing="ij",
        )
        pixels = torch.stack(grid, dim=-1).view(-1, len(size)).double()
        constant, at_once = centres.square().sum(dim=2)[:, None], max(1, _MOST_DISTANCES // centres[..., 0].numel())
        nearest = [(constant - 2 * part @ centres.mT).argmin(dim=2) for part in pixels.split(at_once)]
        return torch.cat(nearest, dim=1).view(len(images), *size)


def _cells(size: Sequence[int], count: int) -> list[int]:
    """Return the numbers of cells along each axis that give about ``count`` cells that are nearly cubes.

    An axis that is shorter than a cell is not cut, so that a thin volume is cut like its slices.

    Example:
        >>> _cells((64, 64), 64), _cells((2, 64, 64), 64)
        ([8, 8], [1, 8, 8])

    """
    cut = sorted(size)
    while cut[0] < (side := (prod(cut) / count) ** (1 / len(cut))):
        cut.pop(0)
    return [min(s, max(1, round(s / side))) for s in size]
