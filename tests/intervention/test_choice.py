"""A target's fill follows from the image and the region alone."""

import numpy as np
import pytest
import torch
from _models import Net, images, logits_of
from torch import Tensor

from segaudit.attribution.context import attribution_context
from segaudit.forwards import Probe
from segaudit.forwards.target import Targets, TargetSelector
from segaudit.intervention import BlurFill, ConstantFill, Fill, Intervention, MeanFill, NoisyLinearFill, RangeFill
from segaudit.intervention.choice import fill_distances, ranked

PAIRS: dict[str, list[Fill]] = {
    "extremes": [RangeFill(0.0), RangeFill(1.0)],
    "three": [MeanFill(), RangeFill(0.0), RangeFill(1.0)],
    "with structure": [BlurFill(), RangeFill(0.5)],
}


def some_targets(x: Tensor) -> Targets:
    """Eight targets, three in the first image; the last has no pixel."""
    region = torch.rand(8, *x.shape[2:], generator=torch.Generator().manual_seed(3)) < torch.linspace(0.1, 1, 8).view(
        -1, *[1] * (x.ndim - 2)
    )
    region[-1] = False
    return Targets(torch.tensor([0, 0, 0, 1, 2, 2, 3, 3]), torch.tensor([0, 1, 2, 0, 1, 2, 0, 1]), region)


def chosen(x: Tensor, targets: Targets, fills: list[Fill] | None) -> Tensor:
    return Probe(Net(), x, targets, Intervention(fills)).fill_index


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_distances_are_the_slow_loop(dims: int) -> None:
    x = images(size={1: (12,), 2: (5, 7), 3: (3, 4, 5)}[dims])
    targets, fills = some_targets(x), [RangeFill(1.5), ConstantFill(0.4), BlurFill()]
    found = fill_distances(x, [fill(x) for fill in fills], targets.image_index, targets.region)
    assert found.shape == (3, 8)
    for n, b in enumerate(targets.image_index.tolist()):
        pixels = [place for place in np.ndindex(*x.shape[2:]) if targets.region[n][place]]
        image = x[b].double()
        ends = [(float(image[c].min()), float(image[c].max())) for c in range(3)]
        for f, fill in enumerate(fills):
            filled = fill(x)[b].double()
            squares = [
                ((min(max(float(filled[c][p]), low), high) - float(image[c][p])) / (high - low)) ** 2
                for c, (low, high) in enumerate(ends)
                for p in pixels
            ]
            expected = float(np.mean(squares)) ** 0.5 if squares else 0.0
            assert float(found[f, n]) == pytest.approx(expected, abs=1e-7)
    assert bool((found <= 1).all())


def test_of_two_extreme_colours_the_one_farther_from_the_regions_mean_is_chosen() -> None:
    x = torch.zeros(2, 3, 6, 6)
    x[:, :, :2], x[:, :, 2:4], x[1, :, 5] = 0.2, 1.0, 0.45
    for value, expected in ((0.2, 1), (1.0, 0), (0.0, 1), (0.45, 1)):
        b = int(value == 0.45)
        targets = Targets(torch.tensor([b]), torch.tensor([1]), x[b : b + 1, 0] == value)
        assert chosen(x, targets, PAIRS["extremes"]).tolist() == [expected]
        assert chosen(x, targets, None).tolist() == [expected]


@pytest.mark.parametrize("fills", PAIRS.values(), ids=PAIRS)
def test_neither_the_model_nor_the_class_decides(fills: list[Fill]) -> None:
    x = images()
    targets = some_targets(x)
    other = Targets(targets.image_index, targets.class_index.flip(0), targets.region)
    found = []
    for seed, these in ((0, targets), (1, targets), (0, other)):
        torch.manual_seed(seed)
        model = torch.nn.Conv2d(3, 3, 3, padding=1)
        with attribution_context(model):
            probe = Probe(model, x, these, Intervention(fills))
            found.append(probe.fill_index)
            assert probe.fill_names == [probe.intervention.fills[place].label for place in found[-1].tolist()]
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])
    assert len(found[0].unique()) > 1


@pytest.mark.parametrize("fills", PAIRS.values(), ids=PAIRS)
def test_the_rest_of_the_batch_does_not_matter(fills: list[Fill]) -> None:
    x = images()
    targets = some_targets(x)
    together = chosen(x, targets, fills)
    for n, b in enumerate(targets.image_index.tolist()):
        alone = Targets(torch.tensor([0]), targets.class_index[n : n + 1], targets.region[n : n + 1])
        assert chosen(x[b : b + 1], alone, fills).tolist() == together[n : n + 1].tolist()


@pytest.mark.parametrize("fills", PAIRS.values(), ids=PAIRS)
def test_units_do_not_matter(fills: list[Fill]) -> None:
    x = images()
    targets = some_targets(x)
    scale, shift = torch.tensor([255.0, 0.01, 3.0]).view(1, 3, 1, 1), torch.tensor([-7.0, 0.5, 100.0]).view(1, 3, 1, 1)
    assert torch.equal(chosen(x, targets, fills), chosen(x * scale + shift, targets, fills))


def test_a_negative_image_swaps_dark_and_bright() -> None:
    x = images()
    targets = some_targets(x)
    found, negative = chosen(x, targets, PAIRS["extremes"]), chosen(-x, targets, PAIRS["extremes"])
    assert torch.equal(negative[:-1], 1 - found[:-1])
    assert (int(found[-1]), int(negative[-1])) == (0, 0)  # no pixel, no difference: the first


def test_how_far_a_fill_is_beyond_the_range_does_not_matter() -> None:
    x = images()
    targets = some_targets(x)
    beyond = chosen(x, targets, [RangeFill(0.0), RangeFill(1.5)])
    assert torch.equal(beyond, chosen(x, targets, PAIRS["extremes"]))
    assert torch.equal(beyond, chosen(x, targets, None))
    assert len(beyond.unique()) == 2


def test_of_equals_the_first_is_chosen_whatever_rounding_says() -> None:
    distances = torch.tensor([[0.5, 0.5, 0.1], [0.5 + 1e-9, 0.5 + 1e-3, 0.1], [0.5 - 1e-9, 0.2, 0.1 + 1e-9]])
    assert ranked(distances.double()).T.tolist() == [[0, 1, 2], [1, 0, 2], [0, 1, 2]]
    x = images()
    same = chosen(x, some_targets(x), [RangeFill(0.0), RangeFill(0.0)])
    assert same.tolist() == [0] * 8


def test_images_that_are_not_finite_or_flat_get_the_first_fill() -> None:
    x = torch.stack([torch.full((3, 4, 4), torch.nan), torch.full((3, 4, 4), 2.0), torch.zeros(3, 4, 4)])
    x[2, 0, 0, 0] = torch.inf
    targets = Targets(torch.tensor([0, 1, 2]), torch.tensor([0, 0, 0]), torch.ones(3, 4, 4, dtype=torch.bool))
    assert chosen(x, targets, None).tolist() == [0, 0, 0]


def test_the_choice_asks_nothing_of_the_model() -> None:
    def refuse(_: Tensor) -> Tensor:
        raise AssertionError("the model was asked")

    x = images()
    model = torch.nn.Identity()
    model.forward = refuse  # type: ignore[method-assign]
    assert len(Probe(model, x, some_targets(x), Intervention()).fill_names) == 8


def test_labels() -> None:
    class Tinted(Fill):
        def __init__(self, colour: list[float], name: str = "red", weight: Tensor | None = None) -> None:
            self.colour, self.name, self.weight, self.hidden = colour, name, weight, 3

        def __call__(self, images: Tensor) -> Tensor:
            return images

    assert [fill.label for fill in (RangeFill(), RangeFill(1), MeanFill(), ConstantFill(-0.125), NoisyLinearFill())] == [
        "range_fill(0)", "range_fill(1)", "mean_fill", "constant_fill(-0.125)", "noisy_linear_fill(0.01, 0)",
    ]  # fmt: skip
    assert Tinted([1, 0.5]).label == "tinted([1, 0.5], red, None)"
    assert Tinted([], weight=torch.ones(2)).label == "tinted([], red, Tensor)"


def test_targets_of_a_model_are_filled_alike_by_the_audit() -> None:
    """The selector's own regions, as an audit has them."""
    x = images()
    targets = TargetSelector(min_area=0)(logits_of(Net(), x))
    extremes = torch.stack([x.amin((2, 3)), x.amax((2, 3))])
    found = chosen(x, targets, PAIRS["extremes"])
    for n, b in enumerate(targets.image_index.tolist()):
        place = (x[b][:, targets.region[n]].mean(dim=1) - extremes[0, b]) / (extremes[1, b] - extremes[0, b])
        assert int(found[n]) == int(float((place**2).sum()) < float(((1 - place) ** 2).sum()))
