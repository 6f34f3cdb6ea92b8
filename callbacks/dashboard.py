"""Shows the audits of a run on dashboards: directions, pictures, targets, curves, and the trade-off with accuracy."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import isfinite
from typing import Any

import numpy as np
from lightning.pytorch.loggers import Logger, WandbLogger
from torch import Tensor

from segaudit.callbacks.lightning_internals import wandb_key, wandb_step
from segaudit.callbacks.loggers import Masks, log_charts, log_picture, log_pictures, log_table
from segaudit.names import score_key
from segaudit.records.summary import class_name
from segaudit.report.curves import KINDS
from segaudit.report.picture import Panel, Picture, draw_image, draw_maps
from segaudit.report.plots import draw_curves, draw_tradeoff
from segaudit.selection import Candidate, Pareto

#: Largest number of targets in the table; those that are drawn come first.
MOST_ROWS = 200
#: Values of a number in a run's summary on W&B, by whether higher is better: the best and the last one.
SUMMARY = {True: "max,last", False: "min,last", None: "last"}
#: Keys of the accuracy, and whether higher is better.
ACCURACY: dict[str, bool | None] = {"val/iou": True, "val/loss": False}
#: Scores for the trade-off, of which the first audited one is used.
_FAITHFULNESS = ("faithfulness_gap", "insertion_auc", "deletion_auc")
_IGNORED = 255

#: Logged numbers of one audited epoch, with ``epoch``.
Epoch = dict[str, float]


@dataclass
class View:
    """Holds the content of one audit that dashboards show.

    Attributes:
        prefix: prefix of the keys.
        step: optimizer steps taken before the audit.
        names: class names by index.
        explainers: names of the explainers, in their order.
        scores: names of the scores, in their order.
        values: mean scores, by ``<explainer>/<score>`` or ``<score>``.
        records: one row per target and explainer.
        curves: rows of :meth:`segaudit.report.curves.Curves.rows`.
        panels: the targets that are drawn.
        picture: picture of all panels, or None without panels.

    """

    prefix: str
    step: int
    names: Sequence[str]
    explainers: Sequence[str]
    scores: Sequence[str]
    values: Mapping[str, Tensor]
    records: Sequence[Mapping[str, Any]]
    curves: Sequence[Mapping[str, Any]]
    panels: Sequence[Panel]
    picture: Picture | None


def define_directions(loggers: Sequence[Logger], directions: Mapping[str, bool | None]) -> None:
    """Give W&B the direction of each key before anything is logged, so that a run's summary has the best and the last value.

    Args:
        loggers: the Trainer's loggers.
        directions: whether higher is better, by key; None where neither is: the summary has the last value then.

    """
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            axis = wandb_step(logger)
            for key, better in directions.items():
                logger.experiment.define_metric(
                    wandb_key(logger, key), step_metric=axis, step_sync=True, summary=SUMMARY[better]
                )


def log_audit(loggers: Sequence[Logger], view: View) -> None:
    """Show one audit on all loggers: pictures, mean scores, targets, curves."""
    key, step, panels = view.prefix, view.step, view.panels
    maps = [draw_maps(panel) for panel in panels]
    if view.picture is not None:
        log_picture(loggers, f"{key}/panels", view.picture, step)
        captions = [f"{panel.sample_id}: {class_name(view.names, panel.class_index)}" for panel in panels]
        masks = [_masks(panel, view.names) for panel in panels]
        log_pictures(loggers, f"{key}/overlays", [draw_image(panel) for panel in panels], captions, step, masks)
        for name in view.explainers:
            log_pictures(loggers, f"{key}/panels/{name}", [pictures[name] for pictures in maps], captions, step)
    means = [
        [name, *(float(view.values.get(score_key(name, score), view.values.get(score, np.nan))) for score in view.scores)]
        for name in view.explainers
    ]
    log_table(loggers, f"{key}/scores", ["explainer", *view.scores], means, step)
    if view.records:
        log_table(loggers, f"{key}/target_scores", *_targets(view, maps), step)
    if view.curves:
        kinds = {row["kind"] for row in view.curves}
        charts = {f"{key}/curves/{kind}": partial(_curve_chart, view, kind) for kind in KINDS if kind in kinds}
        log_charts(loggers, f"{key}/curves", charts, lambda: draw_curves(view.curves, view.explainers), step)


def log_epochs(
    loggers: Sequence[Logger],
    prefix: str,
    step: int,
    epochs: Sequence[Epoch],
    explainers: Sequence[str],
    directions: Mapping[str, bool | None],
) -> None:
    """Show accuracy against faithfulness over the audited epochs so far, with the front of each explainer.

    Args:
        loggers: the Trainer's loggers.
        prefix: prefix of the audit's keys.
        step: optimizer steps taken so far.
        epochs: logged numbers of each epoch.
        explainers: names of the explainers, in their order.
        directions: as for :func:`define_directions`.

    """
    _mend_summaries(loggers, epochs, directions)
    score, rows = tradeoff(prefix, epochs, explainers, directions)
    if rows:
        chart = partial(_tradeoff_chart, rows, score)
        log_charts(
            loggers, f"{prefix}/pareto", {f"{prefix}/pareto": chart}, lambda: draw_tradeoff(rows, "val/iou", score), step
        )


def tradeoff(
    prefix: str, epochs: Sequence[Epoch], explainers: Sequence[str], directions: Mapping[str, bool | None]
) -> tuple[str, list[dict[str, Any]]]:
    """Return accuracy and faithfulness of every explainer and epoch.

    Args:
        prefix: prefix of the audit's keys.
        epochs: logged numbers of each epoch.
        explainers: names of the explainers, in their order.
        directions: as for :func:`define_directions`.

    Returns:
        The score that was taken for faithfulness (empty without one), and one row per explainer and epoch with both
        numbers and ``front``, which tells whether no other epoch beats it.

    """
    audited = [
        name for name in _FAITHFULNESS if any(f"{prefix}/{explainer}/{name}" in directions for explainer in explainers)
    ]
    rows: list[dict[str, Any]] = []
    for explainer in explainers if audited else ():
        key = f"{prefix}/{explainer}/{audited[0]}"
        rule = Pareto({"val/iou": "max", key: "max" if directions[key] else "min"})
        for one in rule.rank([Candidate(f"epoch {row['epoch']:.0f}", row, epoch=int(row["epoch"])) for row in epochs]):
            if one.scored:
                numbers = {"val/iou": one.candidate.values["val/iou"], audited[0]: one.candidate.values[key]}
                rows.append({"explainer": explainer, "epoch": one.candidate.epoch, **numbers, "front": one.allowed})
    return (audited[0] if audited else "", rows)


def _mend_summaries(loggers: Sequence[Logger], epochs: Sequence[Epoch], directions: Mapping[str, bool | None]) -> None:
    """Write the best finite value to W&B's summaries, which stay NaN once a value was NaN."""
    for key, better in directions.items():
        values = [row[key] for row in epochs if key in row]
        finite = [value for value in values if isfinite(value)]
        if better is None or not finite or len(finite) == len(values):
            continue
        best = {"max": max(finite)} if better else {"min": min(finite)}
        for logger in loggers:
            if isinstance(logger, WandbLogger):
                logger.experiment.summary[wandb_key(logger, key)] = best | {"last": values[-1]}


def _masks(panel: Panel, names: Sequence[str]) -> Masks:
    """Return prediction and truth with the class names, as W&B's overlays take them."""
    found = {}
    for name, labels in (("prediction", panel.prediction), ("ground_truth", panel.mask)):
        if labels is not None:
            labels = labels.where((labels >= 0) & (labels <= _IGNORED), _IGNORED)
            shown = sorted({*range(len(names)), *labels.unique().tolist()} - {_IGNORED})
            classes = {c: class_name(names, c) for c in shown} | {_IGNORED: "ignored"}
            found[name] = (labels.numpy().astype(np.uint8), classes)
    return found


def _targets(view: View, maps: Sequence[Mapping[str, Picture]]) -> tuple[list[str], list[list[Any]]]:
    """Return columns and rows of the table of targets, drawn targets first; a missing score is None."""
    drawn = {(panel.sample_id, panel.class_index): own for panel, own in zip(view.panels, maps, strict=True)}
    shown = sorted(view.records, key=lambda row: (row["sample_id"], row["class_index"]) not in drawn)[:MOST_ROWS]
    rows = []
    for row in shown:
        picture = drawn.get((row["sample_id"], row["class_index"]), {}).get(row["explainer"])
        scores = [row[score] if score in row and isfinite(row[score]) else None for score in view.scores]
        named = class_name(view.names, row["class_index"])
        rows.append([row["sample_id"], named, row["explainer"], picture, *scores, row["reason"]])
    return ["sample_id", "class", "explainer", "picture", *view.scores, "reason"], rows


def _curve_chart(view: View, kind: str) -> Any:
    import wandb

    lines = {
        name: [row for row in view.curves if (row["explainer"], row["kind"]) == (name, kind)] for name in view.explainers
    }
    lines = {name: rows for name, rows in lines.items() if rows}
    return wandb.plot.line_series(
        [[row["fraction"] for row in rows] for rows in lines.values()],
        [[row["mean"] for row in rows] for rows in lines.values()],
        keys=list(lines), title=f"{kind}: S relative to S(x), mean over targets", xname="share of pixels",
    )  # fmt: skip


def _tradeoff_chart(rows: Sequence[Mapping[str, Any]], score: str) -> Any:
    import wandb

    columns = ["explainer", "epoch", "val/iou", score, "front"]
    table = wandb.Table(columns=columns, data=[[row[name] for name in columns] for row in rows])
    return wandb.plot.scatter(table, "val/iou", score, title=f"IoU and {score}, one point per audited epoch and explainer")
