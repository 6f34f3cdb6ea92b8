"""Intervals of levels: against closed forms and a slow loop, and how often they hold the truth."""

import math
import random

import numpy as np
import pytest
from scipy import stats

from segaudit.statistics import Estimate, level_interval, summary

NAN = float("nan")
#: 0.025 and 0.975 quantiles of 4000 draws are off by about 0.0025 of probability.
SLACK = 0.02


@pytest.mark.parametrize(("ones", "count"), [(0, 6), (1, 6), (3, 12), (12, 12), (5, 40)])
def test_of_binary_scores_it_is_the_interval_of_clopper_and_pearson(ones, count):
    found = level_interval([1.0] * ones + [0.0] * (count - ones))
    low = stats.beta.ppf(0.025, ones, count - ones + 1) if ones else 0.0
    high = stats.beta.ppf(0.975, ones + 1, count - ones) if ones < count else 1.0
    assert found == pytest.approx((low, high), abs=SLACK)


def test_against_a_slow_loop_in_another_range_and_level():
    values, rng, sums = [-0.3, 0.1, 0.7, 0.75], random.Random(0), ([], [])
    for _ in range(20_000):
        weights = [rng.expovariate(1) for _ in range(5)]
        for side, bound in zip(sums, (-1.0, 2.0), strict=True):
            side.append(sum(w * v for w, v in zip(weights, [*values, bound], strict=True)) / sum(weights))
    expected = np.quantile(sums[0], 0.1), np.quantile(sums[1], 0.9)
    assert level_interval(values, low=-1, high=2, level=0.8) == pytest.approx(expected, abs=3 * SLACK)


def test_equal_scores_do_not_claim_certainty():
    low, high = level_interval([0.5] * 6)
    assert (low, high) == pytest.approx((0.5 * 0.025 ** (1 / 6), 1 - 0.5 * 0.025 ** (1 / 6)), abs=SLACK)


SHAPES = {
    "normal": (lambda rng, n: np.clip(rng.normal(0.5, 0.15, n), 0, 1), 0.5),
    "rare": (lambda rng, n: np.where(rng.random(n) < 0.15, rng.random(n) * 0.6, 0.0), 0.045),
    "binary": (lambda rng, n: (rng.random(n) < 0.1).astype(float), 0.1),
    "outliers": (lambda rng, n: np.where(rng.random(n) < 0.03, 0.9, 0.05 + 0.02 * rng.random(n)), 0.03 * 0.9 + 0.97 * 0.06),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("count", [5, 12])
def test_it_holds_the_truth_as_often_as_it_says_where_a_t_interval_does_not(shape, count):
    draw, truth = SHAPES[shape]
    rng, trials, held, by_t = np.random.default_rng(1), 800, 0, 0
    for _ in range(trials):
        values = draw(rng, count)
        low, high = level_interval(values)
        held += low <= truth <= high
        half = stats.t.ppf(0.975, count - 1) * values.std(ddof=1) / math.sqrt(count)
        by_t += abs(values.mean() - truth) <= half
    assert held / trials >= 0.93
    assert by_t / trials < 0.9 or shape == "normal"


def test_the_group_is_the_unit_where_images_of_a_group_are_alike():
    rng, trials, held = np.random.default_rng(2), 300, {"group": 0, "image": 0}
    for _ in range(trials):
        groups = np.repeat(np.arange(6), 8)
        values = np.clip(rng.beta(1, 3, 6)[groups] + 0.02 * rng.normal(size=48), 0, 1)
        for how, units in (("group", groups), ("image", None)):
            low, high = level_interval(values, units)
            held[how] += low <= 0.25 <= high
    assert held["group"] / trials >= 0.93
    assert held["image"] / trials < 0.8


def test_units_have_equal_weight_and_nan_and_range_are_minded():
    values, units = [0.2, 0.4, NAN, 0.9, 7.0, -3.0], ["a", "a", "a", "b", "c", "c"]
    assert level_interval(values, units) == pytest.approx(level_interval([0.3, 0.9, 0.5]), abs=1e-12)
    assert level_interval([0.3, NAN]) == level_interval([0.3])
    assert repr(level_interval([])) == repr(level_interval([NAN])) == repr((NAN, NAN))


def test_neither_order_nor_names_nor_precision_nor_mirroring_matter():
    rng = np.random.default_rng(3)
    values, units = rng.random(40).astype(np.float32), rng.integers(9, size=40)
    first, order = level_interval(values, units), rng.permutation(40)
    assert level_interval(values[order], units[order]) == first
    assert level_interval(values, [f"x{(5 * u) % 9}" for u in units]) == first
    assert level_interval(values.astype(np.float64), units) == first
    low, high = level_interval(-values.astype(np.float64), units, low=-1.0, high=0.0)
    assert (-high, -low) == pytest.approx(first, abs=1e-12)
    low, high = level_interval(20 * values.astype(np.float64) - 10, units, low=-10, high=10)
    assert ((low + 10) / 20, (high + 10) / 20) == pytest.approx(first, abs=1e-12)


def test_thousands_of_units_are_taken_in_pieces(monkeypatch):
    values = np.random.default_rng(4).random(30)
    whole = level_interval(values)
    monkeypatch.setattr("segaudit.statistics.level._CHUNK", 70)
    assert level_interval(values) == pytest.approx(whole, abs=SLACK)
    monkeypatch.undo()
    low, high = level_interval(np.random.default_rng(5).random(3000))
    assert 0.45 < low < 0.5 < high < 0.55


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: level_interval([0.1], ["a", "b"]), "1 entries and the other 2"),
        (lambda: level_interval([0.1], low=1.0, high=0.0), "low must be below high"),
        (lambda: level_interval([0.1], high=math.inf), "both finite"),
        (lambda: level_interval([0.1], level=95), "level is"),
    ],
)
def test_bad_input_gets_one_sentence(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# summary: ranges and groups


def row(image, value, **more):
    return {"sample_id": image, "class_index": 0, "area": 0.1, "explainer": "dea", "s": value, "reason": "", **more}


def test_summary_clips_to_the_range_and_says_how_often():
    records = [row("a", 0.5), row("b", 1.5), row("c", -0.5), row("d", 0.2)]
    found = summary(records, ranges={"s": (0.0, 1.0)})["dea", "s"]
    assert found.mean == pytest.approx((0.5 + 1 + 0 + 0.2) / 4)
    assert (found.clipped, found.method) == (0.5, "gaffke")
    assert 0 <= found.low < found.mean < found.high <= 1
    without = summary(records, ranges={"s": None})["dea", "s"]
    assert without.mean == pytest.approx((0.5 + 1.5 - 0.5 + 0.2) / 4)
    assert (without.clipped, without.method) == (0, "t")
    assert summary(records, ranges={"other": (0, 1)}) == summary(records)


def test_a_score_without_a_range_whose_units_are_equal_has_no_interval():
    found = summary([row(str(k), 0.0) for k in range(12)], ranges={"s": None})["dea", "s"]
    assert repr(found) == repr(Estimate(0.0, NAN, NAN, 12, 12, 0, 12, 0.0, ""))


def test_rounding_is_not_clipping():
    found = summary([row("a", 1.0000001), row("b", -1e-8)], ranges={"s": (0.0, 1.0)})["dea", "s"]
    assert found.clipped == 0


def test_groups_are_units_and_images_without_a_group_their_own():
    grouped = [row("a", 0.2, group="p"), row("b", 0.4, group="p"), row("c", 0.9, group=""), row("p", 0.1, group=None)]
    found = summary(grouped)["dea", "s"]
    alone = summary([row("x", 0.3), row("c", 0.9), row("p", 0.1)])["dea", "s"]
    assert found[:3] == pytest.approx(alone[:3], abs=1e-12)
    assert (found.images, found.units) == (4, 3)  # the image "p" is not the group "p"
