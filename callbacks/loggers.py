"""Logs pictures, tables, charts and checkpoints to W&B, TensorBoard and MLflow."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch.loggers import Logger, MLFlowLogger, TensorBoardLogger, WandbLogger

from segaudit.callbacks.lightning_internals import (
    wandb_artifact_name,
    wandb_has_logged,
    wandb_note_logged,
    wandb_wants_checkpoints,
)
from segaudit.report.picture import Picture, side_by_side

#: Class maps by name, each with the names of its classes.
Masks = Mapping[str, tuple[Picture, Mapping[int, str]]]


def log_picture(loggers: Sequence[Logger], key: str, picture: Picture, step: int) -> None:
    """Show an RGB picture ``(height, width, 3)`` on every logger that can show pictures."""
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.add_image(key, picture, step, dataformats="HWC")
        elif isinstance(logger, WandbLogger):
            logger.log_image(key, [picture], step=step)
        elif isinstance(logger, MLFlowLogger):
            logger.experiment.log_image(logger.run_id, picture, key=_mlflow_name(key), step=step)


def log_pictures(
    loggers: Sequence[Logger],
    key: str,
    pictures: Sequence[Picture],
    captions: Sequence[str],
    step: int,
    masks: Sequence[Masks] | None = None,
) -> None:
    """Show RGB pictures ``(height, width, 3)``: one by one on W&B, with masks as overlays, else side by side.

    Args:
        loggers: the Trainer's loggers.
        key: key of the pictures.
        pictures: at least one.
        captions: one per picture.
        step: optimizer steps taken so far.
        masks: class maps by name for each picture, of its size.

    """
    options: dict[str, list[Any]] = {"caption": list(captions)}
    if masks is not None:
        options["masks"] = [
            {name: {"mask_data": labels, "class_labels": dict(names)} for name, (labels, names) in one.items()}
            for one in masks
        ]
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            logger.log_image(key, list(pictures), step=step, **options)
    others = [logger for logger in loggers if isinstance(logger, TensorBoardLogger | MLFlowLogger)]
    if others:
        log_picture(others, key, side_by_side(pictures), step)


def log_table(loggers: Sequence[Logger], key: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], step: int) -> None:
    """Show a table on W&B and MLflow. Cells may be RGB pictures; MLflow does not get their columns."""
    drawn = [any(isinstance(row[i], np.ndarray) for row in rows) for i in range(len(columns))]
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            import wandb

            data = [[wandb.Image(cell) if isinstance(cell, np.ndarray) else cell for cell in row] for row in rows]
            logger.log_table(key, columns=list(columns), data=data, step=step)
        elif isinstance(logger, MLFlowLogger):
            shown = {name: [row[i] for row in rows] for i, name in enumerate(columns) if not drawn[i]}
            logger.experiment.log_table(logger.run_id, shown, f"{_mlflow_name(key)}/step={step:06d}.json")


def log_charts(
    loggers: Sequence[Logger],
    key: str,
    charts: Mapping[str, Callable[[], Any]],
    picture: Callable[[], Picture],
    step: int,
) -> None:
    """Show charts of :mod:`wandb.plot` on W&B, and one picture of them on the other loggers.

    Args:
        loggers: the Trainer's loggers.
        key: key of the picture.
        charts: functions that make the charts, by key; called only if a logger needs them.
        picture: function that makes the picture; called only if a logger needs it.
        step: optimizer steps taken so far.

    """
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            logger.log_metrics({place: chart() for place, chart in charts.items()}, step)
    others = [logger for logger in loggers if isinstance(logger, TensorBoardLogger | MLFlowLogger)]
    if others:
        log_picture(others, key, picture(), step)


def log_checkpoint(
    loggers: Sequence[Logger],
    path: str,
    metadata: Mapping[str, float | int | str],
    aliases: Sequence[str],
    always: bool = False,
) -> None:
    """Log a checkpoint as an artifact of the type ``model``, with the audit's scores as its metadata.

    Every WandbLogger whose ``log_model`` asks for checkpoints gets it. The artifact has the name that Lightning would give
    it, and Lightning, which would log the file without the scores, is told that it is logged. The same version of a file
    is logged only once.

    Args:
        loggers: the Trainer's loggers.
        path: path of the checkpoint.
        metadata: scores by key, epoch, step.
        aliases: aliases of this version, such as ``["best"]``; W&B adds ``latest``.
        always: logs the checkpoint whatever ``log_model`` is. An offline run, whose logger does not accept ``log_model``,
            stores a copy of the file in the folder ``WANDB_DATA_DIR`` until ``wandb sync``.

    """
    for logger in loggers:
        if not isinstance(logger, WandbLogger) or not (always or wandb_wants_checkpoints(logger)):
            continue
        if wandb_has_logged(logger, path):
            continue
        import wandb

        about = {**metadata, "original_filename": Path(path).name}
        artifact = wandb.Artifact(wandb_artifact_name(logger), type="model", metadata=about)
        artifact.add_file(path, name="model.ckpt", policy=logger.add_file_policy)
        logger.experiment.log_artifact(artifact, aliases=["latest", *aliases])
        wandb_note_logged(logger, path)


def _mlflow_name(key: str) -> str:
    """Return a name that MLflow accepts, as Lightning's MLFlowLogger makes it for metrics."""
    return re.sub("[^a-zA-Z0-9_/. -]+", "", key)
