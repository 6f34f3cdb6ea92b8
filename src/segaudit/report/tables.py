"""Writes the tables of a summary: Markdown and LaTeX, which mark the best and the second best, and CSV."""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segaudit.formatting import estimate, number, with_arrow
from segaudit.records.files import atomic_write

#: Means of this size, of times and counts, need no decimals.
_LARGE = 10.0


def write_tables(folder: Path, summary: Mapping[str, Any]) -> None:
    """Write ``tables.md``, ``tables.tex`` and ``tables.csv``."""
    with atomic_write(folder / "tables.md") as draft:
        draft.write_text("\n\n".join(markdown(summary, part) for part in summary["parts"]) + "\n", encoding="utf-8")
    with atomic_write(folder / "tables.tex") as draft:
        draft.write_text("\n\n".join(latex(summary, part) for part in summary["parts"]) + "\n", encoding="utf-8")
    with atomic_write(folder / "tables.csv") as draft, open(draft, "w", newline="", encoding="utf-8") as file:
        rows = [
            {"data": part["data"], "network": part["network"]} | row for part in summary["parts"] for row in part["scores"]
        ]
        writer = csv.DictWriter(file, list(rows[0]) if rows else ["data", "network"])
        writer.writeheader()
        writer.writerows(rows)


def markdown(summary: Mapping[str, Any], part: Mapping[str, Any]) -> str:
    """Return a table with one row per explainer, controls last.

    The **best** and the _second best_ of the explainers that are no controls are marked.
    """
    explainers, scores, cells = _table(summary, part)
    marks = {0: "**{}**", 1: "_{}_"}
    lines = [f"### {part['network']} on {part['data']}", "", _caption(summary, part), ""]
    lines.append("| explainer | " + " | ".join(with_arrow(s, summary["directions"].get(s)) for s in scores) + " |")
    lines.append("| --- " * (len(scores) + 1) + "|")
    for explainer in explainers:
        label = f"{explainer} (control)" if explainer in summary["controls"] else explainer
        texts = [marks.get(rank, "{}").format(_text(row)) for row, rank in (cells[explainer, s] for s in scores)]
        lines.append(f"| {label} | {' | '.join(texts)} |")
    return "\n".join(lines)


def latex(summary: Mapping[str, Any], part: Mapping[str, Any]) -> str:
    """Return the table for a paper that uses booktabs: the best in bold, the second best underlined."""
    explainers, scores, cells = _table(summary, part)
    marks = {0: r"\textbf{{{}}}", 1: r"\underline{{{}}}"}
    heads = [with_arrow(_tex(s.replace("_", " ")), summary["directions"].get(s), tex=True) for s in scores]
    lines = [
        r"\begin{table}",
        rf"\caption{{{_tex(part['network'])} on {_tex(part['data'])}. {_tex(_caption(summary, part))}}}",
    ]
    lines += [
        rf"\begin{{tabular}}{{l{'c' * len(scores)}}}",
        r"\toprule",
        " & ".join(["explainer", *heads]) + r" \\",
        r"\midrule",
    ]
    for place, explainer in enumerate(explainers):
        if explainer in summary["controls"] and explainers[place - 1] not in summary["controls"] and place:
            lines.append(r"\midrule")
        texts = []
        for row, rank in (cells[explainer, s] for s in scores):
            value, _, interval = _text(row).partition(" ")
            texts.append(marks.get(rank, "{}").format(value) + (rf" {{\scriptsize {interval}}}" if interval else ""))
        lines.append(" & ".join([_tex(explainer.replace("_", " ")), *texts]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}"])


def ordered(summary: Mapping[str, Any], part: Mapping[str, Any]) -> list[str]:
    """Return the explainers of a part in the order of the configuration, controls last."""
    every = list(dict.fromkeys(row["explainer"] for row in part["scores"]))
    return sorted(every, key=lambda name: name in summary["controls"])


def ranks(summary: Mapping[str, Any], part: Mapping[str, Any], score: str) -> dict[str, int]:
    """Return the rank of each explainer that is no control, 0 for the best; empty where neither direction is better."""
    better = summary["directions"].get(score)
    values = {
        row["explainer"]: row["mean"]
        for row in part["scores"]
        if row["score"] == score and row["mean"] is not None and row["explainer"] not in summary["controls"]
    }
    if better is None or score in summary["shared"]:
        return {}
    return {
        name: sum((other > value) == better and other != value for other in values.values())
        for name, value in values.items()
    }


def _table(
    summary: Mapping[str, Any], part: Mapping[str, Any]
) -> tuple[list[str], list[str], dict[tuple[str, str], tuple[Mapping[str, Any] | None, int]]]:
    explainers = ordered(summary, part)
    rows = {(row["explainer"], row["score"]): row for row in part["scores"]}
    scores = [s for s in summary["directions"] if s not in summary["shared"] and any((e, s) in rows for e in explainers)]
    places = {score: ranks(summary, part, score) for score in scores}
    return explainers, scores, {(e, s): (rows.get((e, s)), places[s].get(e, -1)) for e in explainers for s in scores}


def _caption(summary: Mapping[str, Any], part: Mapping[str, Any]) -> str:
    first = {row["score"]: row for row in reversed(part["scores"])}
    shared = [f"{name} {_text(first[name])}" for name in summary["shared"] if name in first]
    iou = part["iou"].get("mean")
    counts = f"{part['images']} images, {part['targets']} targets"
    return "; ".join([counts, *([] if iou is None else [f"mean IoU {number(iou)}"]), *shared]) + "."


def _text(row: Mapping[str, Any] | None) -> str:
    return estimate(None, None, None) if row is None else estimate(row["mean"], row["low"], row["high"], large=_LARGE)


def _tex(text: str) -> str:
    return "".join(
        {"_": r"\_", "%": r"\%", "&": r"\&", "#": r"\#", "$": r"\$", "{": r"\{", "}": r"\}"}.get(c, c) for c in text
    )
