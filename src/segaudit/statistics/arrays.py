"""Checks and sorts the arrays that statistics are computed from. All of them are float64."""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

Vector: TypeAlias = NDArray[np.float64]


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


def by_size(rows: Vector) -> NDArray[np.intp]:
    """Sort by size, then by sign: the order is the same for both signs, so that b - a gets the draws of a - b."""
    return np.lexsort((*rows.T, *np.abs(rows).T))


def unit_sums(values: Vector, units: NDArray[Any]) -> Vector:
    """Sum values ``(N, K)`` by unit to ``(U, K)``, in an order that depends neither on the rows nor on the names."""
    order = by_size(values)  # a sum's last bits depend on the order
    values, units = values[order], units[order]
    names, place = np.unique(units, return_inverse=True)
    sums: Vector = np.stack([np.bincount(place, column, minlength=len(names)) for column in values.T], axis=1)
    return sums[by_size(sums)]


def unit_means(values: Vector, units: NDArray[Any]) -> Vector:
    """Average values ``(N,)`` by unit to ``(U,)``, in an order that depends neither on the rows nor on the names."""
    sums = unit_sums(np.stack([values, np.ones_like(values)], axis=1), units)
    means: Vector = sums[:, 0] / sums[:, 1]
    return means[by_size(means[:, None])]
