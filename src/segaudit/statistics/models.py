"""Measures the association of two properties of models, for small numbers of models."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, stats

from segaudit.statistics.arrays import Vector, check, vector
from segaudit.statistics.flips import PERMUTATIONS

#: Largest number of models for which all permutations of the labels are counted.
_EXACT = 100


class Association(NamedTuple):
    """Holds the association of two properties of models.

    Attributes:
        value: AUROC or correlation; NaN where it is not defined.
        low: lower end of the interval; NaN where the data cannot tell.
        high: upper end of the interval.
        models: number of models that were used.
        unscored: number of models that were left out for a NaN.
        p_value: two-sided p-value of the permutation test; NaN where there is nothing to test.

    """

    value: float
    low: float
    high: float
    models: int
    unscored: int
    p_value: float


def auroc(scores: ArrayLike, labels: ArrayLike, level: float = 0.95) -> Association:
    """Compute the AUROC: the share of pairs in which the positive scores higher than the negative. Ties count one half.

    0.5 is chance. The interval is Newcombe's score interval (2006, part 2, method 5), not a bootstrap: after perfect
    separation every bootstrap sample has an AUROC of 1, and an interval of [1, 1] would claim certainty from ten models.

    The p-value belongs to a permutation test of the rank sum. It is exact for up to 100 models, ties included. With more
    models it is a normal approximation.

    Args:
        scores: one score per model, ``(N,)``; NaN where there is none.
        labels: True or 1 for positives, ``(N,)``.
        level: level of the interval, in (0, 1).

    Raises:
        ValueError: if scores and labels do not pair up, or a label is not 0 or 1.

    Example:
        >>> found = auroc([0.1, 0.4, 0.4, 0.8, 0.9], [0, 0, 1, 1, 1])
        >>> round(found.value, 3), round(found.low, 2), round(found.high, 2), round(found.p_value, 3)
        (0.917, 0.37, 0.99, 0.3)

    """
    column, marks = vector(scores, "scores"), vector(labels, "labels")
    check(column, marks, level)
    if not np.isin(marks, (0, 1)).all():
        raise ValueError("labels must be 0 or 1, or False or True.")
    known = ~np.isnan(column)
    ranks, positive = stats.rankdata(column[known]), marks[known] == 1
    ups, downs = int(positive.sum()), int((~positive).sum())
    if not ups or not downs:
        return Association(np.nan, np.nan, np.nan, len(ranks), int((~known).sum()), np.nan)
    value = float((ranks[positive].mean() - (ups + 1) / 2) / downs)
    low, high = _newcombe(value, ups, downs, level), 1 - _newcombe(1 - value, ups, downs, level)
    return Association(value, low, high, len(ranks), int((~known).sum()), _rank_sum_test(ranks, positive))


def spearman(a: ArrayLike, b: ArrayLike, level: float = 0.95, draws: int = 2000, seed: int = 0) -> Association:
    """Compute Spearman's rank correlation, in [-1, 1], with a percentile bootstrap interval over the pairs.

    Args:
        a: one value per model, ``(N,)``; NaN where there is none.
        b: the other values, ``(N,)``.
        level: level of the interval, in (0, 1).
        draws: number of bootstrap samples.
        seed: seed of the samples, and of the permutations if there are too many to count.

    Returns:
        The association. Its value is NaN where one side is constant. The ends are NaN where the correlation is 1 or -1:
        all bootstrap samples then agree, so that only the p-value tells how certain the correlation is.

    Raises:
        ValueError: if a and b do not pair up.

    """
    pairs = np.stack(check(vector(a, "a"), vector(b, "b"), level, draws))
    known = ~np.isnan(pairs).any(axis=0)
    unscored, pairs = int((~known).sum()), pairs[:, known]
    pairs = pairs[:, np.lexsort(pairs)]  # so that draws do not depend on the order of the pairs
    count = pairs.shape[1]
    value = float(_rank_correlation(*pairs)) if count else np.nan
    if np.isnan(value):
        return Association(value, np.nan, np.nan, count, unscored, np.nan)
    ranks = stats.rankdata(pairs, axis=1)
    test = stats.permutation_test(
        (ranks[0],),
        lambda x, axis: (x * ranks[1]).sum(axis),
        permutation_type="pairings",
        n_resamples=PERMUTATIONS,
        vectorized=True,
        random_state=np.random.default_rng(seed),
    )
    low = high = np.nan
    if abs(value) < 1 - 1e-12:
        drawn = pairs[:, np.random.default_rng(seed).integers(count, size=(draws, count))]
        low, high = np.nanquantile(_rank_correlation(*drawn), [(1 - level) / 2, (1 + level) / 2]).tolist()
    return Association(value, low, high, count, unscored, float(test.pvalue))


def _newcombe(value: float, positives: int, negatives: int, level: float) -> float:
    """Return the lower end: the smallest AUROC from which the observed one is at most z standard errors away."""
    z, size = stats.norm.ppf((1 + level) / 2), (positives + negatives) / 2 - 1

    def beyond(true: float) -> float:
        variance = true * (1 - true) * (1 + size * (1 - true) / (2 - true) + size * true / (1 + true))
        return float(value - true - z * np.sqrt(variance / (positives * negatives)))

    return float(optimize.brentq(beyond, 0.0, min(value, 1 - 1e-9))) if value else 0.0  # 1 itself always solves it


def _rank_sum_test(ranks: Vector, positive: NDArray[np.bool_]) -> float:
    """Return the two-sided p-value of the positives' rank sum over all permutations of the labels."""
    # SciPy's exact Mann-Whitney test does not allow ties, and its permutation test does not allow a group of one.
    if len(ranks) > _EXACT:
        return float(stats.mannwhitneyu(ranks[positive], ranks[~positive], method="asymptotic").pvalue)
    twice = np.rint(2 * ranks).astype(int)  # tied ranks are halves
    ways = np.zeros((positive.sum() + 1, twice.sum() + 1))  # number of sets by size and rank sum
    ways[0, 0] = 1
    for rank in twice:
        ways[1:, rank:] += ways[:-1, :-rank].copy()
    apart = np.abs(np.arange(ways.shape[1]) - positive.sum() * twice.mean())
    extreme = apart >= apart[twice[positive].sum()] - 1e-9
    return float(ways[-1, extreme].sum() / ways[-1].sum())


def _rank_correlation(a: Vector, b: Vector) -> Vector:
    """Correlate ranks along the last dimension; NaN where a side is constant."""
    ranks = [stats.rankdata(side, axis=-1) for side in (a, b)]
    a, b = (side - side.mean(axis=-1, keepdims=True) for side in ranks)
    with np.errstate(invalid="ignore"):
        return np.asarray((a * b).sum(axis=-1) / np.sqrt((a**2).sum(axis=-1) * (b**2).sum(axis=-1)))
