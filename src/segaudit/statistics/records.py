"""Computes intervals and comparisons from the records of audits."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from segaudit.statistics.arrays import Vector, check, unit_means
from segaudit.statistics.flips import flip_test
from segaudit.statistics.level import Estimate, Range, clip, estimate, t_interval, usual_range
from segaudit.statistics.panel import NO_SCORES
from segaudit.statistics.resampling import ratio

Records: TypeAlias = Sequence[Mapping[str, Any]]
#: Range by score. None stands for a score without a range. A score that is not named may have any.
Ranges: TypeAlias = Mapping[str, Range]


class _Cell(NamedTuple):
    """Holds a target's score, its unit and the fill that it was made with."""

    value: float
    unit: Hashable
    fill: Any


#: Scores by the image, the class and whatever else tells targets apart.
_Table: TypeAlias = dict[tuple[Any, ...], _Cell]


class _Pairs(NamedTuple):
    """Holds the scores of the targets that all tables have.

    Attributes:
        values: ``(N, K)``, one column per table.
        images: number of each target's image, ``(N,)``.
        units: number of each target's unit, ``(N,)``.
        names: name of each unit, ``(U,)``.
        unmatched: number of targets that not all tables have, or have with equal fills.

    """

    values: Vector
    images: NDArray[Any]
    units: NDArray[Any]
    names: list[Hashable]
    unmatched: int


class Difference(NamedTuple):
    """Holds a paired mean difference, its interval and its test. A unit is an image, or the group that the records name.

    Attributes:
        mean: mean over the units, each the mean of its targets that both sides have scored; NaN where there is none.
        low: lower end of the t interval; NaN with fewer than two units, or where all of them are equal.
        high: upper end of the interval.
        images: number of images with a target that both sides have scored.
        targets: number of targets that both sides have scored.
        unscored: number of targets that both sides have, but that one has not scored.
        p_value: two-sided p-value of the sign-flip test; NaN where there is nothing to test.
        unmatched: number of targets that only one side has, or that the sides have with different fills.
        units: number of units.
        clipped: share of the scores, of both sides, that were outside the score's range.

    """

    mean: float
    low: float
    high: float
    images: int
    targets: int
    unscored: int
    p_value: float
    unmatched: int
    units: int = 0
    clipped: float = 0.0


def summary(
    records: Records,
    by_class: bool = False,
    level: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
    ranges: Ranges | None = None,
) -> dict[tuple[Any, ...], Estimate]:
    """Compute mean and interval of every score by ``(explainer, score)`` or ``(explainer, score, class_index)``.

    The unit is the image, or the group where rows have a ``group`` that is not empty. Every unit has equal weight. The
    interval is Gaffke's in the score's range, and Student's t for a score without one; see :class:`Estimate`.

    Args:
        records: records of one audit; without records the result is empty.
        by_class: separates the classes.
        level: level of the intervals, in (0, 1).
        draws: number of draws of Gaffke's interval.
        seed: seed of the draws.
        ranges: lowest and highest value by score, None for a score without a range. A score that is not named gets the
            range of :func:`interval`.

    """
    groups = _grouped(records, "explainer", "class_index") if by_class else _grouped(records, "explainer")
    found = {}
    for (explainer, *rest), rows in groups.items():
        images, units = (_codes(names)[0] for names in ([row["sample_id"] for row in rows], [_unit(row) for row in rows]))
        for score in _scores(rows):
            values = np.array([_number(row, score) for row in rows], dtype=np.float64)
            bounds = ranges[score] if ranges is not None and score in ranges else usual_range(values)
            found[explainer, score, *rest] = estimate(values, images, units, bounds, level, draws, seed)
    return found


def difference(
    records: Records,
    one: str,
    other: str,
    score: str,
    level: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
    ranges: Ranges | None = None,
) -> Difference:
    """Compute the mean difference of ``one`` explainer's score minus that of the ``other``, paired by target.

    Only targets that both have scored count, with equal fills where rows name one. Values are clipped to the score's range.
    Differences are averaged by unit, and every unit has equal weight. The interval is the paired t interval. The test flips
    the sign of each unit's difference. It is exact if, without a true difference, the two explainers are exchangeable within
    any unit. Up to 14 units all flips are counted. With more, 20,000 are drawn, and the data count as one of them (Phipson
    and Smyth 2010).

    Args:
        records: records of one audit.
        one: an explainer.
        other: the explainer that it is compared with.
        score: the score's name.
        level: level of the interval, in (0, 1).
        draws: has no effect since the interval is a t interval.
        seed: seed of the flips.
        ranges: lowest and highest value by score, as for :func:`summary`.

    Raises:
        ValueError: if there are records, but none of an explainer or of the score.

    """
    pairs = _aligned([_of(records, one, score), _of(records, other, score)])
    return _paired(pairs, (ranges or {}).get(score), level, draws, seed)


def unit_differences(
    records: Records, one: str, other: str, score: str, ranges: Ranges | None = None
) -> dict[Hashable, float]:
    """Compute the differences of :func:`difference` by unit: by the name of the group, or of the image where it has none.

    Args:
        records: records of one audit.
        one: an explainer.
        other: the explainer that it is compared with.
        score: the score's name.
        ranges: lowest and highest value by score, as for :func:`summary`.

    Raises:
        ValueError: if there are records, but none of an explainer or of the score.

    """
    pairs = _aligned([_of(records, one, score), _of(records, other, score)])
    change, scored, _ = _changes(pairs, (ranges or {}).get(score))
    units = pairs.units[scored]
    sums, counts = (np.bincount(units, weights, minlength=len(pairs.names)) for weights in (change[scored], None))
    return {name: float(sums[k] / counts[k]) for k, name in enumerate(pairs.names) if counts[k]}


def compare(
    records_a: Records,
    records_b: Records,
    level: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
    ranges: Ranges | None = None,
) -> dict[tuple[str, str], Difference]:
    """Compute the paired differences of two audits, ``records_a`` minus ``records_b``, by ``(explainer, score)``.

    A target is one class of one image here; its region may differ between the audits. Only
    explainers and scores of both audits are compared. ``unmatched`` counts the targets that only one audit has, or that the
    audits filled differently. Intervals and tests are those of :func:`difference`. They are many at once: see :func:`holm`.

    Args:
        records_a: records of one audit.
        records_b: records of the other, on images of the same names.
        level: level of the intervals, in (0, 1).
        draws: has no effect since the interval is a t interval.
        seed: seed of the flips.
        ranges: lowest and highest value by score, as for :func:`summary`.

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
            found[explainer, score] = _paired(_aligned(tables), (ranges or {}).get(score), level, draws, seed)
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
    ranges: Ranges | None = None,
) -> Estimate:
    """Compute an explainer's score relative to a control: 0 is as good as the control, 1 as good as the ceiling.

    Without a ceiling, this is the :func:`difference` of explainer and control. With one, it is Σ(explainer − control) /
    Σ(ceiling − control) over the targets: a ratio of means, because single targets may divide by almost 0. It means the
    same for scores of which lower is better. The interval of the ratio is a bootstrap over units.

    Args:
        records: records of one audit.
        score: the score's name.
        explainer: the explainer to judge.
        control: the explainer at 0.
        ceiling: the explainer at 1, such as ``target_mask``.
        level: level of the interval, in (0, 1).
        draws: number of bootstrap samples of the ratio.
        seed: seed of the samples.
        ranges: lowest and highest value by score, as for :func:`summary`.

    Returns:
        The estimate over the targets that all of these explainers have scored. Its ends are NaN where the interval of
        ceiling minus control contains 0.

    Raises:
        ValueError: if there are records, but none of an explainer or of the score.

    """
    bounds = (ranges or {}).get(score)
    ends = [control] if ceiling is None else [control, ceiling]
    pairs = _aligned([_of(records, name, score) for name in (explainer, *ends)])
    if ceiling is None:
        found = _paired(pairs, bounds, level, draws, seed)
        method = "" if np.isnan(found.low) else "t"
        return Estimate(*found[:6], units=found.units, clipped=found.clipped, method=method)
    values = clip(pairs.values, bounds)[0]
    above, span = values[:, 0] - values[:, 1], values[:, 2] - values[:, 1]
    return ratio(above, span, pairs.images, pairs.units, level, draws, seed)


def _paired(pairs: _Pairs, bounds: Range, level: float, draws: int, seed: int) -> Difference:
    check(pairs.units, pairs.images, level, draws)
    change, scored, clipped = _changes(pairs, bounds)
    means = unit_means(change[scored], pairs.units[scored])
    mean = float(means.mean()) if len(means) else float("nan")
    counts = len(np.unique(pairs.images[scored])), int(scored.sum()), int((~scored).sum())
    tested = flip_test(means, seed), pairs.unmatched
    return Difference(mean, *t_interval(means, level), *counts, *tested, len(means), clipped)


def _changes(pairs: _Pairs, bounds: Range) -> tuple[Vector, NDArray[np.bool_], float]:
    """Return the first column minus the second, clipped; which targets both have scored; and the share clipped."""
    scored: NDArray[np.bool_] = np.asarray(~np.isnan(pairs.values).any(axis=1))
    clipped = clip(pairs.values[scored], bounds)[1]
    values = clip(pairs.values, bounds)[0]
    return values[:, 0] - values[:, 1], scored, clipped


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
        table[*key, seen.setdefault(key, 0)] = _Cell(_number(row, score), _unit(row), row.get("fill"))
        seen[key] += 1
    return table


def _aligned(tables: Sequence[_Table]) -> _Pairs:
    """Return the scores of the targets that all K tables have, with equal fills where there are any."""
    first, *others = tables
    shared = [key for key, cell in first.items() if all(key in table and table[key].fill == cell.fill for table in others)]
    values = np.array([[table[key].value for table in tables] for key in shared], dtype=np.float64)
    images, _ = _codes([key[0] for key in shared])
    units, names = _codes([first[key].unit for key in shared])
    # Every key of any table, whatever its fill: a target with two fills counts once.
    unmatched = len(set().union(*tables)) - len(shared)
    return _Pairs(values.reshape(-1, len(tables)), images, units, [_unit_name(name) for name in names], unmatched)


def _unit(row: Mapping[str, Any]) -> Hashable:
    """Return what is independent of other rows: the group where the row names one, else the image."""
    group = row.get("group")
    return ("image", row["sample_id"]) if group is None or group == "" else ("group", group)


def _unit_name(unit: Any) -> Hashable:
    name: Hashable = unit[1]
    return name


def _codes(keys: Sequence[Hashable]) -> tuple[NDArray[np.intp], list[Hashable]]:
    """Number keys in the order of their first appearance; also return the keys without repetitions."""
    places: dict[Hashable, int] = {}
    codes = np.array([places.setdefault(key, len(places)) for key in keys], dtype=np.intp)
    return codes, list(places)
