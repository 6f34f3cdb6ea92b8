"""Pictures, tables, charts and checkpoints on the dashboards of W&B, TensorBoard and MLflow."""

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

#: Class maps by name, and the names of the classes in them.
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
    """Show RGB pictures ``(height, width, 3)``: one by one on W&B, with masks that can be laid over them, else side by side.

    Args:
        loggers: of the Trainer.
        key: where.
        pictures: at least one.
        captions: one a picture.
        step: optimizer steps that were taken.
        masks: of each picture, class maps of its size by name.

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
    """Show a table on W&B and MLflow; a cell may be an RGB picture, whose column MLflow does not get."""
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
    """Show charts of :mod:`wandb.plot` on W&B, and one picture of them on the others; only what is needed is made.

    Args:
        loggers: of the Trainer.
        key: where the picture goes.
        charts: where each chart goes, and how it is made.
        picture: how the picture is made.
        step: optimizer steps that were taken.

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

    On every WandbLogger whose ``log_model`` asks for checkpoints. The artifact has the name that Lightning would give it,
    and Lightning, which would log the file without the scores, takes it as logged; a file that has been logged as it is now
    is not logged again.

    Args:
        loggers: of the Trainer.
        path: of the checkpoint.
        metadata: scores by key, epoch, step.
        aliases: of this version, ``["best"]`` say; W&B adds ``latest``.
        always: log it whatever ``log_model`` says. An offline run, whose logger refuses ``log_model``, keeps a copy of the
            file in the folder ``WANDB_DATA_DIR`` until ``wandb sync``.

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
    """As Lightning's MLFlowLogger does with the names of metrics."""
    return re.sub("[^a-zA-Z0-9_/. -]+", "", key)
