"""Credit of regions against their effects: known values, SciPy's figures, and what the evidence costs."""

import numpy as np
import pytest
import torch
from _models import Counting, Net, images, logits_of, uneven_targets
from scipy.stats import spearmanr
from torch import Tensor

from segaudit.attribution import Random, RegionEffects, Saliency, attribution_context
from segaudit.evidence.effects import segment_effects, segment_means
from segaudit.forwards import Probe
from segaudit.forwards.target import target_confidence
from segaudit.functional import effect_calibration, effect_calibration_error
from segaudit.intervention import ConstantFill, GridRegions, Intervention, Regions, SuperpixelRegions


def some(n: int = 5) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(0)
    effect = torch.randn(n, 3, 20, generator=g, dtype=torch.float64)
    effect[:, 0, 12:] = torch.nan
    return effect.nan_to_num() + torch.randn(n, 3, 20, generator=g), effect


def test_calibration_is_the_mean_of_scipys_correlations() -> None:
    means, effects = some()
    for n in range(5):
        each = [
            spearmanr(a[~e.isnan()].numpy(), e[~e.isnan()].numpy()).statistic
            for a, e in zip(means[n], effects[n], strict=True)
        ]
        assert float(effect_calibration(means, effects)[n]) == pytest.approx(np.mean(each))


def test_credit_as_the_effects_and_against_them() -> None:
    _, effects = some()
    positive = effects.abs()
    for change in (lambda e: e, lambda e: 7e9 * e, torch.exp):
        torch.testing.assert_close(effect_calibration(change(effects), effects), torch.ones(5))
        torch.testing.assert_close(effect_calibration(change(-effects), effects), -torch.ones(5))
    for scale in (1e-200, 3.0, 1e200):
        assert effect_calibration_error(scale * effects, effects).tolist() == pytest.approx([0] * 5, abs=1e-7)
        assert effect_calibration_error(scale * positive, positive).tolist() == pytest.approx([0] * 5, abs=1e-7)
    assert effect_calibration_error(-effects, effects).tolist() == pytest.approx([1] * 5)  # all of it lies elsewhere
    assert bool(effect_calibration_error(-positive, positive).isnan().all())  # and here there is no credit


def test_the_error_is_the_credit_that_would_have_to_move() -> None:
    effects = torch.tensor([[[0.5, 0.3, 0.2, 0.0, -0.4]]])
    means = torch.tensor([[[5.0, 3.0, 2.0, 0.0, 0.0]]])
    for moved in (0.0, 1.0, 4.0):
        shifted = means.clone()
        shifted[0, 0, 0] -= moved
        shifted[0, 0, 3] += moved
        assert effect_calibration_error(shifted, effects).tolist() == pytest.approx([moved / 10], abs=1e-7)


def test_neither_depends_on_missing_regions_or_on_their_order() -> None:
    means, effects = some()
    order = torch.randperm(20, generator=torch.Generator().manual_seed(1))
    padded = [torch.cat([v, torch.full((5, 3, 4), torch.nan)], dim=2) for v in (means, effects)]
    for score in (effect_calibration, effect_calibration_error):
        expected = score(means, effects)
        torch.testing.assert_close(score(means[..., order], effects[..., order]), expected)
        assert torch.equal(score(*padded), expected)


def test_a_partition_that_says_nothing_is_left_out() -> None:
    means, effects = some()
    for score in (effect_calibration, effect_calibration_error):
        expected = score(means[:, 1:], effects[:, 1:])
        for values in (means, effects):
            kept = values[:, 0].clone()
            values[:, 0] = torch.where(effects[:, 0].isnan(), torch.nan, 0.0)
            torch.testing.assert_close(score(means, effects), expected)
            values[:, 0] = kept


def probe_of(regions: Regions) -> tuple[Counting, Probe]:
    model, x = Counting(Net()), images(4, size=(24, 20))
    targets = uneven_targets(Net(), x)
    return model, Probe(model, x, targets, Intervention(ConstantFill(4.0), regions), logits_of(Net(), x))


def test_evidence_is_that_of_loops_over_judging_segments_at_the_cost_of_one_sweep() -> None:
    model, probe = probe_of(SuperpixelRegions([6, 15]))
    maps = torch.randn(probe.targets.region.shape, generator=torch.Generator().manual_seed(0))
    with attribution_context(model):
        probe.partition_effects()
        before = model.images
        effects, means, found = segment_effects(probe), segment_means(probe, maps), probe.judge_effects()
        segment_effects(probe)
    with_targets = probe.targets.image_index.unique()
    segments = sum(len(probe.judge_partition[b].unique()) for b in with_targets)
    assert model.images - before == segments
    assert effects.shape == means.shape
    assert effects.shape[:2] == (len(probe.targets), 1)
    filled = probe.intervention.fills[0](probe.images)
    for n, b in enumerate(probe.targets.image_index.tolist()):
        mine = probe.judge_partition[b]
        for r in range(effects.shape[2]):
            pixels = mine == r
            if not pixels.any():
                assert bool(effects[n, 0, r].isnan())
                assert bool(means[n, 0, r].isnan())
                continue
            without = torch.where(pixels, filled[b], probe.images[b])
            left = float(target_confidence(logits_of(Net(), without[None]), probe.targets[n : n + 1])) / float(
                probe.confidence[n]
            )
            assert float(effects[n, 0, r]) == pytest.approx(1 - left, abs=1e-5)
            assert set(found[n][pixels].tolist()) == {float(effects[n, 0, r])}
            assert float(means[n, 0, r]) == pytest.approx(float(maps[n][pixels].double().mean()))


@pytest.mark.parametrize("kind", [SuperpixelRegions, GridRegions])
def test_no_map_is_judged_by_the_segments_that_it_is_made_of(kind: type[Regions]) -> None:
    _, probe = probe_of(kind([12, 30, 60]))
    assert int(probe.judge_partition.max()) + 1 == pytest.approx(30, abs=8)  # about as many as the middle scale's
    for labels in probe.partitions:
        for b in range(len(labels)):
            pairs = set(zip(labels[b].flatten().tolist(), probe.judge_partition[b].flatten().tolist(), strict=True))
            assert len(pairs) > 1.3 * max(len(labels[b].unique()), len(probe.judge_partition[b].unique()))


def test_the_effect_map_is_calibrated_by_others_segments_and_a_random_map_is_not() -> None:
    model, probe = probe_of(GridRegions([30]))
    with attribution_context(model):
        effects = segment_effects(probe)
        means = {e.name: segment_means(probe, e.explain(probe)) for e in (RegionEffects(), Saliency(), Random())}
        perfect = segment_means(probe, probe.judge_effects())
    assert effect_calibration(perfect, effects).tolist() == pytest.approx([1] * len(probe.targets))
    assert effect_calibration_error(perfect, effects).abs().max() < 1e-6
    score = {name: float(effect_calibration(m, effects).nanmean()) for name, m in means.items()}
    assert abs(score["random"]) < 0.2 < score["saliency"]
    assert 0.4 < score["region_effects"] < 0.98
    error = {name: float(effect_calibration_error(m, effects).nanmean()) for name, m in means.items()}
    assert 0.02 < error["region_effects"] < error["random"]
    assert error["saliency"] < error["random"]


@pytest.mark.parametrize("noise", [lambda u: u, lambda u: (u > 0.8).double(), lambda u: -u.log()])
def test_a_random_map_has_a_mean_of_zero_however_the_effects_follow_from_the_area(noise) -> None:
    g = torch.Generator().manual_seed(0)
    sizes = torch.randint(5, 60, (1500, 64), generator=g)
    pixels = noise(torch.rand(1500, 64, 60, generator=g, dtype=torch.float64))
    means = (pixels * (torch.arange(60) < sizes[:, :, None])).sum(dim=2) / sizes
    effects = (sizes / 60 + 0.05 * torch.rand(1500, 64, generator=g)).double()
    values = effect_calibration(means[:, None], effects[:, None], sizes[:, None] / sizes.sum(dim=1)[:, None, None])
    assert abs(float(values.mean())) < 0.01
    assert float(values.std()) < 0.2
    plain = effect_calibration(means[:, None], effects[:, None])
    assert (abs(float(plain.mean())) > 0.03) == (noise(torch.tensor(0.3)) != 0.3)  # few values, or a long tail
