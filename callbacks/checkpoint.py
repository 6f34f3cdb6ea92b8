"""AuditCheckpoint: saves the checkpoints that a rule over accuracy and explanation chooses."""

import random
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers import Logger, WandbLogger
from lightning.pytorch.utilities import rank_zero_warn

from segaudit.auditor import PROTOCOL
from segaudit.callbacks.lightning_internals import CheckpointFiles, state_key, wandb_wants_checkpoints
from segaudit.callbacks.logged_values import audits, logged_values
from segaudit.callbacks.loggers import log_checkpoint
from segaudit.report.terminal import say
from segaudit.selection import Candidate, Ranked, SelectionRule, Tolerant, chosen, verdict, write_selection
from segaudit.selection.panel import revise, scored_targets


class AuditCheckpoint(CheckpointFiles):
    """Chooses checkpoints by accuracy and by explanation together.

    A validation is a candidate if every number that the rule uses was logged then. So an epoch that was not audited is no
    candidate. A candidate with a score that is NaN never wins. Of two equal candidates, the first wins. If no candidate
    satisfies a rule's bounds, the nearest one is saved, and the verdict says so. ``best_model_path``, ``ckpt_path="best"``
    and ``ckpt_path="last"`` work as with Lightning's ModelCheckpoint. A run that resumes at the end of an epoch draws the
    random numbers that it would have drawn, and segaudit's data give each epoch the batches that it would have had.

    Beside the checkpoints, ``selection.json`` and ``selection.md`` say for every candidate why it won or lost. A
    WandbLogger whose ``log_model`` asks for checkpoints gets them with the logged numbers as their metadata.

    Args:
        rule: ranks the candidates. Defaults to :class:`segaudit.selection.Tolerant`.
        save_top_k: number of checkpoints to save, -1 for all. Candidates that may still win later are saved too, three at
            most.
        save_last: saves ``last.ckpt`` at every validation, from which a killed run resumes.
        save_weights_only: leaves out the optimizer's state.
        dirpath: folder of the checkpoints. Defaults to ``checkpoints/`` in the run folder.
        filename: as for ModelCheckpoint.

    Example:
        >>> from segaudit.selection import Constrained
        >>> keep = AuditCheckpoint(Constrained(subject_to={"audit/dea/off_target_leakage": "<= 0.35"}))
        >>> keep.rule.keys
        ['val/iou', 'audit/dea/off_target_leakage']

    """

    def __init__(
        self,
        rule: SelectionRule | None = None,
        save_top_k: int = 1,
        save_last: bool = True,
        save_weights_only: bool = False,
        dirpath: str | Path | None = None,
        filename: str | None = None,
    ) -> None:
        if save_top_k < -1 or save_top_k == 0:
            raise ValueError(f"save_top_k must be at least 1, or -1 for all, got {save_top_k}.")
        super().__init__(
            dirpath=dirpath,
            filename=filename or "{epoch:03d}-{step:06d}",
            save_last=save_last,
            save_weights_only=save_weights_only,
            enable_version_counter=False,  # an epoch that is repeated after a kill replaces its file
        )
        self.save_top_k = save_top_k
        self.rule = Tolerant() if rule is None else rule
        #: All candidates, in their order.
        self.candidates: list[Candidate] = []
        self._validated = False
        self._rng: dict[str, Any] | None = None

    @property
    def state_key(self) -> str:
        """Key of the state in checkpoints; a run that resumes under another rule starts without candidates."""
        return state_key(self, rule=repr(self.rule))

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check that the rule uses scores that are audited.

        Raises:
            MisconfigurationException: if it does not.

        """
        super().setup(trainer, pl_module, stage)
        if stage != "fit":
            return
        known_audits = audits(trainer)
        for key in self.rule.keys:
            prefix, _, score = key.partition("/")
            if prefix in known_audits:
                known = known_audits[prefix].keys
                if score not in known:
                    raise MisconfigurationException(
                        f"AuditCheckpoint's rule looks at {key!r}, which is not audited; there are "
                        f"{', '.join(f'{prefix}/{name}' for name in known)}."
                    )
            elif prefix == "audit":
                raise MisconfigurationException(
                    f"AuditCheckpoint's rule looks at {key!r}, but no AttributionAudit is among the callbacks: add one."
                )

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Consider the model, where Lightning would save it now."""
        self._validated = True
        if not self.saves_at_train_epoch_end(trainer):
            self._consider(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Consider the model, where Lightning would save it now."""
        if self.saves_at_train_epoch_end(trainer):
            self._consider(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Override ModelCheckpoint's extra save at the end of training: every validation has been considered."""

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the verdict of the rule."""
        if trainer.is_global_zero and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            ranked = self.rule.rank(self.candidates)
            write_selection(Path(str(self.dirpath)), self.rule, ranked)  # a resumed run may have nothing left to do
            with suppress(OSError):  # the terminal may be gone; selection.md has the verdict too
                say(verdict(self.rule, ranked))
            self._log_checkpoints(trainer.loggers)

    def state_dict(self) -> dict[str, Any]:
        """Return candidates, paths and random states, in plain types."""
        return {
            "candidates": [asdict(one) for one in self.candidates],
            "best_model_path": self.best_model_path,
            "last_model_path": self.last_model_path,
            "dirpath": str(self.dirpath),
            "rng": _rng_states(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the candidates; one whose file is gone can no longer be chosen."""
        self.candidates = [Candidate(**one) for one in state_dict["candidates"]]
        for one in self.candidates:
            if one.path and not self.exists(one.path):
                one.path = ""
        self.best_model_path = state_dict["best_model_path"]
        if state_dict["dirpath"] == str(self.dirpath):
            self.last_model_path = state_dict["last_model_path"]
        self._rng = state_dict["rng"]

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore the random states after a resume, before Lightning starts to read data for the epoch."""
        if self._rng is not None:
            _set_rng_states(self._rng)
        self._rng = None

    def _consider(self, trainer: Trainer) -> None:
        """Add the model to the candidates if all numbers that the rule uses were logged now, and rank again."""
        validated, self._validated = self._validated, False
        if trainer.fast_dev_run or trainer.state.fn != "fit" or trainer.sanity_checking or not validated:  # type: ignore[attr-defined]
            return
        logged = self.logged(trainer)
        values = trainer.strategy.broadcast(
            logged_values(trainer, self.rule.keys, "AuditCheckpoint's rule")
        )  # all ranks must decide alike
        path = self.format_checkpoint_name(logged)
        if values:
            one = Candidate(f"epoch {trainer.current_epoch}", values, path, trainer.current_epoch, trainer.global_step)
            self.candidates.append(trainer.strategy.broadcast(replace(one, **self._audited(trainer))))
        self._restart(trainer)
        revise(self.candidates)
        ranked = self.rule.rank(self.candidates)
        staying = self._staying(ranked)
        dropped = [one for one in self.candidates if one.path and not any(one is other for other in staying)]
        old = [one.path for one in dropped]
        for one in dropped:
            one.path = ""
        best = chosen(ranked)
        self.best_model_path = best.candidate.path if best else ""
        if values and self.candidates[-1].path:
            self.write(trainer, path, self._log_to)
        self.write_last(trainer, logged)
        if trainer.is_global_zero:
            write_selection(Path(str(self.dirpath)), self.rule, ranked)
        # Files are removed last: after a kill at any point, all files that last.ckpt names are there.
        for file in old:
            self.remove(trainer, file, path)

    def _audited(self, trainer: Trainer) -> dict[str, Any]:
        """Return what a candidate has of the audits that the rule uses: scores by target, IoU by image, the panel."""
        known = {prefix: audit for prefix, audit in audits(trainer).items() if audit.panel is not None}
        used = {key.partition("/")[0] for key in self.rule.keys} & set(known) or set(list(known)[:1])
        scores: dict[str, Mapping[str, float]] = {}
        ious: dict[str, float] = {}
        for prefix in sorted(used):
            audit = known[prefix]
            first = next(iter(audit.auditor.explainers))
            for key in (key for key in self.rule.keys if key.startswith(f"{prefix}/")):
                name = key.removeprefix(f"{prefix}/")
                name = name if "/" in name else f"{first}/{name}"
                if name in audit.series.keys:
                    scores[key] = audit.series.of_audit(name, trainer.current_epoch)
            ious |= {row["sample_id"]: row["image_iou"] for row in audit.records if "image_iou" in row}
        panel = "; ".join(known[prefix].panel.settings for prefix in sorted(used))  # type: ignore[union-attr]
        return {"scores": scores, "image_iou": ious, "panel": panel, "protocol": PROTOCOL}

    def _restart(self, trainer: Trainer) -> None:
        """Forget candidates of another panel or protocol, which cannot be compared with the newest."""
        if not self.candidates:
            return
        newest = self.candidates[-1]
        old = [one for one in self.candidates if (one.panel, one.protocol) != (newest.panel, newest.protocol)]
        if old:
            rank_zero_warn(
                f"AuditCheckpoint: the selection starts again at {newest.name}; {len(old)} earlier "
                f"{'candidate was' if len(old) == 1 else 'candidates were'} audited on other targets. Their files stay."
            )
            self.candidates = [one for one in self.candidates if not any(one is other for other in old)]

    def _staying(self, ranked: Sequence[Ranked]) -> list[Candidate]:
        """Return the candidates whose files stay: those that lead, or may lead when more come, but not too many."""
        if self.save_top_k == -1:
            return self.candidates
        contenders = self.rule.contenders(self.candidates, self.save_top_k)
        ahead: dict[tuple[str, ...], int] = {}
        staying = []
        for one in (one.candidate for one in ranked if one.scored):
            # Of two candidates with the same scored targets, the one that is behind stays behind.
            scored = scored_targets(one)
            behind = ahead.setdefault(scored, 0)
            ahead[scored] += 1
            if any(one is other for other in contenders) or (scored and behind < self.save_top_k):
                staying.append(one)
        return staying[: self.save_top_k + 3]

    def _log_to(self, logger: Logger, path: str) -> None:
        """Log the file with its scores, on a logger that wants every file."""
        if isinstance(logger, WandbLogger) and wandb_wants_checkpoints(logger) == "all":
            self._log_checkpoints([logger], path)

    def _log_checkpoints(self, loggers: Sequence[Logger], path: str = "") -> None:
        """Log the candidate at ``path``, or all candidates with a file, where a logger's ``log_model`` asks for that."""
        for one in self.candidates:
            if one.path and path in ("", one.path):
                metadata = {key: value for key, value in one.values.items() if isfinite(value)}
                aliases = ["best"] if one.path == self.best_model_path else []
                log_checkpoint(loggers, one.path, metadata | {"epoch": one.epoch, "step": one.step}, aliases)


def _rng_states() -> dict[str, Any]:
    """Return the random states of this process, in types that can be loaded with ``weights_only``."""
    kind, keys, *rest = np.random.get_state()  # noqa: NPY002 -- the global state must continue
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": [str(kind), np.asarray(keys).tolist(), *rest],
        "python": random.getstate(),
    }


def _set_rng_states(states: dict[str, Any]) -> None:
    torch.set_rng_state(states["torch"].cpu())
    if len(states["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([state.cpu() for state in states["cuda"]])
    np.random.set_state(tuple(states["numpy"]))  # noqa: NPY002
    version, keys, gauss = states["python"]
    random.setstate((version, tuple(keys), gauss))
