"""Writes the report: one HTML file that opens anywhere, offline."""

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml
from jinja2 import Environment
from markupsafe import Markup

from segaudit.formatting import arrow, interval, number, p_value, percent
from segaudit.metrics.catalogue import catalogue
from segaudit.records.files import atomic_write
from segaudit.records.run import Run, all_directions, column, read_records, read_run, run_names
from segaudit.records.summary import part as summarised
from segaudit.report.chart import Line, line_chart
from segaudit.report.comparison import comparison
from segaudit.report.tables import ordered, ranks
from segaudit.report.verdict import verdict
from segaudit.statistics import TargetSeries

_KINDS = ("deletion", "insertion")
#: Numbers of this size need no decimals.
_LARGE = 100.0


def write_report(runs: Sequence[Path | str], path: Path | str) -> Path:
    """Write one self-contained HTML page about runs. Two or more audits are compared.

    Args:
        runs: folders of runs: fits, audits or benchmarks.
        path: path of the page.

    Returns:
        The path.

    Raises:
        FileNotFoundError: if a folder is missing.
        ValueError: if a folder holds no run.

    """
    found = [read_run(run) for run in runs]
    for run, name in zip(found, run_names(runs), strict=True):
        run.name = name
    sections = [_section(run, place) for place, run in enumerate(found)]
    scores = {name for section in sections for audit in section["audits"] for name in audit["directions"]}
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"number": _number, "interval": _interval, "p": p_value}
    script = _resource("page.js")
    text = environment.from_string(_resource("page.html")).render(
        title=" · ".join(run.name for run in found),
        style=Markup(_resource("page.css")),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        sections=sections,
        comparison=_compared(found) if len(found) > 1 else None,
        nothing_to_compare=_why_not(found) if len(found) > 1 else "",
        glossary=[(e.name, e.better, e.range, e.summary.replace("``", "")) for e in catalogue() if e.name in scores],
    )
    with atomic_write(path) as draft:
        draft.write_text(text, encoding="utf-8")
    return Path(path)


def _section(run: Run, place: int) -> dict[str, Any]:
    return {
        "name": run.name,
        "id": f"run-{place}",
        "epochs": _epoch_charts(run),
        "last_audit": _last_audit(run),
        "alarm": _alarm(run.alarm),
        "selection": run.selection,
        "audits": [_audit(folder, summary, f"run-{place}-{k}") for k, (folder, summary) in enumerate(run.audits)],
        "config": run.config,
    }


def _audit(folder: Path, summary: Mapping[str, Any], id_: str) -> dict[str, Any]:
    parts: list[dict[str, Any]] = []
    for part in summary["parts"]:
        explainers = ordered(summary, part)
        rows = {(row["explainer"], row["score"]): row for row in part["scores"]}
        scores = [s for s in summary["directions"] if s not in summary["shared"]]
        places = {score: ranks(summary, part, score) for score in scores}
        first = next(iter(explainers), "")
        parts.append(
            dict(part)
            | {
                "id": f"{id_}-{len(parts)}",
                "verdict": verdict(summary, part),
                "explainers": explainers,
                "columns": scores,
                "rows": rows,
                "places": places,
                "shared": [(name, rows[first, name]) for name in summary["shared"] if (first, name) in rows],
                "class_rows": _class_rows(summary, part, scores),
                "reasons": _reasons(part),
                "intervals": _methods(part),
                "clipped": _clipped(part),
            }
        )
    worst = [
        dict(one) | {"pictures": {kind: _picture(folder / file) for kind, file in one["pictures"].items()}}
        for one in summary.get("worst", {}).get("targets", [])
    ]
    return {
        "kind": summary["kind"],
        "main": summary.get("main", ""),
        "directions": summary["directions"],
        "arrows": {name: arrow(up) for name, up in summary["directions"].items()},
        "controls": summary["controls"],
        "parts": parts,
        "worst": worst,
        "worst_by": summary.get("worst", {}).get("score", ""),
        "curves": _curve_charts(folder / "curves.parquet", summary),
        "plots": [(_words(path.stem), _picture(path)) for path in sorted(folder.glob("faithfulness_*.png"))],
        "panels": [(path.stem, _picture(path)) for path in sorted(folder.glob("panels/*.png"))],
        "provenance": yaml.safe_dump(summary["provenance"], sort_keys=False, allow_unicode=True),
        "gate": summary.get("gate", []),
        "logged": summary.get("logged", {}),
    }


def _class_rows(summary: Mapping[str, Any], part: Mapping[str, Any], scores: Sequence[str]) -> list[dict[str, Any]]:
    grouped: dict[tuple[str, str], dict[str, Any]] = {}
    for row in part["by_class"]:
        grouped.setdefault((row["explainer"], row["class"]), {})[row["score"]] = row
    return [
        {
            "explainer": explainer,
            "class": name,
            "iou": part["iou"].get(name),
            "targets": max(row["targets"] + row["unscored"] for row in values.values()),
            "values": [values.get(score) for score in scores],
        }
        for (explainer, name), values in grouped.items()
    ]


def _reasons(part: Mapping[str, Any]) -> list[tuple[str, str, int]]:
    return [
        (explainer, reason, count)
        for explainer, reasons in part["unscored"].items()
        for reason, count in sorted(reasons.items(), key=lambda item: -item[1])
    ]


def _methods(part: Mapping[str, Any]) -> str:
    """Say how intervals were made: in the range of a score, or Student's t for those without one."""
    methods: dict[str, list[str]] = {}
    for row in part["scores"]:
        if row["method"] and row["score"] not in methods.setdefault(row["method"], []):
            methods[row["method"]].append(row["score"])
    words = {"gaffke": "Gaffke's, in the score's range", "t": "Student's t", "bootstrap": "bootstrap over images"}
    return "; ".join(
        word if method == "gaffke" or len(methods) == 1 else f"{word} for {', '.join(methods[method])}"
        for method, word in words.items()
        if method in methods
    )


def _clipped(part: Mapping[str, Any]) -> str:
    """List the scores of which values lay outside the range, with the share."""
    rows = [row for row in part["scores"] if row["clipped"]]
    return ", ".join(f"{row['score']} of {row['explainer']} ({percent(row['clipped'], 1)})" for row in rows)


def _curve_charts(path: Path, summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    rows = pq.read_table(path).to_pylist()
    explainers = ordered(summary, summary["parts"][0])
    charts = []
    for kind in _KINDS:
        lines = []
        for place, explainer in enumerate(explainers):
            points = [row for row in rows if (row["explainer"], row["kind"]) == (explainer, kind)]
            if points:
                x, y = ([row[key] for row in points] for key in ("fraction", "mean"))
                lines.append(Line(explainer, x, y, explainer in summary["controls"], place))
        if lines:
            label = f"share of pixels {'filled' if kind == 'deletion' else 'shown'}"
            svg = line_chart(f"{kind} curves", lines, label, "S relative to S(x)")
            charts.append({"title": f"{kind.capitalize()}", "svg": Markup(svg), "legend": lines})
    return charts


def _epoch_charts(run: Run) -> list[dict[str, Any]]:
    """Draw IoU and every audited score over epochs, with a line for each explainer."""
    names = list(dict.fromkeys(name for row in run.epochs for name in row))
    epochs = column(run.epochs, "epoch")
    charts = []
    overall = [name for name in names if name.endswith("/iou")]
    if overall:
        lines = [Line(name, epochs, column(run.epochs, name), False, k) for k, name in enumerate(overall)]
        charts.append({"title": "Mean IoU", "svg": Markup(line_chart("mean IoU", lines, "epoch", "")), "legend": lines})
    known = {entry.name for entry in catalogue()} - {"seconds", "forwards"}
    audited = [found for name in names if (found := re.fullmatch(r"(.+)/([^/]+)/([^/]+)", name)) and found[3] in known]
    explainers = list(dict.fromkeys(found[2] for found in audited))
    for prefix, score in dict.fromkeys((found[1], found[3]) for found in audited):
        lines = [
            Line(found[2], epochs, column(run.epochs, found[0]), found[2] in _control_names(), explainers.index(found[2]))
            for found in audited
            if (found[1], found[3]) == (prefix, score)
        ]
        if svg := line_chart(score, lines, "epoch", ""):
            title = _words(score) if prefix == "audit" else f"{prefix}: {_words(score)}"
            charts.append({"title": title, "svg": Markup(svg), "legend": lines})
    return charts


def _last_audit(run: Run) -> dict[str, Any] | None:
    """Say what the last audit of a fit shows, of the classes that have been learnt; None where there is none."""
    if run.audits or not run.epochs:
        return None
    try:
        records = read_records(run.folder)
    except ValueError:
        return None
    series = TargetSeries()
    series.add(0, records)
    known = [row for row in records if row["class_index"] in series.joined]
    if not known or "epoch" not in known[0]:
        return None
    names = dict[int, str]((row["class_index"], row["class"]) for row in records)
    classes = [names.get(index, str(index)) for index in range(max(names) + 1)]
    controls = [name for name in dict.fromkeys(row["explainer"] for row in known) if name in _control_names()]
    images = len({row["sample_id"] for row in known})
    found = summarised("validation", "", known, classes, {}, images, controls)
    # Part of the validation alone was audited, so that IoU is told by its chart.
    findings = [one for one in verdict({"controls": controls}, found) if one.about != "accuracy"]
    waiting = ", ".join(names[index] for index in series.not_learnt)
    return {
        "epoch": known[0]["epoch"],
        "images": images,
        "targets": found["targets"],
        "findings": findings,
        "waiting": waiting,
    }


def _alarm(alarm: Mapping[str, Any]) -> list[str]:
    """Say the state of AuditAlarm, a sentence for each score that it watches."""
    found = []
    for score, state in alarm.get("scores", {}).items():
        name = f"{alarm['explainer']}/{score}"
        if score in alarm["raised"]:
            found.append(f"Raised: {alarm['raised'][score]}.")
        elif state["reference"] is None:
            found.append(f"{name}: too few audits to tell ({state['audits']}).")
        else:
            found.append(
                f"{name}: not raised. The last mean is {number(state['mean'])}, the reference {number(state['reference'])}; "
                f"the sum is {number(state['sum'], 1)}, and the alarm goes off above {number(state['threshold'], 1)}."
            )
    found += [f"Raised: {text}." for score, text in alarm.get("raised", {}).items() if score not in alarm["scores"]]
    return found


@cache
def _control_names() -> frozenset[str]:
    from segaudit.attribution.catalogue import catalogue as explainers

    return frozenset(entry.name for entry in explainers() if entry.cls.control)


def _compared(runs: Sequence[Run]) -> dict[str, Any] | None:
    """Compare the audits with the first one; None where fewer than two can be compared."""
    records = {}
    for run in runs:
        if any(summary["kind"] == "benchmark" for _, summary in run.audits):
            continue
        try:
            records[run.name] = read_records(run.folder)
        except ValueError:
            continue
    if len(records) < 2:
        return None
    directions = all_directions([run.folder for run in runs])
    try:
        rows = comparison(records, directions)
    except ValueError:
        return None
    return {"first": next(iter(records)), "rows": rows, "arrows": {name: arrow(up) for name, up in directions.items()}}


def _why_not(runs: Sequence[Run]) -> str:
    """Return the reason why runs are not compared; an empty string where they are."""
    try:
        comparison({run.name: read_records(run.folder) for run in runs}, {})
    except ValueError as error:
        return str(error)
    return ""


def _picture(path: Path) -> str:
    """Return a PNG file as a data address; an empty string where the file is gone."""
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}" if path.is_file() else ""


@cache
def _resource(name: str) -> str:
    return files("segaudit.report").joinpath(name).read_text(encoding="utf-8")


def _words(name: str) -> str:
    return name.replace("_", " ").replace("auc", "AUC").replace("iou", "IoU")


def _number(value: float | None) -> str:
    return number(value, large=_LARGE)


def _interval(row: Mapping[str, Any] | None) -> str:
    return "" if row is None else interval(row["low"], row["high"], large=_LARGE)
