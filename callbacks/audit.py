"""AttributionAudit: score a model's explanations at its validation epochs."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn
from rich.table import Table
from torch import Tensor
from torchmetrics import Metric
from tqdm.auto import tqdm

from segaudit.attribution import Explainer
from segaudit.attribution.context import isolate_rng
from segaudit.auditor import DEFAULT_EXPLAINERS, DEFAULT_METRICS, AuditedBatch, Auditor, gather
from segaudit.callbacks.dashboard import ACCURACY, Epoch, View, define_directions, log_audit, log_epochs
from segaudit.callbacks.kept import keep
from segaudit.callbacks.refusal import refuse_parts, refuse_stale_monitors
from segaudit.callbacks.source import Source, class_names, first_loader
from segaudit.errors import brief
from segaudit.intervention import Intervention, Perturbation
from segaudit.intervention.room import free_memory, out_of_memory
from segaudit.report import AuditFolder, Panel, draw_panels, score_table
from segaudit.report.curves import Curves
from segaudit.report.picture import first_targets
from segaudit.report.summary import class_name
from segaudit.report.table import summary_line
from segaudit.report.terminal import say
from segaudit.sample import Sample, unpack
from segaudit.target import TargetSelector

OnError = Literal["warn", "raise"]


class AttributionAudit(Callback):
    """Audit explanations on a fixed subset of the validation images, and log the scores beside IoU.

    Scores are logged as ``audit/<explainer>/<score>``, so that ModelCheckpoint and EarlyStopping can monitor them. In the
    run folder, ``audit/`` gets the records of every target (Parquet) and a picture. Runs in ``fit``, ``validate`` and
    ``test``, with any LightningModule whose forward gives logits, and leaves training as it would have been, bit for bit.
    One image is audited before training begins, so that what cannot work says so before time is spent.

    Args:
        explainers: by name, or a list of explainers or of their short names.
        metrics: metrics or their short names.
        selector: which targets an image gives.
        intervention: how pixels are removed.
        perturbations: changes of the input for stability; noise and brightness unless told.
        every_n_epochs: audit the epochs n, 2n, ... and the last one. A ModelCheckpoint that monitors a score needs the
            same number or a multiple of it; EarlyStopping needs a Trainer that validates only then.
        max_images: how many images are audited; always the same, drawn once with ``seed``.
        batch_size: images that are explained at once; in training as many as a training batch has, and otherwise 8, unless
            told. No pass has more images then, unless ``max_batch`` says otherwise; docs/speed.md has the memory it takes.
        time_budget: share of the epoch's training time that an audit may take in ``fit``; at least one batch is audited.
            The images are a prefix of one fixed order, so that epochs stay comparable.
        panels: how many targets are drawn.
        seed: of the draw of images.
        prefix: of the keys in the log; two audits in one Trainer need two.
        on_error: what becomes of an error once training has begun. "warn": the images it concerns are left out, counted
            as ``audit/lost`` and told of, and training goes on. "raise": it ends the run, as it always does in
            ``validate`` and ``test``.

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
    ) -> None:
        for name, value in (("every_n_epochs", every_n_epochs), ("max_images", max_images), ("batch_size", batch_size)):
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}.")
        if time_budget is not None and time_budget <= 0:
            raise ValueError(f"time_budget is a share of the epoch's training time above 0, got {time_budget}.")
        if on_error not in get_args(OnError):
            raise ValueError(f"on_error must be 'warn' or 'raise', got {on_error!r}.")
        self.auditor = Auditor(
            DEFAULT_EXPLAINERS if explainers is None else explainers,
            DEFAULT_METRICS if metrics is None else metrics,
            selector,
            intervention,
            perturbations,
        )
        self.every_n_epochs = every_n_epochs
        self.max_images = max_images
        self.batch_size = batch_size
        self.time_budget = time_budget
        self.panels = panels
        self.seed = seed
        self.prefix = prefix
        self.on_error = on_error
        #: Scores of the last audit, as :meth:`Auditor.compute` names them.
        self.values: dict[str, Tensor] = {}
        #: Records of the last audit, of all ranks.
        self.records: list[dict[str, Any]] = []
        #: The optimizer steps that had been taken at the last audit of ``fit``.
        self.audited_at: int | None = None
        #: What `segaudit audit` keeps and writes; None in training, where an audit is small.
        self.whole: AuditFolder | None = None
        #: How many images a whole audit has; None for all.
        self.whole_images: int | None = None
        #: What each audit of ``fit`` logged, and the accuracy of its epoch.
        self.epochs: list[Epoch] = []
        #: Why images of the last audit are missing, a sentence each.
        self.lost: list[str] = []
        self._title = ""
        self._folder: Path | None = None
        self._fresh = False
        self._epoch_started = time.perf_counter()

    @property
    def state_key(self) -> str:
        """Tells two audits in one Trainer apart."""
        return self._generate_state_key(prefix=self.prefix)

    @property
    def keys(self) -> list[str]:
        """What is logged, without the prefix."""
        shared = self.auditor.shared
        each = [score for score in self.auditor.directions if score not in shared]
        scores = [f"{name}/{score}" for name in self.auditor.explainers for score in [*each, "unscored"]]
        return [*scores, *shared, "images", "targets", "lost", "seconds"]

    @property
    def directions(self) -> dict[str, bool | None]:
        """Whether higher is better, by the key in the log; None where neither is."""
        own = {key: self.auditor.directions.get(key.rpartition("/")[2]) for key in self.keys}
        own |= {"images": None, "targets": None, "lost": False, "seconds": None}
        return ACCURACY | {f"{self.prefix}/{key}": better for key, better in own.items()}

    @property
    def provenance(self) -> dict[str, Any]:
        """What a figure depends on beside the model, the data and the settings of explainers and scores."""
        return {"seed": self.seed, "precision": self.auditor.intervention.room.precision}

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
        """Refuse what cannot work; calculate as the Trainer does; tell W&B which way the scores are better.

        Raises:
            MisconfigurationException: if weights are in parts, or a monitor would look at scores of another epoch.

        """
        refuse_parts(trainer.strategy)
        self.auditor.intervention.room.follow(trainer.precision)
        with isolate_rng():
            define_directions(trainer.loggers, self.directions)
        if stage == "fit":
            refuse_stale_monitors(trainer, self.prefix, self.keys, self.every_n_epochs)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Audit one image and forget it: an error here ends the run, before an epoch of training is spent."""
        if trainer.enable_validation and first_loader(trainer.val_dataloaders) is None:  # it comes after several epochs
            return
        self._at_once(trainer)
        with isolate_rng():
            source = Source(trainer, pl_module, trainer.val_dataloaders) if trainer.enable_validation else None
            if source is not None and len(source):
                audited = self._update(source, source.order(1, self.seed))
                if trainer.strategy.reduce_boolean_decision(bool(len(audited.targets))):  # computing asks all ranks
                    self.auditor.compute()
            else:
                rank_zero_warn(
                    f"{self.prefix}: nothing will be audited, for there is no validation: fit needs a validation loader "
                    "with images, the module a validation_step, and limit_val_batches must not be 0."
                )
        self.auditor.reset()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock of the time budget."""
        self._epoch_started = time.perf_counter()

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Audit, the last moment at which scores can be logged for ModelCheckpoint to see."""
        if trainer.sanity_checking or (trainer.state.fn == "fit" and not self._due(trainer)):
            return
        self._audit(trainer, pl_module, trainer.val_dataloaders)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Audit the test images."""
        self._audit(trainer, pl_module, trainer.test_dataloaders)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print a line in ``fit``, the table in ``validate``."""
        if self._fresh and trainer.state.fn == "fit":
            with self._excused(trainer, "the charts of the audit could not be logged"):
                self._log_epoch(trainer)
            self._say(trainer, f"{self._title} · {summary_line(self.auditor, self.values, trainer.callback_metrics)}")
        elif self._fresh:
            self._print_table(trainer)
        self._fresh = False

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the table."""
        self._print_table(trainer)
        self._fresh = False

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the table of the last audit, and where the rest is."""
        self._print_table(trainer)
        if self.values and self._folder is not None:
            self._say(trainer, f"pictures and records: {self._folder}")

    def state_dict(self) -> dict[str, Any]:
        """The epochs so far, in plain types."""
        return {"epochs": self.epochs}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where the run was."""
        self.epochs = list(state_dict["epochs"])

    def _due(self, trainer: Trainer) -> bool:
        epoch = trainer.current_epoch + 1
        last = epoch == trainer.max_epochs or 0 < trainer.max_steps <= trainer.global_step or trainer.should_stop
        return epoch % self.every_n_epochs == 0 or last

    def _audit(self, trainer: Trainer, pl_module: LightningModule, loaders: Any) -> None:
        started = time.perf_counter()
        budget = None
        if self.time_budget is not None and trainer.state.fn == "fit":
            budget = self.time_budget * (started - self._epoch_started)
        self.auditor.reset()
        self.lost = []
        with isolate_rng():  # reading a data set may draw random numbers, and so may a logger
            panels, curves = self._walk(trainer, Source(trainer, pl_module, loaders), started, budget)
            self.lost = [why for of in gather(self.lost) for why in of]
            self.values = self._compute(trainer) | {"lost": torch.tensor(float(len(self.lost)))}
            self.records = self.auditor.records()
            if self.whole is not None:
                self.whole.gather()
            else:
                curves = Curves.merge(gather(curves))
            folder = trainer.log_dir  # asks all ranks
            self._title = f"{self.prefix}: epoch {trainer.current_epoch}, {self._taken(trainer, started)}"
            self._fresh = True
            self.audited_at = trainer.global_step
            if self.lost:
                rank_zero_warn(
                    f"{self.prefix}: {len(self.lost)} of {len(self.lost) + int(self.values['images'])} images could not be "
                    f"audited, and training goes on. The first: {self.lost[0]}"
                )
            if trainer.is_global_zero and not trainer.fast_dev_run:  # type: ignore[attr-defined]
                with self._excused(trainer, "records and pictures of the audit could not be kept"):
                    self._write(trainer, pl_module, folder, panels, curves)
        device = pl_module.device
        logged = {f"{self.prefix}/{name}": value.to(device) for name, value in self.values.items()}
        logged[f"{self.prefix}/seconds"] = torch.tensor(time.perf_counter() - started, device=device)
        pl_module.log_dict(logged, sync_dist=True)

    def _taken(self, trainer: Trainer, started: float) -> str:
        """The audit's seconds; in ``fit`` also what share they are of the epoch's so far, which `time_budget` bounds."""
        seconds = time.perf_counter() - started
        share = f" ({seconds / (started - self._epoch_started):.0%} of the epoch's)" if trainer.state.fn == "fit" else ""
        return f"{seconds:.1f} s{share}"

    def _walk(self, trainer: Trainer, source: Source, started: float, budget: float | None) -> tuple[list[Panel], Curves]:
        """Audit this rank's share of the images, in step with the other ranks."""
        order = source.order(self.max_images if self.whole is None else self.whole_images, self.seed)
        # An image belongs to one rank whatever the sampler would pad, and to one block however many ranks there are, unless
        # there are so few images that some rank would have none.
        block = min(self._at_once(trainer), max(1, -(-len(order) // trainer.world_size)))
        starts = range(0, len(order), block)
        panels: list[Panel] = []
        curves = Curves()
        bar = tqdm(
            total=len(order),
            desc="Audit",
            unit="image",
            leave=self.whole is not None,
            disable=trainer.progress_bar_callback is None or not trainer.is_global_zero,
        )
        with bar:
            for turn in range(0, len(starts), trainer.world_size):
                these = starts[turn : turn + trainer.world_size]
                if trainer.global_rank < len(these):
                    start = these[trainer.global_rank]
                    for audited in self._try(source, order[start : start + block], self._forgiving(trainer)):
                        if self.whole is not None:
                            self.whole.add(start, audited)
                        else:
                            curves.add(audited)
                        panels += first_targets(audited, self.panels - len(panels))
                bar.update(min(block * len(these), len(order) - these[0]))
                spent = budget is not None and time.perf_counter() - started >= budget
                if trainer.strategy.reduce_boolean_decision(spent, all=False) or trainer.fast_dev_run:  # type: ignore[attr-defined]
                    break
        return panels, curves

    def _at_once(self, trainer: Trainer) -> int:
        """Images of a block; in training no pass has more, unless told."""
        if trainer.state.fn != "fit":
            return self.batch_size or 8
        size = getattr(first_loader(trainer.train_dataloader), "batch_size", None)
        size = self.batch_size or (size if isinstance(size, int) else 8)
        self.auditor.intervention.room.fit(size)
        return size

    def _try(self, source: Source, images: list[int], forgiving: bool) -> list[AuditedBatch]:
        """Audit images together, or where that fails one by one, and note which of them cannot be audited."""
        try:
            return [self._update(source, images)]
        except Exception as error:
            if not forgiving:
                raise
            why, full = brief(error), out_of_memory(error)
        if full:
            free_memory()  # only here, where the error and with it what its frames held are gone
        if len(images) > 1:
            return [one for image in images for one in self._try(source, [image], forgiving)]
        self.lost.append(f"image {images[0]}: {why}")
        return []

    def _update(self, source: Source, images: list[int]) -> AuditedBatch:
        sample = self.unpack(source.batch(images))
        ids = images if sample.ids is None else sample.ids
        return self.auditor.update(source.pl_module, sample.images, sample.masks, ids, sample.cues)

    def _compute(self, trainer: Trainer) -> dict[str, Tensor]:
        """Scores over all images; NaN, beside what was counted, where a metric fails at that."""
        with self._excused(trainer, "the scores of the audit could not be computed"):
            return self.auditor.compute()
        missing = {key: torch.tensor(torch.nan) for key in self.keys if key not in ("lost", "seconds")}
        return missing | self.auditor.counts()

    def _forgiving(self, trainer: Trainer) -> bool:
        return self.on_error == "warn" and trainer.state.fn == "fit"

    @contextmanager
    def _excused(self, trainer: Trainer, what: str) -> Iterator[None]:
        """Let training go on where the audit's own books fail: a full disk, a logger without its server."""
        try:
            yield
        except Exception as error:
            if not self._forgiving(trainer):
                raise
            rank_zero_warn(f"{self.prefix}: {what}, and training goes on. {brief(error)}")

    def _write(
        self, trainer: Trainer, pl_module: LightningModule, folder: str | None, panels: list[Panel], curves: Curves
    ) -> None:
        if self.whole is not None:
            return  # Trainer.audit writes it
        names = class_names(pl_module, getattr(trainer, "datamodule", None))
        step = trainer.global_step
        when = {"epoch": trainer.current_epoch, "step": step}
        rows = [when | {"class": class_name(names, row["class_index"])} | row for row in self.records]
        picture = draw_panels(panels, names) if panels else None
        if folder is not None:
            self._folder = Path(folder) / self.prefix
            keep(trainer, self._folder, rows, picture)
        view = View(
            self.prefix, step, names, list(self.auditor.explainers), list(self.auditor.directions), self.values,
            self.records, curves.rows(), panels, picture,
        )  # fmt: skip
        log_audit(trainer.loggers, view)

    def _log_epoch(self, trainer: Trainer) -> None:
        """Note what was logged, of the model's own keys too, which were not there when the audit was."""
        metrics, known = trainer.callback_metrics, self.directions
        logged = {key: float(value) for key, value in metrics.items() if key in known}
        self.epochs.append({"epoch": float(trainer.current_epoch)} | logged)
        if trainer.is_global_zero and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            with isolate_rng():
                log_epochs(
                    trainer.loggers, self.prefix, trainer.global_step, self.epochs, list(self.auditor.explainers), known
                )

    def _print_table(self, trainer: Trainer) -> None:
        if self.values:
            self._say(trainer, score_table(self.auditor, self.values, self._title))

    def _say(self, trainer: Trainer, what: str | Table) -> None:
        if trainer.is_global_zero:
            with self._excused(trainer, "the scores could not be printed"):
                say(what)
