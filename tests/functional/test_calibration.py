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


def test_evidence_is_that_of_loops_and_costs_no_forward_beyond_the_sweep() -> None:
    model, probe = probe_of(SuperpixelRegions([6, 15]))
    maps = torch.randn(probe.targets.region.shape, generator=torch.Generator().manual_seed(0))
    with attribution_context(model):
        scales = probe.partition_effects()
        swept = model.images
        effects, means = segment_effects(probe), segment_means(probe, maps)
    assert model.images == swept
    assert effects.shape == means.shape
    for n in range(len(probe.targets)):
        for k, (labels, found) in enumerate(scales):
            mine = labels[probe.targets.image_index[n]]
            for r in range(effects.shape[2]):
                pixels = mine == r
                if not pixels.any():
                    assert bool(effects[n, k, r].isnan())
                    assert bool(means[n, k, r].isnan())
                    continue
                assert set(found[n][pixels].tolist()) == {float(effects[n, k, r])}
                assert float(means[n, k, r]) == pytest.approx(float(maps[n][pixels].double().mean()))
    assert bool(effects.isnan().any())  # some image has fewer regions


def test_the_effect_map_is_calibrated_and_a_random_map_is_not() -> None:
    model, probe = probe_of(GridRegions([30]))
    with attribution_context(model):
        effects = segment_effects(probe)
        means = {e.name: segment_means(probe, e.explain(probe)) for e in (RegionEffects(), Saliency(), Random())}
    assert effect_calibration(means["region_effects"], effects).tolist() == pytest.approx([1] * len(probe.targets))
    assert effect_calibration_error(means["region_effects"], effects).abs().max() < 1e-6
    random, gradient = (effect_calibration(means[name], effects).nanmean() for name in ("random", "saliency"))
    assert abs(float(random)) < 0.2 < float(gradient)
    error = {name: float(effect_calibration_error(m, effects).nanmean()) for name, m in means.items()}
    assert error["region_effects"] < error["saliency"] < error["random"]
