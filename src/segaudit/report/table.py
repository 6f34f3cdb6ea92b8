"""The table of explainers by score."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table
from torch import Tensor

from segaudit.auditor import Auditor

_COUNTS = ("images", "targets", "lost")
_ARROWS = {True: " ↑", False: " ↓", None: ""}


def score_table(auditor: Auditor, values: Mapping[str, Tensor], title: str = "") -> Table:
    """Lay out what :meth:`Auditor.compute` gave: a row an explainer, controls apart, a column a score.

    An arrow tells which direction is better. What does not depend on an explainer stands in the caption.

    Args:
        auditor: whose explainers and scores these are.
        values: by ``<explainer>/<score>`` or ``<score>``.
        title: above the table.

    """
    directions = auditor.directions
    shared = {name: value for name, value in values.items() if "/" not in name}
    columns = [name for name in directions if name not in shared]
    caption = " · ".join(f"{name} {int(value) if name in _COUNTS else _number(value)}" for name, value in shared.items())
    table = Table(title=title, caption=caption, title_justify="left", caption_justify="left")
    table.add_column("explainer", no_wrap=True)
    for name in columns:
        table.add_column(name.replace("_", " ") + _ARROWS[directions[name]], justify="right")
    table.add_column("unscored", justify="right")
    for control in (False, True):
        for name, explainer in auditor.explainers.items():
            if explainer.control == control:
                row = [_number(values[f"{name}/{column}"]) for column in columns]
                unscored = f"{int(values[f'{name}/unscored'])}"
                table.add_row(f"{name} (control)" if control else name, *row, unscored)
        table.add_section()
    return table


def summary_line(auditor: Auditor, values: Mapping[str, Tensor], metrics: Mapping[str, Tensor]) -> str:
    """One line of an epoch: what was validated, and the scores of :func:`main_explainer`.

    Args:
        auditor: whose explainers and scores these are.
        values: what :meth:`Auditor.compute` gave.
        metrics: logged by the model, by key.

    """
    name = main_explainer(auditor)
    known = [f"{key} {float(metrics[key]):.3f}" for key in ("val/loss", "val/iou") if key in metrics]
    scores = [
        f"{score} {float(values[f'{name}/{score}']):.3f}"
        for score in auditor.directions
        if f"{name}/{score}" in values and score not in ("seconds", "forwards")
    ]
    counts = f"{int(values['images'])} images, {int(values['targets'])} targets"
    return f"{' · '.join([*known, counts])} · {name}: {', '.join(scores)}"


def main_explainer(auditor: Auditor) -> str:
    """The explainer that a headline speaks of: ``dea`` where it is audited, else the first that is no control."""
    explainers = [name for name, explainer in auditor.explainers.items() if not explainer.control]
    explainers = explainers or list(auditor.explainers)
    return "dea" if "dea" in explainers else explainers[0]


def difference_table(rows: Sequence[Mapping[str, Any]], first: str) -> Table:
    """Lay out what :func:`segaudit.report.comparison` gave.

    Args:
        rows: of the comparison.
        first: name of the run that the others are compared with.

    """
    caption = (
        "difference: other less first, over the targets that both have scored; interval by bootstrap over images; p by sign "
        "flips, adjusted for all tests of this table"
    )
    table = Table(title=f"Differences from {first}", title_justify="left", caption=caption, caption_justify="left")
    for name in ("run", "explainer", "score"):
        table.add_column(name, no_wrap=True)
    for name in ("first", "other", "difference", "95 % interval", "p", "targets"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("")
    for row in rows:
        interval = "" if row["low"] is None else f"{row['low']:.3f} to {row['high']:.3f}"
        numbers = ["-" if row[key] is None else f"{row[key]:.3f}" for key in ("first", "other", "difference")]
        p_value = "" if row["p_value"] is None else f"{row['p_value']:.4f}"
        table.add_row(
            row["run"], row["explainer"], row["score"], *numbers, interval, p_value, str(row["targets"]), row["verdict"]
        )
    return table


def _number(value: Tensor) -> str:
    number = float(value)
    return f"{int(number)}" if number.is_integer() and abs(number) > 1 else f"{number:.3f}"
