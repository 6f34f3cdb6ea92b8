"""Deletion and insertion curves against slow loops and closed forms."""

import math
from collections.abc import Callable
from itertools import accumulate, pairwise

import numpy as np
import pytest
import torch
from _models import Counting, Net, Threshold, images, logits_of, uneven_targets
from torch import Tensor, nn

from segaudit import randomness
from segaudit.attribution import TargetMask, attribution_context
from segaudit.forwards import Probe
from segaudit.forwards.curve import Curve, trace
from segaudit.forwards.removal_order import tie_keys, tie_order
from segaudit.forwards.target import Targets, TargetSelector
from segaudit.functional import deletion_auc, insertion_auc
from segaudit.intervention import (
    ConstantFill,
    Fill,
    GridRegions,
    Intervention,
    MeanFill,
    NoiseFill,
    Regions,
    SuperpixelRegions,
)


def slow_score(model: nn.Module, image: Tensor, class_index: int, region: Tensor) -> float:
    logits = logits_of(model, image[None])[0].double()
    both = torch.cat([-logits, logits]).sigmoid() if len(logits) == 1 else logits.softmax(dim=0)
    return sum(float(both[(class_index, *p)]) for p in np.ndindex(*region.shape) if region[p]) / int(region.sum())


def slow_counts(pixels: int, steps: int, power: int) -> list[int]:
    return sorted({round((k / (steps + 1)) ** power * pixels) for k in range(steps + 2)})


def slow_trace(
    score: Callable[[int], float], pixels: int, steps: int, whole: list[int] | None = None
) -> tuple[list[int], list[float], float]:
    """Places, values and the error of one curve: half of the points even, the others where the area is in doubt."""

    def snap(count: int) -> int:
        return count if whole is None else min(whole, key=lambda w: (abs(w - count), w))

    steps = min(steps, pixels - 1)
    rounds = [steps - 2 * (steps // 4), steps // 4, steps // 4] if steps >= 6 else [steps]
    known = {count: score(count) for count in map(snap, slow_counts(pixels, rounds[0], 1 if len(rounds) > 1 else 2))}
    areas = []
    for more in rounds[1:]:
        areas.append(slow_area(known))
        places = sorted(known)
        doubt = [
            ((high - low) * (abs(round(1000 * known[high]) - round(1000 * known[low])) + 50), -low, middle)
            for low, high in pairwise(places)
            if low < (middle := snap((low + high) // 2)) < high
        ]
        known |= {middle: score(middle) for _, _, middle in sorted(doubt, reverse=True)[:more]}
    error = abs(slow_area(known) - areas[-1]) / pixels if areas else 0.0
    return sorted(known), [known[count] for count in sorted(known)], error


def slow_area(known: dict[int, float]) -> float:
    return sum((high - low) * (known[low] + known[high]) / 2 for low, high in pairwise(sorted(known)))


def slow_ties(x: Tensor, image: int, count: int) -> list[int]:
    """The random turn of each of an image's pixels or units among those that it ties with."""
    keys = randomness.combine(randomness.image_keys(x[image : image + 1]), 0x71E5)
    drawn = randomness.uniform(keys, (count,))[0].tolist()
    return [sorted(drawn).index(u) for u in drawn]


def slow_order(values: list[float], ties: list[int]) -> list[int]:
    """The most attributed pixels first; ties go in their random order."""
    return sorted(range(len(values)), key=lambda p: (-values[p], ties[p]))


def slow_unit_order(values: list[float], labels: list[int], ties: list[int]) -> tuple[list[int], list[int]]:
    """The pixels of the unit with the highest mean first, and the numbers of pixels that are whole units."""
    of = {unit: [p for p, label in enumerate(labels) if label == unit] for unit in set(labels)}
    units = sorted(of, key=lambda unit: (-sum(values[p] for p in of[unit]) / len(of[unit]), ties[unit]))
    return [p for unit in units for p in of[unit]], [0, *accumulate(len(of[unit]) for unit in units)]


def slow_score_at(
    model: nn.Module, x: Tensor, targets: Targets, order: list[int], fill: Fill, insert: bool, n: int
) -> Callable[[int], float]:
    """S over S(x) with the first of the pixels in order filled or shown."""
    b, c, region = int(targets.image_index[n]), int(targets.class_index[n]), targets.region[n]
    filled = fill(x)
    before = slow_score(model, x[b], c, region)

    def score(count: int) -> float:
        image = (filled if insert else x)[b].clone().flatten(1)
        source = (x if insert else filled)[b].flatten(1)
        for p in order[:count]:
            image[:, p] = source[:, p]
        return slow_score(model, image.view_as(x[b]), c, region) / before

    return score


def curves(model: nn.Module, x: Tensor, targets: Targets, maps: Tensor, **kwargs: object) -> tuple[Curve, Curve]:
    with attribution_context(model):
        probe = Probe(model, x, targets, Intervention(**kwargs))
        return probe.deletion_curve(maps), probe.insertion_curve(maps)


def assert_is_the_slow_one(
    curve: Curve, n: int, score: Callable[[int], float], pixels: int, steps: int, whole: list[int] | None = None
) -> None:
    """Equal at every place; a place that comes twice, where an image has no more, counts once."""
    counts = (curve.fractions[n] * pixels).round().long().tolist()
    places, values, error = slow_trace(score, pixels, steps, whole)
    assert sorted(set(counts)) == places
    seen = dict(zip(counts, curve.values[n].tolist(), strict=True))
    assert [seen[place] for place in places] == pytest.approx(values, rel=1e-5, abs=1e-5)
    assert float(curve.error[n]) == pytest.approx(error, abs=1e-5)


def some_maps(targets: Targets, ties: bool) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    maps = torch.randn(targets.region.shape, generator=generator)
    return maps.round() if ties else maps


@pytest.mark.parametrize("fill", [MeanFill(), ConstantFill(0.5), NoiseFill()], ids=["mean", "constant", "noise"])
@pytest.mark.parametrize(("ties", "steps"), [(False, 5), (True, 6), (False, 11)])
@pytest.mark.parametrize("case", [{}, {"classes": 1}, {"dims": 1}, {"dims": 3}, {"stride": 2, "form": "dict"}], ids=str)
def test_curves_are_the_slow_loop(case: dict[str, object], ties: bool, steps: int, fill: Fill) -> None:
    model, x = Net(**case), images(size={1: (40,), 2: (8, 7), 3: (4, 5, 6)}[case.get("dims", 2)])
    targets = uneven_targets(model, x)
    maps = some_maps(targets, ties)
    deletion, insertion = curves(model, x, targets, maps, fill=fill, steps=steps)
    pixels = targets.region[0].numel()
    for n, image in enumerate(targets.image_index.tolist()):
        order = slow_order(maps[n].flatten().tolist(), slow_ties(x, image, pixels))
        for curve, insert in ((deletion, False), (insertion, True)):
            score = slow_score_at(model, x, targets, order, fill, insert, n)
            assert_is_the_slow_one(curve, n, score, pixels, steps)


@pytest.mark.parametrize("steps", [3, 9])
@pytest.mark.parametrize("units", [GridRegions([6]), SuperpixelRegions([9]), GridRegions([2])], ids=["grid", "slic", "two"])
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_units_are_filled_whole_in_the_order_of_their_means(dims: int, units: Regions, steps: int) -> None:
    model, x = Net(dims=dims), images(size={1: (40,), 2: (8, 7), 3: (4, 5, 6)}[dims])
    targets = uneven_targets(model, x)
    maps, labels = some_maps(targets, ties=True), units(x)[0]
    found = curves(model, x, targets, maps, fill=MeanFill(), steps=steps, units=units)
    for n, image in enumerate(targets.image_index.tolist()):
        of, ties = labels[image].flatten().tolist(), slow_ties(x, image, int(labels.max()) + 1)
        order, whole = slow_unit_order(maps[n].double().flatten().tolist(), of, ties)
        for curve, insert in zip(found, (False, True), strict=True):
            score = slow_score_at(model, x, targets, order, MeanFill(), insert, n)
            assert_is_the_slow_one(curve, n, score, len(order), steps, whole)


def test_units_of_one_pixel_are_pixels_and_a_map_inside_a_unit_does_not_matter() -> None:
    model, x = Net(), images(size=(6, 5))
    targets = uneven_targets(model, x)
    maps = some_maps(targets, ties=False)
    pairs = zip(curves(model, x, targets, maps, units=GridRegions([30])), curves(model, x, targets, maps), strict=True)
    for one, other in pairs:
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    turned = maps.clone()
    turned[:, :3] = maps[:, :3].flip(1)  # the upper unit's pixels trade places
    units = GridRegions([2])
    assert len(units(x)[0].unique()) == 2
    assert bool((units(x)[0][:, :3] == 0).all())
    for one, other in zip(
        curves(model, x, targets, maps, units=units), curves(model, x, targets, turned, units=units), strict=True
    ):
        torch.testing.assert_close(tuple(one), tuple(other))
        assert one.fractions.unique().tolist() == [0.0, 0.5, 1.0]


def test_units_of_two_scales() -> None:
    with pytest.raises(ValueError, match=r"units are of one scale, but their counts are \[4, 9\]"):
        Intervention(units=GridRegions([4, 9]))


def test_the_ends_are_exact_and_nothing_is_run_twice() -> None:
    net, x = Net(), images()
    targets = uneven_targets(net, x)
    maps = some_maps(targets, False)
    model = Counting(net)
    with attribution_context(model):
        probe = Probe(model, x, targets, Intervention(steps=9), logits_of(net, x))
        deletion = probe.deletion_curve(maps)
        assert deletion.values.shape == deletion.fractions.shape == (len(targets), 9 + 2)
        # Each image filled once by each fill that its targets have, and each point between the ends.
        scenes = len({*zip(targets.image_index.tolist(), probe.fill_index.tolist(), strict=True)})
        assert model.images == scenes + len(targets) * 9
        insertion = probe.insertion_curve(maps)
        assert model.images == scenes + 2 * len(targets) * 9
        assert torch.equal(deletion.values[:, 0], torch.ones(len(targets)))
        assert torch.equal(insertion.values[:, -1], torch.ones(len(targets)))
        assert torch.equal(deletion.values[:, -1], insertion.values[:, 0])
        assert torch.equal(deletion.values[:, -1], probe.filled_confidence / probe.confidence)
        for curve in (deletion, insertion):
            assert bool((curve.fractions[:, 0] == 0).all())
            assert bool((curve.fractions[:, -1] == 1).all())
            assert bool((curve.fractions.diff(dim=1) > 0).all())
        assert probe.deletion_curve(maps, steps=3).values.shape == (len(targets), 3 + 2)


@pytest.mark.parametrize("size", [(1, 1), (1, 2), (2, 2), (3, 5)])
@pytest.mark.parametrize("steps", [1, 2, 7, 16])
def test_small_images_and_few_steps(size: tuple[int, int], steps: int) -> None:
    """A curve of two points where there is no room for more, and of all places where there are few."""
    x = torch.linspace(0.6, 1, size[0] * size[1]).view(1, 1, *size)
    model = Threshold(5.0)
    targets = TargetSelector(classes=[1])(model(x))
    pixels = size[0] * size[1]
    ties = slow_ties(x, 0, pixels)
    for insert, curve in enumerate(curves(model, x, targets, x[:, 0], steps=steps, fill=ConstantFill())):
        score = slow_score_at(model, x, targets, slow_order(x.flatten().tolist(), ties), ConstantFill(), bool(insert), 0)
        assert_is_the_slow_one(curve, 0, score, pixels, steps)
        assert curve.values.shape == curve.fractions.shape
        assert curve.fractions[0].tolist() == sorted(curve.fractions[0].tolist())
        if steps <= pixels - 1 and steps < 6:
            assert len(set(curve.fractions[0].tolist())) == len(slow_counts(pixels, steps, 2))


def test_points_go_where_the_curve_moves_for_each_target_its_own() -> None:
    """Two steps of width 1/1000, one early and one late: the interval that holds the step is halved twice, to 1/40."""
    places = torch.tensor([[37.0], [800.0]])

    def score(counts: Tensor) -> Tensor:
        asked.append(counts)
        return (counts < places).float()

    asked: list[Tensor] = []
    ends = (torch.ones(2), torch.zeros(2))
    curve = trace(score, ends, 1000, 15)
    assert sum(counts.shape[1] for counts in asked) == 15
    area = torch.trapezoid(curve.values.double(), curve.fractions)
    torch.testing.assert_close(area, places[:, 0].double() / 1000, atol=1 / 80 + 1e-3, rtol=0)
    assert bool((curve.error > 0).all())
    for n in range(2):
        alone = trace(lambda counts, n=n: (counts < places[n]).float(), (ends[0][:1], ends[1][:1]), 1000, 15)
        assert all(torch.equal(one[0], many[n]) for one, many in zip(alone, curve, strict=True))


def test_a_curve_that_cannot_be_had_is_nan_and_does_not_move_the_others() -> None:
    def score(counts: Tensor) -> Tensor:
        values = 1 - counts.double() / 100
        return torch.cat([values[:1], torch.full_like(values[1:], torch.nan)]).float()

    curve = trace(score, (torch.tensor([1.0, torch.nan]), torch.tensor([0.0, torch.nan])), 100, 12)
    assert bool(curve.values[1].isnan().all())
    assert bool(curve.fractions.isfinite().all())
    assert float(torch.trapezoid(curve.values[0].double(), curve.fractions[0])) == pytest.approx(0.5)
    assert float(curve.error[0]) == pytest.approx(0, abs=1e-6)
    assert bool(curve.error[1].isnan())


@pytest.mark.parametrize("max_batch", [1, 7, 1000])
def test_chunks_do_not_change_values(max_batch: int) -> None:
    net, x = Net(), images()
    targets = uneven_targets(net, x)
    maps = some_maps(targets, True)
    model = Counting(net)
    found = curves(model, x, targets, maps, max_batch=max_batch, regions=GridRegions([4]))
    assert max(model.batches) <= max_batch
    for one, other in zip(found, curves(net, x, targets, maps, max_batch=64), strict=True):
        torch.testing.assert_close(tuple(one), tuple(other), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("change", [lambda a: 7 * a, lambda a: a - 100, lambda a: a.exp(), lambda a: a**3])
def test_only_the_order_of_a_map_matters(change: Callable[[Tensor], Tensor]) -> None:
    model, x = Net(), images()
    targets = uneven_targets(model, x)
    maps = some_maps(targets, True).double()
    for one, other in zip(curves(model, x, targets, maps), curves(model, x, targets, change(maps)), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_ties_go_in_a_random_order_that_all_maps_of_an_image_share() -> None:
    model, x = Net(), images()
    targets = uneven_targets(model, x)
    nothing = torch.zeros(len(targets), 12, 10)
    falling = torch.empty(len(targets), 120)
    for n, image in enumerate(targets.image_index.tolist()):
        falling[n] = -torch.tensor(slow_ties(x, image, 120)).float()
    falling = falling.view(nothing.shape)
    for one, other in zip(curves(model, x, targets, nothing), curves(model, x, targets, falling), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_the_order_of_ties_knows_the_image_alone() -> None:
    x = images(5)
    order = tie_order(tie_keys(x), 120)
    assert torch.equal(order.sort(dim=1).values, torch.arange(120).expand(5, -1))
    assert torch.equal(tie_order(tie_keys(x[3:]), 120), order[3:])  # not the rest of the batch
    torch.rand(7)
    assert torch.equal(tie_order(tie_keys(x), 120), order)  # not the global state
    assert not torch.equal(order[0], order[1])
    assert not torch.equal(tie_order(tie_keys(x.flip(2, 3)), 120)[0], order[0])


def test_the_order_of_ties_has_no_place() -> None:
    """Each of a mask's pixels is as likely to go first: no row of 100 images' orders is early or late."""
    order = tie_order(torch.arange(400), 36)
    turns = torch.empty_like(order).scatter_(1, order, torch.arange(36).expand(400, -1)).double()
    error = (36**2 / 12 / 400) ** 0.5
    assert float((turns.mean(dim=0) - 17.5).abs().max()) < 4 * error
    place = torch.arange(36).double()
    slope = ((turns - 17.5) * (place - place.mean())).mean(dim=1) / (36**2 / 12)
    assert abs(float(slope.mean())) < 4 / (36 * 400) ** 0.5


@pytest.mark.parametrize("turn", [lambda v: v.flip(-1), lambda v: v.flip(-2), lambda v: v.flip(-2, -1), lambda v: v.mT])
def test_a_turned_image_has_about_the_same_curves_of_a_mask(turn: Callable[[Tensor], Tensor]) -> None:
    """A model that sees an object by its upper rows alone; a mask's pixels all tie."""

    class Marked(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            logit = 10 * x[:, 1:2] + 200 * x[:, :1].mean((2, 3), keepdim=True) - 12
            return torch.cat([-logit, logit], dim=1) / 2

    x = 0.02 * torch.rand(6, 2, 32, 32, generator=torch.Generator().manual_seed(0))
    x[:, 1, 4:24, 6:22] += 0.8
    x[:, 0, 4:8, 6:22] += 0.7
    areas = []
    for seen in (x, turn(x)):
        targets = TargetSelector(classes=[1])(Marked()(seen))
        found = curves(Marked(), seen, targets, targets.region.float(), fill=ConstantFill())
        areas.append(torch.stack([torch.trapezoid(c.values.double(), c.fractions).mean() for c in found]))
    torch.testing.assert_close(areas[0], areas[1], atol=0.03, rtol=0)


def test_a_score_too_low_gives_no_curve() -> None:
    x = torch.zeros(2, 1, 6, 6)
    x[1] = 1
    targets = Targets(torch.arange(2), torch.ones(2, dtype=torch.long), torch.ones(2, 6, 6, dtype=torch.bool))
    deletion, insertion = curves(Threshold(), x, targets, torch.rand(2, 6, 6))
    assert bool(deletion.values[0].isnan().all())
    assert bool(insertion.values[0].isnan().all())
    assert bool(deletion.values[1].isfinite().all())


def test_score_without_fills_what_it_is_told() -> None:
    model, x = Net(), images()
    targets = uneven_targets(model, x)
    removed = torch.rand(targets.region.shape) > 0.6
    with attribution_context(model):
        scores = Probe(model, x, targets, Intervention(fill=MeanFill(), max_batch=3)).confidence_without(removed)
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
    deletion, insertion = curves(model, x, targets, mask, fill=ConstantFill(0.1), steps=steps)
    for curve, rises in ((deletion, False), (insertion, True)):
        nodes = (curve.fractions[0] * 1024).round().tolist()
        expected = [min(1.0, q / area) if rises else max(0.0, 1 - q / area) for q in nodes]
        assert curve.values[0].tolist() == pytest.approx(expected, abs=1e-5)
        # The trapezoid of max(0, 1 - q/area): exact but for the one step that holds the bend, where it adds a triangle.
        share = area / 1024
        low = max(q for q in nodes if q <= area) / 1024
        high = min(q for q in nodes if q > area) / 1024
        exact = share / 2 + (1 - low / share) * (high - share) / 2
        found = float((insertion_auc if rises else deletion_auc)(curve.values, curve.fractions))
        assert found == pytest.approx(1 - exact if rises else exact, abs=1e-5)
        if steps >= 16:
            assert found == pytest.approx(1 - share / 2 if rises else share / 2, abs=0.01)


def test_the_worst_map_of_the_disc() -> None:
    """The disc comes last: nothing happens until the surroundings are gone."""
    x, model = disc(32, 8.0), Threshold()
    targets = TargetSelector(classes=[1])(model(x))
    share = float(targets.area)
    deletion, insertion = curves(model, x, targets, -TargetMask()(model, x, targets), fill=ConstantFill(0.1), steps=16)
    assert float(deletion_auc(deletion.values, deletion.fractions)) == pytest.approx(1 - share / 2, abs=2e-3)
    assert float(insertion_auc(insertion.values, insertion.fractions)) == pytest.approx(share / 2, abs=2e-3)


def test_a_random_map_of_the_disc_gives_one_half() -> None:
    x, model = disc(32, 8.0), Threshold()
    targets = TargetSelector(classes=[1])(model(x))
    maps = torch.rand(20, 32, 32, generator=torch.Generator().manual_seed(0))
    values = []
    for a in maps:
        deletion, _ = curves(model, x, targets, a[None], fill=ConstantFill(0.1), steps=30)
        values.append(float(deletion_auc(deletion.values, deletion.fractions)))
    assert sum(values) / 20 == pytest.approx(0.5, abs=0.02)
    assert math.sqrt(sum((v - 0.5) ** 2 for v in values) / 20) < 0.05


def test_the_number_of_steps_hardly_matters() -> None:
    """Unlike a sum over steps, which grows with them."""
    model, x = Net(), images(size=(24, 24))
    targets = uneven_targets(model, x)
    maps = some_maps(targets, False).cumsum(dim=1).cumsum(dim=2)
    areas = []
    for steps in (16, 96):
        deletion, _ = curves(model, x, targets, maps, fill=ConstantFill(3.0), steps=steps)
        areas.append(torch.trapezoid(deletion.values.double(), deletion.fractions))
    torch.testing.assert_close(areas[0], areas[1], atol=0.02, rtol=0)


class TwoTone(nn.Module):
    """Two classes, for bright and for dark pixels."""

    def forward(self, x: Tensor) -> Tensor:
        return 8 * torch.cat([0.5 - x, x - 0.5], dim=1)


def test_each_target_is_filled_by_its_own_fill() -> None:
    x, model = disc(12, 3.0).repeat(2, 1, 1, 1), TwoTone()
    x[1] = 1 - x[1]
    targets = TargetSelector()(model(x))
    assert targets.class_index.tolist() == [0, 1, 0, 1]
    both = [ConstantFill(0.0), ConstantFill(1.0)]
    maps = some_maps(targets, False)
    effects = {}
    with attribution_context(model):
        probe = Probe(model, x, targets, Intervention(both, GridRegions([4]), steps=7, max_batch=3))
        assert probe.fill_index.tolist() == [1, 0, 1, 0]  # dark targets are filled by the bright one
        assert probe.fill_names == ["constant_fill(1)", "constant_fill(0)"] * 2
        found = probe.deletion_curve(maps), probe.insertion_curve(maps), probe.effect_map()
        for place, fill in enumerate(both):
            one = Probe(model, x, targets, Intervention(fill, GridRegions([4]), steps=7))
            effects[place] = one.deletion_curve(maps), one.insertion_curve(maps), one.effect_map()
            chosen = probe.fill_index == place
            assert bool((one.filled_confidence[chosen] == probe.filled_confidence[chosen]).all())
    for n, place in enumerate(probe.fill_index.tolist()):
        for one, other in zip(found[:2], effects[place][:2], strict=True):
            torch.testing.assert_close(one.values[n], other.values[n])
            torch.testing.assert_close(one.fractions[n], other.fractions[n])
        torch.testing.assert_close(found[2][n], effects[place][2][n])
        assert bool((found[2][n] != effects[1 - place][2][n]).any())


def test_one_sweep_serves_all_targets_of_an_image_that_share_a_fill() -> None:
    x, net = disc(12, 3.0), TwoTone()
    targets = TargetSelector()(net(x))
    # Four cells; the choice between two fills costs no forward.
    for fills, forwards in ([ConstantFill(0.0)], 4), ([ConstantFill(0.0), ConstantFill(1.0)], 2 * 4):
        model = Counting(net)
        with attribution_context(model):
            probe = Probe(model, x, targets, Intervention(fills, GridRegions([4])), net(x))
            probe.effect_map()
        assert model.images == forwards


def test_an_empty_list_of_fills() -> None:
    with pytest.raises(ValueError, match="fill is an empty list: name at least one fill"):
        Intervention([])


@pytest.mark.parametrize(
    ("name", "sentence"), [("steps", "steps must be at least 1"), ("max_batch", "max_batch must be at")]
)
def test_wrong_arguments(name: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Intervention(**{name: 0})
