"""Computes intervals and tests by drawing images, each with all its targets."""

from collections.abc import Iterator
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

Vector: TypeAlias = NDArray[np.float64]

#: A permutation test counts all arrangements up to this number, and draws this number if there are more.
PERMUTATIONS = 20_000
#: Number of weights held at once.
_CHUNK = 1 << 22


class Estimate(NamedTuple):
    """Holds a mean over targets and its interval.

    Attributes:
        mean: mean over the scored targets; NaN where there is none.
        low: lower end of the interval; NaN with fewer than two scored images.
        high: upper end of the interval.
        images: number of images with a scored target.
        targets: number of scored targets.
        unscored: number of targets without a score.

    """

    mean: float
    low: float
    high: float
    images: int
    targets: int
    unscored: int


def interval(values: ArrayLike, images: ArrayLike, level: float = 0.95, draws: int = 2000, seed: int = 0) -> Estimate:
    """Compute the mean over targets and its bootstrap interval over images.

    Images are drawn with replacement, each with all its targets (cluster bootstrap; Davison and Hinkley 1997, section
    3.8). The ends are expanded percentiles (Hesterberg 2015), because plain ones are too narrow for few images.

    Args:
        values: one value per target, ``(N,)``; NaN where there is none.
        images: name or number of each target's image, ``(N,)``.
        level: share of such intervals that should contain the true mean, in (0, 1).
        draws: number of bootstrap samples.
        seed: seed of the samples.

    Raises:
        ValueError: if values and images do not pair up, or level or draws are out of their range.

    Example:
        >>> estimate = interval([0.2, 0.4, float("nan"), 0.9], ["a", "a", "a", "b"])
        >>> round(estimate.mean, 6), estimate.images, estimate.targets, estimate.unscored
        (0.5, 2, 3, 1)

    """
    column = vector(values, "values")
    return ratio(column, np.ones_like(column), vector(images, "images", dtype=None), level, draws, seed)


def holm(p_values: ArrayLike) -> Vector:
    """Adjust the p-values ``(N,)`` of a family of tests (Holm 1979). NaN stays NaN and is not in the family.

    If every test with an adjusted p-value of at most 0.05 is rejected, the probability of any false rejection is at most
    5 %, whatever the dependence between the tests.

    Example:
        >>> holm([0.01, 0.04, 0.03]).tolist()
        [0.03, 0.06, 0.06]

    """
    adjusted = vector(p_values, "p_values").copy()
    known = np.flatnonzero(~np.isnan(adjusted))
    if ((adjusted[known] < 0) | (adjusted[known] > 1)).any():
        raise ValueError("p_values must be in [0, 1].")
    order = known[np.argsort(adjusted[known], kind="stable")]
    steps = adjusted[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return adjusted


def ratio(top: Vector, bottom: Vector, images: NDArray[Any], level: float, draws: int, seed: int) -> Estimate:
    """Compute Σ top / Σ bottom over the targets with its bootstrap interval over images; a mean where bottom is 1."""
    pairs = np.stack(check(top, bottom, level, draws), axis=1)
    check(top, images, level, draws)
    scored = ~np.isnan(pairs).any(axis=1)
    sums = image_sums(pairs[scored], images[scored])
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
    return Estimate(mean, low, high, count, targets, len(scored) - targets)


def flip_test(sums: Vector, seed: int) -> float:
    """Return the two-sided p-value of the sum over images ``(I,)`` under random signs."""
    # SciPy's permutation_test does the same, forty times slower for hundreds of images.
    if not len(sums) or not np.isfinite(sums).all():
        return float("nan")
    seen = abs(sums.sum()) - 1e-12 * np.abs(sums).sum()  # equal up to rounding is as extreme
    if 2 ** len(sums) <= PERMUTATIONS:
        flipped = (np.arange(2 ** len(sums))[:, None] >> np.arange(len(sums))) & 1
        return float((np.abs((1 - 2 * flipped) @ sums) >= seen).mean())
    rng, step, extreme = np.random.default_rng(seed), max(1, _CHUNK // len(sums)), 0
    for start in range(0, PERMUTATIONS, step):
        flipped = rng.integers(2, size=(min(step, PERMUTATIONS - start), len(sums)), dtype=np.int8)
        extreme += int((np.abs((1.0 - 2.0 * flipped) @ sums) >= seen).sum())
    return (1 + extreme) / (1 + PERMUTATIONS)


def image_sums(values: Vector, images: NDArray[Any]) -> Vector:
    """Sum values ``(N, K)`` by image to ``(I, K)``, in an order that depends neither on the rows nor on the names."""
    values, images = values[_order(values)], images[_order(values)]  # a sum's last bits depend on the order
    names, place = np.unique(images, return_inverse=True)
    sums: Vector = np.stack([np.bincount(place, column, minlength=len(names)) for column in values.T], axis=1)
    return sums[_order(sums)]


def _order(rows: Vector) -> NDArray[np.intp]:
    """Sort by size, then by sign: the order is the same for both signs, so that b - a gets the draws of a - b."""
    return np.lexsort((*rows.T, *np.abs(rows).T))


def _weights(images: int, draws: int, seed: int) -> Iterator[Vector]:
    """Yield the number of times that each image is in each draw, ``(draws, images)``, some draws at a time."""
    rng, step = np.random.default_rng(seed), max(1, _CHUNK // images)
    for start in range(0, draws, step):
        rows = min(step, draws - start)
        drawn = rng.integers(images, size=(rows, images)) + images * np.arange(rows)[:, None]
        yield np.bincount(drawn.ravel(), minlength=rows * images).reshape(rows, images).astype(np.float64)


def vector(values: ArrayLike, name: str, dtype: type[np.float64] | None = np.float64) -> NDArray[Any]:
    """Return an array of one dimension, of numbers unless ``dtype`` is None; ``name`` is for the error."""
    array = np.asarray(values, dtype=dtype)
    if array.ndim != 1:
        raise ValueError(f"{name} must have one dimension, got the shape {array.shape}.")
    return array


def check(a: NDArray[Any], b: NDArray[Any], level: float, draws: int = 1) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return two arrays unchanged; raise if they do not pair up, or level or draws are out of their range."""
    if len(a) != len(b):
        raise ValueError(f"two sequences must pair up, but one has {len(a)} entries and the other {len(b)}.")
    if not 0 < level < 1:
        raise ValueError(f"level is the share of intervals that contain the truth, in (0, 1); got {level}.")
    if draws < 1:
        raise ValueError(f"draws must be at least 1, got {draws}.")
    return a, b
