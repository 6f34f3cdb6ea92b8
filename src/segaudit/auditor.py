"""The one road: targets, explanations, interventions, evidence, scores."""

import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torchmetrics import Metric, MetricCollection

from segaudit.attribution import Explainer, attribution_context
from segaudit.attribution.perturbed import Perturbed, explain_perturbed, perturb
from segaudit.attribution.randomise import randomised_maps
from segaudit.evidence import evidence_of, is_shared
from segaudit.intervention import Brightness, GaussianNoise, Intervention, Perturbation, Probe
from segaudit.intervention.imputation import road_curves
from segaudit.intervention.probe import forward
from segaudit.intervention.regional import region_effects, region_means
from segaudit.intervention.subset import random_subsets, region_deletion_curve, subset_effects, subset_sums
from segaudit.metrics import TargetMean
from segaudit.names import resolve_named
from segaudit.output import class_logits, predict
from segaudit.reasons import partial_reasons, reasons
from segaudit.statistics import Estimate, summary
from segaudit.target import Targets, TargetSelector

T = TypeVar("T")

DEFAULT_EXPLAINERS = (
    "saliency",
    "integrated_gradients",
    "seg_grad_cam",
    "region_effects",
    "dea",
    "random",
    "target_mask",
)
DEFAULT_METRICS = (
    "deletion_auc",
    "insertion_auc",
    "faithfulness_gap",
    "off_target_leakage",
    "unsupported_leakage",
    "stability",
    "stability_retention",
    "fill_residual",
    "seconds",
    "forwards",
)


@dataclass
class AuditedBatch:
    """What one update found.

    Attributes:
        sample_ids: name of each of the B images.
        images: ``(B, channels, *S)``, as the model saw them.
        prediction: class map ``(B, *S)``.
        masks: ``(B, *S)``, or None where there is no truth.
        targets: N targets.
        attributions: map ``(N, *S)`` by explainer.
        scores: value ``(N,)`` by explainer and score; under the key ``""`` what does not depend on an explainer.
        reasons: by explainer, why a score of each target is missing; empty where none is.
        classes: how many there are.
        evidence: what the scores were computed from, by explainer and name; under ``""`` what all explainers share.

    """

    sample_ids: list[str]
    images: Tensor
    prediction: Tensor
    masks: Tensor | None
    targets: Targets
    attributions: dict[str, Tensor] = field(default_factory=dict)
    scores: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    reasons: dict[str, list[str]] = field(default_factory=dict)
    classes: int = 0
    evidence: dict[str, dict[str, Tensor]] = field(default_factory=dict)

    def records(self) -> list[dict[str, Any]]:
        """One row per (target, explainer): ids, class, area, every score, the reason where there is none."""
        targets = self.targets
        places = list(zip(targets.image_index.tolist(), targets.class_index.tolist(), targets.area.tolist(), strict=True))
        shared = {name: values.tolist() for name, values in self.scores.get("", {}).items()}
        rows = []
        for explainer in self.attributions:
            scores = shared | {name: values.tolist() for name, values in self.scores.get(explainer, {}).items()}
            rows += [
                {
                    "sample_id": self.sample_ids[image],
                    "class_index": class_index,
                    "area": area,
                    "explainer": explainer,
                    **{name: values[n] for name, values in scores.items()},
                    "reason": self.reasons[explainer][n],
                }
                for n, (image, class_index, area) in enumerate(places)
            ]
        return rows


class Auditor:
    """Score explanations of a model's predictions, batch by batch.

    Every explainer is audited with every metric. Only the evidence that some metric names in its ``update`` is computed,
    once, and handed over by name.

    Args:
        explainers: by name, or a list of explainers or of their short names.
        metrics: metrics or their short names.
        selector: which targets a batch gives.
        intervention: how pixels are removed.
        perturbations: changes of the input for stability; noise and brightness unless told.

    Example:
        >>> model, images = nn.Conv2d(3, 2, 3, padding=1), torch.rand(2, 3, 16, 16)
        >>> auditor = Auditor(explainers=["saliency", "random"], metrics=["off_target_leakage"])
        >>> _ = auditor.update(model, images)
        >>> sorted(auditor.compute())  # doctest: +ELLIPSIS
        ['images', 'random/off_target_leakage', 'random/unscored', 'saliency/off_target_leakage', ..., 'targets']

    """

    def __init__(
        self,
        explainers: Mapping[str, Explainer | str] | Sequence[Explainer | str] = DEFAULT_EXPLAINERS,
        metrics: Sequence[Metric | str] = DEFAULT_METRICS,
        selector: TargetSelector | None = None,
        intervention: Intervention | None = None,
        perturbations: Sequence[Perturbation] | None = None,
    ) -> None:
        self.explainers: dict[str, Explainer] = resolve_named(explainers, Explainer)  # type: ignore[type-abstract]
        named: dict[str, Metric] = resolve_named(metrics, Metric)  # type: ignore[type-abstract]
        if not self.explainers or not named:
            raise ValueError("an audit needs at least one explainer and one metric.")
        self.selector = selector or TargetSelector()
        self.intervention = intervention or Intervention()
        self.perturbations = list(perturbations) if perturbations is not None else [GaussianNoise(), Brightness()]
        self._needed = set().union(*(evidence_of(name, metric) for name, metric in named.items()))
        shared = {name: metric for name, metric in named.items() if is_shared(metric)}
        each = {name: metric for name, metric in named.items() if name not in shared}
        if not self.perturbations and {"perturbed_attribution", "kept"} & self._needed:
            raise ValueError("stability is measured under perturbations: name at least one, or leave stability out.")
        # compute_groups would merge metrics whose first states happen to be equal.
        self._metrics = {
            name: MetricCollection({k: m.clone() for k, m in metrics_.items()}, compute_groups=False)
            for name, metrics_ in [("", shared), *((explainer, each) for explainer in self.explainers)]
            if metrics_
        }
        self._directions = {name: metric.higher_is_better for name, metric in named.items()}
        self.reset()

    def reset(self) -> None:
        """Forget all updates."""
        for collection in self._metrics.values():
            collection.reset()
        self._records: list[dict[str, Any]] = []
        self._images: set[str] = set()

    def update(
        self,
        model: nn.Module,
        images: Tensor,
        masks: Tensor | None = None,
        sample_ids: Sequence[Any] | None = None,
        cues: Tensor | None = None,
    ) -> AuditedBatch:
        """Audit one batch. The model is left as it was: modes, gradients, hooks, buffers, random states.

        Args:
            model: any module that maps images to logits ``(B, C, *S)``, ``{"out": logits}`` or an object with ``.logits``.
            images: ``(B, channels, *S)``.
            masks: class indices ``(B, *S)``.
            sample_ids: a name for each image; numbers in the order of arrival unless told. Targets with one name count
                as one image in statistics.
            cues: planted cues ``(B, *S)``: the class index that a cue argues for, 0 where there is none.

        Raises:
            ValueError: if something that a metric or the selector needs is missing or has the wrong shape.

        """
        ids = self._ids(images, sample_ids)
        if {"cue", "score_without_cue"} & self._needed and cues is None:
            raise ValueError(
                "a metric needs planted cues, but none were given: pass cues, or leave out cue_mass and cue_effect."
            )
        with attribution_context(model) as keep_hooks:
            # A tensor made under inference_mode takes no part in autograd. What a subclass carries (MONAI's, torchvision's)
            # is no business of an audit, and slow.
            images = images.detach().as_subclass(Tensor).clone()
            masks = None if masks is None else masks.as_subclass(Tensor)
            logits = forward(model, images, self.intervention.room)
            keep_hooks()
            targets = self.selector(logits, masks)
            probe = Probe(model, images, targets, self.intervention, logits, cues)
            classes = class_logits(logits).shape[1]
            batch = AuditedBatch(ids, images, predict(logits), masks, targets, classes=classes)
            batch.evidence = self._collect(probe, batch) if len(targets) else {}
        with self._all_or_nothing():
            for name, found in batch.evidence.items():
                if name in self._metrics:
                    batch.scores[name] = self._score(self._metrics[name], found)
                if name in self.explainers:
                    partial = partial_reasons(probe, batch.attributions[name], found, batch.scores.get(name, {}))
                    batch.reasons[name] = [why or some for why, some in zip(batch.reasons[name], partial, strict=True)]
        self._images.update(ids)
        self._records += batch.records()
        return batch

    @contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
        """Take back what a metric has already counted of a batch if another fails on it."""
        metrics = [metric for collection in self._metrics.values() for metric in collection.values()]
        kept = [
            {name: list(state) if isinstance(state, list) else state.clone() for name, state in metric.metric_state.items()}
            for metric in metrics
        ]
        try:
            yield
        except BaseException:
            for metric, states in zip(metrics, kept, strict=True):
                for name, state in states.items():
                    setattr(metric, name, state)
            raise

    def compute(self) -> dict[str, Tensor]:
        """Scores by ``<explainer>/<score>``, and by ``<score>`` where it does not depend on an explainer.

        Means over all targets of all updates and ranks, beside :meth:`counts`; every rank must call it.
        """
        values: dict[str, Tensor] = {}
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*`compute`` method.*was called before.*")  # a rank without images
            for name, collection in self._metrics.items():
                for metric, value in collection.compute().items():
                    values[f"{name}/{metric}" if name else metric] = value
        return values | self.counts()

    def counts(self) -> dict[str, Tensor]:
        """What was audited, of all updates and ranks; every rank must call it.

        ``images``, ``targets``, and by ``<explainer>/unscored`` the targets for which some score is missing.
        """
        records = self.records()
        first = next(iter(self.explainers))
        counts = {
            "images": torch.tensor(float(len(set().union(*gather(self._images))))),
            "targets": torch.tensor(float(sum(row["explainer"] == first for row in records))),
        }
        for explainer in self.explainers:
            missing = sum(row["explainer"] == explainer and bool(row["reason"]) for row in records)
            counts[f"{explainer}/unscored"] = torch.tensor(float(missing))
        return counts

    def records(self) -> list[dict[str, Any]]:
        """One row per (target, explainer) of all ranks: ids, class, area, every score, the reason where there is none.

        Under a process group every rank must call it; all get all rows.
        """
        return [row for rows in gather(self._records) for row in rows]

    def unscored(self, records: Sequence[Mapping[str, Any]]) -> dict[str, Counter[str]]:
        """How many targets miss some score, by explainer and reason, in records; a target may have several reasons."""
        counts: dict[str, Counter[str]] = {name: Counter() for name in self.explainers}
        for row in records:
            counts[row["explainer"]].update(filter(None, row["reason"].split("; ")))
        return counts

    def intervals(self, by_class: bool = False) -> dict[tuple[str | int, ...], Estimate]:
        """Mean and 95 % interval by bootstrap over images, by (explainer, score), and class where asked for.

        Under a process group every rank must call it; all get the same. See :func:`segaudit.statistics.summary`.
        """
        return summary(self.records(), by_class=by_class)

    @property
    def directions(self) -> dict[str, bool | None]:
        """Whether higher is better, by score."""
        return dict(self._directions)

    @property
    def shared(self) -> list[str]:
        """The scores that do not depend on an explainer."""
        return [str(name) for name in self._metrics[""]] if "" in self._metrics else []

    def _ids(self, images: Tensor, sample_ids: Sequence[Any] | None) -> list[str]:
        if not images.is_floating_point():
            raise ValueError(f"images must be floating point, as the model takes them, got {images.dtype}.")
        if not len(images):
            raise ValueError("there are no images in the batch.")
        if sample_ids is None:
            ranks, rank = (dist.get_world_size(), dist.get_rank()) if _distributed() else (1, 0)
            return [str((len(self._images) + i) * ranks + rank) for i in range(len(images))]
        if len(sample_ids) != len(images):
            raise ValueError(f"{len(sample_ids)} sample_ids were given for {len(images)} images.")
        return [str(i) for i in sample_ids]

    def _collect(self, probe: Probe, batch: AuditedBatch) -> dict[str, dict[str, Tensor]]:
        """Evidence by explainer and name; under the key "" what does not depend on an explainer."""
        perturbed: list[Perturbed] = []
        if {"perturbed_attribution", "kept"} & self._needed:
            perturbed = [perturb(probe, perturbation) for perturbation in self.perturbations]
        own = {name: self._explain(name, explainer, probe, perturbed, batch) for name, explainer in self.explainers.items()}
        shared = self._make(
            {
                "region": lambda: probe.targets.region,
                "score": lambda: probe.reference,
                "filled_score": lambda: probe.filled_score,
                "effect_map": probe.effect_map,
                "kept": lambda: torch.stack([one.kept for one in perturbed], dim=1),
                "cue": lambda: probe.cue,
                "score_without_cue": lambda: _score_without(probe, probe.cue),
                "subset_effect": lambda: subset_effects(probe, random_subsets(probe)),
                "subset_size": lambda: random_subsets(probe).size,
                "region_effect": lambda: region_effects(probe),
            }
        )
        return {"": shared, **{name: {**shared, **evidence} for name, evidence in own.items()}}

    def _explain(
        self, name: str, explainer: Explainer, probe: Probe, perturbed: list[Perturbed], batch: AuditedBatch
    ) -> dict[str, Tensor]:
        """Evidence that depends on the explainer."""
        with probe.bill() as bill:
            attribution = explainer.explain(probe)
        batch.attributions[name] = attribution
        batch.reasons[name], valid = reasons(probe, attribution)
        deletion = cache(partial(probe.deletion_curve, attribution))
        insertion = cache(partial(probe.insertion_curve, attribution))
        regions = cache(partial(region_deletion_curve, probe, attribution))
        imputed = cache(partial(road_curves, probe, attribution))
        return self._make(
            {
                "attribution": lambda: _or_nan(attribution, valid),
                "seconds": lambda: torch.full_like(probe.score, bill.seconds / len(probe.targets)),
                "forwards": lambda: torch.full_like(probe.score, bill.forwards / len(probe.targets)),
                "deletion_curve": lambda: _or_nan(deletion().values, valid),
                "deletion_fractions": lambda: deletion().fractions,
                "deletion_error": lambda: _or_nan(deletion().error, valid),
                "insertion_curve": lambda: _or_nan(insertion().values, valid),
                "insertion_fractions": lambda: insertion().fractions,
                "insertion_error": lambda: _or_nan(insertion().error, valid),
                "perturbed_attribution": lambda: explain_perturbed(explainer, perturbed, attribution),
                "subset_attribution": lambda: _or_nan(subset_sums(attribution, random_subsets(probe), probe.targets), valid),
                "region_attribution": lambda: _or_nan(region_means(probe, attribution), valid),
                "region_deletion_curve": lambda: _or_nan(regions()[0], valid),
                "region_deletion_fractions": lambda: regions()[1],
                "road_deletion": lambda: _or_nan(imputed()[0], valid),
                "road_retention": lambda: _or_nan(imputed()[1], valid),
                "randomised_attribution": lambda: randomised_maps(explainer, probe),
            }
        )

    def _make(self, makers: Mapping[str, Callable[[], Tensor]]) -> dict[str, Tensor]:
        return {name: make() for name, make in makers.items() if name in self._needed}

    @staticmethod
    def _score(collection: MetricCollection, evidence: dict[str, Tensor]) -> dict[str, Tensor]:
        collection.to(next(iter(evidence.values())).device)
        collection.update(**evidence)
        return {str(name): metric.values[-1].cpu() for name, metric in collection.items() if isinstance(metric, TargetMean)}


def _or_nan(values: Tensor, valid: Tensor) -> Tensor:
    return values.where(valid.view(-1, *[1] * (values.ndim - 1)), torch.nan)


def _score_without(probe: Probe, removed: Tensor) -> Tensor:
    return _or_nan(probe.score_without(removed), removed.flatten(1).any(dim=1))


def gather(value: T) -> list[T]:
    """The value of every rank, in their order; every rank must call it."""
    if not _distributed():
        return [value]
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def _distributed() -> bool:
    return dist.is_available() and dist.is_initialized()
