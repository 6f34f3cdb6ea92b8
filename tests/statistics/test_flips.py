"""Sign-flip tests: against all flips, in every precision, and under exchangeable sides."""

from itertools import product

import numpy as np
import pytest
from scipy import stats

from segaudit.statistics import PERMUTATIONS, difference, p_above
from segaudit.statistics.flips import flip_test


def slow(values, two_sided):
    sums = [sum(s * v for s, v in zip(signs, values, strict=True)) for signs in product((-1, 1), repeat=len(values))]
    seen = sum(values)
    extreme = [abs(s) >= abs(seen) - 1e-9 if two_sided else s >= seen - 1e-9 for s in sums]
    return sum(extreme) / len(extreme)


@pytest.mark.parametrize("count", [1, 2, 5, 9])
def test_all_flips_of_few_units(count):
    rng = np.random.default_rng(count)
    for values in (rng.normal(0.3, 1, count), rng.integers(-2, 3, count).astype(float), np.full(count, 0.1)):
        assert p_above(values) == pytest.approx(slow(values.tolist(), False), abs=1e-12)
        assert flip_test(values) == pytest.approx(slow(values.tolist(), True), abs=1e-12)


@pytest.mark.parametrize("count", [6, 14, 15, 60])
def test_float32_gets_the_p_value_of_float64_and_never_0(count):
    # With float32, the sum of the data itself was once not as extreme as itself.
    for seed in range(5):
        values = np.random.default_rng(seed).normal(2, 0.1, count).astype(np.float32)
        for test in (p_above, flip_test):
            assert test(values) == test(values.astype(np.float64)) == test(values.tolist())
            assert test(values) >= (2.0**-count if count <= 14 else 1 / (1 + PERMUTATIONS))
    ties = np.array([0.1, 0.2, 0.3, 0.4, 0.5, -0.5])
    assert p_above(ties.astype(np.float32)) == p_above(ties) == slow(ties.tolist(), False)


def test_neither_order_nor_unit_matter_and_sides_mirror():
    rng = np.random.default_rng(0)
    for count in (8, 30):
        values = rng.normal(0.2, 1, count)
        assert p_above(rng.permutation(values)) == p_above(values)
        assert p_above(values * 1e-6) == p_above(values)
        assert flip_test(-values) == flip_test(values)
    few = rng.normal(0.2, 1, 8)
    assert p_above(few) + p_above(-few) == pytest.approx(1 + 2**-8)  # continuous: only the data are in both tails


def test_drawn_flips_are_near_the_exact_p_value():
    values = np.random.default_rng(1).normal(0.3, 1, 16)
    assert p_above(values) == pytest.approx(slow(values.tolist(), False), abs=0.012)
    assert p_above(values) == p_above(values)
    large = np.random.default_rng(2).normal(0.1, 1, 400)
    assert p_above(large) == pytest.approx(stats.ttest_1samp(large, 0, alternative="greater").pvalue, abs=0.01)


@pytest.mark.parametrize("shape", ["normal", "heavy", "binary"])
def test_the_level_holds_where_the_sides_are_exchangeable(shape):
    rng, trials = np.random.default_rng(3), 1500
    draw = {
        "normal": lambda n: rng.normal(size=n),
        "heavy": lambda n: rng.standard_t(1.5, size=n),
        "binary": lambda n: rng.integers(-1, 2, n).astype(float),
    }[shape]
    assert sum(p_above(draw(9)) <= 0.05 for _ in range(trials)) / trials <= 0.065  # standard error 0.0056


def test_nothing_to_test_is_nan():
    assert np.isnan(p_above([]))
    assert np.isnan(p_above([np.nan]))
    assert np.isnan(flip_test([1.0, np.inf]))
    assert p_above([0.5, np.nan, 0.5]) == 0.25
    assert p_above([0.0] * 6) == 1


def test_records_of_float32_scores_have_a_p_value_above_0():
    values = np.float32(0.1) * (1 + np.random.default_rng(4).random(20, dtype=np.float32))
    records = [
        {"sample_id": k, "class_index": 0, "area": 0.1, "explainer": e, "s": float(v), "reason": ""}
        for k, value in enumerate(values)
        for e, v in (("a", value), ("b", np.float32(0)))
    ]
    assert difference(records, "a", "b", "s").p_value == 1 / (1 + PERMUTATIONS)
