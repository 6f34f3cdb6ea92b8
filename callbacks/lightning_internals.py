"""Holds every use of Lightning's private API, so that a new release is checked in one place.

pyproject.toml caps the Lightning version because of this file. To raise the cap, read what has changed in the names below
and run tests/callbacks and tests/integration.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from weakref import proxy

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import LightningCLI
from lightning.pytorch.loggers import Logger, WandbLogger


def state_key(callback: Callback, **settings: Any) -> str:
    """Return the key of a callback's state in checkpoints; the settings tell two of one class apart."""
    return callback._generate_state_key(**settings)


def before_transfer(pl_module: LightningModule, batch: Any) -> Any:
    """Change a batch as the hooks ``on_before_batch_transfer`` do; a data module's hook goes first."""
    return pl_module._on_before_batch_transfer(batch, 0)


def check_interval(callback: Callback) -> int:
    """Return the interval, in epochs, at which a ModelCheckpoint reads its monitor; 1 for other callbacks."""
    return getattr(callback, "_every_n_epochs", None) or 1


def wandb_key(logger: WandbLogger, key: str) -> str:
    """Return a key as in W&B, with the logger's prefix."""
    return f"{logger._prefix}{logger.LOGGER_JOIN_CHAR}{key}" if logger._prefix else key


def wandb_step(logger: WandbLogger) -> str:
    """Return the key of the steps that W&B plots against."""
    return "global_step" if logger._wandb_init.get("sync_tensorboard") else "trainer/global_step"


def wandb_wants_checkpoints(logger: WandbLogger) -> bool | str:
    """Return the ``log_model`` of a logger: False, True (at the end), or ``all`` (each as it is written)."""
    return logger._log_model


def wandb_artifact_name(logger: WandbLogger) -> str:
    """Return the name that Lightning would give a checkpoint's artifact."""
    return logger._checkpoint_name or f"model-{logger.experiment.id}"


def wandb_has_logged(logger: WandbLogger, path: str) -> bool:
    """Tell whether this version of the checkpoint file has been logged."""
    return bool(logger._logged_model_time.get(path) == Path(path).stat().st_mtime)


def wandb_note_logged(logger: WandbLogger, path: str) -> None:
    """Mark the checkpoint as logged, because Lightning would log it again without the scores."""
    logger._logged_model_time[path] = Path(path).stat().st_mtime


class CheckpointFiles(ModelCheckpoint):
    """Writes and removes checkpoints at the moments at which Lightning's ModelCheckpoint would.

    A subclass decides which; nothing is saved otherwise.
    """

    def saves_at_train_epoch_end(self, trainer: Trainer) -> bool:
        """Tell whether Lightning would save at the end of the training epoch, not of the validation."""
        return self._should_save_on_train_epoch_end(trainer)

    def logged(self, trainer: Trainer) -> dict[str, Any]:
        """Return the logged values, with epoch and step, for the file's name."""
        return self._monitor_candidates(trainer)

    def exists(self, path: str) -> bool:
        """Tell whether a checkpoint is there."""
        return bool(self._fs.exists(path))

    def write(self, trainer: Trainer, path: str, log: Callable[[Logger, str], None]) -> None:
        """Write a checkpoint; ``log`` is called for each logger before Lightning would give it the file alone."""
        trainer.save_checkpoint(path, self.save_weights_only)
        self._last_global_step_saved = trainer.global_step
        self._last_checkpoint_saved = path
        if trainer.is_global_zero:
            for logger in trainer.loggers:
                log(logger, path)
                logger.after_save_checkpoint(proxy(self))

    def write_last(self, trainer: Trainer, logged: dict[str, Any]) -> None:
        """Write ``last.ckpt`` if ``save_last`` is set."""
        self._save_last_checkpoint(trainer, logged)

    def remove(self, trainer: Trainer, path: str, current: str) -> None:
        """Remove a checkpoint, unless it is the current one or the one that the run resumed from."""
        if path != current and self._should_remove_checkpoint(trainer, path, current):
            self._remove_checkpoint(trainer, path)


class CommandLine(LightningCLI):
    """Adds the verb `audit`, which reads only weights from a checkpoint."""

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Return the verbs and, for each, the arguments that are not options of its own."""
        return LightningCLI.subcommands() | {"audit": {"model", "datamodule"}}

    def _parse_ckpt_path(self) -> None:
        # Lightning would read arguments of the model from the checkpoint. An audit takes them from the configuration, and
        # only weights from a file that may come from anywhere.
        if self.config.get("subcommand") != "audit":
            super()._parse_ckpt_path()
