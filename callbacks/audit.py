"""AttributionAudit: scores a model's explanations at its validation epochs."""

import time
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn
from rich.table import Table
from torch import Tensor
from torchmetrics import Metric

from segaudit.attribution import Explainer
from segaudit.attribution.context import isolate_rng
from segaudit.auditor import PROTOCOL, AuditedBatch, Auditor
from segaudit.callbacks.audit_loop import AuditLoop, AuditResult
from segaudit.callbacks.checks import check_monitors, check_strategy
from segaudit.callbacks.dashboard import ACCURACY, Epoch, View, define_directions, log_audit, log_epochs
from segaudit.callbacks.epoch_files import write_epoch, write_panel
from segaudit.callbacks.images import AuditImages, class_names, first_loader
from segaudit.callbacks.lightning_internals import state_key
from segaudit.callbacks.on_error import ErrorPolicy, OnError
from segaudit.callbacks.panel import PanelDrawer, warn_if_random
from segaudit.forwards.batch import Sample, unpack
from segaudit.forwards.panel import Panel
from segaudit.forwards.target import TargetSelector
from segaudit.intervention import Intervention, Perturbation
from segaudit.names import score_key
from segaudit.records.summary import class_name
from segaudit.report import AuditFolder, draw_panels, score_table
from segaudit.report.table import summary_line
from segaudit.report.terminal import say
from segaudit.statistics import TargetSeries


class AttributionAudit(Callback):
    """Audits explanations of fixed targets of the validation images, and logs the scores beside IoU.

    In ``fit`` the targets are drawn once, from the validation masks: the panel. It has fixed images, classes and regions,
    of each class about as many, so that epochs can be compared. A class counts from the first audit at which the model has
    learnt it (docs/decisions.md). Without masks, the panel is made of the model's predictions at the first audit at which
    it tells classes apart; earlier epochs log NaN. In ``validate`` and ``test`` the model's predictions are explained.

    Means are adjusted for targets without a score (:func:`segaudit.statistics.panel_means`). An epoch that has scored less
    than 80 % of the targets of learnt classes logs NaN for that score and takes no part in decisions.

    Scores are logged as ``audit/<explainer>/<score>``, so that ModelCheckpoint and EarlyStopping can monitor them. In the
    run folder, ``audit/`` gets the records of every target (Parquet) and a picture. The audit runs in ``fit``, ``validate``
    and ``test``, with any LightningModule whose forward gives logits. It does not change training, not by a bit. One image
    is audited before training begins, so that errors show early.

    Args:
        explainers: explainers by name, or a list of explainers or of their short names. Defaults to those of
            :class:`segaudit.Auditor`.
        metrics: metrics or their short names. Defaults to those of :class:`segaudit.Auditor`.
        selector: chooses the targets of an image. In ``fit`` its classes, ``min_area`` and ``max_per_image`` say what the
            panel may have.
        intervention: sets how pixels are removed.
        perturbations: changes of the input for stability. Defaults to noise and brightness.
        every_n_epochs: audits the epochs n, 2n, ... and the last one. A ModelCheckpoint that monitors a score needs the
            same number or a multiple of it; EarlyStopping needs a Trainer that validates only then.
        max_images: largest number of audited images; they are always the same, drawn once with ``seed``.
        batch_size: number of images that are explained at once. Defaults to a training batch in ``fit``, and to 8
            elsewhere. Passes are then no larger, unless ``max_batch`` is set; docs/speed.md lists the memory it takes.
        time_budget: share of the epoch's training time that an audit may take in ``fit``; at least one batch is audited.
            An audit that is cut short leaves out targets of the panel; below 80 % of them its scores are NaN.
        panels: number of targets to draw.
        seed: seed of the choice of images.
        prefix: prefix of the keys in the log; two audits in one Trainer need different ones.
        on_error: decides what an error does once training has begun. "warn" leaves the affected images out, counts them as
            ``audit/lost``, warns with the reason, and lets training continue. "raise" ends the run. In ``validate`` and
            ``test`` an error always ends the run.
        main: name of the explainer that verdicts and headlines are about. Defaults to ``dea``, else to the first that is no
            control.

    Attributes:
        auditor: explains and scores.
        values: scores of the last audit, as :meth:`segaudit.Auditor.compute` names them.
        records: rows of the last audit, of all ranks.
        lost: a sentence for each image that the last audit lost.
        audited_at: optimizer steps taken before the last audit of ``fit``.
        epochs: values that each audit of ``fit`` logged, and the accuracy of its epoch.
        panel: targets of the audits of ``fit``; None before they are drawn.
        series: scores of the panel's targets at each audit of ``fit``.
        folder: folder of the last audit's records and pictures; None before there is one.
        offline: writes the folder of an offline audit; None in training, where an audit is small.

    Raises:
        ValueError: if a number is out of its range, or a name is unknown or ambiguous.

    Example:
        >>> from lightning.pytorch import Trainer
        >>> trainer = Trainer(callbacks=[AttributionAudit(max_images=8)], logger=False)

    """

    def __init__(
        self,
        explainers: dict[str, Explainer | str] | list[Explainer | str] | None = None,
        metrics: list[Metric | str] | None = None,
        selector: TargetSelector | None = None,
        intervention: Intervention | None = None,
        perturbations: list[Perturbation] | None = None,
        every_n_epochs: int = 1,
        max_images: int = 16,
        batch_size: int | None = None,
        time_budget: float | None = None,
        panels: int = 4,
        seed: int = 0,
        prefix: str = "audit",
        on_error: OnError = "warn",
        main: str | None = None,
    ) -> None:
        for name, value in (("every_n_epochs", every_n_epochs), ("max_images", max_images), ("batch_size", batch_size)):
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}.")
        if time_budget is not None and time_budget <= 0:
            raise ValueError(f"time_budget is a share of the epoch's training time above 0, got {time_budget}.")
        self.auditor = Auditor(explainers, metrics, selector, intervention, perturbations, main)
        self.every_n_epochs = every_n_epochs
        self.max_images = max_images
        self.batch_size = batch_size
        self.time_budget = time_budget
        self.seed = seed
        self.prefix = prefix
        self.values: dict[str, Tensor] = {}
        self.records: list[dict[str, Any]] = []
        self.lost: list[str] = []
        self.audited_at: int | None = None
        self.epochs: list[Epoch] = []
        self.panel: Panel | None = None
        self.series = TargetSeries()
        self.folder: Path | None = None
        self.offline: AuditFolder | None = None
        self._policy = ErrorPolicy(prefix, on_error)
        self._loop = AuditLoop(self.auditor, self.unpack, self._policy, panels)
        self._title = ""
        self._drawn = False
        self._fresh = False
        self._epoch_started = time.perf_counter()

    @property
    def state_key(self) -> str:
        """Key of the state in checkpoints, which tells two audits in one Trainer apart."""
        return state_key(self, prefix=self.prefix)

    @property
    def keys(self) -> list[str]:
        """Keys in the log, without the prefix."""
        return [*self._loop.keys, "not_learnt", "seconds"]

    @property
    def directions(self) -> dict[str, bool | None]:
        """Directions by the key in the log: whether higher is better, None where neither is."""
        own = {key: self.auditor.directions.get(key.rpartition("/")[2]) for key in self.keys}
        own |= {"images": None, "targets": None, "lost": False, "not_learnt": False, "seconds": None}
        return ACCURACY | {score_key("", key, self.prefix): better for key, better in own.items()}

    @property
    def provenance(self) -> dict[str, Any]:
        """Settings that a figure depends on beside the model, the data, the explainers and the scores."""
        return {"seed": self.seed, "precision": self.auditor.batching.precision}

    def unpack(self, batch: Any) -> Sample:
        """Take images, masks, ids and cues out of a batch; override it for batches of another form.

        Understands ``(images, masks, ...)``, a lone tensor, and mappings with the keys ``image`` or ``images``, ``mask``,
        ``masks``, ``label`` or ``labels``, ``id`` and ``cue``.
        """
        try:
            return unpack(batch)
        except ValueError:
            pass
        raise MisconfigurationException(
            f"AttributionAudit finds no images in a batch of the type {type(batch).__name__}: subclass it and override "
            "unpack(batch), which returns segaudit.callbacks.Sample(images, masks)."
        )

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check the settings, take the Trainer's precision, and give W&B the directions of the scores.

        Raises:
            MisconfigurationException: if devices hold parts of the weights, or a monitor would see scores of another epoch.

        """
        check_strategy(trainer.strategy)
        self.auditor.score_second_fill(self.offline is not None)
        self.auditor.begin_run().use_precision_of(trainer.precision)
        with isolate_rng():
            define_directions(trainer.loggers, self.directions)
        if stage == "fit":
            check_monitors(trainer, self.prefix, self.keys, self.every_n_epochs)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Audit one image and forget the result, so that an error ends the run before training takes time."""
        if (
            trainer.enable_validation and first_loader(trainer.val_dataloaders) is None
        ):  # validation comes after several epochs
            return
        self._block(trainer)
        with isolate_rng():
            images = AuditImages(trainer, pl_module, trainer.val_dataloaders) if trainer.enable_validation else None
            if images is not None and len(images):
                audited = self._loop.try_one(trainer, images, self.seed)
                self._draw(trainer, images, audited)
            else:
                rank_zero_warn(
                    f"{self.prefix}: nothing will be audited, for there is no validation: fit needs a validation loader "
                    "with images, the module a validation_step, and limit_val_batches must not be 0."
                )

    @property
    def _drawer(self) -> PanelDrawer:
        return PanelDrawer(self.auditor.selector, self.max_images, self.seed)

    def _draw(self, trainer: Trainer, images: AuditImages, audited: AuditedBatch) -> None:
        """Draw the panel from the masks, unless a resumed run has one that was drawn with the same settings."""
        settings = self._drawer.settings(images)
        if self.panel is not None and self.panel.settings != settings:
            rank_zero_warn(
                f"{self.prefix}: the configuration asks for another panel ({settings}) than the checkpoint has "
                f"({self.panel.settings}): a new series starts, and so do alarm and selection."
            )
            self.panel, self.series = None, TargetSeries()
        if self.panel is None:
            self.panel = self._drawer.from_masks(trainer, images, self.unpack, audited.classes, audited.channels)
        self._drawn = True
        if self.panel is not None:
            warn_if_random(images, self.unpack, self.panel, self.prefix)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock of the time budget."""
        self._epoch_started = time.perf_counter()

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Audit at the last moment at which ModelCheckpoint can still see logged scores."""
        if trainer.sanity_checking or (trainer.state.fn == "fit" and not self._due(trainer)):
            return
        self._audit(trainer, pl_module, trainer.val_dataloaders)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Audit the test images."""
        self._audit(trainer, pl_module, trainer.test_dataloaders)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print a line in ``fit``, the table in ``validate``."""
        if self._fresh and trainer.state.fn == "fit":
            with self._policy.warn_on_error(trainer, "the charts of the audit could not be logged"):
                self._log_epoch(trainer)
            waiting = self._waiting(pl_module, trainer)
            self._say(
                trainer, f"{self._title} · {summary_line(self.auditor, self.values, trainer.callback_metrics)}{waiting}"
            )
        elif self._fresh:
            self._print_table(trainer)
        self._fresh = False

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the table."""
        self._print_table(trainer)
        self._fresh = False

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the table of the last audit, and the folder of the other results."""
        self._print_table(trainer)
        if self.values and self.folder is not None:
            self._say(trainer, f"pictures and records: {self.folder}")

    def state_dict(self) -> dict[str, Any]:
        """Return the epochs so far and the panel with its series, in plain types and tensors."""
        panel = None if self.panel is None else self.panel.state_dict()
        return {"protocol": PROTOCOL, "epochs": self.epochs, "panel": panel, "series": self.series.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the epochs and the panel; the epochs of another protocol cannot be compared and are left out."""
        if state_dict.get("protocol") != PROTOCOL:
            rank_zero_warn(
                f"{self.prefix}: the checkpoint's audits follow older rules (docs/upgrading.md), with which new figures "
                "cannot be compared: a new series starts, and so do alarm and selection."
            )
            return
        self.epochs = list(state_dict["epochs"])
        self.panel = None if state_dict["panel"] is None else Panel.from_state_dict(state_dict["panel"])
        self.series.load_state_dict(state_dict["series"])

    def _due(self, trainer: Trainer) -> bool:
        epoch = trainer.current_epoch + 1
        last = epoch == trainer.max_epochs or 0 < trainer.max_steps <= trainer.global_step or trainer.should_stop
        return epoch % self.every_n_epochs == 0 or last

    def _audit(self, trainer: Trainer, pl_module: LightningModule, loaders: Any) -> None:
        started = time.perf_counter()
        deadline = None
        if self.time_budget is not None and trainer.state.fn == "fit":
            deadline = started + self.time_budget * (started - self._epoch_started)
        with isolate_rng():  # reading a data set may draw random numbers, and so may a logger
            images = AuditImages(trainer, pl_module, loaders)
            most = self.max_images if self.offline is None else self.offline.max_images
            on_batch = None if self.offline is None else self.offline.add
            if trainer.state.fn == "fit" and not self._drawn:  # the first validation comes after several epochs
                with self._policy.warn_on_error(trainer, "the panel could not be drawn"):
                    self._draw(trainer, images, self._loop.try_one(trainer, images, self.seed))
            panel = self.panel if trainer.state.fn == "fit" else None
            order = images.order(most, self.seed) if panel is None else panel.order
            found = self._loop.run(trainer, images, order, self._block(trainer), deadline, on_batch, panel)
            if trainer.state.fn == "fit":
                self._follow(trainer, images, found)
            self.values, self.records, self.lost = found.values, found.records, found.lost
            if self.offline is not None:
                self.offline.gather()
            folder = trainer.log_dir  # asks all ranks
            self._title = f"{self.prefix}: epoch {trainer.current_epoch}, {self._taken(trainer, started)}"
            self._fresh = True
            self.audited_at = trainer.global_step
            if self.lost:
                rank_zero_warn(
                    f"{self.prefix}: {len(self.lost)} of {len(self.lost) + int(self.values['images'])} images could not be "
                    f"audited, and training goes on. The first: {self.lost[0]}"
                )
            if trainer.is_global_zero and not trainer.fast_dev_run and self.offline is None:  # type: ignore[attr-defined]
                with self._policy.warn_on_error(trainer, "records and pictures of the audit could not be written"):
                    self._write(trainer, pl_module, folder, found)
        device = pl_module.device
        shown = {name: value for name, value in self.values.items() if not name.endswith("/targets")}
        logged = {score_key("", name, self.prefix): value.to(device) for name, value in shown.items()}
        logged[score_key("", "seconds", self.prefix)] = torch.tensor(time.perf_counter() - started, device=device)
        pl_module.log_dict(logged, sync_dist=True)

    def _follow(self, trainer: Trainer, images: AuditImages, found: AuditResult) -> None:
        """Add the audit to the series, and replace its scores by those that can be compared with other epochs'."""
        if self.panel is None and self._drawn:
            self.panel = self._drawer.from_predictions(images, found.targets, int(found.values["images"]))
        keys = [key for key in found.values if f"{key}/targets" in found.values]
        if self.panel is None:
            found.values |= dict.fromkeys(keys, torch.tensor(torch.nan))
            return
        if not len(self.series):
            self.series = TargetSeries(self.panel.identities)
        self.series.add(trainer.current_epoch, found.records)
        first = next(iter(self.auditor.explainers))
        for key in keys:
            name = key if "/" in key else score_key(first, key)
            found.values[key] = torch.tensor(self.series.means(name)[0][-1], dtype=torch.float32)
            found.values[f"{key}/targets"] = torch.tensor(float(self.series.scored(name)))
        found.not_learnt = self.series.not_learnt
        found.values["not_learnt"] = torch.tensor(float(len(found.not_learnt)))

    def _block(self, trainer: Trainer) -> int:
        """Return the number of images to explain at once; in training, passes are then no larger."""
        if trainer.state.fn != "fit":
            return self.batch_size or 8
        size = getattr(first_loader(trainer.train_dataloader), "batch_size", None)
        size = self.batch_size or (size if isinstance(size, int) else 8)
        self.auditor.batching.limit_to(size)
        return size

    def _taken(self, trainer: Trainer, started: float) -> str:
        """Format the audit's seconds; in ``fit`` also their share of the epoch so far, which `time_budget` limits."""
        seconds = time.perf_counter() - started
        share = f" ({seconds / (started - self._epoch_started):.0%} of the epoch's)" if trainer.state.fn == "fit" else ""
        return f"{seconds:.1f} s{share}"

    def _write(self, trainer: Trainer, pl_module: LightningModule, folder: str | None, found: AuditResult) -> None:
        """Write records and a picture into the run folder, and show the audit on the loggers."""
        names = class_names(pl_module, getattr(trainer, "datamodule", None))
        when = {"epoch": trainer.current_epoch, "step": trainer.global_step}
        rows = [when | {"class": class_name(names, row["class_index"])} | row for row in found.records]
        picture = draw_panels(found.panels, names) if found.panels else None
        if folder is not None:
            self.folder = Path(folder) / self.prefix
            write_epoch(trainer, self.folder, rows, picture)
            if self.panel is not None and len(self.panel) and trainer.state.fn == "fit":
                write_panel(self.folder, self.panel, names)
        explainers, scores = list(self.auditor.explainers), list(self.auditor.directions)
        view = View(
            self.prefix, trainer.global_step, names, explainers, scores, found.values, found.records,
            found.curves.rows(), found.panels, picture,
        )  # fmt: skip
        log_audit(trainer.loggers, view)

    def _log_epoch(self, trainer: Trainer) -> None:
        """Store the logged values of the epoch, the model's too, which it logs after the audit."""
        metrics, known = trainer.callback_metrics, self.directions
        logged = {key: float(value) for key, value in metrics.items() if key in known}
        self.epochs.append({"epoch": float(trainer.current_epoch)} | logged)
        if trainer.is_global_zero and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            with isolate_rng():
                log_epochs(
                    trainer.loggers, self.prefix, trainer.global_step, self.epochs, list(self.auditor.explainers), known
                )

    def _waiting(self, pl_module: LightningModule, trainer: Trainer) -> str:
        """Say which classes do not count yet, as the end of a line."""
        if self.panel is None:
            return " · not compared yet: the model calls nearly all of most images one class"
        names = class_names(pl_module, getattr(trainer, "datamodule", None))
        waiting = [class_name(names, one) for one in self.series.not_learnt]
        return f" · not learnt yet: {', '.join(waiting)}" if waiting else ""

    def _print_table(self, trainer: Trainer) -> None:
        if self.values:
            self._say(trainer, score_table(self.auditor, self.values, self._title))

    def _say(self, trainer: Trainer, what: str | Table) -> None:
        if trainer.is_global_zero:
            with self._policy.warn_on_error(trainer, "the scores could not be printed"):
                say(what)
