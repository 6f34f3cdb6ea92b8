"""Formats numbers, intervals, p-values and directions for people, alike in every table, page, plot and sentence."""

from math import inf, isfinite

#: Line colours of plots, in the order in which lines take them. Grey is for controls.
COLOURS = ("#1f6fb4", "#d9660a", "#23883a", "#c32c35", "#7c4fb8", "#84584d", "#c4519f", "#8d8f14", "#0f8f9e")

_ARROWS = {True: "↑", False: "↓", None: ""}
_TEX_ARROWS = {True: r"$\uparrow$", False: r"$\downarrow$", None: ""}


def colour(place: int) -> str:
    """Return the colour of the line at a place; colours repeat after the last."""
    return COLOURS[place % len(COLOURS)]


def arrow(higher_is_better: bool | None, tex: bool = False) -> str:
    """Return the arrow of a direction, or an empty string where neither direction is better."""
    return (_TEX_ARROWS if tex else _ARROWS)[higher_is_better]


def with_arrow(name: str, higher_is_better: bool | None, tex: bool = False) -> str:
    r"""Return a name and the arrow of its direction.

    Example:
        >>> with_arrow("stability", True), with_arrow("cue mass", None), with_arrow("leakage", False, tex=True)
        ('stability ↑', 'cue mass', 'leakage $\\downarrow$')

    """
    return f"{name} {arrow(higher_is_better, tex)}".rstrip() if higher_is_better is not None else name


def number(value: float | None, digits: int = 3, large: float = inf, signed: bool = False, missing: str = "-") -> str:
    """Format a number; a zero has no minus.

    Args:
        value: None, NaN and infinities are missing.
        digits: decimals.
        large: numbers of this size and above get four significant digits instead.
        signed: whether a plus is written too.
        missing: stands for a missing number.

    Example:
        >>> number(0.41234), number(-0.0001), number(1234.5678, large=100), number(0.1, signed=True), number(None)
        ('0.412', '0.000', '1235', '+0.100', '-')

    """
    if value is None or not isfinite(value):
        return missing
    sign, rounded = "+" if signed else "", round(value, digits) + 0.0  # -0.0 + 0.0 is 0.0
    return f"{value:{sign}.4g}" if abs(rounded) >= large else f"{rounded:{sign}.{digits}f}"


def interval(low: float | None, high: float | None, brackets: bool = False, digits: int = 3, large: float = inf) -> str:
    """Format an interval as ``0.391 to 0.433`` or ``[0.391, 0.433]``; an empty string where an end is missing.

    Args:
        low: lower end.
        high: upper end.
        brackets: chooses the form.
        digits: as for :func:`number`.
        large: as for :func:`number`.

    """
    if low is None or high is None or not (isfinite(low) and isfinite(high)):
        return ""
    ends = number(low, digits, large), number(high, digits, large)
    return f"[{ends[0]}, {ends[1]}]" if brackets else f"{ends[0]} to {ends[1]}"


def estimate(mean: float | None, low: float | None, high: float | None, large: float = inf) -> str:
    """Format a mean and its interval, whose ends look like the mean.

    Args:
        mean: missing as for :func:`number`.
        low: lower end.
        high: upper end.
        large: means of this size and above, and their ends, get four significant digits.

    Example:
        >>> estimate(0.412, 0.391, 0.433), estimate(64.0, 9.5, 70.0, large=10), estimate(0.4, None, None)
        ('0.412 [0.391, 0.433]', '64 [9.5, 70]', '0.400')

    """
    if mean is None or not isfinite(mean):
        return number(mean)
    large = 0.0 if abs(mean) >= large else inf
    return f"{number(mean, large=large)} {interval(low, high, brackets=True, large=large)}".rstrip()


def percent(share: float, digits: int = 0) -> str:
    """Format a share in percent.

    Example:
        >>> percent(0.127, digits=1), percent(-0.2)
        ('12.7 %', '-20 %')

    """
    return f"{number(100 * share, digits)} %"


def p_value(value: float | None, digits: int = 3) -> str:
    """Format a p-value; one that would be rounded to 0 is ``< 0.001``.

    Example:
        >>> p_value(0.0321), p_value(0.0004), p_value(0.00004, digits=4), p_value(None)
        ('0.032', '< 0.001', '< 0.0001', '-')

    """
    least = 10.0**-digits
    return f"< {least:.{digits}f}" if value is not None and 0 <= value < least else number(value, digits)
