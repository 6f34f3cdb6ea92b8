"""Computes intervals and comparisons from the records of audits."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from segaudit.statistics.panel import NO_SCORES
from segaudit.statistics.resampling import Estimate, Vector, flip_test, image_sums, interval, ratio

Records: TypeAlias = Sequence[Mapping[str, Any]]
#: Scores by the image, the class and whatever else tells targets apart.
_Table: TypeAlias = dict[tuple[Any, ...], float]


class Difference(NamedTuple):
    """Holds a paired mean difference, its interval and its test.

    Attributes:
        mean: mean over the targets that both sides have scored; NaN where there is none.
        low: lower end of the interval; NaN with fewer than two such images.
        high: upper end of the interval.
        images: number of images with a target that both sides have scored.
        targets: number of targets that both sides have scored.
        unscored: number of targets that both sides have, but that one has not scored.
        p_value: two-sided p-value of the sign-flip test; NaN where there is nothing to test.
        unmatched: number of targets that only one side has.

    """

    mean: float
    low: float
    high: float
    images: int
    targets: int
    unscored: int
    p_value: float
    unmatched: int


def summary(
    records: Records, by_class: bool = False, level: float = 0.95, draws: int = 2000, seed: int = 0
) -> dict[tuple[Any, ...], Estimate]:
    """Compute the :func:`interval` of every score by ``(explainer, score)`` or ``(explainer, score, class_index)``.

    Args:
        records: records of one audit; without records the result is empty.
        by_class: separates the classes.
        level: level of the intervals, in (0, 1).
        draws: number of bootstrap samples.
        seed: seed of the samples.

    """
    groups = _grouped(records, "explainer", "class_index") if by_class else _grouped(records, "explainer")
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
    """Compute the mean difference of ``one`` explainer's score minus that of the ``other``, paired by target.

    Only targets that both have scored count. The test flips the sign of all differences of an image together. It is exact
    if, without a true difference, the two explainers are exchangeable within any image. Up to 14 images all flips are
    counted. With more, 20,000 are drawn, and the data count as one of them (Phipson and Smyth 2010).

    Args:
        records: records of one audit.
        one: an explainer.
        other: the explainer that it is compared with.
        score: the score's name.
        level: level of the interval, in (0, 1).
        draws: number of bootstrap samples.
        seed: seed of the samples and flips.

    Raises:
        ValueError: if there are records, but none of an explainer or of the score.

    """
    return _paired(_aligned([_of(records, one, score), _of(records, other, score)]), level, draws, seed)


def compare(
    records_a: Records, records_b: Records, level: float = 0.95, draws: int = 2000, seed: int = 0
) -> dict[tuple[str, str], Difference]:
    """Compute the paired differences of two audits, ``records_a`` minus ``records_b``, by ``(explainer, score)``.

    A target is one class of one image here; its region may differ between the audits. Only
    explainers and scores of both audits are compared. ``unmatched`` counts the targets that only one audit has. The tests
    are those of :func:`difference`. They are many at once: see :func:`holm`.

    Args:
        records_a: records of one audit.
        records_b: records of the other, on images of the same names.
        level: level of the intervals, in (0, 1).
        draws: number of bootstrap samples.
        seed: seed of the samples and flips.

    Raises:
        ValueError: if one side has a class of an image twice, because images share a name.

    """
    sides = [_grouped(records, "explainer") for records in (records_a, records_b)]
    found = {}
    for (explainer,) in (key for key in sides[0] if key in sides[1]):
        rows_a, rows_b = (side[explainer,] for side in sides)
        for score in (name for name in _scores(rows_a) if name in _scores(rows_b)):
            tables = [_table(rows, score, "sample_id", "class_index") for rows in (rows_a, rows_b)]
            if twice := next((key for table in tables for key in table if key[-1]), None):
                raise ValueError(
                    f"one side has the class {twice[1]} of the image {twice[0]!r} twice, so it is unclear what to compare: "
                    "give every image a sample_id of its own."
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
    """Compute an explainer's score relative to a control: 0 is as good as the control, 1 as good as the ceiling.

    Without a ceiling, this is the mean of explainer minus control. With one, it is Σ(explainer − control) /
    Σ(ceiling − control) over the targets: a ratio of means, because single targets may divide by almost 0. It means the
    same for scores of which lower is better.

    Args:
        records: records of one audit.
        score: the score's name.
        explainer: the explainer to judge.
        control: the explainer at 0.
        ceiling: the explainer at 1, such as ``target_mask``.
        level: level of the interval, in (0, 1).
        draws: number of bootstrap samples.
        seed: seed of the samples.

    Returns:
        The estimate over the targets that all of these explainers have scored. Its ends are NaN where the interval of
        ceiling minus control contains 0.

    Raises:
        ValueError: if there are records, but none of an explainer or of the score.

    """
    ends = [control] if ceiling is None else [control, ceiling]
    values, images, _ = _aligned([_of(records, name, score) for name in (explainer, *ends)])
    above = values[:, 0] - values[:, 1]
    span = np.ones_like(above) if ceiling is None else values[:, 2] - values[:, 1]
    return ratio(above, span, images, level, draws, seed)


def _paired(aligned: tuple[Vector, NDArray[Any], int], level: float, draws: int, seed: int) -> Difference:
    values, images, unmatched = aligned
    change = values[:, 0] - values[:, 1]
    estimate = ratio(change, np.ones_like(change), images, level, draws, seed)
    scored = ~np.isnan(change)
    p_value = flip_test(image_sums(change[scored, None], images[scored])[:, 0], seed)
    return Difference(*estimate, p_value, unmatched)


def _scores(rows: Records) -> list[str]:
    """Return the names of the scores, in the order of their first appearance."""
    names = dict.fromkeys(key for row in rows for key, value in row.items() if isinstance(value, float))
    return [name for name in names if name not in NO_SCORES]


def _number(row: Mapping[str, Any], score: str) -> float:
    value = row.get(score)
    return float("nan") if value is None else float(value)


def _grouped(records: Records, *keys: str) -> dict[tuple[Any, ...], list[Mapping[str, Any]]]:
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for row in records:
        groups.setdefault(tuple(row[key] for key in keys), []).append(row)
    return groups


def _of(records: Records, explainer: str, score: str) -> _Table:
    """Return an explainer's scores by target. Targets that the records do not tell apart pair up in their order."""
    groups = _grouped(records, "explainer")
    if records and (explainer,) not in groups:
        known = ", ".join(name for (name,) in groups)
        raise ValueError(f"there are no records of the explainer {explainer!r}; there are some of {known}.")
    rows = groups.get((explainer,), [])
    if records and score not in (scores := _scores(records)):
        raise ValueError(f"the records have no score {score!r}; they have {', '.join(scores) or 'none'}.")
    return _table(rows, score, "sample_id", "class_index", "area")


def _table(rows: Iterable[Mapping[str, Any]], score: str, *keys: str) -> _Table:
    """Return scores by the keys' values and, last, the number of earlier targets with the same values."""
    seen: dict[tuple[Any, ...], int] = {}
    table = {}
    for row in rows:
        key = tuple(row.get(name) for name in keys)
        table[*key, seen.setdefault(key, 0)] = _number(row, score)
        seen[key] += 1
    return table


def _aligned(tables: Sequence[_Table]) -> tuple[Vector, NDArray[Any], int]:
    """Return scores ``(N, K)`` of the targets in all K tables, their images, and the number of targets not in all."""
    shared = [key for key in tables[0] if all(key in table for table in tables[1:])]
    values = np.array([[table[key] for table in tables] for key in shared], dtype=np.float64).reshape(-1, len(tables))
    return values, np.array([key[0] for key in shared]), len(set().union(*tables)) - len(shared)
