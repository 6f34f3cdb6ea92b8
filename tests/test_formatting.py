"""Numbers, intervals, p-values and directions look alike wherever they are shown."""

from math import inf, nan

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segaudit.formatting import COLOURS, arrow, colour, estimate, interval, number, p_value, percent, with_arrow


@settings(max_examples=500, deadline=None, derandomize=True)
@given(value=st.floats(-1e6, 1e6), digits=st.integers(0, 6))
def test_a_number_has_its_decimals_and_zero_has_no_minus(value: float, digits: int) -> None:
    text = number(value, digits)
    assert text.removeprefix("-") == f"{abs(value):.{digits}f}"
    assert text.startswith("-") == (float(text) < 0)
    assert abs(float(text) - value) <= 0.5000001 * 10**-digits


@pytest.mark.parametrize("value", [None, nan, inf, -inf])
def test_what_is_missing(value: float | None) -> None:
    assert number(value) == "-"
    assert number(value, missing="nan") == "nan"
    assert interval(value, 1.0) == interval(0.0, value, brackets=True) == ""
    assert estimate(value, 0.0, 1.0) == "-"
    assert p_value(value) == "-"


@pytest.mark.parametrize(
    ("value", "text"),
    [(99.9994, "99.999"), (99.9996, "100"), (100, "100"), (-1234.56, "-1235"), (123456, "1.235e+05"), (0, "0.000")],
)
def test_large_numbers_have_four_significant_digits(value: float, text: str) -> None:
    assert number(value, large=100.0) == text


def test_intervals() -> None:
    assert interval(0.1, 0.25) == "0.100 to 0.250"
    assert interval(0.1, 0.25, brackets=True, digits=2) == "[0.10, 0.25]"
    assert interval(-0.0001, 250.04, large=100) == "0.000 to 250"


def test_an_estimates_ends_look_like_its_mean() -> None:
    assert estimate(0.5, 0.4, 0.6) == "0.500 [0.400, 0.600]"
    assert estimate(9.5, 8.25, 10.75, large=10) == "9.500 [8.250, 10.750]"
    assert estimate(10.25, 9.5, 11.125, large=10) == "10.25 [9.5, 11.12]"
    assert estimate(0.5, None, None) == "0.500"


def test_a_p_value_is_never_0() -> None:
    assert [p_value(value) for value in (0.0, 0.0009999, 0.001, 0.0496, 1.0)] == [
        "< 0.001", "< 0.001", "0.001", "0.050", "1.000",
    ]  # fmt: skip
    assert [p_value(value, digits=4) for value in (0.00009, 0.0003)] == ["< 0.0001", "0.0003"]


def test_percent() -> None:
    assert (percent(0.1234), percent(0.1234, 1), percent(-0.001)) == ("12 %", "12.3 %", "0 %")


def test_arrows() -> None:
    assert [arrow(up) for up in (True, False, None)] == ["↑", "↓", ""]
    assert [with_arrow("a", up) for up in (True, False, None)] == ["a ↑", "a ↓", "a"]
    assert [with_arrow("a", up, tex=True) for up in (True, False, None)] == [r"a $\uparrow$", r"a $\downarrow$", "a"]


def test_colours_repeat() -> None:
    assert len(set(COLOURS)) == len(COLOURS)
    assert [colour(place) for place in range(len(COLOURS) + 1)] == [*COLOURS, COLOURS[0]]
