"""Says what the best of many candidates is worth: the best one looks better than it is, because it was chosen by its score.

The remedy is old: choose on some units, read on others (Stone 1974, on cross-validation).
"""

import numpy as np
from numpy.typing import ArrayLike

from segaudit.statistics.arrays import by_size

#: Random halvings of the units; each is used in both directions.
_SPLITS = 200


def resplit(table: ArrayLike, eligible: ArrayLike | None = None, sign: int = -1, seed: int = 0) -> tuple[int, float]:
    """Choose the best candidate on all units, and estimate its mean on other units.

    The estimate chooses on one half of the units and reads the score of that choice on the other, over 200 random halvings.
    It does not depend on the order of the units.

    Args:
        table: score by candidate and unit, ``(K, U)``. NaN is left out of means; adjust the table first where many are.
        eligible: whether a candidate may be chosen, ``(K,)``. Defaults to all.
        sign: 1 if higher is better, -1 if lower is.
        seed: seed of the halvings.

    Returns:
        The chosen candidate's place in the table, and what to expect of it on other units; NaN with fewer than two units.

    Raises:
        ValueError: if the shapes do not fit, or no eligible candidate has a score.

    Example:
        >>> chosen, expected = resplit([[0.5, 0.5, 0.5, 0.5], [0.1, 0.3, 0.1, 0.3], [0.3, 0.1, 0.3, 0.1]])
        >>> chosen, round(expected, 2)
        (1, 0.23)

    """
    scores = np.asarray(table, dtype=np.float64)
    if scores.ndim != 2:
        raise ValueError(f"the table must have two dimensions, candidates and units; got the shape {scores.shape}.")
    allowed = np.ones(len(scores), dtype=bool) if eligible is None else np.asarray(eligible, dtype=bool)
    if allowed.shape != (len(scores),):
        raise ValueError(f"eligible must have one entry for each of {len(scores)} candidates, got {allowed.shape}.")
    if sign not in (1, -1):
        raise ValueError(f"sign must be 1 or -1, got {sign}.")
    places = np.flatnonzero(allowed & ~np.isnan(scores).all(axis=1))
    if not len(places):
        raise ValueError("no eligible candidate has a score, so none can be chosen.")
    rows = scores[places]
    rows = rows[:, by_size(rows.T)] if rows.shape[1] else rows
    known, filled = (~np.isnan(rows)).astype(np.float64), np.nan_to_num(rows)
    units = rows.shape[1]
    chosen = int(places[np.argmax(sign * filled.sum(axis=1) / known.sum(axis=1))])
    if units < 2:
        return chosen, float("nan")
    rng = np.random.default_rng(seed)
    half = np.argsort(rng.random((_SPLITS, units)), axis=1) < units // 2
    half = np.concatenate([half, ~half]).astype(np.float64)  # (splits, units)
    with np.errstate(invalid="ignore", divide="ignore"):
        means = (half @ filled.T) / (half @ known.T)  # (splits, candidates); NaN where none of the half is known
    seen, other = means, np.roll(means, _SPLITS, axis=0)  # the other half of each split is _SPLITS rows away
    best = np.argmax(np.where(np.isnan(seen), -np.inf, sign * seen), axis=1)
    read = np.take_along_axis(other, best[:, None], axis=1)[:, 0]
    return chosen, float(np.nanmean(read)) if (~np.isnan(read)).any() else float("nan")
