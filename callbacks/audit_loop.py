"""Audits a list of images, shared among the processes of a run."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import nan
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import Tensor
from tqdm.auto import tqdm

from segaudit.auditor import AuditedBatch, Auditor, gather
from segaudit.callbacks.images import AuditImages
from segaudit.callbacks.on_error import ErrorPolicy, brief
from segaudit.callbacks.panel import targets_of
from segaudit.forwards.batch import Sample
from segaudit.forwards.batching import free_memory, out_of_memory
from segaudit.forwards.panel import Panel
from segaudit.names import score_key
from segaudit.records.iou import image_iou
from segaudit.report.curves import Curves
from segaudit.report.picture import Panel as Drawing
from segaudit.report.picture import first_targets


@dataclass
class AuditResult:
    """Holds what one audit found.

    Attributes:
        values: scores, as :meth:`segaudit.Auditor.compute` names them, and ``lost``.
        records: one row a target and explainer, of all processes.
        lost: a sentence for each image that could not be audited, of all processes.
        panels: the targets to draw, of this process.
        targets: number of the image, class, region and the image's name of each target, of this process; only without a
            panel.
        not_learnt: classes of the panel that the model has not learnt.
        curves: curves of all processes; empty where :class:`AuditLoop` handed the batches on.

    """

    values: dict[str, Tensor] = field(default_factory=dict)
    records: list[dict[str, Any]] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    panels: list[Drawing] = field(default_factory=list)
    targets: list[tuple[int, int, Tensor, str]] = field(default_factory=list)
    not_learnt: list[int] = field(default_factory=list)
    curves: Curves = field(default_factory=Curves)


class AuditLoop:
    """Audits images in blocks, of which each process takes its share, and survives errors of single images.

    Args:
        auditor: explains and scores.
        unpack: takes images, masks, ids, cues and groups out of a batch.
        policy: decides whether an error ends the run.
        panels: number of targets to draw.

    """

    def __init__(self, auditor: Auditor, unpack: Callable[[Any], Sample], policy: ErrorPolicy, panels: int) -> None:
        self.auditor, self.unpack, self.policy, self.panels = auditor, unpack, policy, panels
        self._lost: list[str] = []

    def run(
        self,
        trainer: Trainer,
        images: AuditImages,
        order: Sequence[int],
        block: int,
        deadline: float | None = None,
        on_batch: Callable[[int, AuditedBatch], None] | None = None,
        panel: Panel | None = None,
    ) -> AuditResult:
        """Audit the images of ``order``; every process must call it.

        Args:
            trainer: the run's Trainer.
            images: reads the images.
            order: numbers of the images, the same on all processes.
            block: number of images that are explained at once.
            deadline: time (``time.perf_counter``) after which no further block begins; at least one is audited.
            on_batch: receives the place of a batch's first image in ``order``, and the batch. Defaults to collecting the
                curves.
            panel: targets to explain. Defaults to those that the auditor's selector chooses.

        Returns:
            The result, of all processes.

        """
        self.auditor.reset()
        self._lost = []
        found, ious = AuditResult(), dict[str, float]()
        # No image is audited twice, unlike with a padding sampler. The blocks do not depend on the number of ranks, unless
        # there are so few images that some rank would have none.
        block = min(block, max(1, -(-len(order) // trainer.world_size)))
        starts = range(0, len(order), block)
        bar = tqdm(
            total=len(order),
            desc="Audit",
            unit="image",
            leave=on_batch is not None,
            disable=trainer.progress_bar_callback is None or not trainer.is_global_zero,
        )
        with bar:
            for turn in range(0, len(starts), trainer.world_size):
                these = starts[turn : turn + trainer.world_size]
                if trainer.global_rank < len(these):
                    start = these[trainer.global_rank]
                    rows = order[start : start + block]
                    for these_rows, audited in self._try(images, rows, self.policy.continues(trainer), panel):
                        ious |= _image_iou(audited, getattr(images.pl_module, "ignore_index", None))
                        if panel is None and on_batch is None:
                            found.targets += targets_of(audited, these_rows)
                        if on_batch is not None:
                            on_batch(start, audited)
                        else:
                            found.curves.add(audited)
                        found.panels += first_targets(audited, self.panels - len(found.panels))
                bar.update(min(block * len(these), len(order) - these[0]))
                spent = deadline is not None and time.perf_counter() >= deadline
                if trainer.strategy.reduce_boolean_decision(spent, all=False) or trainer.fast_dev_run:  # type: ignore[attr-defined]
                    break
        found.lost = [why for lost in gather(self._lost) for why in lost]
        found.values = self._compute(trainer) | {"lost": torch.tensor(float(len(found.lost)))}
        found.records = self.auditor.records()
        ious = {name: iou for part in gather(ious) for name, iou in part.items()}
        if ious:
            found.records = [row | {"image_iou": ious.get(row["sample_id"], nan)} for row in found.records]
        if on_batch is None:
            found.curves = Curves.merge(gather(found.curves))
        return found

    def try_one(self, trainer: Trainer, images: AuditImages, seed: int) -> AuditedBatch:
        """Audit one image, forget the result, and return the batch; an error is raised. Every process must call it."""
        audited = self._update(images, images.order(1, seed))
        if trainer.strategy.reduce_boolean_decision(bool(len(audited.targets))):  # computing asks all ranks
            self.auditor.compute()
        self.auditor.reset()
        return audited

    @property
    def keys(self) -> list[str]:
        """Keys of the values."""
        shared = self.auditor.shared
        each = [score for score in self.auditor.directions if score not in shared]
        scores = [score_key(name, score) for name in self.auditor.explainers for score in [*each, "unscored"]]
        return [*scores, *shared, "images", "targets", "lost"]

    def _try(
        self, images: AuditImages, rows: Sequence[int], forgiving: bool, panel: Panel | None
    ) -> list[tuple[Sequence[int], AuditedBatch]]:
        """Audit images together, or one by one if that fails, and note those that cannot be audited."""
        try:
            return [(rows, self._update(images, rows, panel))]
        except Exception as error:
            if not forgiving:
                raise
            why, full = brief(error), out_of_memory(error)
        if full:
            free_memory()  # only here: the error is gone, and with it the tensors in its frames
        if len(rows) > 1:
            return [batch for row in rows for batch in self._try(images, [row], forgiving, panel)]
        self._lost.append(f"image {rows[0]}: {why}")
        return []

    def _update(self, images: AuditImages, rows: Sequence[int], panel: Panel | None = None) -> AuditedBatch:
        sample = self.unpack(images.batch(rows))
        ids = rows if sample.ids is None else sample.ids
        targets = None if panel is None else panel.targets(rows, sample.images.device)
        return self.auditor.update(images.pl_module, sample.images, sample.masks, ids, sample.cues, sample.groups, targets)

    def _compute(self, trainer: Trainer) -> dict[str, Tensor]:
        """Compute the scores over all images; all are NaN, beside the counts, if a metric fails."""
        with self.policy.warn_on_error(trainer, "the scores of the audit could not be computed"):
            return self.auditor.compute()
        return {key: torch.tensor(torch.nan) for key in self.keys if key != "lost"} | self.auditor.counts()


def _image_iou(audited: AuditedBatch, ignore_index: int | None) -> dict[str, float]:
    """Return the mean IoU of each image of a batch by its name; nothing without masks."""
    if audited.masks is None:
        return {}
    each = image_iou(audited.prediction, audited.masks, max(2, audited.classes), ignore_index)
    return dict(zip(audited.sample_ids, each.tolist(), strict=True))
