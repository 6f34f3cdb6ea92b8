"""Sign-flip tests of the mean of paired differences (Fisher 1935; Phipson and Smyth 2010).

A test holds its level exactly if each unit's difference is as likely as its opposite where there is no true difference.
That is so where the two sides are exchangeable within every unit.
"""

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike

from segaudit.statistics.arrays import Vector, by_size

#: A permutation test counts all arrangements up to this number, and draws this number if there are more.
PERMUTATIONS = 20_000
#: Number of signs held at once.
_CHUNK = 1 << 22
#: Number of units up to which drawn signs are kept for the next test.
_REMEMBERED = 64
#: Sums that differ by less than this share of the sum of all sizes count as equal. Scores are often float32.
_EQUAL = 1e-6


def p_above(differences: ArrayLike, seed: int = 0) -> float:
    """Return the one-sided p-value of the sign-flip test that the mean of the units' differences is above 0.

    Up to 14 units all flips are counted, so that the p-value is at least ``2 ** -units``. With more, 20,000 flips are drawn,
    and the data count as one of them (Phipson and Smyth 2010), so that it is never 0.

    Args:
        differences: one paired difference per unit, ``(U,)``; NaN is left out.
        seed: seed of the flips.

    Returns:
        The p-value; NaN without differences or with infinite ones.

    Example:
        >>> p_above([0.1, 0.2, 0.3, 0.1, 0.4])
        0.03125

    """
    return _share(differences, seed, two_sided=False)


def flip_test(differences: ArrayLike, seed: int = 0) -> float:
    """Return the two-sided p-value of the sign-flip test; otherwise like :func:`p_above`."""
    return _share(differences, seed, two_sided=True)


def _share(differences: ArrayLike, seed: int, two_sided: bool) -> float:
    """Count the flips whose sum is as extreme as that of the data."""
    # SciPy's permutation_test does the same, forty times slower for hundreds of units.
    values = np.asarray(differences, dtype=np.float64).ravel()
    values = values[~np.isnan(values)]
    if not len(values) or not np.isfinite(values).all():
        return float("nan")
    values = values[by_size(values[:, None])]
    seen = (abs(values.sum()) if two_sided else values.sum()) - _EQUAL * np.abs(values).sum()
    exact = 2 ** len(values) <= PERMUTATIONS
    extreme = 0
    for signs in (_every_sign(len(values)),) if exact else _drawn_signs(len(values), seed):
        sums = signs @ values
        extreme += int(((np.abs(sums) if two_sided else sums) >= seen).sum())
    return extreme / 2 ** len(values) if exact else (1 + extreme) / (1 + PERMUTATIONS)


@lru_cache(maxsize=4)
def _every_sign(units: int) -> Vector:
    """Return all sign patterns, ``(2 ** units, units)``."""
    flipped = (np.arange(2**units)[:, None] >> np.arange(units)) & 1
    return 1.0 - 2.0 * flipped.astype(np.float64)


def _drawn_signs(units: int, seed: int) -> Iterator[Vector]:
    """Yield random sign patterns, ``PERMUTATIONS`` in all, some at a time."""
    if units <= _REMEMBERED:  # audits test the same number of units many times
        yield _signs(units, seed)
        return
    rng, step = np.random.default_rng(seed), max(1, _CHUNK // units)
    for start in range(0, PERMUTATIONS, step):
        yield _some_signs(rng, min(step, PERMUTATIONS - start), units)


@lru_cache(maxsize=4)
def _signs(units: int, seed: int) -> Vector:
    return _some_signs(np.random.default_rng(seed), PERMUTATIONS, units)


def _some_signs(rng: np.random.Generator, draws: int, units: int) -> Vector:
    flipped = rng.integers(2, size=(draws, units), dtype=np.int8)
    return 1.0 - 2.0 * flipped.astype(np.float64)
