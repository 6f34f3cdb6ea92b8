"""Pictures and tables on the dashboards of W&B and TensorBoard."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger


def log_picture(loggers: Sequence[Logger], key: str, picture: npt.NDArray[np.uint8], step: int) -> None:
    """Show an RGB picture ``(height, width, 3)`` on every logger that can show pictures."""
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.add_image(key, picture, step, dataformats="HWC")
        elif isinstance(logger, WandbLogger):
            logger.log_image(key, [picture], step=step)


def log_table(loggers: Sequence[Logger], key: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], step: int) -> None:
    """Show a table on every logger that can show tables."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            logger.log_table(key, columns=list(columns), data=[list(row) for row in rows], step=step)
