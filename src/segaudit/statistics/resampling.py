"""Computes the interval of a ratio of sums by drawing units, each with all its targets."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from segaudit.statistics.arrays import Vector, check, unit_sums
from segaudit.statistics.level import Estimate

#: Number of weights held at once.
_CHUNK = 1 << 22


def ratio(
    top: Vector, bottom: Vector, images: NDArray[Any], units: NDArray[Any], level: float, draws: int, seed: int
) -> Estimate:
    """Compute Σ top / Σ bottom over the targets with its bootstrap interval over units.

    Units are drawn with replacement, each with all its targets (cluster bootstrap; Davison and Hinkley 1997, section 3.8).
    The ends are expanded percentiles (Hesterberg 2015), because plain ones are too narrow for few units.
    """
    pairs = np.stack(check(top, bottom, level, draws), axis=1)
    check(top, units, level, draws)
    scored = ~np.isnan(pairs).any(axis=1)
    sums = unit_sums(pairs[scored], units[scored])
    count, targets = len(sums), int(scored.sum())
    low = high = np.nan
    with np.errstate(divide="ignore", invalid="ignore"):  # nothing / nothing, and infinite scores, are NaN
        above, below = sums.sum(axis=0)
        mean = float(above / below) if below else np.nan
        if count > 1:
            drawn = np.concatenate([weights @ sums for weights in _weights(count, draws, seed)])
            tail = stats.norm.cdf(-np.sqrt(count / (count - 1)) * stats.t.ppf((1 + level) / 2, count - 1))
            least, most = np.quantile(drawn[:, 1], [tail, 1 - tail])
            if least > 0 or most < 0:
                low, high = np.quantile(drawn[:, 0] / drawn[:, 1], [tail, 1 - tail]).tolist()
    counts = len(np.unique(images[scored])), targets, len(scored) - targets, count
    return Estimate(mean, low, high, *counts, 0.0, "" if np.isnan(low) else "bootstrap")


def _weights(units: int, draws: int, seed: int) -> Iterator[Vector]:
    """Yield the number of times that each unit is in each draw, ``(draws, units)``, some draws at a time."""
    rng, step = np.random.default_rng(seed), max(1, _CHUNK // units)
    for start in range(0, draws, step):
        rows = min(step, draws - start)
        drawn = rng.integers(units, size=(rows, units)) + units * np.arange(rows)[:, None]
        yield np.bincount(drawn.ravel(), minlength=rows * units).reshape(rows, units).astype(np.float64)
