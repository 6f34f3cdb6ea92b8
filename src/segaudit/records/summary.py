"""Makes, writes and reads summary.json, the results of an audit or a benchmark, from which every report is made."""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from segaudit.evidence.second_fill import without_second_fill
from segaudit.metrics.catalogue import catalogue
from segaudit.records.files import atomic_write
from segaudit.statistics import (
    Estimate,
    Ranges,
    Records,
    difference,
    holm,
    losses,
    p_above,
    summary,
    unit_differences,
    verdict,
)

FORMAT = 2
#: The score of the verdict; higher is better.
VERDICT_SCORE = "faithfulness_gap"
#: The control that knows the answer; nothing has to be above it.
_ORACLE = "oracle"


def part(
    data: str,
    network: str,
    records: Records,
    class_names: Sequence[str],
    iou: Mapping[str, float],
    samples: int,
    controls: Sequence[str] = (),
    main: str = "",
    ranges: Ranges | None = None,
) -> dict[str, Any]:
    """Summarise one network on one data set: means with 95 % intervals, by class too, and reasons for missing scores.

    The verdict compares the main explainer with every control. All other comparisons with controls are exploratory: their
    p-values are adjusted for all of them.

    Args:
        data: name of the data set.
        network: name of the network.
        records: one row per (target, explainer).
        class_names: names by class index; a class without a name gets its number.
        iou: IoU by class, and ``mean``.
        samples: number of audited images.
        controls: the explainers that are controls.
        main: the explainer of the verdict; by default ``dea``, else the first that is no control.
        ranges: lowest and highest value by score, None for a score without a range. Defaults to those of segaudit's scores.

    """
    explainers = list(dict.fromkeys(row["explainer"] for row in records))
    first = explainers[0] if explainers else ""
    unscored: dict[str, Counter[str]] = {}
    for row in records:
        unscored.setdefault(row["explainer"], Counter()).update(without_second_fill(row["reason"]))
    ranges = score_ranges() if ranges is None else ranges
    main = main or default_main(explainers, controls)
    compared = [name for name in controls if name in explainers and name != _ORACLE]
    scored = any(isinstance(row.get(VERDICT_SCORE), float) for row in records)
    others = [name for name in explainers if name != main and name not in controls]
    return {
        "data": data,
        "network": network,
        "iou": {name: number(value) for name, value in iou.items()},
        "images": samples,
        "units": len({row.get("group") or ("image", row["sample_id"]) for row in records}),
        "unit": "group" if any(row.get("group") for row in records) else "image",
        "targets": sum(row["explainer"] == first for row in records),
        "scores": [_row(key, estimate) for key, estimate in summary(records, ranges=ranges).items()],
        "by_class": [
            _row(key, estimate, class_name(class_names, key[2]))
            for key, estimate in summary(records, by_class=True, ranges=ranges).items()
        ],
        "verdict": _verdict(records, main, compared, ranges) if scored and main in explainers else None,
        "above_controls": _above_controls(records, others, compared, ranges) if scored else [],
        "second_fill": _second_fill(records, controls),
        "unscored": {explainer: dict(reasons) for explainer, reasons in unscored.items()},
    }


def default_main(explainers: Sequence[str], controls: Sequence[str]) -> str:
    """Return the explainer of headlines: ``dea`` where it is audited, else the first that is no control."""
    ours = [name for name in explainers if name not in controls] or list(explainers)
    return "dea" if "dea" in ours else next(iter(ours), "")


def score_ranges() -> dict[str, tuple[float, float] | None]:
    """Return the range of each of segaudit's scores, None for one without."""
    return {entry.name: getattr(entry.cls, "score_range", None) for entry in catalogue()}


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
    """Read a ``summary.json``. One of format 1 is read as what this version would have written, as far as it tells.

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
    if form == 1:
        found = _from_format_1(found)
    elif form != FORMAT:
        raise ValueError(f"{path} was written by another version of segaudit (format {form}, not {FORMAT}): run it again.")
    return found


def class_name(names: Sequence[str], index: int) -> str:
    """Return the name of a class, or its number where it has no name."""
    return names[index] if 0 <= index < len(names) else str(index)


def number(value: float) -> float | None:
    """Return a finite number as it is, and None for NaN and infinities, which JSON lacks."""
    return float(value) if math.isfinite(value) else None


def _verdict(records: Records, main: str, controls: Sequence[str], ranges: Ranges) -> dict[str, Any] | None:
    """Compare the main explainer with every control, and name the units that lose strongly; None without a control."""
    rows, every = [], {}
    for control in controls:
        by_unit = unit_differences(records, main, control, VERDICT_SCORE, ranges)
        if not by_unit:
            continue
        found = difference(records, main, control, VERDICT_SCORE, ranges=ranges)
        values = every[control] = list(by_unit.values())
        rows.append(
            {"control": control}
            | {name: number(getattr(found, name)) for name in ("mean", "low", "high", "clipped")}
            | {"units": found.units, "wins": sum(value > 0 for value in values)}
            | {"p_value": number(p_above(values)), "p_below": number(p_above([-value for value in values]))}
            | {"losses": [{"unit": str(unit), "difference": by_unit[unit]} for unit in losses(by_unit)]}
        )
    if not rows:
        return None
    outcome, needed = verdict(every)
    return {"explainer": main, "score": VERDICT_SCORE, "outcome": outcome, "units_needed": needed, "controls": rows}


def _above_controls(
    records: Records, explainers: Sequence[str], controls: Sequence[str], ranges: Ranges
) -> list[dict[str, Any]]:
    """Compute the paired differences of explainers from controls; p-values are two-sided and adjusted for all of them."""
    rows: list[dict[str, Any]] = []
    for name in explainers:
        for control in controls:
            found = difference(records, name, control, VERDICT_SCORE, ranges=ranges)
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


def _from_format_1(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return a summary of format 1 in this format. Its intervals were a bootstrap's, and its p-values adjusted for all."""
    parts = []
    for old in found["parts"]:
        explainers = list(dict.fromkeys(row["explainer"] for row in old["scores"]))
        main = found.get("main") or default_main(explainers, found["controls"])
        ours = [row for row in old["above_controls"] if row["explainer"] == main and row["mean"] is not None]
        new: dict[str, Any] = dict(old) | {"units": old["images"], "unit": "image", "verdict": None, "second_fill": []}
        for name in ("scores", "by_class"):
            new[name] = [
                dict(row) | {"units": row["images"], "clipped": 0.0, "method": "" if row["low"] is None else "bootstrap"}
                for row in old[name]
            ]
        if ours:
            clear = [row["p_value"] is not None and row["p_value"] <= 0.05 for row in ours]
            above = all(sure and row["mean"] > 0 for sure, row in zip(clear, ours, strict=True))
            below = any(sure and row["mean"] < 0 for sure, row in zip(clear, ours, strict=True))
            new["verdict"] = {
                "explainer": main,
                "score": VERDICT_SCORE,
                "outcome": "above" if above else "below" if below else "cannot tell",
                "units_needed": None,
                "controls": [
                    {key: row[key] for key in ("control", "mean", "low", "high")}
                    | {"clipped": 0.0, "units": old["images"], "wins": None}
                    | {"p_value": row["p_value"], "p_below": row["p_value"], "losses": []}
                    for row in ours
                ],
            }
        new["above_controls"] = [row for row in old["above_controls"] if row["explainer"] != main]
        parts.append(new)
    return dict(found) | {"format": FORMAT, "parts": parts}


def _row(key: tuple[Any, ...], estimate: Estimate, name: str | None = None) -> dict[str, Any]:
    row = {"explainer": key[0], "score": key[1]} | ({} if name is None else {"class": name})
    row |= {end: number(getattr(estimate, end)) for end in ("mean", "low", "high")}
    return row | {name: getattr(estimate, name) for name in ("images", "targets", "unscored", "units", "clipped", "method")}
