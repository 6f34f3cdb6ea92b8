"""Lightning's Trainer with the project's defaults."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger


class Trainer(lightning.Trainer):
    """Lightning's Trainer, which keeps all that a run writes in one folder.

    Metrics (CSV, TensorBoard), the configuration, checkpoints and the audit go to ``<default_root_dir>/version_<n>``.

    Args:
        logger: further loggers beside the two above, W&B's say; False for none at all. A list that has a CSVLogger is
            taken as it is.
        default_root_dir: the folder of the runs; None stands for ``runs`` in the working directory.
        kwargs: as for Lightning's Trainer.

    """

    def __init__(
        self,
        *,
        logger: Logger | Iterable[Logger] | bool | None = None,
        default_root_dir: str | Path | None = None,
        **kwargs: Any,
    ) -> None:
        root = default_root_dir or "runs"
        given = (
            [] if isinstance(logger, bool) or logger is None else [logger] if isinstance(logger, Logger) else list(logger)
        )
        # A trial run and a bare one write nothing.
        silent = logger is False or kwargs.get("fast_dev_run") or kwargs.get("barebones")
        if not silent and not any(isinstance(one, CSVLogger) for one in given):
            csv = CSVLogger(root, name="")
            _ = csv.experiment  # makes the folder now, so that a run that starts a moment later takes the next number
            # CSV first: Lightning takes the run's folder, and with it that of the configuration, from the first logger.
            given = [csv, TensorBoardLogger(root, name="", version=csv.version, default_hp_metric=False), *given]
        super().__init__(logger=given or logger, default_root_dir=root, **kwargs)
