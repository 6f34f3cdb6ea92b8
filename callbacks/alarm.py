"""AuditAlarm: warns when accuracy rises while explanations get worse."""

from collections.abc import Sequence
from typing import Any

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_warn

from segaudit.callbacks.audit import AttributionAudit
from segaudit.callbacks.lightning_internals import state_key
from segaudit.callbacks.logged_values import audits, logged_values
from segaudit.selection.candidate import higher_is_better
from segaudit.statistics import compare


class AuditAlarm(Callback):
    """Warns when the accuracy rises while a score of the audit gets worse, or when maps hardly depend on the weights.

    Each audit is compared with the best one so far by the score. The alarm goes off if the accuracy is higher than it was
    then, the score is worse by at least ``min_change``, and the interval of the paired difference over images is on the
    worse side of 0. It warns once, and again only after the change has gone. A WandbLogger gets an alert.

    If ``randomisation_full`` is among the audit's metrics, the alarm also goes off if the maps correlate with those of an
    untrained model by more than ``randomisation_limit``.

    Args:
        explainer: name of the explainer to watch.
        scores: names of the scores to watch; their directions must be known.
        accuracy: key of the accuracy in the log; higher is better.
        min_change: smallest change that matters, in the score's unit.
        level: level of the interval. There are many audits, so that 0.95 would go off by chance.
        randomisation_limit: largest accepted rank correlation with the maps of an untrained model, in [-1, 1].
        stop: ends the training too.
        prefix: prefix of the audit to watch.

    Raises:
        ValueError: if a number is out of its range, or the direction of a score is not known.

    """

    def __init__(
        self,
        explainer: str = "dea",
        scores: Sequence[str] = ("off_target_leakage", "stability"),
        accuracy: str = "val/iou",
        min_change: float = 0.05,
        level: float = 0.99,
        randomisation_limit: float = 0.9,
        stop: bool = False,
        prefix: str = "audit",
    ) -> None:
        if not 0 < level < 1 or min_change < 0:
            raise ValueError(f"level must be in (0, 1) and min_change at least 0, got {level} and {min_change}.")
        self.explainer = explainer
        self.scores = {score: higher_is_better(score) for score in scores}
        self.accuracy = accuracy
        self.min_change = min_change
        self.level = level
        self.randomisation_limit = randomisation_limit
        self.stop = stop
        self.prefix = prefix
        #: The current alarms: a sentence by score.
        self.raised: dict[str, str] = {}
        self._best: dict[str, dict[str, Any]] = {}
        self._seen: int | None = None

    @property
    def state_key(self) -> str:
        """Key of the state in checkpoints, which tells two alarms in one Trainer apart."""
        return state_key(self, prefix=self.prefix, explainer=self.explainer)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check that the watched scores are audited.

        Raises:
            MisconfigurationException: if one of them is not.

        """
        if stage != "fit":
            return
        audit = self._audit(trainer)
        absent = [score for score in self.scores if f"{self.explainer}/{score}" not in audit.keys]
        if absent:
            known = f"{', '.join(audit.auditor.explainers)} and {', '.join(audit.auditor.directions)}"
            raise MisconfigurationException(
                f"AuditAlarm watches {', '.join(absent)} of {self.explainer}, which {self.prefix!r} does not audit: choose "
                f"explainer and scores from {known}."
            )

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check the audit, if this validation had one."""
        audit = self._audit(trainer) if trainer.state.fn == "fit" and not trainer.sanity_checking else None
        if audit is None or audit.audited_at != trainer.global_step or self._seen == trainer.global_step:
            return
        self._seen = trainer.global_step
        accuracy = logged_values(trainer, [self.accuracy], "AuditAlarm")[self.accuracy]
        wrong = {score: text for score in self.scores if (text := self._worse(score, audit.records, accuracy, trainer))}
        similar = audit.values.get(f"{self.explainer}/randomisation_full")
        if similar is not None and float(similar) > self.randomisation_limit:
            wrong["randomisation_full"] = (
                f"the maps of {self.explainer} correlate by {float(similar):.2f} with those of an untrained model: they "
                "hardly depend on what the model has learnt"
            )
        for score, text in wrong.items():
            if score not in self.raised:
                self._warn(trainer, text)
        self.raised = wrong

    def state_dict(self) -> dict[str, Any]:
        """Return the best audits so far and the current alarms."""
        return {"best": self._best, "raised": self.raised}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the best audits and the current alarms."""
        self._best, self.raised = state_dict["best"], state_dict["raised"]

    def _worse(self, score: str, records: Sequence[dict[str, Any]], accuracy: float, trainer: Trainer) -> str:
        """Return a warning if the score is worse than in the best audit and the accuracy higher; remember the best."""
        keys = ("sample_id", "class_index", "explainer", score)
        rows = [{key: row[key] for key in keys} for row in records if row["explainer"] == self.explainer]
        known = [row[score] for row in rows if row[score] == row[score]]
        if not known:
            return ""
        mean, sign = sum(known) / len(known), 1 if self.scores[score] else -1
        best = self._best.get(score)
        if best is None or sign * (mean - best["mean"]) > 0:
            self._best[score] = {"epoch": trainer.current_epoch, "accuracy": accuracy, "mean": mean, "records": rows}
            return ""
        change = compare(rows, best["records"], level=self.level)[self.explainer, score]
        worse, nearest = -sign * change.mean, -sign * (change.low if sign < 0 else change.high)
        if not (accuracy > best["accuracy"] and worse >= self.min_change and nearest > 0):
            return ""
        return (
            f"{self.accuracy} has risen from {best['accuracy']:.3f} (epoch {best['epoch']}) to {accuracy:.3f} (epoch "
            f"{trainer.current_epoch}), but {self.explainer}/{score} has gone from {best['mean']:.3f} to {mean:.3f}: "
            f"{change.mean:+.3f} [{change.low:+.3f}, {change.high:+.3f}] over {change.images} images"
        )

    def _warn(self, trainer: Trainer, text: str) -> None:
        rank_zero_warn(f"AuditAlarm: {text}.{' Training stops here.' if self.stop else ''}")
        for logger in trainer.loggers if trainer.is_global_zero else ():
            if isinstance(logger, WandbLogger):
                logger.experiment.alert(title="AuditAlarm", text=text)
        if self.stop:
            trainer.should_stop = True

    def _audit(self, trainer: Trainer) -> AttributionAudit:
        found = audits(trainer).get(self.prefix)
        if found is None:
            raise MisconfigurationException(
                f"AuditAlarm watches the AttributionAudit with the prefix {self.prefix!r}, and there is none: add it."
            )
        return found
