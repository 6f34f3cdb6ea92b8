"""AttributionAudit: score a model's explanations at its validation epochs."""

import time
from collections.abc import Mapping, Sequence
from math import lcm
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, EarlyStopping
from PIL import Image
from rich.console import Console
from torch import Tensor
from torch.utils.data import DataLoader, default_collate
from torchmetrics import Metric
from tqdm.auto import tqdm

from segaudit.attribution import Explainer
from segaudit.attribution.context import isolate_rng
from segaudit.auditor import DEFAULT_EXPLAINERS, DEFAULT_METRICS, Auditor, gather
from segaudit.callbacks.dashboard import ACCURACY, Epoch, View, define_directions, log_audit, log_epochs
from segaudit.intervention import Intervention, Perturbation
from segaudit.names import did_you_mean
from segaudit.report import AuditFolder, Panel, draw_panels, score_table
from segaudit.report.curves import Curves
from segaudit.report.picture import first_targets
from segaudit.sample import Sample, unpack
from segaudit.target import TargetSelector


class AttributionAudit(Callback):
    """Audit explanations on a fixed subset of the validation images, and log the scores beside IoU.

    Scores are logged as ``audit/<explainer>/<score>``, so that ModelCheckpoint and EarlyStopping can monitor them. In the
    run folder, ``audit/`` gets the records of every target (Parquet) and a picture. Runs in ``fit``, ``validate`` and
    ``test``, with any LightningModule whose forward gives logits, and leaves training as it would have been, bit for bit.

    Args:
        explainers: by name, or a list of explainers or of their short names.
        metrics: metrics or their short names.
        selector: which targets an image gives.
        intervention: how pixels are removed.
        perturbations: changes of the input for stability; noise and brightness unless told.
        every_n_epochs: audit the epochs n, 2n, ... and the last one. A ModelCheckpoint that monitors a score needs the
            same number or a multiple of it; EarlyStopping needs a Trainer that validates only then.
        max_images: how many images are audited; always the same, drawn once with ``seed``.
        batch_size: images that are explained at once.
        time_budget: share of the epoch's training time that an audit may take in ``fit``; at least one batch is audited.
            The images are a prefix of one fixed order, so that epochs stay comparable.
        panels: how many targets are drawn.
        seed: of the draw of images.
        prefix: of the keys in the log; two audits in one Trainer need two.

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
        batch_size: int = 8,
        time_budget: float | None = None,
        panels: int = 4,
        seed: int = 0,
        prefix: str = "audit",
    ) -> None:
        for name, value in (("every_n_epochs", every_n_epochs), ("max_images", max_images), ("batch_size", batch_size)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}.")
        if time_budget is not None and time_budget <= 0:
            raise ValueError(f"time_budget is a share of the epoch's training time above 0, got {time_budget}.")
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
        return [*scores, *shared, "images", "targets", "seconds"]

    @property
    def directions(self) -> dict[str, bool | None]:
        """Whether higher is better, by the key in the log; None where neither is."""
        own = {key: self.auditor.directions.get(key.rpartition("/")[2]) for key in self.keys}
        own |= dict.fromkeys(("images", "targets", "seconds"))
        return ACCURACY | {f"{self.prefix}/{key}": better for key, better in own.items()}

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
        """Refuse a monitor that would look at scores of another epoch; tell W&B which way the scores are better."""
        with isolate_rng():
            define_directions(trainer.loggers, self.directions)
        if stage != "fit":
            return
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            monitor = getattr(callback, "monitor", None)
            if not isinstance(callback, Checkpoint | EarlyStopping) or not str(monitor).startswith(f"{self.prefix}/"):
                continue
            if str(monitor).removeprefix(f"{self.prefix}/") not in self.keys:
                raise MisconfigurationException(
                    f"{type(callback).__name__} looks at {monitor!r}, which is not audited."
                    f"{did_you_mean(str(monitor), (f'{self.prefix}/{key}' for key in self.keys))}"
                )
            every = lcm(getattr(callback, "_every_n_epochs", None) or 1, trainer.check_val_every_n_epoch or 1)
            if every % self.every_n_epochs:
                raise MisconfigurationException(
                    f"{type(callback).__name__} looks at {monitor!r} every {every} epochs, but it is audited every "
                    f"{self.every_n_epochs}: the epochs between would be judged by a stale score. Give both the same "
                    f"number, or validate only then (Trainer(check_val_every_n_epoch={self.every_n_epochs}))."
                )

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
            self._log_epoch(trainer)
        if self._fresh and trainer.is_global_zero:
            if trainer.state.fn == "fit":
                Console().print(self._summary(trainer), highlight=False, soft_wrap=True)
            else:
                self._print_table(trainer)
        self._fresh = False

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the table."""
        self._print_table(trainer)
        self._fresh = False

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the table of the last audit, and where the rest is."""
        self._print_table(trainer)
        if self.values and self._folder is not None and trainer.is_global_zero:
            Console().print(f"pictures and records: {self._folder}", soft_wrap=True, highlight=False)

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
        with isolate_rng():  # reading a data set may draw random numbers, and so may a logger
            panels, curves = self._walk(trainer, pl_module, _loader(loaders), started, budget)
            self.values = self.auditor.compute()
            self.records = self.auditor.records()
            if self.whole is not None:
                self.whole.gather()
            else:
                curves = Curves.merge(gather(curves))
            folder = trainer.log_dir  # asks all ranks
            self._title = f"{self.prefix}: epoch {trainer.current_epoch}, {time.perf_counter() - started:.1f} s"
            self._fresh = True
            self.audited_at = trainer.global_step
            if trainer.is_global_zero and not trainer.fast_dev_run:  # type: ignore[attr-defined]
                self._write(trainer, pl_module, folder, self.records, panels, curves)
        device = pl_module.device
        logged = {f"{self.prefix}/{name}": value.to(device) for name, value in self.values.items()}
        logged[f"{self.prefix}/seconds"] = torch.tensor(time.perf_counter() - started, device=device)
        pl_module.log_dict(logged, sync_dist=True)

    def _walk(
        self, trainer: Trainer, pl_module: LightningModule, loader: Any, started: float, budget: float | None
    ) -> tuple[list[Panel], Curves]:
        """Audit this rank's share of the images, in step with the other ranks."""
        dataset, collate = _dataset(loader)
        order = self._order(len(dataset))
        # An image belongs to one rank whatever the sampler would pad, and to one block however many ranks there are, unless
        # there are so few images that some rank would have none.
        block = min(self.batch_size, max(1, -(-len(order) // trainer.world_size)))
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
                    mine = order[start : start + block]
                    batch = collate([dataset[i] for i in mine])
                    batch = trainer.precision_plugin.convert_input(batch)
                    batch = pl_module._on_before_batch_transfer(batch, 0)  # a data module's hook goes first
                    sample = self.unpack(trainer.strategy.batch_to_device(batch, pl_module.device, 0))
                    ids = mine if sample.ids is None else sample.ids
                    audited = self.auditor.update(pl_module, sample.images, sample.masks, ids, sample.cues)
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

    def _order(self, images: int) -> list[int]:
        """Which images are audited, always in the same order."""
        most = self.max_images if self.whole is None else self.whole_images
        generator = torch.Generator().manual_seed(self.seed)
        return torch.randperm(images, generator=generator)[:most].tolist()

    def _write(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        folder: str | None,
        records: list[dict[str, Any]],
        panels: list[Panel],
        curves: Curves,
    ) -> None:
        names = _class_names(trainer, pl_module)
        if self.whole is not None:
            return  # Trainer.audit writes it
        step = trainer.global_step
        when = {"epoch": trainer.current_epoch, "step": step}
        rows = [when | {"class": _name(names, row["class_index"])} | row for row in records]
        picture = draw_panels(panels, names) if panels else None
        if folder is not None:
            self._folder = Path(folder) / self.prefix
            self._folder.mkdir(parents=True, exist_ok=True)
            stage = "" if trainer.state.fn in (None, "fit") else f"{trainer.state.fn.value}-"
            stem = self._folder / f"{stage}epoch={trainer.current_epoch:03d}-step={step:06d}"
            if rows:
                pq.write_table(pa.Table.from_pylist(rows), f"{stem}.parquet")
            if picture is not None:
                Image.fromarray(picture).save(f"{stem}.png")
        view = View(
            self.prefix, step, names, list(self.auditor.explainers), list(self.auditor.directions), self.values, records,
            curves.rows(), panels, picture,
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

    def _summary(self, trainer: Trainer) -> str:
        """One line of the epoch: what was validated, and one explainer's scores."""
        explainers = [name for name, explainer in self.auditor.explainers.items() if not explainer.control]
        explainers = explainers or list(self.auditor.explainers)
        name = "dea" if "dea" in explainers else explainers[0]
        metrics = trainer.callback_metrics
        known = [f"{key} {float(metrics[key]):.3f}" for key in ("val/loss", "val/iou") if key in metrics]
        scores = [
            f"{score} {float(self.values[f'{name}/{score}']):.3f}"
            for score in self.auditor.directions
            if f"{name}/{score}" in self.values and score not in ("seconds", "forwards")
        ]
        counts = f"{int(self.values['images'])} images, {int(self.values['targets'])} targets"
        return f"{self._title} · {' · '.join([*known, counts])} · {name}: {', '.join(scores)}"

    def _print_table(self, trainer: Trainer) -> None:
        if self.values and trainer.is_global_zero:
            Console(width=max(Console().width, 150)).print(score_table(self.auditor, self.values, self._title))


def _loader(loaders: Any) -> Any:
    """The first of the loop's loaders."""
    while isinstance(loaders, Mapping | list | tuple):
        loaders = next(iter(loaders.values() if isinstance(loaders, Mapping) else loaders))
    return loaders


def _dataset(loader: Any) -> tuple[Any, Any]:
    dataset = getattr(loader, "dataset", None)
    if not (hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__")):
        raise MisconfigurationException(
            "AttributionAudit audits a fixed subset of the images, so the validation loader needs a data set with "
            f"__len__ and __getitem__; {type(dataset).__name__} has not both."
        )
    return dataset, loader.collate_fn if isinstance(loader, DataLoader) and loader.collate_fn else default_collate


def _class_names(trainer: Trainer, pl_module: LightningModule) -> list[str]:
    datamodule = getattr(trainer, "datamodule", None)
    return list(getattr(pl_module, "class_names", None) or getattr(datamodule, "class_names", None) or [])


def _name(names: Sequence[str], index: int) -> str:
    return names[index] if index < len(names) else str(index)
