"""Where maps point: known values, invariances, Quantus' figures one target at a time, and its faults as tests of ours."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import quantus
import torch
from _scores import evidence
from torch import Tensor

from segaudit.functional import (
    entropy,
    localisation_auc,
    off_target_leakage,
    pointing_game,
    relevance_mass,
    relevance_rank,
    sparseness,
)

FAMILY = [pointing_game, relevance_mass, relevance_rank, localisation_auc]
BY_ORDER = [pointing_game, relevance_rank, localisation_auc]


def some(n: int = 6, size: tuple[int, ...] = (7, 5), seed: int = 0) -> tuple[Tensor, Tensor]:
    """Maps in which nothing ties, and regions on which they lie more than elsewhere."""
    g = torch.Generator().manual_seed(seed)
    region = torch.rand(n, *size, generator=g) < 0.3
    region.flatten(1)[:, :2] = torch.tensor([True, False])
    return torch.randn(n, *size, generator=g) + region, region


def ask(peer: Any, a: Tensor, region: Tensor | None = None) -> list[float]:
    """A peer's figures, all targets in one batch."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = peer(
            model=None,
            x_batch=np.zeros((len(a), 1, *a.shape[1:]), np.float32),
            y_batch=np.zeros(len(a), int),
            a_batch=a[:, None].numpy().copy(),
            s_batch=None if region is None else region[:, None].numpy(),
        )
    return [float(v) for v in found]


def peer(name: str, **arguments: Any) -> Any:
    return getattr(quantus, name)(**{"abs": False, "normalise": False, "disable_warnings": True, **arguments})


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(pointing_game, "PointingGame"), (relevance_rank, "RelevanceRankAccuracy"), (localisation_auc, "AUC")],
)
def test_order_is_scored_as_in_quantus(ours: Callable[..., Tensor], theirs: str) -> None:
    a, region = some(40)
    expected = [ask(peer(theirs), a[n : n + 1], region[n : n + 1])[0] for n in range(len(a))]
    assert ours(a, region).tolist() == pytest.approx(expected, abs=1e-6)
    assert len(set(expected)) > 1


def test_mass_is_scored_as_in_quantus_of_the_positive_part() -> None:
    a, region = some(40)
    expected = ask(peer("RelevanceMassAccuracy"), a.clamp_min(0), region)
    assert relevance_mass(a, region).tolist() == pytest.approx(expected, abs=1e-6)
    again = ask(peer("AttributionLocalisation", positive_attributions=True), a, region)
    assert relevance_mass(a, region).tolist() == pytest.approx(again, abs=1e-6)
    # With its signs, a share of the sum is no share: it leaves [0, 1].
    signed = ask(peer("RelevanceMassAccuracy"), a, region)
    assert min(signed) < 0 or max(signed) > 1


def test_complexity_is_scored_as_in_quantus() -> None:
    a, _ = some(40)
    assert sparseness(a).tolist() == pytest.approx(ask(peer("Sparseness", abs=True), a), abs=1e-5)
    theirs = ask(peer("Complexity", abs=True), a)
    assert entropy(a).tolist() == pytest.approx([v / np.log(35) for v in theirs], abs=1e-5)


# What the peer gets wrong.


def test_an_empty_region_is_no_hit() -> None:
    a, region = some(3)
    region[1] = False
    assert ask(peer("PointingGame"), a, region)[1] == 1  # a NaN put among booleans
    for score in FAMILY:
        assert score(a, region).isnan().tolist() == [False, True, False]


def test_a_constant_map_is_no_hit() -> None:
    a, region = some(3)
    a[1] = 0.4
    assert ask(peer("PointingGame"), a, region)[1] == 1
    for score in FAMILY:
        assert score(a, region).isnan().tolist() == [False, True, False]


def test_negative_evidence_is_no_hit() -> None:
    a = torch.tensor([[[-9.0, 1.0], [0.5, 0.0]]])
    region = torch.tensor([[[True, False], [False, False]]])
    by_default = quantus.AttributionLocalisation(disable_warnings=True)  # absolute values
    assert ask(by_default, a, region) == pytest.approx([9 / 10.5])
    for score in FAMILY:
        assert score(a, region).tolist() == [0]


def test_scores_do_not_change_with_the_batch() -> None:
    """Quantus divides by the largest value of the batch, and then adds a constant: a faint map becomes an even one."""
    a, region = some(6)
    loud = a.clone()
    loud[1:] *= 1e6
    together, alone = (ask(peer("Sparseness", abs=True, normalise=True), maps)[0] for maps in (loud, loud[:1]))
    assert abs(together - alone) > 0.01
    for score in (sparseness, entropy):
        assert torch.equal(score(loud)[:1], score(loud[:1]))
        torch.testing.assert_close(score(loud), score(a))
    for score in FAMILY:
        assert torch.equal(score(loud, region)[:1], score(loud[:1], region[:1]))


@pytest.mark.parametrize("corner", [0, 1])
def test_ties_are_no_favour(corner: int) -> None:
    """Half of a map ties at its maximum, one of those pixels on the target: a sharp eye, or an any-of-them?"""
    a = torch.zeros(1, 4, 4)
    a[:, :2] = 1
    region = torch.zeros(1, 4, 4, dtype=torch.bool)
    region[0, corner, 3 * corner] = True
    assert ask(peer("PointingGame"), a, region) == [1]
    assert pointing_game(a, region).tolist() == [1 / 8]
    assert relevance_rank(a, region).tolist() == [1 / 8]
    assert localisation_auc(a, region).tolist() == pytest.approx([(8 + 7 / 2) / 15])
    region[0, 3, 3] = True  # two places, both among the eight
    assert relevance_rank(a, region).tolist() == [1 / 8]
    a[0, 3, 3] = 2
    assert relevance_rank(a, region).tolist() == [(1 + 1 / 8) / 2]


# Known values and invariances.


def test_a_perfect_map_and_its_opposite() -> None:
    _, region = some()
    for score in FAMILY:
        assert torch.equal(score(region.float(), region), torch.ones(6))
    for score in FAMILY:
        assert torch.equal(score((~region).float(), region), torch.zeros(6))


def test_relevance_mass_is_what_does_not_leak() -> None:
    found = evidence(8, awkward=False)
    a, region = found["attribution"], found["region"]
    torch.testing.assert_close(relevance_mass(a, region), 1 - off_target_leakage(a, region))


def test_a_random_map_has_the_regions_share_but_one_half_of_the_area() -> None:
    g = torch.Generator().manual_seed(0)
    a = torch.rand(4000, 10, 10, generator=g)
    region = torch.zeros(4000, 10, 10, dtype=torch.bool)
    region[:, :2, :5] = True
    for score, expected in ((pointing_game, 0.1), (relevance_mass, 0.1), (relevance_rank, 0.1), (localisation_auc, 0.5)):
        assert float(score(a, region).mean()) == pytest.approx(expected, abs=0.015)


@pytest.mark.parametrize("change", [lambda a: 5 * a - 30, torch.exp, lambda a: a**3, torch.atan])
def test_three_of_the_family_see_order_alone(change: Callable[[Tensor], Tensor]) -> None:
    a, region = some()
    a = a.double()
    for score in BY_ORDER:
        assert torch.equal(score(change(a), region), score(a, region))
    torch.testing.assert_close(localisation_auc(-a, region), 1 - localisation_auc(a, region))
    torch.testing.assert_close(localisation_auc(a, ~region), 1 - localisation_auc(a, region))
    order = torch.randperm(35, generator=torch.Generator().manual_seed(1))
    for score in FAMILY:
        moved = score(a.flatten(1)[:, order], region.flatten(1)[:, order])
        torch.testing.assert_close(moved, score(a, region))


def test_a_miss_by_a_pixel_is_a_hit_within_tolerance() -> None:
    a, region = torch.zeros(1, 9, 9), torch.zeros(1, 9, 9, dtype=torch.bool)
    a[0, 4, 6], region[0, 3, 3] = 1, True
    assert [float(pointing_game(a, region, tolerance=t)) for t in (0, 2, 3, 15)] == [0, 0, 1, 1]
    region[0, 3, 3] = False
    assert bool(pointing_game(a, region, tolerance=15).isnan())


def test_sparseness_and_entropy_of_even_pixels() -> None:
    for count in (1, 3, 20, 35):
        a = torch.zeros(1, 35)
        a[0, :count] = torch.tensor([1.0, -1.0]).repeat(18)[:count]  # signs do not matter
        assert float(sparseness(a)) == pytest.approx(1 - count / 35, abs=1e-6)
        assert float(entropy(a)) == pytest.approx(np.log(count) / np.log(35), abs=1e-6)
    steps = torch.arange(1, 101, dtype=torch.float64)[None]
    assert float(sparseness(steps)) == pytest.approx(99 / 300)  # (P − 1) / 3P: nearly the triangle's third


@pytest.mark.parametrize("scale", [1e-44, 1e-30, 1e30, -7.0])
def test_units_do_not_matter_to_complexity(scale: float) -> None:
    a, _ = some()
    a = (4 * a).round()
    for score in (sparseness, entropy):
        torch.testing.assert_close(score(scale * a.double()), score(a))
    assert bool(entropy(torch.rand(2, 1)).isnan().all())  # an image of a single pixel
    huge = torch.tensor([[1.7e308, 1.7e308, 0.0, 1.7e308]], dtype=torch.float64)
    assert entropy(huge).tolist() == pytest.approx([np.log(3) / np.log(4)])
    assert sparseness(huge).tolist() == pytest.approx([0.25])
