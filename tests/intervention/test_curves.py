"""Deletion and insertion curves against slow loops and closed forms."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from _models import Counting, Net, Threshold, images, logits_of, uneven_targets
from torch import Tensor, nn

from segaudit.attribution import TargetMask, attribution_context
from segaudit.functional import deletion_auc, insertion_auc
from segaudit.intervention import ConstantFill, Fill, GridRegions, Intervention, MeanFill, NoiseFill, Probe
from segaudit.target import Targets, TargetSelector


def slow_score(model: nn.Module, image: Tensor, class_index: int, region: Tensor) -> float:
    logits = logits_of(model, image[None])[0].double()
    both = torch.cat([-logits, logits]).sigmoid() if len(logits) == 1 else logits.softmax(dim=0)
    return sum(float(both[(class_index, *p)]) for p in np.ndindex(*region.shape) if region[p]) / int(region.sum())


def slow_counts(pixels: int, steps: int) -> list[int]:
    return sorted({round((k / (steps + 1)) ** 2 * pixels) for k in range(steps + 2)})


def slow_curve(model: nn.Module, x: Tensor, targets: Targets, maps: Tensor, fill: Fill, steps: int, insert: bool) -> Tensor:
    """Fill or show the most attributed pixels, one set at a time; ties go to the first place."""
    filled, rows = fill(x), []
    for n in range(len(targets)):
        b, c, region = int(targets.image_index[n]), int(targets.class_index[n]), targets.region[n]
        values = maps[n].flatten().tolist()
        order = sorted(range(len(values)), key=lambda p: (-values[p], p))
        before = slow_score(model, x[b], c, region)
        row = []
        for count in slow_counts(len(values), steps):
            image = (filled if insert else x)[b].clone().flatten(1)
            source = (x if insert else filled)[b].flatten(1)
            for p in order[:count]:
                image[:, p] = source[:, p]
            row.append(slow_score(model, image.view_as(x[b]), c, region) / before)
        rows.append(row)
    return torch.tensor(rows)


def curves(model: nn.Module, x: Tensor, targets: Targets, maps: Tensor, **kwargs: object) -> tuple[Tensor, Tensor, Tensor]:
    with attribution_context(model):
        probe = Probe(model, x, targets, Intervention(**kwargs))
        return probe.deletion_curve(maps), probe.insertion_curve(maps), probe.fractions


def some_maps(targets: Targets, ties: bool) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    maps = torch.randn(targets.region.shape, generator=generator)
    return maps.round() if ties else maps


@pytest.mark.parametrize("fill", [MeanFill(), ConstantFill(0.5), NoiseFill()], ids=["mean", "constant", "noise"])
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("case", [{}, {"classes": 1}, {"dims": 1}, {"dims": 3}, {"stride": 2, "form": "dict"}], ids=str)
def test_curves_are_the_slow_loop(case: dict[str, object], ties: bool, fill: Fill) -> None:
    model, x = Net(**case), images(size={1: (40,), 2: (8, 7), 3: (4, 5, 6)}[case.get("dims", 2)])
    targets = uneven_targets(model, x)
    maps = some_maps(targets, ties)
    deletion, insertion, fractions = curves(model, x, targets, maps, fill=fill, steps=5)
    torch.testing.assert_close(deletion, slow_curve(model, x, targets, maps, fill, 5, False), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(insertion, slow_curve(model, x, targets, maps, fill, 5, True), rtol=1e-5, atol=1e-5)
    pixels = targets.region[0].numel()
    assert fractions.tolist() == pytest.approx([c / pixels for c in slow_counts(pixels, 5)], abs=1e-12)


def test_the_ends_are_exact_and_nothing_is_run_twice() -> None:
    net, x = Net(), images()
    targets = uneven_targets(net, x)
    maps = some_maps(targets, False)
    model = Counting(net)
    with attribution_context(model):
        probe = Probe(model, x, targets, Intervention(steps=6), logits_of(net, x))
        deletion = probe.deletion_curve(maps)
        inner = len(probe.fractions) - 2
        assert model.images == len(x) + len(targets) * inner  # the filled images once, and each point between the ends
        insertion = probe.insertion_curve(maps)
        assert model.images == len(x) + 2 * len(targets) * inner
        assert torch.equal(deletion[:, 0], torch.ones(len(targets)))
        assert torch.equal(insertion[:, -1], torch.ones(len(targets)))
        assert torch.equal(deletion[:, -1], insertion[:, 0])
        assert torch.equal(deletion[:, -1], probe.filled_score / probe.score)
        assert probe.fractions[0] == 0
        assert probe.fractions[-1] == 1
        assert bool((probe.fractions.diff() > 0).all())


@pytest.mark.parametrize("size", [(1, 1), (1, 2), (2, 2), (3, 5)])
@pytest.mark.parametrize("steps", [1, 2, 16])
def test_small_images_and_few_steps(size: tuple[int, int], steps: int) -> None:
    """No node twice, and a curve of two points where there is no room for more."""
    x = torch.linspace(0.6, 1, size[0] * size[1]).view(1, 1, *size)
    model = Threshold(5.0)
    targets = TargetSelector(classes=[1])(model(x))
    deletion, insertion, fractions = curves(model, x, targets, x[:, 0], steps=steps, fill=ConstantFill())
    pixels = size[0] * size[1]
    assert (fractions * pixels).tolist() == pytest.approx(slow_counts(pixels, steps))
    assert deletion.shape == insertion.shape == (1, len(fractions))
    assert float(deletion[0, 0]) == float(insertion[0, -1]) == 1


@pytest.mark.parametrize("max_batch", [1, 7, 1000])
def test_chunks_do_not_change_values(max_batch: int) -> None:
    net, x = Net(), images()
    targets = uneven_targets(net, x)
    maps = some_maps(targets, True)
    model = Counting(net)
    found = curves(model, x, targets, maps, max_batch=max_batch, regions=GridRegions([4]))
    assert max(model.batches) <= max_batch
    for one, other in zip(found, curves(net, x, targets, maps, max_batch=64), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("change", [lambda a: 7 * a, lambda a: a - 100, lambda a: a.exp(), lambda a: a**3])
def test_only_the_order_of_a_map_matters(change: Callable[[Tensor], Tensor]) -> None:
    model, x = Net(), images()
    targets = uneven_targets(model, x)
    maps = some_maps(targets, True).double()
    for one, other in zip(curves(model, x, targets, maps), curves(model, x, targets, change(maps)), strict=True):
        assert torch.equal(one, other)


def test_ties_go_to_the_first_place() -> None:
    model, x = Net(), images()
    targets = uneven_targets(model, x)
    falling = torch.linspace(1, 0, 120).view(12, 10).expand(len(targets), -1, -1)
    for one, other in zip(
        curves(model, x, targets, torch.zeros(len(targets), 12, 10)), curves(model, x, targets, falling), strict=True
    ):
        assert torch.equal(one, other)


def test_a_score_too_low_gives_no_curve() -> None:
    x = torch.zeros(2, 1, 6, 6)
    x[1] = 1
    targets = Targets(torch.arange(2), torch.ones(2, dtype=torch.long), torch.ones(2, 6, 6, dtype=torch.bool))
    deletion, insertion, _ = curves(Threshold(), x, targets, torch.rand(2, 6, 6))
    assert bool(deletion[0].isnan().all())
    assert bool(insertion[0].isnan().all())
    assert bool(deletion[1].isfinite().all())


def test_score_without_fills_what_it_is_told() -> None:
    model, x = Net(), images()
    targets = uneven_targets(model, x)
    removed = torch.rand(targets.region.shape) > 0.6
    with attribution_context(model):
        scores = Probe(model, x, targets, Intervention(fill=MeanFill(), max_batch=3)).score_without(removed)
    for n in range(len(targets)):
        b = int(targets.image_index[n])
        image = torch.where(removed[n], MeanFill()(x[b : b + 1])[0], x[b])
        assert float(scores[n]) == pytest.approx(
            slow_score(model, image, int(targets.class_index[n]), targets.region[n]), abs=1e-6
        )


# A closed form: a model of which all is known.


def disc(size: int, radius: float) -> Tensor:
    grid = torch.arange(size) - (size - 1) / 2
    image = torch.full((1, 1, size, size), 0.1)
    image[0, 0][grid[:, None].square() + grid.square() < radius**2] = 0.9
    return image


@pytest.mark.parametrize("steps", [4, 16, 50])
@pytest.mark.parametrize("radius", [3.0, 8.0, 14.0])
def test_a_bright_disc_before_a_threshold(radius: float, steps: int) -> None:
    """S falls linearly while the disc is filled and is 0 afterwards; the areas follow from the nodes."""
    x, model = disc(32, radius), Threshold()
    targets = TargetSelector(classes=[1])(model(x))
    area = int((x > 0.5).sum())
    assert int(targets.region.sum()) == area
    mask = TargetMask()(model, x, targets)
    deletion, insertion, fractions = curves(model, x, targets, mask, fill=ConstantFill(0.1), steps=steps)
    nodes = slow_counts(1024, steps)
    expected = [max(0.0, 1 - q / area) for q in nodes]
    assert deletion[0].tolist() == pytest.approx(expected, abs=1e-5)
    assert insertion[0].tolist() == pytest.approx([min(1.0, q / area) for q in nodes], abs=1e-5)
    # The trapezoid of max(0, 1 - q/area): exact but for the one step that holds the bend, where it adds a triangle.
    share = area / 1024
    low = max(q for q in nodes if q <= area) / 1024
    high = min(q for q in nodes if q > area) / 1024
    at_low = 1 - low / share
    exact = share / 2 + at_low * (high - share) / 2
    assert float(deletion_auc(deletion, fractions)) == pytest.approx(exact, abs=1e-5)
    assert float(insertion_auc(insertion, fractions)) == pytest.approx(1 - exact, abs=1e-5)
    if steps == 50:
        assert float(deletion_auc(deletion, fractions)) == pytest.approx(share / 2, abs=0.01)


def test_the_worst_map_of_the_disc() -> None:
    """The disc comes last: nothing happens until the surroundings are gone."""
    x, model = disc(32, 8.0), Threshold()
    targets = TargetSelector(classes=[1])(model(x))
    share = float(targets.area)
    deletion, insertion, fractions = curves(
        model, x, targets, -TargetMask()(model, x, targets), fill=ConstantFill(0.1), steps=200
    )
    assert float(deletion_auc(deletion, fractions)) == pytest.approx(1 - share / 2, abs=1e-3)
    assert float(insertion_auc(insertion, fractions)) == pytest.approx(share / 2, abs=1e-3)


def test_a_random_map_of_the_disc_gives_one_half() -> None:
    x, model = disc(32, 8.0), Threshold()
    targets = TargetSelector(classes=[1])(model(x))
    maps = torch.rand(20, 32, 32, generator=torch.Generator().manual_seed(0))
    values = []
    for a in maps:
        deletion, _, fractions = curves(model, x, targets, a[None], fill=ConstantFill(0.1), steps=30)
        values.append(float(deletion_auc(deletion, fractions)))
    assert sum(values) / 20 == pytest.approx(0.5, abs=0.02)
    assert math.sqrt(sum((v - 0.5) ** 2 for v in values) / 20) < 0.05


def test_the_number_of_steps_hardly_matters() -> None:
    """Unlike a sum over steps, which grows with them."""
    model, x = Net(), images(size=(24, 24))
    targets = uneven_targets(model, x)
    maps = some_maps(targets, False).cumsum(dim=1).cumsum(dim=2)
    areas = []
    for steps in (24, 96):
        deletion, _, fractions = curves(model, x, targets, maps, fill=ConstantFill(3.0), steps=steps)
        areas.append(torch.trapezoid(deletion.double(), fractions))
    torch.testing.assert_close(areas[0], areas[1], atol=0.02, rtol=0)


@pytest.mark.parametrize(
    ("name", "sentence"), [("steps", "steps must be at least 1"), ("max_batch", "max_batch must be at")]
)
def test_wrong_arguments(name: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Intervention(**{name: 0})
