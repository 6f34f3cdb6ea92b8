"""Region effects and DEA against slow references written from their docstrings; what they cost."""

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
import torch
from _models import Counting, Lambda, Net, Threshold, images, logits_of, uneven_targets
from torch import Tensor, nn

from segaudit.attribution import DEA, IntegratedGradients, RegionEffects, Saliency
from segaudit.attribution.context import attribution_context
from segaudit.attribution.fusion import equal_mass
from segaudit.forwards import Probe
from segaudit.forwards.removal_order import tie_keys, tie_order
from segaudit.forwards.target import Targets, TargetSelector, target_confidence
from segaudit.intervention import ConstantFill, Fill, GridRegions, Intervention, MeanFill, Regions, SuperpixelRegions


def slow_score(model: nn.Module, image: Tensor, class_index: int, region: Tensor) -> float:
    """Mean probability over the region, pixel by pixel."""
    logits = logits_of(model, image[None])[0].double().numpy()
    values = []
    for place in np.ndindex(*region.shape):
        if region[place]:
            z = logits[(slice(None), *place)]
            if len(z) == 1:
                values.append(1 / (1 + math.exp(-z[0] if class_index else z[0])))
            else:
                values.append(math.exp(z[class_index]) / sum(math.exp(v) for v in z))
    return sum(values) / len(values)


def slow_fill(x: Tensor, targets: Targets, n: int, intervention: Intervention) -> Fill:
    """The fill that differs most from the image over a target's region, in units of each channel's range."""
    b, region = int(targets.image_index[n]), targets.region[n]
    filled = [fill(x)[b].double().numpy() for fill in intervention.fills]
    image = x[b].double().numpy()
    ends = [(channel.min(), channel.max()) for channel in image]
    places = [place for place in np.ndindex(*region.shape) if region[place]]
    distances = [
        sum(
            ((min(max(one[c][place], low), high) - image[c][place]) / (high - low)) ** 2
            for c, (low, high) in enumerate(ends)
            for place in places
        )
        for one in filled
    ]
    return intervention.fills[distances.index(max(distances))]


def slow_effects(model: nn.Module, x: Tensor, targets: Targets, intervention: Intervention) -> Tensor:
    """One forward pass for each target, scale and region."""
    result = torch.zeros(targets.region.shape)
    scales = intervention.regions(x)
    for n in range(len(targets)):
        b, c, region = int(targets.image_index[n]), int(targets.class_index[n]), targets.region[n]
        filled = slow_fill(x, targets, n, intervention)(x)
        before = slow_score(model, x[b], c, region)
        for labels in scales:
            for label in labels[b].unique().tolist():
                removed = labels[b] == label
                after = slow_score(model, torch.where(removed, filled[b], x[b]), c, region)
                result[n][removed] += (1 - after / before) / len(scales)
    return result


@pytest.mark.parametrize("classes", [3, 1])
@pytest.mark.parametrize("fill", [ConstantFill(), None])
@pytest.mark.parametrize("max_batch", [1, 5, 1000])
@pytest.mark.parametrize("regions", [GridRegions([2, 6]), SuperpixelRegions([3, 5])])
def test_region_effects_are_the_slow_loop(regions: Regions, max_batch: int, fill: Fill | None, classes: int) -> None:
    model, x = Net(classes=classes), images(size=(8, 7))
    targets = uneven_targets(model, x)
    intervention = Intervention(fill, regions, max_batch=max_batch)
    maps = RegionEffects()(model, x, targets, intervention=intervention)
    torch.testing.assert_close(maps, slow_effects(model, x, targets, intervention), rtol=1e-4, atol=2e-6)
    assert fill is None or bool((maps < 0).any())  # signed


@pytest.mark.parametrize("dims", [1, 3])
def test_region_effects_in_one_and_three_dimensions(dims: int) -> None:
    model, x = Net(dims=dims), images(size={1: (30,), 3: (4, 5, 6)}[dims])
    targets = uneven_targets(model, x)
    intervention = Intervention(regions=GridRegions([3]))
    maps = RegionEffects()(model, x, targets, intervention=intervention)
    torch.testing.assert_close(maps, slow_effects(model, x, targets, intervention), rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize("regions", [GridRegions([6]), SuperpixelRegions([5])])
def test_region_effects_are_captums_feature_ablation(regions: Regions) -> None:
    captum = pytest.importorskip("captum.attr", reason="captum is missing: pip install 'segaudit[captum]'")
    model, x = Net(), images()
    targets = uneven_targets(model, x)
    intervention = Intervention(regions=regions)
    maps = RegionEffects()(model, x, targets, intervention=intervention)
    (labels,) = regions(x)
    for n in range(len(targets)):
        filled = slow_fill(x, targets, n, intervention)(x)
        one, b = targets[n : n + 1], targets.image_index[n : n + 1]

        def score(images: Tensor, one: Targets = one) -> Tensor:
            logits = logits_of(model, images)
            return torch.stack([target_confidence(row[None], one)[0] for row in logits])

        ablation = captum.FeatureAblation(score).attribute(x[b], baselines=filled[b], feature_mask=labels[b][:, None])
        expected = ablation[0, 0] / score(x[b])
        torch.testing.assert_close(maps[n], expected, rtol=1e-5, atol=3e-6)


class Uneven(Regions):
    """Three regions under the labels 0, 3 and 9; the others are unused."""

    def partition(self, images: Tensor, count: int) -> Tensor:
        labels = torch.zeros(len(images), *images.shape[2:], dtype=torch.int64)
        labels[:, :2], labels[:, 5:] = 3, 9
        return labels


def sweep(
    regions: Regions, x: Tensor, targets: Targets, max_batch: int = 64, fill: Sequence[Fill] = (MeanFill(),)
) -> Counting:
    model = Counting(Net())
    probe = Probe(model, x, targets, Intervention(fill, regions, max_batch=max_batch), logits_of(Net(), x))
    with attribution_context(model):
        probe.effect_map()
        once = model.images
        probe.effect_map()
        assert model.images == once  # shared by all who ask
    return model


def test_a_sweep_costs_a_forward_for_each_image_and_region_whatever_the_targets() -> None:
    x = images()
    every = TargetSelector(min_area=0, max_per_image=9)(logits_of(Net(), x))
    first = every[every.position == 0]
    assert len(every) > len(first) == len(x)
    for targets in (first, every):
        assert sweep(GridRegions([4, 9]), x, targets).images == 4 * (4 + 9)
        assert sweep(Uneven(), x, targets).images == 4 * 3 * 3  # three scales of three used labels
    model = sweep(GridRegions([4, 9]), x, every, max_batch=5)
    assert model.images == 4 * (4 + 9)
    assert max(model.batches) == 5


def test_with_several_fills_an_image_is_swept_once_for_each_that_its_targets_have() -> None:
    x, fills = images(), [ConstantFill(-1.0), ConstantFill(1.0)]
    every = TargetSelector(min_area=0, max_per_image=9)(logits_of(Net(), x))
    intervention = Intervention(fills, GridRegions([4]))
    had = {(int(every.image_index[n]), slow_fill(x, every, n, intervention)) for n in range(len(every))}
    assert len(x) < len(had) < len(every)
    # The choice between them costs no forward.
    assert sweep(GridRegions([4]), x, every, fill=fills).images == 4 * len(had)


def test_an_image_without_targets_costs_nothing() -> None:
    x = images()
    targets = uneven_targets(Net(), x)
    with_targets = len(targets.image_index.unique())
    assert with_targets < len(x)
    assert sweep(GridRegions([4, 9]), x, targets).images == with_targets * (4 + 9)


def test_effects_of_a_threshold_are_known() -> None:
    """Filling a cell removes exactly its own bright pixels: the effect is their share of the region."""

    x = torch.zeros(1, 1, 8, 8)
    x[0, 0, 1:6, 2:7] = 1.0
    model = Threshold()
    targets = TargetSelector(classes=[1])(model(x))
    maps = RegionEffects()(model, x, targets, intervention=Intervention(fill=ConstantFill(0.0), regions=GridRegions([4])))
    for rows in (slice(0, 4), slice(4, 8)):
        for columns in (slice(0, 4), slice(4, 8)):
            share = x[0, 0, rows, columns].sum() / 25
            torch.testing.assert_close(maps[0, rows, columns], share.expand(4, 4), atol=1e-6, rtol=0)


def test_a_score_too_low_gives_no_effects() -> None:
    x = torch.tensor([-9.0, 2.0]).view(2, 1, 1, 1).expand(2, 1, 12, 10)
    everywhere = torch.ones(2, 12, 10, dtype=torch.bool)
    model = Lambda(lambda x: torch.cat([0 * x, x], dim=1))
    targets = Targets(torch.arange(2), torch.ones(2, dtype=torch.long), everywhere)
    maps = RegionEffects()(model, x, targets, intervention=Intervention(fill=MeanFill(), regions=GridRegions([4])))
    assert bool(maps[0].isnan().all())
    assert bool((maps[1].abs() < 1e-6).all())


def slow_equal_mass(values: Tensor) -> list[float]:
    flat = [float(v) for v in values.flatten()]
    mean = sum(abs(v) for v in flat) / len(flat)
    return [v / mean if mean else 0.0 for v in flat]


def slow_fuse(gradient: Tensor, effects: Tensor, weight: float) -> Tensor:
    """Pixel by pixel: the signed power mean of exponent 1/2, both of mean absolute value 1."""
    fused = []
    for g, i in zip(slow_equal_mass(gradient), slow_equal_mass(effects), strict=True):
        root = math.sqrt(weight) * math.copysign(math.sqrt(abs(g)), g)
        root += math.sqrt(1 - weight) * math.copysign(math.sqrt(abs(i)), i)
        fused.append(math.copysign(root**2, root))
    return torch.tensor(fused).view(gradient.shape)


def slow_area(model: nn.Module, x: Tensor, targets: Targets, n: int, values: Tensor, fill: Fill, insert: bool) -> float:
    """Area under a curve of three points beside its ends, relative to S(x)."""
    b, c, region = int(targets.image_index[n]), int(targets.class_index[n]), targets.region[n]
    before = slow_score(model, x[b], c, region)
    flat = values.flatten().tolist()
    ties = tie_order(tie_keys(x), len(flat))[b].tolist()  # of equals, the one that comes first here
    order = sorted(ties, key=lambda p: -flat[p])
    points = []
    for count in [round((k / 4) ** 2 * len(flat)) for k in range(5)]:
        chosen = torch.zeros(len(flat), dtype=torch.bool)
        chosen[order[:count]] = True
        removed = (~chosen if insert else chosen).view(region.shape)
        after = slow_score(model, torch.where(removed, fill(x)[b], x[b]), c, region)
        points.append((count / len(flat), after / before))
    return sum((q - p) * (v + w) / 2 for (p, v), (q, w) in pairwise(points))


def slow_dea(
    model: nn.Module, x: Tensor, targets: Targets, intervention: Intervention, dea: DEA
) -> tuple[Tensor, list[float]]:
    """Of the fused maps of all weights that with the largest gap, of equals the first; and its weight."""
    source = dea.source(model, x, targets, intervention=intervention)
    effects = slow_effects(model, x, targets, intervention)
    maps, weights = [], []
    for n in range(len(targets)):
        fill = slow_fill(x, targets, n, intervention)
        best: tuple[int, float, Tensor] | None = None
        for weight in dea.weights:
            fused = slow_fuse(source[n], effects[n], weight)
            areas = [slow_area(model, x, targets, n, fused, fill, insert) for insert in (True, False)]
            gap = round((areas[0] - areas[1]) * 1e4)
            if best is None or gap > best[0]:
                best = gap, weight, fused
        assert best is not None
        weights.append(best[1])
        maps.append(best[2])
    return torch.stack(maps), weights


@pytest.mark.parametrize(
    "dea",
    [
        DEA(),
        DEA(weights=[0.3]),
        DEA(IntegratedGradients(steps=4)),
        DEA(IntegratedGradients(steps=4), weights=[1.0, 0.5, 0.0]),
    ],
    ids=["default", "one weight", "signed source", "three weights"],
)
def test_dea_is_the_slow_reference(dea: DEA) -> None:
    model, x = Net(), images(size=(8, 7))
    targets = uneven_targets(model, x)
    intervention = Intervention(regions=GridRegions([2, 6]))
    expected, weights = slow_dea(model, x, targets, intervention, dea)
    torch.testing.assert_close(dea(model, x, targets, intervention=intervention), expected, rtol=1e-3, atol=1e-4)
    assert len(dea.weights) == 1 or len(set(weights)) > 1  # the test would notice if they were not measured


def test_one_weight_is_taken_as_it_is_and_its_ends_are_the_evidence() -> None:
    model, x = Net(), images()
    targets = uneven_targets(model, x)
    intervention = Intervention(regions=GridRegions([6]))
    effects = equal_mass(RegionEffects()(model, x, targets, intervention=intervention))
    gradient = equal_mass(Saliency()(model, x, targets))
    torch.testing.assert_close(DEA(weights=[0.0])(model, x, targets, intervention=intervention), effects)
    torch.testing.assert_close(DEA(weights=[1.0])(model, x, targets, intervention=intervention), gradient)


def test_dea_falls_back_to_the_intervention_where_gradients_are_silent_or_mislead() -> None:
    class Silent(Saliency):
        def attribute(self, probe: Probe) -> Tensor:
            return torch.zeros(probe.targets.region.shape)

    class Misleading(Saliency):
        def attribute(self, probe: Probe) -> Tensor:
            return -probe.effect_map()

    # Bright pixels, of which the cells from left to right hold more and more.
    x, model = (torch.rand(3, 1, 12, 12) < torch.linspace(0.05, 0.95, 12)).float(), Threshold()
    targets = TargetSelector(classes=[1])(model(x))
    intervention = Intervention(ConstantFill(), GridRegions([9]))
    effects = equal_mass(RegionEffects()(model, x, targets, intervention=intervention))
    for source in (Silent(), Misleading()):
        maps = DEA(source)(model, x, targets, intervention=intervention)
        order = maps.flatten(1).argsort(dim=1, stable=True, descending=True)
        assert torch.equal(order, effects.flatten(1).argsort(dim=1, stable=True, descending=True))


def test_equal_evidence_is_rewarded_most_at_equal_weights() -> None:
    """g = i: (√λ + √(1 - λ))²·i, twice as much at λ = 1/2."""
    model, x = Net(), images()
    targets = uneven_targets(model, x)
    intervention = Intervention(regions=GridRegions([6]))
    effects = equal_mass(RegionEffects()(model, x, targets, intervention=intervention))
    for weight in (0.5, 0.1):
        maps = DEA(RegionEffects(), weights=[weight])(model, x, targets, intervention=intervention)
        torch.testing.assert_close(maps, (weight**0.5 + (1 - weight) ** 0.5) ** 2 * effects)


def test_inside_a_region_the_gradients_order_the_pixels() -> None:
    model, x = Net(), images()
    targets = uneven_targets(model, x)
    intervention = Intervention(regions=GridRegions([6]))
    gradient = Saliency()(model, x, targets)
    effects = RegionEffects()(model, x, targets, intervention=intervention)
    maps = DEA()(model, x, targets, intervention=intervention)
    for n in range(len(targets)):
        for effect in effects[n].unique():
            inside = effects[n] == effect
            order = gradient[n][inside].argsort()
            assert bool((maps[n][inside][order].diff() >= 0).all())


def test_what_cannot_be_scored_does_not_move_the_others() -> None:
    """A score too low gives no curves and no effects; its map is not finite, and the auditor says so."""
    model, x = Net(), images()
    targets = uneven_targets(model, x)
    intervention = Intervention(regions=GridRegions([6]))
    expected = DEA()(model, x, targets, intervention=intervention)
    region = targets.region.clone()
    region[1] = False
    broken = Targets(targets.image_index, targets.class_index, region)
    maps = DEA()(model, x, broken, intervention=intervention)
    assert not bool(maps[1].isfinite().all())
    others = [n for n in range(len(targets)) if n != 1]
    torch.testing.assert_close(maps[others], expected[others])


def test_one_instance_explains_a_probe_once() -> None:
    x, source = images(), Saliency()
    targets = uneven_targets(Net(), x)
    model = Counting(Net())
    with attribution_context(model):
        probe = Probe(model, x, targets, Intervention(regions=GridRegions([4])), logits_of(Net(), x))
        probe.effect_map()
        first = source.explain(probe)
        asked = model.images
        assert source.explain(probe) is first
        DEA(source, weights=[0.5]).explain(probe)
        assert model.images == asked
        Saliency().explain(probe)
    assert model.images == asked + len(x)


def test_dea_costs_its_source_and_six_forwards_a_weight_and_shares_the_sweep() -> None:
    x = images()
    targets = uneven_targets(Net(), x)
    model = Counting(Net())
    with attribution_context(model):
        probe = Probe(model, x, targets, Intervention(regions=GridRegions([4])), logits_of(Net(), x))
        RegionEffects().explain(probe)
        assert float(probe.filled_confidence.sum()) > 0
        swept = model.images
        with probe.measure_cost() as bill:
            DEA(weights=[0.2, 0.5, 0.8]).explain(probe)
    assert model.images - swept == len(x) + 3 * 6 * len(targets)
    assert bill.seconds > bill.own_seconds  # but its share of the sweep's time is on its bill


@pytest.mark.parametrize("weights", [[], [0.5, 1.5], [-0.1]])
def test_weights_are_checked(weights: list[float]) -> None:
    with pytest.raises(ValueError, match=r"weights needs at least one number in \[0, 1\], got"):
        DEA(weights=weights)


def test_regions_that_do_not_matter_tie_exactly() -> None:
    """Rounding errors would rank them, differently in another batch; stability sees ranks."""
    model, x = Net(), images(4, size=(30, 30))
    labels = TargetSelector(min_area=0)(logits_of(model, x))
    corner = torch.zeros(labels.region.shape, dtype=torch.bool)
    corner[:, :4, :4] = True
    targets = Targets(labels.image_index, labels.class_index, corner)
    maps = RegionEffects()(model, x, targets, intervention=Intervention(regions=GridRegions([25]), max_batch=11))
    seen = maps.nan_to_num()
    assert torch.equal(seen[:, 6:], torch.zeros_like(seen[:, 6:]))  # beyond the reach of two 3x3 convolutions
    assert bool((seen[:, :6, :6].abs().flatten(1).amax(dim=1) > 1e-3).sum() > len(seen) / 2)
