"""Selection rules: what they choose, and that nothing that could still win is dropped on the way."""

import itertools
from math import inf, nan
from typing import Any

import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st

from segaudit.selection import Candidate, Constrained, Pareto, SelectionRule, Tolerant, Weighted

LEAKAGE = "audit/dea/off_target_leakage"
GAP = "audit/dea/faithfulness_gap"
RULES: dict[str, SelectionRule] = {
    "constrained": Constrained(subject_to={LEAKAGE: "<= 0.5"}),
    "constrained twice": Constrained(minimize=LEAKAGE, subject_to={"val/iou": "> 0.3", GAP: ">= 0.2"}),
    "tolerant": Tolerant(LEAKAGE, tolerance=0.15),
    "tolerant, exact": Tolerant(GAP, tolerance=0.0),
    "weighted": Weighted({"val/iou": 1.0, LEAKAGE: -0.5}),
    "pareto": Pareto(["val/iou", LEAKAGE]),
}


def candidate(place: int, iou: float, leakage: float = 0.0, gap: float = 0.0) -> Candidate:
    return Candidate(f"epoch {place}", {"val/iou": iou, LEAKAGE: leakage, GAP: gap}, f"{place}.ckpt", place)


def several(*values: tuple[float, ...]) -> list[Candidate]:
    return [candidate(place, *row) for place, row in enumerate(values)]


def order(rule: SelectionRule, *values: tuple[float, ...]) -> list[int]:
    return [one.candidate.epoch for one in rule.rank(several(*values))]


def allowed(rule: SelectionRule, *values: tuple[float, ...]) -> list[int]:
    return [one.candidate.epoch for one in rule.rank(several(*values)) if one.allowed]


def test_constrained_takes_the_best_within_the_bounds():
    rule = Constrained(subject_to={LEAKAGE: "<= 0.35"})
    assert order(rule, (0.9, 0.5), (0.7, 0.35), (0.8, 0.1), (0.95, 0.4)) == [2, 1, 3, 0]
    assert allowed(rule, (0.9, 0.5), (0.7, 0.35), (0.8, 0.1), (0.95, 0.4)) == [2, 1]


def test_where_none_is_within_the_bounds_the_nearest_comes_first():
    rule = Constrained(subject_to={LEAKAGE: "<= 0.35", GAP: ">= 0.5"})
    ranked = rule.rank(several((0.9, 0.5, 0.5), (0.7, 0.4, 0.5), (0.8, 0.36, 0.4)))
    assert [one.candidate.epoch for one in ranked] == [1, 2, 0]  # over by 0.05, 0.11, 0.15
    assert not any(one.allowed for one in ranked)
    assert ranked[1].why == f"{LEAKAGE} is 0.360, but must be <= 0.35; {GAP} is 0.400, but must be >= 0.5"


def test_constrained_can_minimise():
    rule = Constrained(minimize=LEAKAGE, subject_to={"val/iou": ">= 0.8"})
    assert order(rule, (0.9, 0.5), (0.8, 0.2), (0.7, 0.1)) == [1, 0, 2]


def test_tolerant_takes_the_most_faithful_near_the_best():
    rule = Tolerant(LEAKAGE, tolerance=0.01)
    assert order(rule, (0.80, 0.0), (0.895, 0.2), (0.90, 0.3), (0.893, 0.25)) == [1, 3, 2, 0]
    assert allowed(rule, (0.80, 0.0), (0.895, 0.2), (0.90, 0.3), (0.893, 0.25)) == [1, 3, 2]
    assert order(Tolerant(GAP, tolerance=0.01), (0.90, 0, 0.3), (0.895, 0, 0.7)) == [1, 0]
    assert order(Tolerant(GAP, tolerance=0.01, mode="min"), (0.90, 0, 0.3), (0.895, 0, 0.7)) == [0, 1]


def test_weighted_takes_the_highest_sum():
    assert order(Weighted({"val/iou": 1.0, LEAKAGE: -0.5}), (0.9, 0.6), (0.8, 0.1), (0.5, 0.0)) == [1, 0, 2]


def test_pareto_puts_the_front_first():
    rule = Pareto(["val/iou", LEAKAGE])
    values = (0.9, 0.6), (0.8, 0.1), (0.85, 0.6), (0.7, 0.2), (0.95, 0.7)
    assert order(rule, *values) == [4, 0, 1, 2, 3]
    assert allowed(rule, *values) == [4, 0, 1]
    assert rule.rank(several(*values))[3].why == f"epoch 0 is as good or better in all of val/iou, {LEAKAGE}"
    same = Pareto({"val/iou": "max", LEAKAGE: "min"})
    assert order(same, *values) == order(rule, *values)


@pytest.mark.parametrize("name", RULES)
def test_of_equals_the_first_wins(name):
    assert order(RULES[name], *[(0.6, 0.3, 0.4)] * 3) == [0, 1, 2]


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("lost", [nan, inf, -inf])
def test_without_a_number_nothing_wins(name, lost):
    rule = RULES[name]
    values = [0.9, 0.1, 0.9]
    place = ["val/iou", LEAKAGE, GAP].index(rule.keys[-1])
    values[place] = lost
    ranked = rule.rank([candidate(0, *values), candidate(1, 0.4, 0.9, 0.1)])
    assert [one.candidate.epoch for one in ranked] == [1, 0]
    assert (ranked[1].allowed, ranked[1].scored) == (False, False)
    assert ranked[1].why == f"{rule.keys[-1]} could not be scored"
    assert [one.epoch for one in rule.contenders([one.candidate for one in ranked], 5)] == [1]
    assert not rule.contenders([candidate(0, *values)], 1)


def test_what_was_not_logged_is_told_from_what_could_not_be_scored():
    [ranked] = RULES["tolerant"].rank([Candidate("epoch 0", {LEAKAGE: nan})])
    assert ranked.why == f"val/iou was not logged; {LEAKAGE} could not be scored"
    assert RULES["tolerant"].rank([]) == []


# A coarse grid, so that ties and equals are common.
NUMBERS = st.one_of(st.integers(0, 10).map(lambda k: k / 10), st.just(nan))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(values=st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS), min_size=1, max_size=12))
def test_dropping_on_the_way_changes_no_choice(values):
    for name, count in itertools.product(RULES, [1, 2, 3]):
        note(f"{name}, {count}")
        drop_on_the_way(name, count, values)


def drop_on_the_way(name, count, values):
    rule, kept = RULES[name], []
    for place, row in enumerate(values):
        kept = rule.contenders([*kept, candidate(place, *row)], count)
        kept.sort(key=lambda one: one.epoch)
    whole = [one.candidate.epoch for one in rule.rank(several(*values)) if one.scored]
    front = [one.candidate.epoch for one in rule.rank(several(*values)) if one.allowed]
    ranked = [one.candidate.epoch for one in rule.rank(kept)]
    if name == "pareto":
        assert ranked == front
    else:
        assert ranked[:count] == whole[:count]


@pytest.mark.parametrize("name", RULES)
def test_few_are_kept(name):
    rows = [(place / 100, 0.5 + place / 1000, 0.5) for place in range(60)]  # better and leakier all the time
    most = {"pareto": 60, "tolerant": 16}.get(name, 1)
    assert len(RULES[name].contenders(several(*rows), 1)) <= most


@pytest.mark.parametrize(
    ("rule", "options", "sentence"),
    [
        (Constrained, {}, "needs a bound"),
        (Constrained, {"subject_to": {LEAKAGE: "0.3"}}, "'0.3' is no bound for audit/dea/off_target_leakage"),
        (Constrained, {"subject_to": {LEAKAGE: "<= 1e"}}, "is no bound"),
        (Constrained, {"subject_to": {LEAKAGE: "<= nan"}}, "'<= nan' is no bound for .*: write what must hold, such as"),
        (Constrained, {"subject_to": {LEAKAGE: "> 0.2 and < 0.4"}}, "is no bound"),
        (Constrained, {"subject_to": {LEAKAGE: 0.35}}, "0.35 is no bound"),
        (Constrained, {"maximize": "a", "minimize": "b", "subject_to": {"a": "> 0"}}, "not both"),
        (Tolerant, {"tolerance": -0.1}, "tolerance must be at least 0"),
        (Tolerant, {"prefer": "audit/dea/drift"}, "which way 'audit/dea/drift' is better"),
        (Weighted, {"weights": {}}, "needs weights"),
        (Pareto, {"objectives": ["val/iou"]}, "at least two"),
        (Pareto, {"objectives": ["val/iou", "audit/drift"]}, "which way 'audit/drift' is better"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(rule: Any, options: dict[str, Any], sentence: str):
    with pytest.raises(ValueError, match=sentence):
        rule(**options)
