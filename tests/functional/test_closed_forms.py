"""Values known without any computation, and changes of the evidence that must change nothing."""

import numpy as np
import pytest
import torch
from _scores import evidence, slow_dilate

from segaudit.functional import (
    cue_mass,
    deletion_auc,
    faithfulness_gap,
    insertion_auc,
    off_target_leakage,
    stability,
    unsupported_leakage,
)
from segaudit.functional.leakage import dilate
from segaudit.functional.stability import rank_correlation


@pytest.mark.parametrize("floor", [0.0, 0.2, 0.5])
@pytest.mark.parametrize("nodes", [5, 400])
def test_areas_of_curves_with_known_integrals(floor: float, nodes: int) -> None:
    q = torch.linspace(0, 1, nodes, dtype=torch.float64) ** 2
    falling = floor + (1 - floor) * (1 - q)
    assert deletion_auc(falling[None], q).tolist() == pytest.approx([0.5])  # a straight line, whatever the nodes
    assert insertion_auc(falling.flip(0)[None], 1 - q.flip(0)).tolist() == pytest.approx([0.5])
    never = torch.ones(nodes, dtype=torch.float64)
    never[-1] = floor
    assert float(deletion_auc(never[None], q)) == pytest.approx(1 - float(1 - q[-2]) / 2)
    if nodes == 400:
        power = floor + (1 - floor) * (1 - q) ** 3
        assert deletion_auc(power[None], q).tolist() == pytest.approx([0.25], abs=1e-4)


def test_the_gap_of_a_curve_and_its_mirror_is_zero_and_the_number_of_points_hardly_counts() -> None:
    q = torch.linspace(0, 1, 9)
    falling = (1 - q) ** 2
    assert float(faithfulness_gap(falling[None], q, (1 - falling)[None], q)) == pytest.approx(
        1 - 2 * float(deletion_auc(falling[None], q))
    )
    assert float(faithfulness_gap(falling[None], q, falling.flip(0)[None], q)) == pytest.approx(0, abs=1e-6)
    dense = torch.linspace(0, 1, 900)
    assert float(deletion_auc(((1 - dense) ** 2)[None], dense)) == pytest.approx(1 / 3, abs=1e-4)
    assert float(deletion_auc(falling[None], q)) == pytest.approx(1 / 3, abs=0.01)


def test_fractions_may_differ_between_targets() -> None:
    found = evidence(4, awkward=False)
    curve, q = found["deletion_curve"], torch.rand(4, 6).sort(dim=1).values
    q[:, 0], q[:, -1] = 0, 1
    together = deletion_auc(curve, q)
    assert torch.equal(together, torch.cat([deletion_auc(curve[n : n + 1], q[n]) for n in range(4)]))
    with pytest.raises(ValueError, match="6 points, but 5 fractions"):
        deletion_auc(curve, q[:, :5])


@pytest.mark.parametrize("scale", [1e-20, 0.3, 1e20])
def test_mass_shares_do_not_depend_on_units_or_on_negative_evidence(scale: float) -> None:
    found = evidence(8, awkward=False)
    a, region, effects, cue = (found[k] for k in ("attribution", "region", "effect_map", "cue"))
    for function, rest in ((off_target_leakage, (region,)), (unsupported_leakage, (region, effects)), (cue_mass, (cue,))):
        expected = function(a, *rest)
        torch.testing.assert_close(function(scale * a, *rest), expected)
        torch.testing.assert_close(function(torch.where(a < 0, 50 * a, a), *rest), expected)


def test_leakage_and_its_complement() -> None:
    found = evidence(8, awkward=False)
    a, region = found["attribution"], found["region"]
    torch.testing.assert_close(off_target_leakage(a, region) + cue_mass(a, region), torch.ones(8))
    assert torch.equal(off_target_leakage(region.float(), region), torch.zeros(8))
    assert bool(off_target_leakage(a, torch.ones_like(region)).isnan().all())  # nothing is outside
    almost = torch.ones_like(region)
    almost.flatten(1)[:, 7] = False
    assert bool(off_target_leakage(a, almost).isfinite().all())
    assert bool(off_target_leakage(a, almost, tolerance=1).isnan().all())
    share = region.flatten(1).float().mean(dim=1)
    torch.testing.assert_close(off_target_leakage(torch.ones_like(a), region), 1 - share)


def test_leakage_splits_into_unsupported_and_honest() -> None:
    found = evidence(8, awkward=False)
    a, region, effects = (found[k] for k in ("attribution", "region", "effect_map"))
    nothing, all_of_it = unsupported_leakage(a, region, effects + 9), unsupported_leakage(a, region, effects - 9)
    assert torch.equal(nothing, torch.zeros(8))
    assert torch.equal(all_of_it, off_target_leakage(a, region))
    honest = unsupported_leakage(a, region, -effects, epsilon=-0.01)  # the others of the two halves
    torch.testing.assert_close(unsupported_leakage(a, region, effects) + honest, all_of_it, atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [(11,), (7, 9), (5, 4, 6)])
@pytest.mark.parametrize("pixels", [0, 1, 3])
def test_dilation_is_the_slow_one_and_scipys(size: tuple[int, ...], pixels: int) -> None:
    ndimage = pytest.importorskip("scipy.ndimage")
    region = torch.rand(3, *size, generator=torch.Generator().manual_seed(0)) < 0.05
    region[2] = False
    grown = dilate(region, pixels).numpy()
    for n in range(3):
        assert np.array_equal(grown[n], slow_dilate(region[n].numpy(), pixels))
        box = np.ones([2 * pixels + 1] * len(size), bool)
        assert np.array_equal(grown[n], ndimage.binary_dilation(region[n].numpy(), box))
    with pytest.raises(ValueError, match="tolerance is a number of pixels of at least 0, got -1"):
        dilate(region, -1)


@pytest.mark.parametrize("ties", [False, True])
def test_rank_correlation_is_scipys(ties: bool) -> None:
    stats = pytest.importorskip("scipy.stats")
    g = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 6, 300, generator=g)
    b = b + torch.linspace(-2, 2, 6)[:, None] * a
    if ties:
        a, b = a.round(), (2 * b).round()
    found = rank_correlation(a, b)
    for n in range(6):
        assert float(found[n]) == pytest.approx(stats.spearmanr(a[n].numpy(), b[n].numpy()).statistic, abs=1e-6)
    assert float(found[0]) < -0.8
    assert float(found[-1]) > 0.8


@pytest.mark.parametrize("change", [lambda a: 5 * a - 3, torch.exp, lambda a: a**3, torch.atan])
def test_rank_correlation_sees_order_alone(change: object) -> None:
    g = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 4, 50, generator=g, dtype=torch.float64).mul(4).round() / 4
    torch.testing.assert_close(rank_correlation(change(a), b), rank_correlation(a, b))
    torch.testing.assert_close(rank_correlation(a, change(a)), torch.ones(4))
    torch.testing.assert_close(rank_correlation(a, -change(a)), -torch.ones(4))
    torch.testing.assert_close(rank_correlation(a, b), rank_correlation(b, a))
    order = torch.randperm(50, generator=g)
    torch.testing.assert_close(rank_correlation(a[:, order], b[:, order]), rank_correlation(a, b))


def test_rank_correlation_of_constant_rows_is_undefined_at_any_length() -> None:
    for length in (2, 3, 7, 42240):
        assert bool(rank_correlation(torch.full((1, length), 0.3), torch.rand(1, length)).isnan())


def test_only_kept_pairs_count() -> None:
    a = torch.randn(1, 6, 6, generator=torch.Generator().manual_seed(0))
    perturbed = torch.stack([2 * a, -a, torch.full_like(a, torch.nan)], dim=1)
    for kept, expected in (((True, False, False), 1), ((False, True, False), -1), ((True, True, False), 0)):
        assert float(stability(a, perturbed, torch.tensor([kept]))) == pytest.approx(expected, abs=1e-6)
    assert bool(stability(a, perturbed, torch.tensor([[True, False, True]])).isnan())
