"""SweepObjective: logs one number for a hyperparameter search with bounds."""

from math import isfinite
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from segaudit.callbacks.lightning_internals import state_key
from segaudit.callbacks.logged_values import logged_values
from segaudit.selection import Candidate, Constrained


class SweepObjective(Callback):
    """Logs the number that a sweep should maximise: the accuracy if all bounds hold, else minus the total excess.

    The order is that of :class:`segaudit.selection.Constrained` for an accuracy in [0, 1], and Deb's (An efficient
    constraint handling method for genetic algorithms, 2000): a model within the bounds is above any that is not, and of two
    outside, the nearer is above. Each audited epoch logs the best number so far, because a search reads a run's last value,
    but the saved checkpoint is the best one. Nothing is logged until an epoch has all numbers.

    Args:
        subject_to: what must hold, by key: ``{"audit/dea/off_target_leakage": "<= 0.35"}``.
        maximize: key of an accuracy in [0, 1].
        key: key of the number in every logger; callbacks cannot monitor it.

    Raises:
        ValueError: if there is no bound, or one cannot be read.

    Example:
        >>> objective = SweepObjective({"audit/dea/off_target_leakage": "<= 0.35"})
        >>> objective.value({"val/iou": 0.75, "audit/dea/off_target_leakage": 0.3})
        0.75
        >>> objective.value({"val/iou": 0.75, "audit/dea/off_target_leakage": 0.6})
        -0.25

    """

    def __init__(self, subject_to: dict[str, str], maximize: str = "val/iou", key: str = "select/objective") -> None:
        self.rule = Constrained(maximize=maximize, subject_to=subject_to)
        self.key = key
        #: The best number so far; None before there is one.
        self.best: float | None = None

    @property
    def state_key(self) -> str:
        """Key of the state in checkpoints, which tells two objectives in one Trainer apart."""
        return state_key(self, key=self.key)

    def value(self, logged: dict[str, float]) -> float | None:
        """Return the objective of one epoch; None if a number is missing or not finite."""
        if not all(isfinite(logged.get(key, float("nan"))) for key in self.rule.keys):
            return None
        one = Candidate("", logged)
        return logged[self.rule.keys[0]] if self.rule.rank([one])[0].allowed else -self.rule.excess(one)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the best objective so far, if the epoch was audited."""
        if trainer.state.fn != "fit" or trainer.sanity_checking:
            return
        logged = logged_values(trainer, self.rule.keys, "SweepObjective")
        if not logged:
            return
        value = self.value(logged)
        if value is not None:
            self.best = value if self.best is None else max(self.best, value)
        if self.best is not None and trainer.is_global_zero:
            for logger in trainer.loggers:
                logger.log_metrics({self.key: self.best, "epoch": float(trainer.current_epoch)}, trainer.global_step)

    def state_dict(self) -> dict[str, Any]:
        """Return the best number so far."""
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the best number."""
        self.best = state_dict["best"]
