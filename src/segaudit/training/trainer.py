"""Trainer: Lightning's Trainer with the project's defaults, and with offline audits."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import lightning
from lightning.pytorch import LightningDataModule, LightningModule
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger

from segaudit.callbacks import AttributionAudit
from segaudit.callbacks.images import class_names
from segaudit.records.files import sha256
from segaudit.records.provenance import weights_hash
from segaudit.report import AuditFailedError, AuditFolder, Rule
from segaudit.training.task import SegmentationTask
from segaudit.training.weights import load_weights


class Trainer(lightning.Trainer):
    """Extends Lightning's Trainer: it writes everything of a run to one folder, and audits checkpoints.

    Metrics (CSV, TensorBoard), the configuration, checkpoints and the audit go to ``<default_root_dir>/version_<n>``.

    Args:
        logger: loggers to use beside CSV and TensorBoard, such as W&B's; False turns all loggers off. A list with a
            CSVLogger replaces the two.
        default_root_dir: folder of the runs. Defaults to ``runs`` in the working directory.
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
        # Trial runs (fast_dev_run) and bare ones (barebones) write nothing.
        silent = logger is False or kwargs.get("fast_dev_run") or kwargs.get("barebones")
        if not silent and not any(isinstance(one, CSVLogger) for one in given):
            csv = CSVLogger(root, name="")
            _ = csv.experiment  # makes the folder now, so that a run that starts a moment later gets the next number
            # CSV first: Lightning takes the run's folder, and with it that of the configuration, from the first logger.
            given = [csv, TensorBoardLogger(root, name="", version=csv.version, default_hp_metric=False), *given]
        super().__init__(logger=given or logger, default_root_dir=root, **kwargs)

    def audit(
        self,
        model: LightningModule,
        datamodule: LightningDataModule | None = None,
        ckpt_path: str | Path | None = None,
        split: Literal["val", "test"] = "val",
        max_images: int | None = None,
        fail_if: list[str] | None = None,
    ) -> list[dict[str, Any]]:
        """Audit a checkpoint over a split, and write a report.

        Each AttributionAudit among the callbacks is run; without one, a default one is. In the run folder, ``audit/`` gets
        ``targets.parquet``, ``curves.parquet``, ``summary.json``, tables, pictures of the worst cases, and ``report.html``.

        Args:
            model: the module; its network's weights come from the checkpoint.
            datamodule: module of the images.
            ckpt_path: a Lightning checkpoint or a bare state dict, read with ``weights_only=True``. Defaults to the weights
                that the network was built with.
            split: split of the images.
            max_images: limits the number of images, drawn once with the audit's seed; None audits all.
            fail_if: what must **not** hold, such as ``dea/off_target_leakage > 0.4``: if one of these rules holds, the
                audit fails (exit status 3). Add ``.low`` or ``.high`` to the score to compare an end of its 95 % interval:
                ``dea/off_target_leakage.high > 0.4``.

        Returns:
            The content of each ``summary.json``; an empty list on all ranks but the first.

        Raises:
            ValueError: if the checkpoint does not fit, or a rule or a number makes no sense.
            AuditFailedError: if a rule of ``fail_if`` holds; everything is written before.

        """
        rules = [Rule.parse(text) for text in fail_if or []]
        if max_images is not None and max_images < 1:
            raise ValueError(f"max_images must be at least 1, got {max_images}.")
        callbacks: list[Any] = self.callbacks  # type: ignore[attr-defined]
        audits = [callback for callback in callbacks if isinstance(callback, AttributionAudit)]
        if not audits:
            audits = [AttributionAudit()]
            callbacks.extend(audits)
        for audit in audits:
            audit.auditor.score_second_fill(True)
            for rule in rules:
                rule.check(audit.auditor.explainers, audit.auditor.directions, audit.auditor.shared)
        network = model.network if isinstance(model, SegmentationTask) else model
        if ckpt_path is not None:
            load_weights(network, ckpt_path)
        folder = Path(self.log_dir or self.default_root_dir)
        for audit in audits:
            ignored = getattr(model, "ignore_index", None)
            audit.offline = AuditFolder(folder / audit.prefix, audit.auditor, max_images, ignored)
        loop = self.validate if split == "val" else self.test
        try:
            loop(model, datamodule=datamodule, verbose=False)
            written = self._written(audits, model, datamodule, ckpt_path, split, rules)
        finally:
            for audit in audits:
                audit.offline = None
        failed = [rule["failed"] for summary in written for rule in summary["gate"] if rule["failed"]]
        if failed:
            raise AuditFailedError(" ".join(failed))
        return written

    def _written(
        self,
        audits: list[AttributionAudit],
        model: LightningModule,
        datamodule: LightningDataModule | None,
        ckpt_path: str | Path | None,
        split: str,
        rules: list[Rule],
    ) -> list[dict[str, Any]]:
        if not self.is_global_zero:
            return []
        network = model.network if isinstance(model, SegmentationTask) else model
        names = class_names(model, datamodule)
        logged = {name: float(value) for name, value in self.callback_metrics.items() if name.startswith(f"{split}/")}
        origin = {
            "split": split,
            "checkpoint": None if ckpt_path is None else str(ckpt_path),
            "checkpoint_sha256": None if ckpt_path is None else sha256(ckpt_path),
            "weights_sha256": weights_hash(network.state_dict()),
        }
        data = f"{type(datamodule).__name__} ({split})" if datamodule is not None else split
        return [
            audit.offline.write(data, type(network).__name__, names, logged, rules, **audit.provenance, **origin)
            for audit in audits
            if audit.offline is not None
        ]
