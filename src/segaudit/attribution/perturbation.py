"""Explains by changing the image and watching the confidence."""

from math import prod

import torch
from torch import Tensor

from segaudit import randomness
from segaudit.attribution.base import Explainer
from segaudit.forwards import Probe

__all__ = ["RISE", "Occlusion", "RegionEffects"]


class RegionEffects(Explainer):
    """Measure how far the confidence falls when the segment at a pixel is filled, averaged over several partitions.

    Relative to S(x), and signed: a segment whose removal raises the confidence is negative. One sweep serves all targets of
    an image. The partitions and the fill are those of the audit's :class:`~segaudit.intervention.Intervention`.

    When to use:
        As the reference of this framework: it intervenes and does not infer. One sweep serves all classes of an image. The
        map is as coarse as its segments.
    """

    cost = "R·F"

    def attribute(self, probe: Probe) -> Tensor:
        """Take as many forwards an image as there are segments, over all partitions."""
        return probe.effect_map()


class Occlusion(Explainer):
    """Measure how far the confidence falls when a window is filled, relative to S(x) (Zeiler, Fergus 2014).

    Each pixel gets the mean over the windows that cover it. Signed: a window whose removal raises the confidence is
    negative. The last window of each axis ends at the border. NaN where S(x) is too low for a relative change.

    When to use:
        For a plain causal check at one scale. It misses evidence that the image holds twice.

    Args:
        window: side of the window in pixels, the same along each axis; cut to the image where that is smaller.
        stride: pixels from one window to the next, at most ``window``.

    """

    cost = "windows·F"

    def __init__(self, window: int = 16, stride: int = 8) -> None:
        if not 1 <= stride <= window:
            raise ValueError(f"stride must be from 1 to window, so that each pixel is covered, got {stride} and {window}.")
        self.window = window
        self.stride = stride

    def attribute(self, probe: Probe) -> Tensor:
        """Take as many forwards an image as there are windows."""
        images = probe.images
        inside = [self._windows(side, images.device) for side in images.shape[2:]]
        counts = [len(windows) for windows in inside]

        def removed(_: Tensor, window: Tensor) -> Tensor:
            mask = torch.ones_like(window, dtype=torch.bool)
            for windows, which in zip(inside, torch.unravel_index(window, counts), strict=True):
                mask = mask[..., None] & windows[which].view(len(window), *[1] * (mask.ndim - 1), -1)
            return mask

        wanted = torch.ones(len(images), prod(counts), dtype=torch.bool, device=images.device)
        maps = probe.fall(probe.sweep(wanted, removed)).view(-1, *counts)
        for windows in inside:  # each round takes the first axis of windows and appends one of pixels
            maps = torch.tensordot(maps, windows.to(maps) / windows.sum(dim=0), dims=([1], [0]))
        return maps

    def _windows(self, side: int, device: torch.device) -> Tensor:
        """Mark the pixels of an axis that each window covers, ``(windows, side)`` bool."""
        width = min(self.window, side)
        last = side - width
        starts = torch.tensor(sorted({*range(0, last, self.stride), last}), device=device)[:, None]
        pixels = torch.arange(side, device=device)
        return (pixels >= starts) & (pixels < starts + width)


class RISE(Explainer):
    """Compare the confidence where random masks show a pixel with its average, relative to S(x) (Petsiuk et al. 2018).

    Petsiuk, Das, Saenko 2018, equation 6 with each pixel's own share of masks as the denominator: the mean confidence over
    random masks, weighed by how far they show the pixel. Our reading subtracts the mean over all masks, the same number
    everywhere. The order of the pixels is the paper's, and 0 means that showing the pixel changes nothing. Masks are coarse
    random grids, enlarged and shifted, and pixels are filled in proportion. NaN where S(x) is too low for a relative change.

    When to use:
        For black boxes. Maps are smooth, and noisy below some thousand masks.

    Args:
        masks: random masks an image; the paper takes 4000 and more.
        cells: cells of the coarse grid along each axis, at most one a pixel.
        share: probability that a cell is shown, in (0, 1).
        seed: of the masks. One image always gets the same.

    """

    cost = "masks·F"

    def __init__(self, masks: int = 256, cells: int = 7, share: float = 0.5, seed: int = 0) -> None:
        if masks < 2:
            raise ValueError(f"masks must be at least 2, got {masks}.")
        if cells < 2:
            raise ValueError(f"cells must be at least 2, got {cells}.")
        if not 0 < share < 1:
            raise ValueError(f"share is the probability that a cell is shown, in (0, 1), got {share}.")
        self.masks = masks
        self.cells = cells
        self.share = share
        self.seed = seed

    def attribute(self, probe: Probe) -> Tensor:
        """Take as many forwards an image as there are masks."""
        images, targets = probe.images, probe.targets
        size, batch = images.shape[2:], len(images)
        keys = randomness.image_keys(images, self.seed)
        cells = [min(self.cells, side) for side in size]
        grids = (randomness.uniform(randomness.combine(keys, 0), (self.masks, *cells)) < self.share).to(images)
        shifts = torch.stack(
            [randomness.uniform(randomness.combine(keys, axis + 1), (self.masks,)) for axis in range(len(size))], dim=2
        )

        def shown(image: Tensor, mask: Tensor) -> Tensor:
            return _enlarge(grids[image, mask], shifts[image, mask], list(size))

        wanted = torch.ones(batch, self.masks, dtype=torch.bool, device=images.device)
        # Double precision until the mean is gone: its rounding would lift or lower the whole map.
        levels = probe.sweep(wanted, lambda image, mask: 1 - shown(image, mask)).double() / probe.reference[:, None]
        above = (levels - levels.mean(dim=1, keepdim=True)).float()
        # A row an image and position, so that one product with an image's masks serves all its targets.
        weights = above.new_zeros(batch, int(targets.position.max()) + 1, self.masks)
        weights[targets.image_index, targets.position] = above
        total = weights.new_zeros(*weights.shape[:2], prod(size))
        showing = weights.new_zeros(batch, 1, prod(size))
        rows = torch.arange(batch, device=images.device)[:, None]

        def add(chosen: Tensor) -> None:
            image = rows.expand(-1, len(chosen))
            masks = shown(image.flatten(), chosen.repeat(batch)).view(*image.shape, -1).to(weights)
            part = weights[:, :, chosen] @ masks, masks.sum(dim=1, keepdim=True)
            for sums, more in zip((total, showing), part, strict=True):
                sums.add_(more)

        probe.run(self.masks, add, weight=batch)
        # A pixel that no mask shows gets 0.
        importance = total / showing.where(showing > 0, 1)
        return importance[targets.image_index, targets.position].view(targets.region.shape)


def _enlarge(grids: Tensor, shifts: Tensor, size: list[int]) -> Tensor:
    """Enlarge grids ``(M, *cells)`` linearly to one cell more than the image ``size`` and crop them: ``(M, *size)``.

    Args:
        grids: values of the cells.
        shifts: where the crop begins along each axis, ``(M, D)`` in [0, 1] of a cell.
        size: of the image.

    """
    for axis, side in enumerate(size):  # each round takes the first axis of cells and appends one of pixels
        cells = grids.shape[1]
        width = -(-side // cells)
        first = (shifts[:, axis, None] * width).long().clamp_max(width - 1)
        pixels = torch.arange(side, device=grids.device)
        place = ((first + pixels + 0.5) / ((cells + 1) * width) * cells - 0.5).clamp(0, cells - 1)
        hat = (1 - (place[:, :, None] - torch.arange(cells, device=grids.device)).abs()).clamp_min(0)
        grids = torch.einsum("mc...,msc->m...s", grids, hat.to(grids))
    return grids
