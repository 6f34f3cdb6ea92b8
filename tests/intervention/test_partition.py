"""Partitions: they cover the image, have about the wanted number of parts, and follow edges."""

from collections.abc import Callable
from math import prod

import numpy as np
import pytest
import torch
from _models import images
from torch import Tensor

from segaudit.intervention import GridRegions, Regions, ScatteredRegions, SuperpixelRegions, region

REGIONS: dict[str, Callable[..., Regions]] = {
    "grid": GridRegions,
    "superpixel": SuperpixelRegions,
    "scattered": ScatteredRegions,
}
SIZES = {1: (60,), 2: (24, 32), 3: (8, 10, 12)}
every = pytest.mark.parametrize("kind", REGIONS.values(), ids=REGIONS.keys())


@pytest.mark.parametrize("dims", [1, 2, 3])
@every
def test_partitions_cover_the_image_in_about_so_many_parts(kind: Callable[..., Regions], dims: int) -> None:
    x = images(3, size=SIZES[dims])
    counts = (4, 12, 30)
    found = kind(counts)(x)
    assert len(found) == len(counts)
    for count, labels in zip(counts, found, strict=True):
        assert labels.shape == (3, *SIZES[dims])
        assert labels.dtype == torch.int64
        assert int(labels.min()) >= 0
        for b in range(3):
            parts = len(labels[b].unique())
            assert count / 2 <= parts <= count * 1.6
            assert int(labels[b].max()) < count * 1.6  # labels are counted from 0 without large gaps


@pytest.mark.parametrize("dims", [1, 2, 3])
@every
def test_the_rest_of_the_batch_does_not_matter(kind: Callable[..., Regions], dims: int) -> None:
    x = images(3, size=SIZES[dims])
    found = kind((4, 12))(x)
    for order in ([1], [2, 0], [2, 1, 0]):
        for all_of, some in zip(found, kind((4, 12))(x[order]), strict=True):
            assert torch.equal(some, all_of[order])
    for again, first in zip(kind((4, 12))(x), found, strict=True):
        assert torch.equal(again, first)


def test_grid_cells_are_boxes_of_nearly_equal_size() -> None:
    labels = GridRegions([12]).partition(images(2, size=(23, 31)), 12)
    assert torch.equal(labels[0], labels[1])
    sizes = []
    for label in labels[0].unique():
        rows, columns = (labels[0] == label).nonzero(as_tuple=True)
        height, width = int(rows.max() - rows.min() + 1), int(columns.max() - columns.min() + 1)
        assert len(rows) == height * width  # a full box
        sizes.append((height, width))
    heights, widths = zip(*sizes, strict=True)
    assert max(heights) - min(heights) <= 1
    assert max(widths) - min(widths) <= 1
    assert 0.5 < max(heights) / min(widths) < 2  # nearly square


@pytest.mark.parametrize(("size", "count", "cells"), [((16, 16), 16, 16), ((10, 40), 4, 4), ((2, 2), 100, 4), ((64,), 7, 7)])
def test_grid_counts(size: tuple[int, ...], count: int, cells: int) -> None:
    labels = GridRegions([count]).partition(torch.rand(1, 1, *size), count)
    assert len(labels.unique()) == cells


def impurity(labels: Tensor, truth: Tensor) -> float:
    """Share of pixels that are not of their region's commonest side, by loops."""
    wrong = 0
    for label in labels.unique():
        inside = truth[labels == label].long()
        wrong += min(int(inside.sum()), len(inside) - int(inside.sum()))
    return wrong / truth.numel()


@pytest.mark.parametrize("dims", [2, 3])
def test_superpixels_follow_an_edge_that_the_grid_ignores(dims: int) -> None:
    size = {2: (40, 40), 3: (14, 14, 14)}[dims]
    grid = torch.meshgrid(*[torch.linspace(-1, 1, s) for s in size], indexing="ij")
    ball = sum(g.square() for g in grid) < 0.5
    x = images(1, size=size) * 0.05 + ball * torch.tensor([1.0, -1.0, 0.5]).view(1, 3, *[1] * dims)
    for count in (24, 64):
        grid_wrong = impurity(GridRegions([count]).partition(x, count)[0], ball)
        superpixel_wrong = impurity(SuperpixelRegions([count]).partition(x, count)[0], ball)
        assert grid_wrong > 0.03
        assert superpixel_wrong < 0.25 * grid_wrong


def slow_superpixels(image: Tensor, count: int, compactness: float, iterations: int) -> np.ndarray:
    """k-means over colour in units of its spread and place in units of a cell's side, by loops."""
    size = image.shape[1:]
    labels = GridRegions([count]).partition(image[None], count)[0].numpy()
    cells = [len(np.unique(np.moveaxis(labels, a, 0).reshape(s, -1)[:, 0])) for a, s in enumerate(size)]
    colour = image.double().numpy()
    colour = colour / colour.reshape(len(colour), -1).std()
    features = {
        p: np.array([*colour[(slice(None), *p)], *(compactness * p[a] * cells[a] / size[a] for a in range(len(size)))])
        for p in np.ndindex(*size)
    }
    for _ in range(iterations):
        centres = {
            k: np.mean([features[p] for p in features if labels[p] == k], axis=0)
            for k in range(prod(cells))
            if (labels == k).any()
        }
        new = np.zeros_like(labels)
        for p, f in features.items():
            new[p] = min(centres, key=lambda k: (float(((f - centres[k]) ** 2).sum()), k))
        labels = new
    return labels


@pytest.mark.parametrize("dims", [1, 2])
@pytest.mark.parametrize("compactness", [0.3, 1.0, 4.0])
def test_superpixels_are_the_slow_k_means(dims: int, compactness: float) -> None:
    x = images(2, size={1: (25,), 2: (9, 12)}[dims])
    labels = SuperpixelRegions([6], compactness=compactness, iterations=3).partition(x, 6)
    for b in range(2):
        assert np.array_equal(labels[b].numpy(), slow_superpixels(x[b], 6, compactness, 3))


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("most", [1, 100, 1000])
def test_how_many_distances_are_held_at_once_does_not_matter(monkeypatch: pytest.MonkeyPatch, dims: int, most: int) -> None:
    x = images(3, size=SIZES[dims])
    whole = SuperpixelRegions([4, 12])(x)
    monkeypatch.setattr(region, "_MOST_DISTANCES", most)
    for parts, one in zip(SuperpixelRegions([4, 12])(x), whole, strict=True):
        assert torch.equal(parts, one)


def test_brightness_and_contrast_do_not_change_the_superpixels() -> None:
    x = images(1, size=(24, 24)).double()
    first = SuperpixelRegions([20]).partition(x, 20)
    assert torch.equal(SuperpixelRegions([20]).partition(4 * x + 3, 20), first)
    assert len(SuperpixelRegions([20]).partition(torch.zeros_like(x), 20).unique()) >= 16  # a flat image: place alone


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: GridRegions([]), "counts needs at least one scale"),
        (lambda: GridRegions([9, 1]), r"at least 2 segments, got \[9, 1\]"),
        (lambda: SuperpixelRegions(compactness=0), "compactness must be above 0"),
    ],
)
def test_wrong_arguments(make: Callable[[], object], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        make()


def overlap(one: Tensor, other: Tensor) -> float:
    """Mean over the pixels of the largest IoU of a pixel's segment with a segment of the other partition."""
    one, other = one.flatten(), other.flatten()
    pairs = torch.zeros(int(one.max()) + 1, int(other.max()) + 1).index_put_(
        (one, other), torch.tensor(1.0), accumulate=True
    )
    union = pairs.sum(dim=1, keepdim=True) + pairs.sum(dim=0) - pairs
    return float((pairs / union).amax(dim=1)[one].mean())


@pytest.mark.parametrize("other", [GridRegions, SuperpixelRegions])
def test_scattered_segments_are_others(other: Callable[..., Regions]) -> None:
    x = images(3, size=(48, 60))
    found, theirs = ScatteredRegions([64])(x)[0], other([64])(x)[0]
    again = ScatteredRegions([64], seed=1)(x)[0]
    for b in range(3):
        assert overlap(found[b], found[b]) == 1
        assert overlap(found[b], theirs[b]) < 0.6
        assert overlap(found[b], again[b]) < 0.6
    turned = ScatteredRegions([64])(x.flip(3))[0].flip(2)
    assert overlap(found[0], turned[0]) < 0.6  # a mirrored image has other centres


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_scattered_segments_without_rounds_are_those_of_the_nearest_centre(dims: int) -> None:
    x = images(2, size=SIZES[dims])
    labels = ScatteredRegions([12], iterations=0)(x)[0]
    grid = GridRegions([12])(x)[0]
    assert not torch.equal(labels, grid)
    for b in range(2):
        centres = {int(k): (labels[b] == k).nonzero().double().mean(dim=0) for k in labels[b].unique()}
        for k, centre in centres.items():  # a segment lies about its own box
            box = (grid[b] == k).nonzero().double()
            spread = (box.amax(dim=0) - box.amin(dim=0) + 1) * 1.1
            assert bool(((centre - box.mean(dim=0)).abs() <= spread).all())
