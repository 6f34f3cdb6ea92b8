"""Makes, writes and reads summary.json, the results of an audit or a benchmark, from which every report is made."""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from segaudit.evidence.second_fill import without_second_fill
from segaudit.records.files import atomic_write
from segaudit.statistics import Estimate, Records, difference, holm, summary

FORMAT = 1
#: With fewer images the bootstrap's intervals would be too narrow, and are not shown.
FEW_IMAGES = 6


def part(
    data: str,
    network: str,
    records: Records,
    class_names: Sequence[str],
    iou: Mapping[str, float],
    samples: int,
    controls: Sequence[str] = (),
) -> dict[str, Any]:
    """Summarise one network on one data set: means with 95 % intervals, by class too, and reasons for missing scores.

    The intervals are over images. With fewer than six scored images there is none: the bootstrap's would be too narrow.

    Args:
        data: name of the data set.
        network: name of the network.
        records: one row per (target, explainer).
        class_names: names by class index; a class without a name gets its number.
        iou: IoU by class, and ``mean``.
        samples: number of audited images.
        controls: the explainers that are controls.

    """
    first = records[0]["explainer"] if records else ""
    unscored: dict[str, Counter[str]] = {}
    for row in records:
        unscored.setdefault(row["explainer"], Counter()).update(without_second_fill(row["reason"]))
    return {
        "data": data,
        "network": network,
        "iou": {name: number(value) for name, value in iou.items()},
        "images": samples,
        "targets": sum(row["explainer"] == first for row in records),
        "scores": [_row(key, estimate) for key, estimate in summary(records).items()],
        "by_class": [
            _row(key, estimate, class_name(class_names, key[2])) for key, estimate in summary(records, by_class=True).items()
        ],
        "above_controls": _above_controls(records, controls),
        "second_fill": _second_fill(records, controls),
        "unscored": {explainer: dict(reasons) for explainer, reasons in unscored.items()},
    }


def write_summary(
    path: Path,
    kind: str,
    parts: Sequence[Mapping[str, Any]],
    directions: Mapping[str, bool | None],
    shared: Sequence[str],
    controls: Sequence[str],
    provenance: Mapping[str, Any],
    **more: Any,
) -> dict[str, Any]:
    """Write ``summary.json`` and return its content.

    Args:
        path: path of the file.
        kind: ``audit`` or ``benchmark``.
        parts: one :func:`part` for each network on each data set.
        directions: whether higher is better, by score.
        shared: the scores that do not depend on the explainer.
        controls: the explainers that are controls.
        provenance: provenance of the figures.
        more: further entries.

    """
    found = {
        "format": FORMAT,
        "kind": kind,
        "directions": dict(directions),
        "shared": list(shared),
        "controls": list(controls),
        "parts": list(parts),
        "provenance": dict(provenance),
        **more,
    }
    with atomic_write(path) as draft:
        draft.write_text(json.dumps(found, indent=1, allow_nan=False), encoding="utf-8")
    return found


def read_summary(path: Path) -> dict[str, Any]:
    """Read a ``summary.json``.

    Raises:
        ValueError: if the file is not a summary, or has another format.

    """
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        form = found["format"]
    except (json.JSONDecodeError, KeyError, TypeError, UnicodeDecodeError):
        raise ValueError(
            f"{path} is not the summary of an audit: run `segaudit audit` or `segaudit benchmark` again."
        ) from None
    if form != FORMAT:
        raise ValueError(f"{path} was written by another version of segaudit (format {form}, not {FORMAT}): run it again.")
    return found


def class_name(names: Sequence[str], index: int) -> str:
    """Return the name of a class, or its number where it has no name."""
    return names[index] if 0 <= index < len(names) else str(index)


def number(value: float) -> float | None:
    """Return a finite number as it is, and None for NaN and infinities, which JSON lacks."""
    return float(value) if math.isfinite(value) else None


def _above_controls(records: Records, controls: Sequence[str]) -> list[dict[str, Any]]:
    """Compute the paired differences of each explainer's faithfulness gap from each control's.

    p-values are adjusted for all of these tests (Holm). The oracle is left out, because it knows the answer.
    """
    explainers = list(dict.fromkeys(row["explainer"] for row in records))
    if not any(isinstance(row.get("faithfulness_gap"), float) for row in records):
        return []
    rows = []
    for name in (name for name in explainers if name not in controls):
        for control in (name for name in controls if name in explainers and name != "oracle"):
            found = difference(records, name, control, "faithfulness_gap")
            ends = {"mean": number(found.mean), "low": number(found.low), "high": number(found.high)}
            rows.append({"explainer": name, "control": control} | ends | {"p_value": found.p_value})
    for row, adjusted in zip(rows, holm([row["p_value"] for row in rows]).tolist(), strict=True):
        row["p_value"] = number(adjusted)
    return rows


def _finite(value: Any) -> bool:
    return isinstance(value, float) and math.isfinite(value)


def _second_fill(records: Records, controls: Sequence[str]) -> list[dict[str, Any]]:
    """Compute the paired differences of the faithfulness gap from each control's under either fill, on the same targets.

    Only targets that an explainer has scored under both fills count. p-values are not adjusted: to be above every control,
    each test has to succeed.
    """
    scores = "faithfulness_gap", "second_fill_gap"
    both = [row for row in records if all(_finite(row.get(score)) for score in scores)]
    explainers = list(dict.fromkeys(row["explainer"] for row in both))
    rows = []
    for name in (name for name in explainers if name not in controls):
        for control in (name for name in controls if name in explainers and name != "oracle"):
            first, second = (difference(both, name, control, score) for score in scores)
            ends = {"mean": number(second.mean), "first_mean": number(first.mean), "p_value": number(second.p_value)}
            ends["first_p_value"] = number(first.p_value)
            rows.append({"explainer": name, "control": control, "images": second.images, "targets": second.targets} | ends)
    return rows


def _row(key: tuple[Any, ...], estimate: Estimate, name: str | None = None) -> dict[str, Any]:
    row = {"explainer": key[0], "score": key[1]} | ({} if name is None else {"class": name})
    row |= {end: number(getattr(estimate, end)) for end in ("mean", "low", "high")}
    return row | {name: getattr(estimate, name) for name in ("images", "targets", "unscored", "units", "clipped", "method")}
