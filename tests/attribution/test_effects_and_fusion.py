"""Region effects and DEA against slow references written from their docstrings; what they cost."""

import math

import numpy as np
import pytest
import torch
from _models import Counting, Lambda, Net, Threshold, images, logits_of, uneven_targets
from torch import Tensor, nn

from segaudit import noise
from segaudit.attribution import DEA, IntegratedGradients, RegionEffects, Saliency
from segaudit.attribution.context import attribution_context
from segaudit.attribution.fusion import equal_mass
from segaudit.intervention import ConstantFill, GridRegions, Intervention, MeanFill, Probe, Regions, SuperpixelRegions
from segaudit.target import Targets, TargetSelector, target_score


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


def slow_effects(model: nn.Module, x: Tensor, targets: Targets, intervention: Intervention) -> Tensor:
    """One forward pass for each target, scale and region."""
    result = torch.zeros(targets.region.shape)
    scales = intervention.regions(x)
    filled = intervention.fill(x)
    for n in range(len(targets)):
        b, c, region = int(targets.image_index[n]), int(targets.class_index[n]), targets.region[n]
        before = slow_score(model, x[b], c, region)
        for labels in scales:
            for label in labels[b].unique().tolist():
                removed = labels[b] == label
                after = slow_score(model, torch.where(removed, filled[b], x[b]), c, region)
                result[n][removed] += (1 - after / before) / len(scales)
    return result


@pytest.mark.parametrize("classes", [3, 1])
@pytest.mark.parametrize("max_batch", [1, 5, 1000])
@pytest.mark.parametrize("regions", [GridRegions([2, 6]), SuperpixelRegions([3, 5])])
def test_region_effects_are_the_slow_loop(regions: Regions, max_batch: int, classes: int) -> None:
    model, x = Net(classes=classes), images(size=(8, 7))
    targets = uneven_targets(model, x)
    intervention = Intervention(regions=regions, max_batch=max_batch)
    maps = RegionEffects()(model, x, targets, intervention=intervention)
    torch.testing.assert_close(maps, slow_effects(model, x, targets, intervention), rtol=1e-4, atol=2e-6)
    assert bool((maps < 0).any())  # signed


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
    (labels,), filled = regions(x), intervention.fill(x)
    for n in range(len(targets)):
        one, b = targets[n : n + 1], targets.image_index[n : n + 1]

        def score(images: Tensor, one: Targets = one) -> Tensor:
            logits = logits_of(model, images)
            return torch.stack([target_score(row[None], one)[0] for row in logits])

        ablation = captum.FeatureAblation(score).attribute(x[b], baselines=filled[b], feature_mask=labels[b][:, None])
        expected = ablation[0, 0] / score(x[b])
        torch.testing.assert_close(maps[n], expected, rtol=1e-5, atol=3e-6)


class Uneven(Regions):
    """Three regions under the labels 0, 3 and 9; the others are unused."""

    def partition(self, images: Tensor, count: int) -> Tensor:
        labels = torch.zeros(len(images), *images.shape[2:], dtype=torch.int64)
        labels[:, :2], labels[:, 5:] = 3, 9
        return labels


def sweep(regions: Regions, x: Tensor, targets: Targets, max_batch: int = 64) -> Counting:
    model = Counting(Net())
    probe = Probe(model, x, targets, Intervention(regions=regions, max_batch=max_batch), logits_of(Net(), x))
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


def pearson(a: list[float], b: list[float]) -> float:
    ma, mb = sum(a) / len(a), sum(b) / len(b)
    up = sum((p - ma) * (q - mb) for p, q in zip(a, b, strict=True))
    down = math.sqrt(sum((p - ma) ** 2 for p in a) * sum((q - mb) ** 2 for q in b))
    return up / down if down else 0.0


def slow_dea(
    model: nn.Module, x: Tensor, targets: Targets, intervention: Intervention, dea: DEA
) -> tuple[Tensor, list[float]]:
    """Pixel by pixel: (√(s·g) + √i)², both positive parts of mean 1."""
    source = dea.source(model, x, targets, intervention=intervention)
    effects = slow_effects(model, x, targets, intervention)
    noisy = []
    for draw in range(dea.draws):
        jitter = noise.normal(noise.image_keys(x, draw + 1), x.shape[1:])
        spread = torch.stack([image.flatten().std(correction=0) for image in x]).view(-1, 1, 1, 1)
        noisy.append(dea.source(model, x + dea.level * spread * jitter, targets, intervention=intervention))
    fused, reliabilities = torch.zeros_like(effects), []
    for n in range(len(targets)):
        found = [pearson(source[n].flatten().tolist(), maps[n].flatten().tolist()) for maps in noisy]
        s = min(1.0, max(0.0, sum(found) / len(found))) if found else 1.0
        reliabilities.append(s)
        places = list(np.ndindex(*fused[n].shape))
        mean_g = sum(max(0.0, float(source[n][place])) for place in places) / len(places)
        mean_i = sum(max(0.0, float(effects[n][place])) for place in places) / len(places)
        for place in places:
            g = max(0.0, float(source[n][place])) / mean_g if mean_g > 0 else 0.0
            i = max(0.0, float(effects[n][place])) / mean_i if mean_i > 0 else 0.0
            fused[n][place] = (math.sqrt(s * g) + math.sqrt(i)) ** 2
    return fused, reliabilities


@pytest.mark.parametrize(
    "dea",
    [DEA(), DEA(draws=0), DEA(level=0.5, draws=3), DEA(IntegratedGradients(steps=4), level=0.3)],
    ids=["default", "no draws", "noisy", "signed source"],
)
def test_dea_is_the_slow_reference(dea: DEA) -> None:
    model, x = Net(), images(size=(8, 7))
    targets = uneven_targets(model, x)
    intervention = Intervention(regions=GridRegions([2, 6]))
    expected, reliabilities = slow_dea(model, x, targets, intervention, dea)
    torch.testing.assert_close(dea(model, x, targets, intervention=intervention), expected, rtol=1e-4, atol=1e-5)
    if dea.draws:
        assert min(reliabilities) < 0.99  # the test would notice its absence


def test_dea_falls_back_to_the_intervention_where_gradients_are_silent_or_unstable() -> None:
    class Silent(Saliency):
        def attribute(self, probe: Probe) -> Tensor:
            return torch.zeros(probe.targets.region.shape)

    class Erratic(Saliency):
        def attribute(self, probe: Probe) -> Tensor:
            sign = 1 if torch.equal(probe.images, x) else -1
            return sign * torch.linspace(-1, 1, probe.targets.region.numel()).view(probe.targets.region.shape)

    model, x = Net(), images()
    targets = uneven_targets(model, x)
    intervention = Intervention(regions=GridRegions([6]))
    effects = equal_mass(RegionEffects()(model, x, targets, intervention=intervention))
    for source in (Silent(), Erratic()):
        maps = DEA(source)(model, x, targets, intervention=intervention)
        torch.testing.assert_close(maps, effects)


def test_equal_evidence_is_boosted_to_twice_the_sum() -> None:
    """g = i: as much again as both, (√i + √i)² = 4·i."""
    model, x = Net(), images()
    targets = uneven_targets(model, x)
    intervention = Intervention(regions=GridRegions([6]))
    effects = equal_mass(RegionEffects()(model, x, targets, intervention=intervention))
    maps = DEA(RegionEffects(), draws=0)(model, x, targets, intervention=intervention)
    torch.testing.assert_close(maps, 4 * effects)


def test_inside_a_region_the_gradients_order_the_pixels() -> None:
    model, x = Net(), images()
    targets = uneven_targets(model, x)
    intervention = Intervention(regions=GridRegions([6]))
    gradient = Saliency()(model, x, targets)
    effects = RegionEffects()(model, x, targets, intervention=intervention)
    maps = DEA(draws=0)(model, x, targets, intervention=intervention)
    for n in range(len(targets)):
        for effect in effects[n].unique():
            inside = effects[n] == effect
            order = gradient[n][inside].argsort()
            assert bool((maps[n][inside][order].diff() >= 0).all())


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
        DEA(source, draws=0).explain(probe)
        assert model.images == asked
        Saliency().explain(probe)
    assert model.images == asked + len(x)


def test_dea_costs_its_sources_and_shares_the_sweep() -> None:
    x = images()
    targets = uneven_targets(Net(), x)
    model = Counting(Net())
    with attribution_context(model):
        probe = Probe(model, x, targets, Intervention(regions=GridRegions([4])), logits_of(Net(), x))
        RegionEffects().explain(probe)
        swept = model.images
        DEA(draws=2).explain(probe)
    assert model.images - swept == 3 * len(x)  # saliency on the image and on two noisy copies
    assert probe.borrowed > 0  # but its share of the time is on its bill


def test_draws_and_level_are_checked() -> None:
    with pytest.raises(ValueError, match="draws must be at least 0, got -1"):
        DEA(draws=-1)
    with pytest.raises(ValueError, match=r"level is the noise over the image's standard deviation, above 0, got 0.0"):
        DEA(level=0.0)


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
