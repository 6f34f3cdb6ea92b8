"""The worth of the best of many candidates: against a slow loop, and without optimism."""

import random

import numpy as np
import pytest

from segaudit.statistics import resplit


def test_against_a_slow_loop():
    rng = np.random.default_rng(0)
    table = rng.random((6, 9))
    chances, reads = random.Random(1), []
    for _ in range(3000):
        units = chances.sample(range(9), 9)
        for seen, read in ((units[:4], units[4:]), (units[4:], units[:4])):
            best = max(range(6), key=lambda k: sum(table[k, u] for u in seen) / len(seen))
            reads.append(sum(table[best, u] for u in read) / len(read))
    chosen, expected = resplit(table, sign=1)
    assert chosen == int(np.argmax(table.mean(axis=1)))
    assert expected == pytest.approx(sum(reads) / len(reads), abs=0.015)


@pytest.mark.parametrize("spread", [0.0, 0.05])
def test_it_is_neither_optimistic_nor_pessimistic_where_the_mean_of_the_best_is(spread):
    rng, naive, found = np.random.default_rng(2), [], []
    for _ in range(150):
        truth = 0.4 + spread * rng.normal(size=30)
        table = truth[:, None] + 0.1 * rng.normal(size=(30, 12))
        chosen, expected = resplit(table)
        naive.append(table[chosen].mean() - truth[chosen])
        found.append(expected - truth[chosen])
    assert np.mean(naive) < -0.02
    assert -0.01 <= np.mean(found) <= 0.02


def test_only_eligible_candidates_are_chosen_and_the_sign_decides():
    table = np.array([[0.1] * 4, [0.2] * 4, [0.3] * 4])
    assert resplit(table) == (0, pytest.approx(0.1))
    assert resplit(table, sign=1) == (2, pytest.approx(0.3))
    assert resplit(table, eligible=[False, True, True]) == (1, pytest.approx(0.2))
    assert resplit(-table) == (2, pytest.approx(-0.3))


def test_neither_the_order_of_units_nor_the_precision_matter():
    table = np.random.default_rng(3).random((5, 11)).astype(np.float32)
    first = resplit(table)
    assert resplit(table[:, ::-1]) == first
    assert resplit(table.astype(np.float64)) == resplit(table.tolist()) == first
    assert resplit(1 - table.astype(np.float64), sign=1)[1] == pytest.approx(1 - first[1], abs=0.01)


def test_holes_are_left_out():
    table = np.random.default_rng(4).random((4, 10))
    table[2], table[1, 3], table[0, :6] = np.nan, np.nan, np.nan
    chosen, expected = resplit(table)
    assert chosen == (0, 1, 3)[int(np.argmin(np.nanmean(table[[0, 1, 3]], axis=1)))]
    assert 0 < expected < 1
    table[:, 5:] = np.nan
    assert 0 < resplit(table)[1] < 1


def test_what_cannot_be_chosen():
    assert resplit([[0.1], [0.2]])[0] == 0
    assert np.isnan(resplit([[0.1], [0.2]])[1])
    for table, more, message in (
        ([0.1], {}, "two dimensions"),
        ([[0.1, 0.2]], {"eligible": [False]}, "none can be chosen"),
        ([[0.1, 0.2]], {"eligible": [True, False]}, "one entry for each of 1"),
        ([[float("nan")]], {}, "none can be chosen"),
        ([[0.1, 0.2]], {"sign": 0}, "sign must be"),
    ):
        with pytest.raises(ValueError, match=message):
            resplit(table, **more)
