"""Draws candidates in the plane of a rule's first two numbers."""

from collections.abc import Sequence
from math import isfinite
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from segaudit import formatting
from segaudit.records.files import atomic_write
from segaudit.selection.candidate import Ranked
from segaudit.selection.listing import chosen
from segaudit.selection.rules import SelectionRule


def draw_selection(path: Path, rule: SelectionRule, ranked: Sequence[Ranked]) -> bool:
    """Draw every candidate by the rule's first two keys, with a colour for each run.

    A hollow circle is a candidate that the rule does not let win. The star is the chosen one.

    Args:
        path: path of the PNG file.
        rule: the rule.
        ranked: its ranking.

    Returns:
        Whether a picture was drawn. There is none for a rule with one key, or if no candidate has both numbers.

    """
    keys = rule.keys[:2]
    drawn = [one for one in ranked if all(isfinite(one.candidate.values.get(key, float("nan"))) for key in keys)]
    if len(keys) < 2 or not drawn:
        return False
    figure = Figure(figsize=(6.4, 4.6), dpi=120, layout="constrained")
    axis = figure.subplots()
    runs = list(dict.fromkeys(one.candidate.name.rpartition(" epoch ")[0] for one in drawn))
    for place, run in enumerate(runs):
        colour = formatting.colour(place)
        for allowed in (True, False):
            of_run = [
                one.candidate.values
                for one in drawn
                if one.allowed == allowed and one.candidate.name.rpartition(" epoch ")[0] == run
            ]
            across, up = ([values[key] for values in of_run] for key in keys)
            axis.scatter(
                across, up, s=28, marker="o", edgecolors=colour, facecolors=colour if allowed else "none",
                label=(run or None) if allowed or not any(one.allowed for one in drawn) else None,
            )  # fmt: skip
    if best := chosen(ranked):
        values = best.candidate.values
        axis.scatter(
            values[keys[0]],
            values[keys[1]],
            s=240,
            marker="*",
            color="black",
            zorder=3,
            label=f"chosen: {best.candidate.name}",
        )
    axis.set_xlabel(keys[0])
    axis.set_ylabel(keys[1])
    axis.set_title(str(rule), fontsize=8, loc="left", wrap=True)
    axis.grid(alpha=0.25)
    axis.legend(fontsize=7, frameon=False)
    with atomic_write(path) as draft:
        FigureCanvasAgg(figure).print_png(str(draft))
    return True
