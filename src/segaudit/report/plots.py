"""Draws faithfulness against stability and cost, mean curves, and a run's trade-off between two numbers."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from segaudit.formatting import COLOURS, colour
from segaudit.records.files import atomic_write
from segaudit.report.curves import KINDS
from segaudit.report.picture import Picture
from segaudit.report.tables import ordered

#: File name, score along the horizontal axis, whether that axis is logarithmic.
_PLOTS = (
    ("faithfulness_stability.png", "stability", False),
    ("faithfulness_forwards.png", "forwards", True),
    ("faithfulness_seconds.png", "seconds", True),
)
_FAITHFULNESS = "faithfulness_gap"


def draw_plots(folder: Path, summary: Mapping[str, Any]) -> list[Path]:
    """Draw faithfulness against stability and against cost, as far as these were scored.

    Every network on every data set has a panel of its own.

    Returns:
        Paths of the PNG files.

    """
    drawn = []
    for file, score, logarithmic in _PLOTS:
        if {score, _FAITHFULNESS} <= set(summary["directions"]):
            with atomic_write(folder / file) as draft:
                FigureCanvasAgg(_figure(summary, score, logarithmic)).print_png(str(draft))
            drawn.append(folder / file)
    return drawn


def draw_curves(rows: Sequence[Mapping[str, Any]], explainers: Sequence[str]) -> Picture:
    """Draw the mean deletion and insertion curves, RGB ``(height, width, 3)`` uint8.

    Args:
        rows: rows of :meth:`segaudit.report.curves.Curves.rows`.
        explainers: names in the order of their colours.

    """
    figure = Figure(figsize=(8, 3.6), dpi=90)
    figure.subplots_adjust(left=0.06, right=0.98, bottom=0.13, top=0.92, wspace=0.06)
    for axis, kind in zip(figure.subplots(1, 2, sharey=True), KINDS, strict=True):
        for place, explainer in enumerate(explainers):
            points = [(row["fraction"], row["mean"]) for row in rows if (row["explainer"], row["kind"]) == (explainer, kind)]
            if points:
                axis.plot(*zip(*points, strict=True), color=colour(place), label=explainer)
        axis.set_title(kind, fontsize=9)
        axis.set_xlabel("share of pixels", fontsize=8)
        axis.grid(alpha=0.25)
        axis.tick_params(labelsize=7)
    axis.legend(fontsize=7, frameon=False)
    return _drawn(figure)


def draw_tradeoff(rows: Sequence[Mapping[str, Any]], across: str, up: str) -> Picture:
    """Draw a point for every epoch and explainer, and a line through each explainer's front.

    Args:
        rows: dictionaries with ``explainer``, ``epoch``, ``front`` and the two numbers.
        across: key of the number along the horizontal axis.
        up: key of the number along the vertical axis.

    Returns:
        RGB picture ``(height, width, 3)`` uint8.

    """
    figure = Figure(figsize=(6.4, 4.2), dpi=90)
    figure.subplots_adjust(left=0.11, right=0.97, bottom=0.11, top=0.96)
    axis = figure.subplots()
    for place, explainer in enumerate(dict.fromkeys(row["explainer"] for row in rows)):
        own = [row for row in rows if row["explainer"] == explainer]
        front = sorted((row[across], row[up]) for row in own if row["front"])
        axis.scatter([row[across] for row in own], [row[up] for row in own], s=14, color=colour(place), alpha=0.5)
        axis.plot(*zip(*front, strict=True), color=colour(place), marker="o", markersize=4, linewidth=0.8, label=explainer)
    axis.set_xlabel(across, fontsize=8)
    axis.set_ylabel(up, fontsize=8)
    axis.grid(alpha=0.25)
    axis.tick_params(labelsize=7)
    axis.legend(fontsize=7, frameon=False)
    return _drawn(figure)


def _drawn(figure: Figure) -> Picture:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _figure(summary: Mapping[str, Any], score: str, logarithmic: bool) -> Figure:
    parts = summary["parts"]
    columns = min(3, len(parts))
    lines = -(-len(parts) // columns)
    figure = Figure(figsize=(4.4 * columns, 3.6 * lines + 0.7), dpi=120, layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False, sharey=True).ravel()
    for axis, part in zip(axes, parts, strict=False):
        _panel(axis, summary, part, score)
        axis.set_title(f"{part['network']} on {part['data']}", fontsize=9)
        axis.set_xlabel(score + (" per target" if score in ("seconds", "forwards") else ""), fontsize=8)
        if logarithmic:
            axis.set_xscale("symlog" if score == "forwards" else "log", **({"linthresh": 1} if score == "forwards" else {}))
    for axis in axes[len(parts) :]:
        axis.set_axis_off()
    for axis in axes[::columns]:
        axis.set_ylabel("faithfulness gap", fontsize=8)
    handles = {label: handle for axis in axes for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.legend(
        handles.values(), handles.keys(), loc="outside lower center", ncols=min(6, len(handles)), fontsize=7, frameon=False
    )
    return figure


def _panel(axis: Axes, summary: Mapping[str, Any], part: Mapping[str, Any], score: str) -> None:
    rows = {(row["explainer"], row["score"]): row for row in part["scores"]}
    for place, explainer in enumerate(ordered(summary, part)):
        across, up = rows.get((explainer, score)), rows.get((explainer, _FAITHFULNESS))
        if across is None or up is None or across["mean"] is None or up["mean"] is None:
            continue
        control = explainer in summary["controls"]
        label = f"{explainer} (control)" if control else explainer
        marker = ("X", "P", "D", "v")[place % 4] if control else "os^"[place // len(COLOURS) % 3]
        axis.errorbar(
            across["mean"], up["mean"], xerr=_ends(across), yerr=_ends(up),
            fmt=marker, color="0.55" if control else colour(place), label=label, markersize=6, elinewidth=0.8,
        )  # fmt: skip
    axis.grid(alpha=0.25)
    axis.tick_params(labelsize=7)


def _ends(row: Mapping[str, Any]) -> list[list[float]] | None:
    if row["low"] is None or row["high"] is None:
        return None
    return [[max(0.0, row["mean"] - row["low"])], [max(0.0, row["high"] - row["mean"])]]
