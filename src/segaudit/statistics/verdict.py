"""Decides whether a main explainer is above its controls.

The verdict is *above* only if a sign-flip test rejects for **every** control. This is an intersection-union test (Berger
1982): its level is that of one test, so that nothing is divided by the number of controls. *Below* needs one control that
the explainer loses to, after Bonferroni's adjustment for the number of controls.
"""

from collections.abc import Hashable, Mapping
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from segaudit.statistics.arrays import Vector
from segaudit.statistics.flips import p_above

#: With fewer units no sign-flip test reaches 0.05, because its smallest p-value is ``2 ** -units``.
LEAST_UNITS = 5
#: More units are not promised to be enough: a difference this small may be none.
_MOST_UNITS = 1000
_ALPHA, _POWER = 0.05, 0.8

_Unit = TypeVar("_Unit", bound=Hashable)


def verdict(differences: Mapping[str, ArrayLike], seed: int = 0) -> tuple[str, int | None]:
    """Decide whether a main explainer is above its controls, below one, or neither can be told.

    Where main and control are exchangeable, ``above`` comes wrongly in at most 5 % of audits, and so does ``below``. The
    test is about means of units that are as likely to win as to lose. If a few units lose much and most win a little,
    ``above`` means *on most units*; see :func:`losses`.

    Args:
        differences: by control, one paired difference main minus control per unit, oriented so that above 0 is better;
            NaN is left out.
        seed: seed of the flips, of which all are counted with up to 14 units.

    Returns:
        The outcome, ``above``, ``below`` or ``cannot tell``. And the number of units that would be enough for ``above`` with
        a power of 0.8 if the difference stays as it looks; None where the outcome is clear or no number is.

    Example:
        >>> verdict({"random": [0.4, 0.3, 0.5, 0.6, 0.2], "edges": [0.1, 0.2, 0.1, 0.3, 0.1]})
        ('above', None)
        >>> verdict({"random": [0.4, -0.3, 0.5, 0.6, 0.2]})
        ('cannot tell', 12)

    """
    columns = {name: _known(values) for name, values in differences.items()}
    if not columns:
        return "cannot tell", None
    fewest = min(map(len, columns.values()))
    if fewest >= LEAST_UNITS:
        ups = {name: p_above(values, seed) for name, values in columns.items()}
        if all(p <= _ALPHA for p in ups.values()):
            return "above", None
        if any(p_above(-values, seed) * len(columns) <= _ALPHA for values in columns.values()):
            return "below", None
        open_ = [units_needed(values) for name, values in columns.items() if not ups[name] <= _ALPHA]
        return "cannot tell", None if None in open_ else max(filter(None, open_))
    known = [needed for values in columns.values() if (needed := units_needed(values)) is not None]
    return "cannot tell", max([LEAST_UNITS, *known])


def units_needed(differences: ArrayLike) -> int | None:
    """Return how many units a one-sided test at 5 % needs for a power of 0.8, if mean and spread stay as they look.

    This is the usual formula for a paired test with a correction for few units (Guenther 1981). It is at least one more than
    there are.

    Args:
        differences: one paired difference per unit, ``(U,)``; NaN is left out.

    Returns:
        The number, at least 5; None where the mean is not above 0, the spread is not known or 1000 would not do.

    """
    values = _known(differences)
    if len(values) < 2 or not np.isfinite(values).all() or values.mean() <= 0:
        return None
    alpha, power = stats.norm.ppf([1 - _ALPHA, _POWER])
    needed = ((alpha + power) * values.std(ddof=1) / values.mean()) ** 2 + alpha**2 / 2
    if needed > _MOST_UNITS:
        return None
    return max(LEAST_UNITS, len(values) + 1, int(np.ceil(needed)))


def losses(differences: Mapping[_Unit, float]) -> list[_Unit]:
    """Name the units that lose strongly while most win: those that a reader should look at before trusting the mean.

    A unit loses strongly if it is below 0 by more than three times the median size of all differences.

    Args:
        differences: paired difference by unit; above 0 is better; NaN is left out.

    Returns:
        The units, the strongest loss first; none unless more than half of the units win.

    Example:
        >>> losses({"a": 0.1, "b": 0.2, "c": 0.1, "d": 0.1, "e": -0.9})
        ['e']

    """
    known = {name: value for name, value in differences.items() if not np.isnan(value)}
    values = np.array(list(known.values()), dtype=np.float64)
    if not len(values) or (values > 0).mean() <= 0.5:
        return []
    limit = -3 * float(np.median(np.abs(values)))
    return sorted((name for name, value in known.items() if value < limit), key=lambda name: known[name])


def _known(values: ArrayLike) -> Vector:
    column = np.asarray(values, dtype=np.float64).ravel()
    return column[~np.isnan(column)]
