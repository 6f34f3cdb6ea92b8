"""Gates."""

import pytest

from segaudit.report.gate import Rule
from segaudit.selection import Candidate, Constrained, Threshold


def part(value, low=None, high=None):
    row = {"explainer": "dea", "score": "off_target_leakage", "mean": value, "low": low, "high": high}
    shared = {"explainer": "dea", "score": "fill_residual", "mean": 0.2, "low": None, "high": None}
    return {"scores": [row, shared]}


@pytest.mark.parametrize(
    ("sign", "broken"),
    [
        ("<", (True, False, False)),
        ("<=", (True, True, False)),
        (">", (False, False, True)),
        (">=", (False, True, True)),
    ],
)
def test_every_sign_below_at_and_above_the_limit(sign, broken):
    rule = Rule.parse(f"dea/off_target_leakage {sign} 0.4")
    assert tuple(bool(rule.broken(part(value))) for value in (0.3, 0.4, 0.5)) == broken


def test_the_sentence_names_the_value_and_its_interval():
    sentence = Rule.parse("dea/off_target_leakage > 0.4").broken(part(0.5, 0.45, 0.55))
    assert sentence == "dea/off_target_leakage is 0.500 (95 % interval 0.450 to 0.550), and the audit fails if it is > 0.4."


def test_an_end_of_the_interval_can_be_tested():
    high, low = (Rule.parse(f"dea/off_target_leakage.{end} > 0.5") for end in ("high", "low"))
    assert (high.explainer, high.score, high.end, high.limit) == ("dea", "off_target_leakage", "high", 0.5)
    assert high.broken(part(0.5, 0.45, 0.55)) == (
        "dea/off_target_leakage is 0.500 (95 % interval 0.450 to 0.550), "
        "and the audit fails if the upper end of the interval is > 0.5."
    )
    assert not low.broken(part(0.5, 0.45, 0.55))
    assert "the lower end" in low.broken(part(0.6, 0.55, 0.7))
    assert "has no 95 % interval" in high.broken(part(0.4))
    assert "could not be scored" in high.broken(part(None))
    low.check({"dea": None}, {"off_target_leakage": False}, [])
    assert Rule.parse("fill_residual.high>=1e-1").broken(part(0.5)).startswith("fill_residual has no 95 % interval")


def test_what_could_not_be_scored_does_not_pass():
    assert "could not be scored" in Rule.parse("dea/off_target_leakage > 0.4").broken(part(None))


def test_a_shared_score_needs_no_explainer():
    rule = Rule.parse("fill_residual>=1e-1")
    rule.check({"dea": None}, {"fill_residual": False}, ["fill_residual"])
    assert rule.broken(part(0.5))


@pytest.mark.parametrize(
    "text",
    [
        "", "dea", "dea/leakage", "dea/leakage == 0.4", "dea/leakage > much", "dea/leakage > 1.2.3", "dea/leakage > nan",
        "dea/leakage < inf", "dea/leakage < 1e999", "a/b/leakage < 1", "> 1", 0.4, None,
        "dea/leakage.mid > 0.4", "dea/leakage. > 0.4",
    ],
)  # fmt: skip
def test_what_is_no_rule(text):
    with pytest.raises(ValueError, match="is no rule: write what must not hold, such as") as error:
        Rule.parse(text)
    assert str(error.value).startswith(repr(text))


def test_a_rule_is_the_opposite_of_a_bound():
    """What fails the gate is what Constrained wants, so that one cannot be copied into the other unnoticed."""
    text = "<= 0.4"
    for value in (0.3, 0.4, 0.5):
        failed = bool(Rule.parse(f"dea/off_target_leakage {text}").broken(part(value)))
        (ranked,) = Constrained(subject_to={"leakage": text}).rank([Candidate("", {"val/iou": 1.0, "leakage": value})])
        assert failed == ranked.allowed == Threshold.parse(text).holds(value)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_score_that_is_no_number_does_not_pass(value):
    assert "could not be scored" in Rule.parse("dea/off_target_leakage > 0.4").broken(part(value))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("lime/stability < 1", "explainer that is not audited; there are dea"),
        ("dea/road < 1", "score that is not computed; there are stability"),
        ("stability < 1", "must say whose stability"),
    ],
)
def test_a_rule_on_what_is_not_audited(text, says):
    with pytest.raises(ValueError, match=says):
        Rule.parse(text).check({"dea": None}, {"stability": True}, [])
