"""The verdict: small cases by hand, and its error rates."""

import numpy as np
import pytest

from segaudit.statistics import losses, p_above, unit_differences, units_needed, verdict

WINS, LOSES = [0.1, 0.2, 0.1, 0.3, 0.1], [-0.1, -0.2, -0.1, -0.3, -0.1]
TIED = [0.3, -0.2, 0.1, -0.3, 0.15]


@pytest.mark.parametrize(
    ("given", "outcome"),
    [
        ({"random": WINS}, "above"),
        ({"random": WINS, "edges": WINS}, "above"),
        ({"random": WINS, "edges": TIED}, "cannot tell"),
        ({"random": WINS, "edges": LOSES}, "cannot tell"),  # 1/32 for one of two controls is not 0.05 of both
        ({"random": WINS, "edges": [*LOSES, -0.1]}, "below"),
        ({"random": LOSES}, "below"),
        ({"random": WINS[:4]}, "cannot tell"),
        ({"random": [0.0] * 9}, "cannot tell"),
        ({"random": [*WINS, float("nan")]}, "above"),
        ({"random": []}, "cannot tell"),
        ({}, "cannot tell"),
    ],
)
def test_outcomes(given, outcome):
    assert verdict(given)[0] == outcome
    assert verdict({name: np.float32(values) for name, values in given.items()})[0] == outcome
    assert verdict({name[::-1]: values[::-1] for name, values in reversed(given.items())}) == verdict(given)


def test_units_needed():
    values = np.tile([0.5, -0.1], 4)  # mean 0.2, standard deviation 0.32
    expected = (1.645 + 0.842) ** 2 * values.var(ddof=1) / 0.04 + 1.645**2 / 2
    assert units_needed(values) == np.ceil(expected) == 18
    assert units_needed(np.float32(values)) == 18
    assert verdict({"a": values, "b": np.tile([0.5, 0.1], 4)}) == ("cannot tell", 18)
    assert units_needed([0.1, 0.11, 0.1, 0.1]) == 5  # the least with which anything can be told
    assert verdict({"a": [0.1, 0.11, 0.1, 0.1]}) == ("cannot tell", 5)
    assert units_needed([-0.1, -0.2, 0.1]) is None
    assert units_needed([1.0, -0.99] * 9) is None  # more than 1000
    assert verdict({"a": values, "b": [0.1, -0.2] * 4}) == ("cannot tell", None)


def test_units_needed_are_enough():
    """With the promised number of units, four of five audits say above."""
    rng = np.random.default_rng(0)
    values = np.tile([0.3, -0.1], 3)
    values = 0.1 + 0.2 * (values - values.mean()) / values.std(ddof=1)
    needed = units_needed(values)
    above = sum(verdict({"a": rng.normal(0.1, 0.2, needed)})[0] == "above" for _ in range(150)) / 150
    assert 0.7 <= above <= 0.92


@pytest.mark.parametrize("count", [6, 12])
def test_false_verdicts_are_rare_where_main_and_control_are_exchangeable(count):
    rng, trials = np.random.default_rng(count), 700
    outcomes = []
    for _ in range(trials):
        main, control = rng.beta(0.5, 1.5, (2, count))
        outcomes.append(verdict({"random": main - control})[0])
    assert outcomes.count("above") / trials <= 0.07  # standard error 0.008
    assert outcomes.count("below") / trials <= 0.07


def test_a_second_control_makes_above_no_more_likely():
    rng, found = np.random.default_rng(1), {1: 0, 3: 0}
    for _ in range(400):
        main, *controls = rng.normal(size=(4, 8))
        for number in found:
            found[number] += verdict({str(k): main - controls[k] for k in range(number)})[0] == "above"
    assert found[3] < found[1] <= 0.07 * 400


def test_losses_are_named_where_most_units_win():
    most = {f"i{k}": 0.1 for k in range(10)} | {"bad": -0.8, "worse": -0.9, "meh": -0.1}
    assert losses(most) == ["worse", "bad"]
    assert losses({"a": -0.9, "b": 0.1}) == []
    assert losses({}) == losses({"a": float("nan")}) == []


def test_differences_by_unit_are_what_the_test_sees():
    values = {"a": {"dea": 0.9, "random": 0.1}, "b": {"dea": 0.4, "random": 0.5}}
    records = [
        {"sample_id": f"{unit}{k}", "group": unit, "class_index": 0, "area": 0.1, "explainer": e, "s": v + 0.1 * k}
        for unit, of in values.items()
        for k in range(2)
        for e, v in of.items()
    ]
    found = unit_differences(records, "dea", "random", "s")
    assert found == {"a": pytest.approx(0.8), "b": pytest.approx(-0.1)}
    assert unit_differences(records, "dea", "random", "s", {"s": (0.0, 0.5)})["a"] == pytest.approx((0.4 + 0.3) / 2)
    assert p_above(list(found.values())) == 0.5
