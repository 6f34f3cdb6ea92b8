"""Thresholds read and compare as Python does."""

import operator
from math import inf, isclose, isfinite, nan
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segaudit.selection import Threshold

COMPARISONS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
SIGNS = st.sampled_from(sorted(COMPARISONS))
FINITE = st.floats(allow_nan=False, allow_infinity=False)
# A coarse grid beside all floats, so that equal numbers are common.
VALUES = st.one_of(st.integers(-10, 10).map(lambda k: k / 10), st.floats())
SPACE = st.sampled_from(["", " ", "  ", "\t"])


@settings(max_examples=500, deadline=None, derandomize=True)
@given(sign=SIGNS, limit=st.one_of(st.integers(-10, 10).map(lambda k: k / 10), FINITE), value=VALUES)
def test_it_holds_where_pythons_comparison_does(sign: str, limit: float, value: float) -> None:
    threshold = Threshold(sign, limit)
    assert threshold.holds(value) == COMPARISONS[sign](value, limit)
    excess = threshold.excess(value)
    if value != value:
        assert excess != excess
    else:
        assert excess == (0 if threshold.holds(value) else abs(value - limit))
        assert excess >= 0


@settings(max_examples=500, deadline=None, derandomize=True)
@given(
    sign=SIGNS, limit=FINITE, around=st.tuples(SPACE, SPACE, SPACE), form=st.sampled_from(["{!r}", "{:+}", "{:e}", "{:E}"])
)
def test_every_way_of_writing_a_number_is_read(sign: str, limit: float, around: tuple[str, str, str], form: str) -> None:
    number = form.format(limit)
    threshold = Threshold.parse(f"{around[0]}{sign}{around[1]}{number}{around[2]}")
    assert threshold == Threshold(sign, float(number))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(sign=SIGNS, limit=FINITE)
def test_its_text_is_read_again(sign: str, limit: float) -> None:
    again = Threshold.parse(str(Threshold(sign, limit)))
    assert again.sign == sign
    assert isclose(again.limit, limit, rel_tol=1e-5)  # six significant digits are written


@settings(max_examples=500, deadline=None, derandomize=True)
@given(text=st.text(alphabet="<>=+-.0123456789eE nainf", max_size=12))
def test_anything_else_is_refused_in_one_sentence(text: str) -> None:
    try:
        threshold = Threshold.parse(text)
    except ValueError as error:
        assert str(error) == f"{text!r} is no threshold: write one of <, <=, > and >=, then a finite number."  # noqa: PT017
    else:
        assert isfinite(threshold.limit)
        sign = text.strip()[:2].rstrip("+-.0123456789 ")
        assert threshold == Threshold(sign, float(text.strip().removeprefix(sign)))


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "0.35", "<=", "< = 0.35", "== 0.35", "=< 0.35", "!= 0.35", "<= nan", "<= inf", ">= -inf", "<= 1e999",
        "<= 1.2.3", "<= 1e", "<= .", "<= 0,35", "<= 0x1", "<= 1_000", "<= ٣", "<= 0.35 0.4", "<= 0.35\n>= 0.1",
        "leakage <= 1", 0.35, None,
    ],
)  # fmt: skip
def test_what_is_no_threshold(text: Any) -> None:
    with pytest.raises(ValueError, match="is no threshold: write one of"):
        Threshold.parse(text)


@pytest.mark.parametrize(("sign", "limit"), [("==", 1.0), ("", 1.0), ("<", nan), ("<", inf)])
def test_what_cannot_be_made(sign: str, limit: float) -> None:
    with pytest.raises(ValueError, match="is no threshold"):
        Threshold(sign, limit)
