"""Computes the interval of a score's mean.

Scores are bounded, often skewed or mostly 0, and images are few. Gaffke's interval (2005) needs a range and nothing else: it
is the Bayesian bootstrap with one more unit at the bound (Learned-Miller and Thomas 2019). It covers the mean at least as
often as it says in all simulations that are known, where bootstrap and t intervals cover too little. There is no proof yet.
It is never degenerate.
"""

from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from segaudit.statistics.arrays import Vector, check, unit_means, vector

#: Lowest and highest possible score; None where there is no such bound.
Range: TypeAlias = tuple[float, float] | None

#: Ranges that :func:`interval` tries, the smallest first.
_USUAL: tuple[tuple[float, float], ...] = ((0.0, 1.0), (-1.0, 1.0))
#: Draws of :func:`level_interval`, and number of weights held at once.
_DRAWS, _CHUNK = 4000, 1 << 21
#: Share of the range by which rounding may put a value outside.
_ROUNDING = 1e-6


class Estimate(NamedTuple):
    """Holds a mean over units and its interval. A unit is an image, or the group of images that the records name.

    Attributes:
        mean: mean over the scored units, each the mean of its targets, which are clipped to the score's range; NaN where
            there is none.
        low: lower end of the interval; NaN where there is none.
        high: upper end of the interval.
        images: number of images with a scored target.
        targets: number of scored targets.
        unscored: number of targets without a score.
        units: number of units with a scored target.
        clipped: share of the scored targets whose value was outside the score's range.
        method: ``gaffke``, ``t`` for a score without a range, or empty where there is no interval.

    """

    mean: float
    low: float
    high: float
    images: int
    targets: int
    unscored: int
    units: int = 0
    clipped: float = 0.0
    method: str = ""


def level_interval(
    values: ArrayLike, units: ArrayLike | None = None, low: float = 0.0, high: float = 1.0, level: float = 0.95
) -> tuple[float, float]:
    """Compute Gaffke's interval of the mean over independent units, each with equal weight.

    Args:
        values: one value per target, ``(N,)``; NaN is left out, and values outside the range are clipped to it.
        units: the unit of each value, ``(N,)``: its image, patient or sequence. Defaults to one unit per value.
        low: lowest possible value.
        high: highest possible value.
        level: share of such intervals that should contain the true mean, in (0, 1).

    Returns:
        Both ends; NaN where there is no value.

    Raises:
        ValueError: if values and units do not pair up, or the range or the level is not one.

    Example:
        >>> low, high = level_interval([0.0] * 12)
        >>> low, 0.2 < high < 0.3
        (0.0, True)

    """
    column = vector(values, "values")
    names = np.arange(len(column)) if units is None else vector(units, "units", dtype=None)
    check(column, names, level)
    bounds = _bounds((low, high))
    if bounds is None:
        raise ValueError(f"low must be below high, and both finite; got {low} and {high}.")
    scored = ~np.isnan(column)
    return _gaffke(unit_means(np.clip(column[scored], *bounds), names[scored]), bounds, level, _DRAWS, 0)


def interval(values: ArrayLike, images: ArrayLike, level: float = 0.95, draws: int = 2000, seed: int = 0) -> Estimate:
    """Compute the mean over images and its interval, for a score whose range is not given.

    The range is the smaller one of [0, 1] and [-1, 1] that holds all values; the interval is then Gaffke's. Give the range
    to :func:`level_interval` where you know it. If neither range holds all values, the interval is Student's t.

    Args:
        values: one value per target, ``(N,)``; NaN where there is none.
        images: name or number of each target's image, ``(N,)``. Every image has equal weight.
        level: share of such intervals that should contain the true mean, in (0, 1).
        draws: number of draws of Gaffke's interval.
        seed: seed of the draws.

    Raises:
        ValueError: if values and images do not pair up, or level or draws are out of their range.

    Example:
        >>> estimate = interval([0.2, 0.4, float("nan"), 0.9], ["a", "a", "a", "b"])
        >>> round(estimate.mean, 6), estimate.images, estimate.targets, estimate.unscored, estimate.method
        (0.6, 2, 3, 1, 'gaffke')

    """
    column, names = vector(values, "values"), vector(images, "images", dtype=None)
    return estimate(column, names, names, usual_range(column), level, draws, seed)


def estimate(
    values: Vector,
    images: NDArray[Any],
    units: NDArray[Any],
    bounds: Range,
    level: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
) -> Estimate:
    """Compute the mean over units and its interval: Gaffke's in a range, else Student's t.

    Args:
        values: one value per target, ``(N,)``; NaN where there is none.
        images: the image of each target, ``(N,)``.
        units: the unit of each target, ``(N,)``.
        bounds: range of the score; None, or an end that is not finite, for none.
        level: level of the interval, in (0, 1).
        draws: number of draws of Gaffke's interval.
        seed: seed of the draws.

    """
    check(values, units, level, draws)
    check(values, images, level)
    scored, bounds = ~np.isnan(values), _bounds(bounds)
    known, clipped = clip(values[scored], bounds)
    means = unit_means(known, units[scored])
    ends, method = (np.nan, np.nan), ""
    if bounds is not None:
        ends, method = _gaffke(means, bounds, level, draws, seed), "gaffke" if len(means) else ""
    elif not np.isnan((ends := t_interval(means, level))[0]):
        method = "t"
    mean = float(means.mean()) if len(means) else np.nan
    counts = len(np.unique(images[scored])), len(known), int((~scored).sum()), len(means)
    return Estimate(mean, *ends, *counts, clipped, method)


def usual_range(values: Vector) -> Range:
    """Return the smaller one of [0, 1] and [-1, 1] that holds all values, or None."""
    known = values[~np.isnan(values)]
    return next((bounds for bounds in _USUAL if clip(known, bounds)[1] == 0), None)


def clip(values: Vector, bounds: Range) -> tuple[Vector, float]:
    """Clip values to a range; also return the share that was outside by more than rounding."""
    if bounds is None or not len(values):
        return values, 0.0
    low, high = bounds
    slack = _ROUNDING * (high - low)
    return np.clip(values, low, high), float(((values < low - slack) | (values > high + slack)).mean())


def t_interval(means: Vector, level: float) -> tuple[float, float]:
    """Compute Student's t interval of the mean over units.

    Both ends are NaN with fewer than two units, and where all units are equal up to rounding: the interval would have no
    width, which would claim certainty.
    """
    count = len(means)
    if count < 2 or not np.isfinite(means).all() or np.ptp(means) <= _ROUNDING * float(np.abs(means).max()):
        return np.nan, np.nan
    centre = float(means.mean())
    half = float(stats.t.ppf((1 + level) / 2, count - 1) * means.std(ddof=1) / np.sqrt(count))
    return centre - half, centre + half


def _bounds(bounds: Range) -> Range:
    """Return a range as floats, or None where it has no two finite ends."""
    if bounds is None or not (np.isfinite(bounds[0]) and np.isfinite(bounds[1]) and bounds[0] < bounds[1]):
        return None
    return float(bounds[0]), float(bounds[1])


def _gaffke(means: Vector, bounds: tuple[float, float], level: float, draws: int, seed: int) -> tuple[float, float]:
    """Return both ends for the means of units, which are sorted here, so that mirrored scores get mirrored ends."""
    if not len(means):
        return np.nan, np.nan
    (low, high), ordered, tail = bounds, np.sort(means), (1 - level) / 2
    # The upper end is the lower end of the mirrored score, with the same weights.
    sides = np.stack([np.append(ordered, low), np.append(-ordered[::-1], -high)], axis=1)
    drawn = _weighted(sides, draws, seed)
    ends = np.quantile(drawn, tail, axis=0)
    return max(low, float(ends[0])), min(high, float(-ends[1]))


def _weighted(sides: Vector, draws: int, seed: int) -> Vector:
    """Return sums of the rows ``(U, 2)`` with weights from a flat Dirichlet distribution, ``(draws, 2)``."""
    units = len(sides)
    if units * draws <= _CHUNK:
        return _weights(units, draws, seed) @ sides
    rng, step = np.random.default_rng(seed), max(1, _CHUNK // units)
    parts = [_dirichlet(rng, min(step, draws - start), units) @ sides for start in range(0, draws, step)]
    return np.concatenate(parts)


@lru_cache(maxsize=32)
def _weights(units: int, draws: int, seed: int) -> Vector:
    return _dirichlet(np.random.default_rng(seed), draws, units)


def _dirichlet(rng: np.random.Generator, draws: int, units: int) -> Vector:
    weights: Vector = rng.standard_exponential((draws, units))
    weights /= weights.sum(axis=1, keepdims=True)
    return weights
