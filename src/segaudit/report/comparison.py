"""Compares audits target by target."""

from collections.abc import Iterator, Mapping
from typing import Any

from segaudit.evidence.registry import is_shared
from segaudit.metrics.catalogue import catalogue
from segaudit.records.summary import number, score_ranges
from segaudit.statistics import Difference, Estimate, Records, compare, holm, summary


def comparison(runs: Mapping[str, Records], directions: Mapping[str, bool | None]) -> list[dict[str, Any]]:
    """Compute the paired differences of audits from the first one, by explainer and score.

    Only targets that both audits have scored, with equal fills, count. p-values are adjusted for all tests of the comparison
    (Holm). Times are not tested.

    Args:
        runs: records by the run's name; two or more.
        directions: whether higher is better, by score.

    Returns:
        Rows with ``explainer`` (empty for scores that do not depend on one), ``score``, ``run``, the means of the ``first``
        run and the ``other`` over all their images, ``difference`` (other minus first, over the targets of both), ``low``,
        ``high``, ``p_value`` (adjusted), ``images``, ``targets``, ``unmatched`` and ``verdict``: ``better``, ``worse``,
        ``differs`` where neither direction is better, or empty where the adjusted p-value is above 0.05.

    Raises:
        ValueError: if there are fewer than two runs, or two have nothing in common.

    """
    if len(runs) < 2:
        raise ValueError("a comparison needs at least two runs.")
    (first, base), *others = runs.items()
    ranges = score_ranges()
    means = {name: summary(records, draws=1, ranges=ranges) for name, records in runs.items()}
    rows: list[dict[str, Any]] = []
    for name, records in others:
        found = compare(records, base, ranges=ranges)
        if not found:
            raise ValueError(f"{name} and {first} have no explainer and score in common: there is nothing to compare.")
        if not any(difference.targets or difference.unscored for difference in found.values()):
            raise ValueError(
                f"{name} and {first} have no target in common: were they audited on the same images, with the same fills?"
            )
        for (explainer, score), paired in _shared_once(found):
            rows.append(
                {
                    "explainer": explainer,
                    "score": score,
                    "run": name,
                    "first": number(_mean(means[first], explainer, score)),
                    "other": number(_mean(means[name], explainer, score)),
                    "difference": number(paired.mean),
                    "low": number(paired.low),
                    "high": number(paired.high),
                    "p_value": float("nan") if score == "seconds" else paired.p_value,
                    "images": paired.images,
                    "targets": paired.targets,
                    "unmatched": paired.unmatched,
                }
            )
    for row, adjusted in zip(rows, holm([row["p_value"] for row in rows]).tolist(), strict=True):
        row["p_value"] = number(adjusted)
        row["verdict"] = _verdict(row, directions.get(row["score"]))
    return rows


def _mean(means: Mapping[tuple[Any, ...], Estimate], explainer: str, score: str) -> float:
    return next(one.mean for key, one in means.items() if key[1] == score and explainer in ("", key[0]))


def _shared_once(found: Mapping[tuple[str, str], Difference]) -> Iterator[tuple[tuple[str, str], Difference]]:
    """Yield differences by explainer and score; a score that does not depend on one comes once, without explainer."""
    shared, seen = {entry.name for entry in catalogue() if is_shared(entry.cls())}, set[str]()
    for (explainer, score), one in found.items():
        if score not in shared:
            yield (explainer, score), one
        elif score not in seen:
            seen.add(score)
            yield ("", score), one


def _verdict(row: Mapping[str, Any], higher: bool | None) -> str:
    if row["p_value"] is None or row["p_value"] > 0.05 or not row["difference"]:
        return ""
    if higher is None:
        return "differs"
    return "better" if (row["difference"] > 0) == higher else "worse"
