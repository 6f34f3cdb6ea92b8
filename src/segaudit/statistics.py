"""How sure are we: intervals and tests for the records of an audit.

Targets of one image are not independent of each other, so images are what is drawn and flipped here, all their targets
together. A target without a score (NaN) is left out and counted. No result depends on the order of the records or on the
images' names; the same seed gives the same figures.

Records are what :meth:`segaudit.Auditor.records` gives, or its Parquet file read as a list of dictionaries; every key with
a floating-point value is a score, except ``area``.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, stats

Records: TypeAlias = Sequence[Mapping[str, Any]]
_Array: TypeAlias = NDArray[np.float64]

#: A permutation test counts all arrangements where there are no more than this, and draws as many where there are more.
PERMUTATIONS = 20_000


class Estimate(NamedTuple):
    """A mean over targets and its interval.

    Attributes:
        mean: over the scored targets; NaN where there is none.
        low: lower end of the interval; NaN with fewer than two scored images.
        high: upper end.
        images: how many images have a scored target.
        targets: how many targets are scored.
        unscored: how many targets are not.

    """

    mean: float
    low: float
    high: float
    images: int
    targets: int
    unscored: int


class Difference(NamedTuple):
    """A paired mean difference, its interval and its test.

    Attributes:
        mean: over the targets that both sides have scored; NaN where there is none.
        low: lower end of the interval; NaN with fewer than two such images.
        high: upper end.
        images: how many images have a target that both sides have scored.
        targets: how many targets both sides have scored.
        unscored: how many targets both sides have, but without a score on one of them.
        p_value: two-sided, of the sign-flip test; NaN where there is nothing to test.
        unmatched: how many targets only one side has.

    """

    mean: float
    low: float
    high: float
    images: int
    targets: int
    unscored: int
    p_value: float
    unmatched: int


class Association(NamedTuple):
    """How two properties of models, or of other single things, go together.

    Attributes:
        value: the AUROC or the correlation; NaN where it is not defined.
        low: lower end of the interval; NaN where the data cannot tell.
        high: upper end.
        models: how many were used.
        unscored: how many were left out for a NaN.
        p_value: two-sided, of the permutation test; NaN where there is nothing to test.

    """

    value: float
    low: float
    high: float
    models: int
    unscored: int
    p_value: float


def interval(values: ArrayLike, images: ArrayLike, level: float = 0.95, draws: int = 2000, seed: int = 0) -> Estimate:
    """Mean over targets and its bootstrap interval over images.

    Images are drawn with replacement, each with all its targets (cluster bootstrap; Davison and Hinkley 1997, section
    3.8). The ends are expanded percentiles (Hesterberg 2015): plain ones are too narrow for few images.

    Args:
        values: one a target, ``(N,)``; NaN where there is none.
        images: the name or number of each target's image, ``(N,)``.
        level: how often such intervals should hold the true mean, in (0, 1).
        draws: how many bootstrap samples.
        seed: of the draws.

    Raises:
        ValueError: if values and images do not pair up, or level or draws make no sense.

    Example:
        >>> estimate = interval([0.2, 0.4, float("nan"), 0.9], ["a", "a", "a", "b"])
        >>> round(estimate.mean, 6), estimate.images, estimate.targets, estimate.unscored
        (0.5, 2, 3, 1)

    """
    column = _vector(values, "values")
    return _ratio(column, np.ones_like(column), _vector(images, "images", dtype=None), level, draws, seed)


def summary(
    records: Records, by_class: bool = False, level: float = 0.95, draws: int = 2000, seed: int = 0
) -> dict[tuple[Any, ...], Estimate]:
    """The :func:`interval` of every score by ``(explainer, score)``, or by ``(explainer, score, class_index)``.

    Args:
        records: of one audit; none give an empty dictionary.
        by_class: whether each class is on its own.
        level: of the intervals.
        draws: of the bootstrap.
        seed: of the draws.

    """
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for row in records:
        groups.setdefault((row["explainer"], row["class_index"]) if by_class else (row["explainer"],), []).append(row)
    return {
        (explainer, score, *rest): interval(
            [_number(row, score) for row in rows], [row["sample_id"] for row in rows], level, draws, seed
        )
        for (explainer, *rest), rows in groups.items()
        for score in _scores(rows)
    }


def difference(
    records: Records, one: str, other: str, score: str, level: float = 0.95, draws: int = 2000, seed: int = 0
) -> Difference:
    """Mean of ``one`` explainer's score less that of the ``other``, over the targets that both have scored.

    The test flips the sign of all differences of an image at once. It holds exactly if, were there no difference, the
    two explainers could be swapped for any image. Up to 14 images all flips are counted, with more 20,000 are drawn (and
    the data count as one of them: Phipson and Smyth 2010).

    Args:
        records: of one audit.
        one: an explainer.
        other: the explainer that it is compared with.
        score: the score's name.
        level: of the interval.
        draws: of the bootstrap.
        seed: of the draws and flips.

    Raises:
        ValueError: if there are records, but none of an explainer or of the score.

    """
    return _paired(_aligned([_of(records, one, score), _of(records, other, score)]), level, draws, seed)


def compare(
    records_a: Records, records_b: Records, level: float = 0.95, draws: int = 2000, seed: int = 0
) -> dict[tuple[str, str], Difference]:
    """Mean of ``records_a`` less ``records_b``, two checkpoints say, by ``(explainer, score)``; as :func:`difference`.

    A target is one class of one image. Its region may have changed from one checkpoint to the other. Only the explainers
    and scores that both sides have are compared; ``unmatched`` counts the targets of one side alone.

    These are many tests at once: see :func:`holm`.

    Args:
        records_a: of one audit.
        records_b: of the other, on images of the same names.
        level: of the intervals.
        draws: of the bootstrap.
        seed: of the draws and flips.

    Raises:
        ValueError: if one side has a class of an image twice, because images share a name.

    """
    sides = [_by_explainer(records) for records in (records_a, records_b)]
    found = {}
    for explainer in (name for name in sides[0] if name in sides[1]):
        rows_a, rows_b = (side[explainer] for side in sides)
        for score in (name for name in _scores(rows_a) if name in _scores(rows_b)):
            tables = [_table(rows, score, "sample_id", "class_index") for rows in (rows_a, rows_b)]
            if twice := next((key for table in tables for key in table if key[-1]), None):
                raise ValueError(
                    f"class {twice[1]} of the image {twice[0]!r} is there twice on one side, so that it is unclear what to "
                    "compare it with: give every image a sample_id of its own."
                )
            found[explainer, score] = _paired(_aligned(tables), level, draws, seed)
    return found


def relative(
    records: Records,
    score: str,
    explainer: str,
    control: str = "random",
    ceiling: str | None = None,
    level: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
) -> Estimate:
    """An explainer's score relative to a control, or to two: 0 is as good as the control, 1 as good as the ceiling.

    Without a ceiling, the mean of explainer less control. With one, Σ(explainer − control) / Σ(ceiling − control) over
    the targets: a ratio of means, since single targets may divide by nearly nothing. It reads the same for scores of
    which lower is better.

    Args:
        records: of one audit.
        score: the score's name.
        explainer: which is judged.
        control: the explainer that is the low end.
        ceiling: the explainer that is the high end, ``target_mask`` say.
        level: of the interval.
        draws: of the bootstrap.
        seed: of the draws.

    Returns:
        Over the targets that all of them have scored; the ends are NaN where control and ceiling cannot be told apart,
        that is where the interval of their own difference holds 0.

    Raises:
        ValueError: if there are records, but none of an explainer or of the score.

    """
    ends = [control] if ceiling is None else [control, ceiling]
    values, images, _ = _aligned([_of(records, name, score) for name in (explainer, *ends)])
    above = values[:, 0] - values[:, 1]
    span = np.ones_like(above) if ceiling is None else values[:, 2] - values[:, 1]
    return _ratio(above, span, images, level, draws, seed)


def holm(p_values: ArrayLike) -> _Array:
    """p-values ``(N,)`` adjusted for being a family of N (Holm 1979); NaN stays NaN and is no member.

    Reject what is at most 0.05, and the chance of one or more false rejections is at most 5 %, however the tests depend
    on each other.

    Example:
        >>> holm([0.01, 0.04, 0.03]).tolist()
        [0.03, 0.06, 0.06]

    """
    adjusted = _vector(p_values, "p_values").copy()
    known = np.flatnonzero(~np.isnan(adjusted))
    if ((adjusted[known] < 0) | (adjusted[known] > 1)).any():
        raise ValueError("p_values must be in [0, 1].")
    order = known[np.argsort(adjusted[known], kind="stable")]
    steps = adjusted[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return adjusted


def auroc(scores: ArrayLike, labels: ArrayLike, level: float = 0.95) -> Association:
    """How often a positive scores higher than a negative, ties counting one half; 0.5 is chance.

    The interval is Newcombe's score interval (2006, part 2, method 5). We do not bootstrap: after perfect separation every
    draw has an AUROC of 1, so that an interval of [1, 1] would claim certainty from ten models.

    The p-value is that of the rank sum when the labels are dealt anew: exact, ties and all, up to 100 models; with more,
    the normal approximation.

    Args:
        scores: one a model, ``(N,)``; NaN where there is none.
        labels: True or 1 for positives, ``(N,)``.
        level: of the interval.

    Raises:
        ValueError: if scores and labels do not pair up, or a label is not 0 or 1.

    Example:
        >>> found = auroc([0.1, 0.4, 0.4, 0.8, 0.9], [0, 0, 1, 1, 1])
        >>> round(found.value, 3), round(found.low, 2), round(found.high, 2), round(found.p_value, 3)
        (0.917, 0.37, 0.99, 0.3)

    """
    column, marks = _vector(scores, "scores"), _vector(labels, "labels")
    _check(column, marks, level)
    if not np.isin(marks, (0, 1)).all():
        raise ValueError("labels must be 0 or 1, or False or True.")
    kept = ~np.isnan(column)
    ranks, positive = stats.rankdata(column[kept]), marks[kept] == 1
    ups, downs = int(positive.sum()), int((~positive).sum())
    if not ups or not downs:
        return Association(np.nan, np.nan, np.nan, len(ranks), int((~kept).sum()), np.nan)
    value = float((ranks[positive].mean() - (ups + 1) / 2) / downs)
    low, high = _newcombe(value, ups, downs, level), 1 - _newcombe(1 - value, ups, downs, level)
    return Association(value, low, high, len(ranks), int((~kept).sum()), _rank_sum_test(ranks, positive))


def spearman(a: ArrayLike, b: ArrayLike, level: float = 0.95, draws: int = 2000, seed: int = 0) -> Association:
    """Spearman's rank correlation, in [-1, 1], with a percentile bootstrap interval over the pairs.

    Args:
        a: one value a model, ``(N,)``; NaN where there is none.
        b: likewise.
        level: of the interval.
        draws: of the bootstrap.
        seed: of the draws and of the permutations, where there are too many to count.

    Returns:
        NaN where one side is constant. The ends are NaN where the correlation is 1 or -1, since every draw then agrees
        and the bootstrap cannot tell how sure that is; the p-value can.

    Raises:
        ValueError: if a and b do not pair up.

    """
    pairs = np.stack(_check(_vector(a, "a"), _vector(b, "b"), level, draws))
    kept = ~np.isnan(pairs).any(axis=0)
    unscored, pairs = int((~kept).sum()), pairs[:, kept]
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


# Images and draws

#: How many weights are held at once.
_CHUNK = 1 << 22


def _ratio(top: _Array, bottom: _Array, images: NDArray[Any], level: float, draws: int, seed: int) -> Estimate:
    """Σ top / Σ bottom over the targets, with its bootstrap interval over images; a mean where bottom is 1."""
    pairs = np.stack(_check(top, bottom, level, draws), axis=1)
    _check(top, images, level, draws)
    scored = ~np.isnan(pairs).any(axis=1)
    sums = _image_sums(pairs[scored], images[scored])
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


def _paired(aligned: tuple[_Array, NDArray[Any], int], level: float, draws: int, seed: int) -> Difference:
    values, images, unmatched = aligned
    change = values[:, 0] - values[:, 1]
    estimate = _ratio(change, np.ones_like(change), images, level, draws, seed)
    scored = ~np.isnan(change)
    p_value = _flip_test(_image_sums(change[scored, None], images[scored])[:, 0], seed)
    return Difference(*estimate, p_value, unmatched)


def _flip_test(sums: _Array, seed: int) -> float:
    """Two-sided p-value of the sum over images ``(I,)`` when the sign of each is drawn at random."""
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


def _image_sums(values: _Array, images: NDArray[Any]) -> _Array:
    """Sums ``(I, K)`` of values ``(N, K)`` by image, in an order that depends on neither the rows' nor the names'."""
    values, images = values[_order(values)], images[_order(values)]  # a sum's last bits depend on the order
    names, place = np.unique(images, return_inverse=True)
    sums: _Array = np.stack([np.bincount(place, column, minlength=len(names)) for column in values.T], axis=1)
    return sums[_order(sums)]


def _order(rows: _Array) -> NDArray[np.intp]:
    """By size and then by sign: the same for both signs, so that b - a gets the draws of a - b."""
    return np.lexsort((*rows.T, *np.abs(rows).T))


def _weights(images: int, draws: int, seed: int) -> Iterator[_Array]:
    """How often each image is in each draw, ``(draws, images)``, some draws at a time."""
    rng, step = np.random.default_rng(seed), max(1, _CHUNK // images)
    for start in range(0, draws, step):
        rows = min(step, draws - start)
        drawn = rng.integers(images, size=(rows, images)) + images * np.arange(rows)[:, None]
        yield np.bincount(drawn.ravel(), minlength=rows * images).reshape(rows, images).astype(np.float64)


# Records

#: By image, class and what else tells targets apart, the score.
_Table: TypeAlias = dict[tuple[Any, ...], float]


def _scores(rows: Records) -> list[str]:
    """Names of the scores, in the order of their first appearance."""
    names = dict.fromkeys(key for row in rows for key, value in row.items() if isinstance(value, float))
    return [name for name in names if name != "area"]


def _number(row: Mapping[str, Any], score: str) -> float:
    value = row.get(score)
    return float("nan") if value is None else float(value)


def _by_explainer(records: Records) -> dict[str, list[Mapping[str, Any]]]:
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for row in records:
        groups.setdefault(row["explainer"], []).append(row)
    return groups


def _of(records: Records, explainer: str, score: str) -> _Table:
    """An explainer's scores by target. Targets that the records do not tell apart pair up in their order."""
    groups = _by_explainer(records)
    if records and explainer not in groups:
        raise ValueError(f"there are no records of the explainer {explainer!r}; there are some of {', '.join(groups)}.")
    rows = groups.get(explainer, [])
    if records and score not in (known := _scores(records)):
        raise ValueError(f"the records have no score {score!r}; they have {', '.join(known) or 'none'}.")
    return _table(rows, score, "sample_id", "class_index", "area")


def _table(rows: Iterable[Mapping[str, Any]], score: str, *keys: str) -> _Table:
    """Scores by the keys' values and, last, how many targets of the same values came before."""
    seen: dict[tuple[Any, ...], int] = {}
    table = {}
    for row in rows:
        key = tuple(row.get(name) for name in keys)
        table[*key, seen.setdefault(key, 0)] = _number(row, score)
        seen[key] += 1
    return table


def _aligned(tables: Sequence[_Table]) -> tuple[_Array, NDArray[Any], int]:
    """Scores ``(N, K)`` of the targets that all K tables have, their images, and how many targets not all have."""
    shared = [key for key in tables[0] if all(key in table for table in tables[1:])]
    values = np.array([[table[key] for table in tables] for key in shared], dtype=np.float64).reshape(-1, len(tables))
    return values, np.array([key[0] for key in shared]), len(set().union(*tables)) - len(shared)


# Models

#: The most models for which all ways to deal the labels are counted.
_EXACT = 100


def _newcombe(value: float, positives: int, negatives: int, level: float) -> float:
    """Lower end: the smallest AUROC that the one seen is no more than z standard errors above."""
    z, size = stats.norm.ppf((1 + level) / 2), (positives + negatives) / 2 - 1

    def beyond(true: float) -> float:
        variance = true * (1 - true) * (1 + size * (1 - true) / (2 - true) + size * true / (1 + true))
        return float(value - true - z * np.sqrt(variance / (positives * negatives)))

    return float(optimize.brentq(beyond, 0.0, min(value, 1 - 1e-9))) if value else 0.0  # 1 itself always solves it


def _rank_sum_test(ranks: _Array, positive: NDArray[np.bool_]) -> float:
    """Two-sided p-value of the positives' rank sum, over all ways to deal the labels."""
    # SciPy's exact Mann-Whitney test knows no ties, and its permutation test no group of one.
    if len(ranks) > _EXACT:
        return float(stats.mannwhitneyu(ranks[positive], ranks[~positive], method="asymptotic").pvalue)
    twice = np.rint(2 * ranks).astype(int)  # tied ranks are halves
    ways = np.zeros((positive.sum() + 1, twice.sum() + 1))  # how many sets of so many models have this rank sum
    ways[0, 0] = 1
    for rank in twice:
        ways[1:, rank:] += ways[:-1, :-rank].copy()
    apart = np.abs(np.arange(ways.shape[1]) - positive.sum() * twice.mean())
    extreme = apart >= apart[twice[positive].sum()] - 1e-9
    return float(ways[-1, extreme].sum() / ways[-1].sum())


def _rank_correlation(a: _Array, b: _Array) -> _Array:
    """Along the last dimension; NaN where a side is constant."""
    ranks = [stats.rankdata(side, axis=-1) for side in (a, b)]
    a, b = (side - side.mean(axis=-1, keepdims=True) for side in ranks)
    with np.errstate(invalid="ignore"):
        return np.asarray((a * b).sum(axis=-1) / np.sqrt((a**2).sum(axis=-1) * (b**2).sum(axis=-1)))


# Input


def _vector(values: ArrayLike, name: str, dtype: type[np.float64] | None = np.float64) -> NDArray[Any]:
    array = np.asarray(values, dtype=dtype)
    if array.ndim != 1:
        raise ValueError(f"{name} must have one dimension, got the shape {array.shape}.")
    return array


def _check(a: NDArray[Any], b: NDArray[Any], level: float, draws: int = 1) -> tuple[NDArray[Any], NDArray[Any]]:
    if len(a) != len(b):
        raise ValueError(f"two sequences must pair up, but one has {len(a)} entries and the other {len(b)}.")
    if not 0 < level < 1:
        raise ValueError(f"level is the share of intervals that hold the truth, in (0, 1); got {level}.")
    if draws < 1:
        raise ValueError(f"draws must be at least 1, got {draws}.")
    return a, b
