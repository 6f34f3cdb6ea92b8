"""AuditAlarm: warns when accuracy rises while explanations get worse."""

import json
from collections.abc import Sequence
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_warn

from segaudit.callbacks.audit import AttributionAudit
from segaudit.callbacks.lightning_internals import state_key
from segaudit.callbacks.logged_values import audits, logged_values
from segaudit.records.files import atomic_write
from segaudit.selection.candidate import higher_is_better
from segaudit.statistics import DriftAlarm, TargetSeries


class AuditAlarm(Callback):
    """Warns when a score of the audit gets worse while the accuracy does not fall, or when maps ignore the weights.

    The mean of each score over the panel's targets is watched by a cumulative sum (:class:`segaudit.statistics.DriftAlarm`).
    The alarm goes off if the sum passes its threshold, the score has become worse by at least ``min_change``, and the
    accuracy is not below that of the audits it is compared with. It needs five audits before. In a training where nothing
    changes but noise, all watched scores together raise it in at most 5 % of 50 audits (docs/decisions.md). It warns once,
    and again only after the change has gone. A WandbLogger gets an alert. ``alarm.json`` in the audit's folder has its
    state.

    If ``randomisation_full`` is among the audit's metrics, the alarm also goes off if the maps correlate with those of an
    untrained model by more than ``randomisation_limit``.

    Args:
        explainer: name of the explainer to watch.
        scores: names of the scores to watch; their directions must be known.
        accuracy: key of the accuracy in the log; higher is better.
        min_change: smallest change that matters, in the score's unit. Raise it where scores wander without a cause.
        level: gone. ``min_change`` and the false-alarm rate above take its place.
        randomisation_limit: largest accepted rank correlation with the maps of an untrained model, in [-1, 1].
        stop: ends the training too.
        prefix: prefix of the audit to watch.

    Raises:
        ValueError: if a number is out of its range, the direction of a score is not known, or ``level`` is given.

    """

    def __init__(
        self,
        explainer: str = "dea",
        scores: Sequence[str] = ("off_target_leakage", "stability"),
        accuracy: str = "val/iou",
        min_change: float = 0.05,
        level: float | None = None,
        randomisation_limit: float = 0.9,
        stop: bool = False,
        prefix: str = "audit",
    ) -> None:
        if level is not None:
            raise ValueError(
                "AuditAlarm has no level any more: leave it out, and use min_change, the smallest change that matters "
                "(docs/upgrading.md)."
            )
        if min_change < 0:
            raise ValueError(f"min_change must be at least 0, got {min_change}.")
        self.explainer = explainer
        self.scores = {score: higher_is_better(score) for score in scores}
        self.accuracy = accuracy
        self.min_change = min_change
        self.randomisation_limit = randomisation_limit
        self.stop = stop
        self.prefix = prefix
        #: The current alarms: a sentence by score.
        self.raised: dict[str, str] = {}
        self._series = TargetSeries()
        self._accuracies: list[float] = []
        self._panel = ""
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
        self._add(audit, logged_values(trainer, [self.accuracy], "AuditAlarm")[self.accuracy], trainer.current_epoch)
        states = {score: self._watch(score) for score in self.scores}
        wrong = {score: text for score, (text, _) in states.items() if text}
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
        if trainer.is_global_zero and audit.folder is not None:
            self._write(audit.folder, {score: state for score, (_, state) in states.items()})

    def state_dict(self) -> dict[str, Any]:
        """Return the audits so far and the current alarms."""
        return {
            "series": self._series.state_dict(),
            "accuracies": self._accuracies,
            "panel": self._panel,
            "raised": self.raised,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the audits so far and the current alarms; those of an older version are left out."""
        if "series" not in state_dict:
            return
        self._series.load_state_dict(state_dict["series"])
        self._accuracies, self._panel = list(state_dict["accuracies"]), state_dict["panel"]
        self.raised = dict(state_dict["raised"])

    def _add(self, audit: AttributionAudit, accuracy: float, epoch: int) -> None:
        """Add an audit; audits of another panel are forgotten."""
        panel = audit.panel.settings if audit.panel is not None else ""
        if panel != self._panel:
            self._series, self._accuracies, self._panel = TargetSeries(audit.series.targets), [], panel
        rows = [row for row in audit.records if row["explainer"] == self.explainer]
        self._series.add(epoch, rows, list(self.scores))
        self._accuracies = [*self._accuracies[: len(self._series) - 1], accuracy]

    def _watch(self, score: str) -> tuple[str, dict[str, Any]]:
        """Return a warning if the score has become worse, else an empty text; and the alarm's state."""
        # All means are computed anew, on the targets that count now: a class that joins must not look like a change.
        sign = -1 if self.scores[score] else 1
        means, _ = self._series.means(f"{self.explainer}/{score}")
        watch = DriftAlarm(self.min_change, scores=len(self.scores))
        known: list[float] = []
        raised = False
        for mean, accuracy in zip(means.tolist(), self._accuracies, strict=True):
            if isfinite(mean):
                raised = watch.update(sign * mean)
                known.append(accuracy)
                before = float(np.mean(known[watch.reference_audits] or [accuracy]))
                raised = raised and accuracy >= before
            else:
                raised = False
        state = {
            "audits": watch.count,
            "mean": means[-1] if len(means) and isfinite(means[-1]) else None,
            "reference": sign * watch.reference if isfinite(watch.reference) else None,
            "sum": watch.cusum,
            "threshold": watch.threshold,
            "raised": raised,
        }
        if not raised:
            return "", state
        return (
            f"{self.explainer}/{score} has gone from {sign * watch.reference:.3f} to {means[-1]:.3f} over the same "
            f"{self._series.scored(f'{self.explainer}/{score}')} targets, while {self.accuracy} has not fallen "
            f"({before:.3f} before, {accuracy:.3f} now)"
        ), state

    def _write(self, folder: Path, states: dict[str, dict[str, Any]]) -> None:
        """Write ``alarm.json``, for the report."""
        found = {"explainer": self.explainer, "accuracy": self.accuracy, "scores": states, "raised": self.raised}
        with atomic_write(folder / "alarm.json") as draft:
            draft.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")

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
