"""Lays out tables for the terminal: explainers by score, and differences between runs."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table
from torch import Tensor

from segaudit.auditor import Auditor
from segaudit.formatting import interval, number, p_value, with_arrow
from segaudit.names import score_key
from segaudit.records.summary import default_main

_COUNTS = ("images", "targets", "lost", "not_learnt")


def score_table(auditor: Auditor, values: Mapping[str, Tensor], title: str = "") -> Table:
    """Lay out the scores of an audit, with a row for each explainer, controls apart, and a column for each score.

    An arrow tells which direction is better. Scores that do not depend on an explainer are in the caption.

    Args:
        auditor: the auditor that computed the scores.
        values: scores of :meth:`Auditor.compute`, by ``<explainer>/<score>`` or ``<score>``.
        title: text above the table.

    """
    directions = auditor.directions
    shared = {name: value for name, value in values.items() if "/" not in name}
    columns = [name for name in directions if name not in shared]
    caption = " · ".join(f"{name} {int(value) if name in _COUNTS else _score(value)}" for name, value in shared.items())
    table = Table(title=title, caption=caption, title_justify="left", caption_justify="left")
    table.add_column("explainer", no_wrap=True)
    for name in columns:
        table.add_column(with_arrow(name.replace("_", " "), directions[name]), justify="right")
    table.add_column("unscored", justify="right")
    for control in (False, True):
        for name, explainer in auditor.explainers.items():
            if explainer.control == control:
                row = [_score(values[score_key(name, column)]) for column in columns]
                unscored = f"{int(values[f'{name}/unscored'])}"
                table.add_row(f"{name} (control)" if control else name, *row, unscored)
        table.add_section()
    return table


def summary_line(auditor: Auditor, values: Mapping[str, Tensor], metrics: Mapping[str, Tensor]) -> str:
    """Return one line about an epoch, with the model's metrics and the scores of :func:`main_explainer`.

    Args:
        auditor: the auditor that computed the scores.
        values: scores of :meth:`Auditor.compute`.
        metrics: metrics that the model logged, by key.

    """
    name = main_explainer(auditor)
    known = [f"{key} {_decimal(metrics[key])}" for key in ("val/loss", "val/iou") if key in metrics]
    scores = [
        f"{score} {_decimal(values[score_key(name, score)])}"
        for score in auditor.directions
        if score_key(name, score) in values and score not in ("seconds", "forwards")
    ]
    counts = f"{int(values['images'])} images, {int(values['targets'])} targets"
    return f"{' · '.join([*known, counts])} · {name}: {', '.join(scores)}"


def main_explainer(auditor: Auditor) -> str:
    """Return the explainer of headlines: the auditor's ``main``, else ``dea``, else the first that is no control."""
    return auditor.main or default_main(
        list(auditor.explainers), [name for name, one in auditor.explainers.items() if one.control]
    )


def difference_table(rows: Sequence[Mapping[str, Any]], first: str) -> Table:
    """Lay out a comparison of runs.

    Args:
        rows: rows of :func:`segaudit.report.comparison`.
        first: name of the run that the others are compared with.

    """
    caption = (
        "difference: other minus first, over the targets that both have scored; interval: paired t over images; p: sign "
        "flips, adjusted for all tests of this table"
    )
    table = Table(title=f"Differences from {first}", title_justify="left", caption=caption, caption_justify="left")
    for name in ("run", "explainer", "score"):
        table.add_column(name, no_wrap=True)
    for name in ("first", "other", "difference", "95 % interval", "p", "targets"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("")
    for row in rows:
        numbers = [number(row[key]) for key in ("first", "other", "difference")]
        numbers += [interval(row["low"], row["high"]), p_value(row["p_value"], digits=4), str(row["targets"])]
        table.add_row(row["run"], row["explainer"], row["score"], *numbers, row["verdict"])
    return table


def _score(value: Tensor) -> str:
    """Format a score; counts, such as those of forwards, have no decimals."""
    return _decimal(value) if not float(value).is_integer() or abs(value) <= 1 else f"{int(value)}"


def _decimal(value: Tensor) -> str:
    return number(float(value), missing=f"{float(value)}")
