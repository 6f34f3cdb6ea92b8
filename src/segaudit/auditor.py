"""Runs an audit: targets, explanations, interventions, evidence, scores."""

import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torchmetrics import Metric

from segaudit import randomness
from segaudit.attribution import Explainer, attribution_context
from segaudit.evidence import Ask, Evidence, compute, evidence_of
from segaudit.evidence.missing import partly_missing, unscorable
from segaudit.evidence.registry import is_scorable
from segaudit.evidence.second_fill import without_second_fill
from segaudit.forwards import Batching, Probe, Targets, TargetSelector
from segaudit.forwards.output import class_logits, predict
from segaudit.forwards.probe import forward
from segaudit.intervention import Brightness, GaussianNoise, Intervention, Perturbation
from segaudit.metrics import TargetMean
from segaudit.metrics.chance import Likeness, above_chance, merged
from segaudit.names import built_in, resolve_named, score_key
from segaudit.statistics import Estimate, summary

T = TypeVar("T")

#: Version of the rules by which targets are chosen and scored. Figures of different versions are never ranked together.
PROTOCOL = 2

#: The score that an offline audit adds.
_SECOND = "second_fill_gap"
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
    "robustness_pearson",
    "topk_overlap",
    "fill_residual",
    "seconds",
    "forwards",
)


@dataclass
class AuditedBatch:
    """Holds what one update found.

    Attributes:
        sample_ids: name of each of the B images.
        images: ``(B, channels, *S)``, as the model saw them.
        prediction: class map ``(B, *S)``.
        masks: ``(B, *S)``, or None where there is no truth.
        targets: N targets.
        attributions: map ``(N, *S)`` by explainer.
        scores: value ``(N,)`` by explainer and score; under the key ``""`` what does not depend on an explainer. A score of
            ``provisional`` is the plain correlation here.
        reasons: by explainer, why a score of each target is missing; empty where none is.
        classes: how many there are.
        channels: number of channels of the logits, 1 for a binary model.
        confidence: S(x) of each target, ``(N,)`` in [0, 1].
        predicted_area: share of its image that the model calls the target's class, ``(N,)`` in [0, 1].
        evidence: what the scores were computed from, by explainer and name; under ``""`` what all explainers share.
        fills: label of each target's fill.
        groups: what each of the B images belongs to (a patient, a sequence, a site); empty where that is not known.
        provisional: the scores that are compared with chance once the audit has seen all images.
        likeness: what that comparison needs of this batch, by explainer; see :mod:`segaudit.metrics.chance`.

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
    channels: int = 0
    confidence: Tensor = field(default_factory=lambda: torch.zeros(0))
    predicted_area: Tensor = field(default_factory=lambda: torch.zeros(0))
    evidence: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    fills: list[str] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    provisional: list[str] = field(default_factory=list)
    likeness: dict[str, Likeness] = field(default_factory=dict)

    def records(self) -> list[dict[str, Any]]:
        """Return one row per (target, explainer): ids, class, areas, confidence, fill, scores, reasons for missing ones.

        The scores of ``provisional`` are plain correlations; :func:`segaudit.metrics.chance.above_chance` finishes them.
        """
        targets = self.targets
        columns = (targets.image_index, targets.class_index, targets.area, self.predicted_area, self.confidence)
        places = list(zip(*(column.tolist() for column in columns), strict=True))
        shared = {name: values.tolist() for name, values in self.scores.get("", {}).items()}
        rows = []
        for explainer in self.attributions:
            scores = shared | {name: values.tolist() for name, values in self.scores.get(explainer, {}).items()}
            rows += [
                {
                    "sample_id": self.sample_ids[image],
                    "group": self.groups[image] if self.groups else "",
                    "class_index": class_index,
                    "area": area,
                    "predicted_area": predicted_area,
                    "confidence": confidence,
                    "fill": self.fills[n] if self.fills else "",
                    "explainer": explainer,
                    **{name: values[n] for name, values in scores.items()},
                    "reason": self.reasons[explainer][n],
                    "protocol": PROTOCOL,
                }
                for n, (image, class_index, area, predicted_area, confidence) in enumerate(places)
            ]
        return rows


class Auditor:
    """Score explanations of a model's predictions, batch by batch.

    Every explainer is audited with every metric. Only the evidence that some metric names in its ``update`` is computed,
    once, and handed over by name.

    Args:
        explainers: by name, or a list of explainers or of their short names. Defaults to segaudit's own seven of
            ``DEFAULT_EXPLAINERS``.
        metrics: by name, or a list of metrics or of their short names. Defaults to segaudit's own twelve of
            ``DEFAULT_METRICS``.
        selector: chooses the targets of a batch.
        intervention: sets how pixels are removed.
        perturbations: changes of the input for stability. Defaults to noise and brightness.
        main: name of the explainer that verdicts and headlines are about. Defaults to ``dea`` where it is audited, else to
            the first that is no control. Choose it before you see results: all other comparisons are exploratory.

    Raises:
        ValueError: if there is nothing to audit, a name is unknown or ambiguous, a metric asks for evidence that does not
            exist, or ``main`` is not audited.

    Example:
        >>> model, images = nn.Conv2d(3, 2, 3, padding=1), torch.rand(2, 3, 16, 16)
        >>> auditor = Auditor(explainers=["saliency", "random"], metrics=["off_target_leakage"])
        >>> _ = auditor.update(model, images)
        >>> sorted(name for name in auditor.compute() if not name.endswith("/targets"))  # doctest: +ELLIPSIS
        ['images', 'random/off_target_leakage', 'random/unscored', 'saliency/off_target_leakage', ..., 'targets']

    """

    def __init__(
        self,
        explainers: Mapping[str, Explainer | str] | Sequence[Explainer | str] | None = None,
        metrics: Mapping[str, Metric | str] | Sequence[Metric | str] | None = None,
        selector: TargetSelector | None = None,
        intervention: Intervention | None = None,
        perturbations: Sequence[Perturbation] | None = None,
        main: str | None = None,
    ) -> None:
        # The defaults stay segaudit's own, even where a class of the user's has one of their names.
        if explainers is None:
            explainers = built_in(DEFAULT_EXPLAINERS, Explainer)
        if metrics is None:
            metrics = dict[str, Metric | str](built_in(DEFAULT_METRICS, TargetMean))  # type: ignore[type-abstract]
        self.explainers: dict[str, Explainer] = resolve_named(explainers, Explainer)  # type: ignore[type-abstract]
        named: dict[str, Metric] = resolve_named(metrics, Metric)  # type: ignore[type-abstract]
        if not self.explainers or not named:
            raise ValueError("an audit needs at least one explainer and one metric.")
        if main is not None and main not in self.explainers:
            raise ValueError(
                f"main names the explainer {main!r}, which is not audited; there are {', '.join(self.explainers)}."
            )
        self.main = main
        self.selector = selector or TargetSelector()
        self.intervention = intervention or Intervention()
        self.perturbations = list(perturbations) if perturbations is not None else [GaussianNoise(), Brightness()]
        self._given = dict(named)
        self._use_metrics(named)
        if not self.perturbations and {"perturbed_attribution", "kept"} & {one.name for one in self._needed}:
            raise ValueError("stability is measured under perturbations: name at least one, or leave stability out.")
        self.begin_run()
        self.reset()

    def _use_metrics(self, named: Mapping[str, Metric]) -> None:
        self._asked = {name: evidence_of(name, metric) for name, metric in named.items()}
        shared = {name for name, asked in self._asked.items() if not any(one.per_explainer for one in asked.values())}
        self._metrics: dict[str, dict[str, Metric]] = {
            name: {key: metric.clone() for key, metric in named.items() if (key in shared) == (name == "")}
            for name in ("", *self.explainers)
        }
        self._directions = {name: metric.higher_is_better for name, metric in named.items()}
        self._provisional = [name for name, metric in named.items() if getattr(metric, "above_chance", False)]
        self._ranges: dict[str, tuple[float, float] | None] = {
            name: getattr(metric, "score_range", None) for name, metric in named.items()
        }

    def score_second_fill(self, wanted: bool) -> None:
        """Add ``second_fill_gap`` to the scores, or take it away again. Where scores change, all updates are forgotten.

        Offline audits want it, so that their verdict can say whether a second fill agrees. It is added only where
        ``faithfulness_gap`` is scored under several fills. It is never taken away from an auditor that was made with it.
        """
        wanted = wanted and "faithfulness_gap" in self._given and len(self.intervention.fills) > 1
        extra = built_in([_SECOND], TargetMean) if wanted else {}  # type: ignore[type-abstract]
        named = self._given | {name: metric for name, metric in extra.items() if name not in self._given}
        if named.keys() != self._asked.keys():
            self._use_metrics(named)
            self.reset()

    def begin_run(self) -> Batching:
        """Forget what an earlier run decided about the size and the precision of passes, and return the new decisions."""
        self.batching = Batching(self.intervention.max_batch, self.intervention.precision)
        return self.batching

    def reset(self) -> None:
        """Forget all updates."""
        for metric in self._each_metric():
            metric.reset()
        self._records: list[dict[str, Any]] = []
        self._images: set[str] = set()
        self._likeness: dict[str, Likeness] = {}
        self._compared: set[int] = set()

    def update(
        self,
        model: nn.Module,
        images: Tensor,
        masks: Tensor | None = None,
        sample_ids: Sequence[Any] | None = None,
        cues: Tensor | None = None,
        groups: Sequence[Any] | None = None,
        targets: Targets | None = None,
    ) -> AuditedBatch:
        """Audit one batch. The model is left as it was: modes, gradients, hooks, buffers, random states.

        Args:
            model: any module that maps images to logits ``(B, C, *S)``, ``{"out": logits}`` or an object with ``.logits``.
            images: ``(B, channels, *S)``.
            masks: class indices ``(B, *S)``.
            sample_ids: a name for each image. Defaults to numbers in the order of arrival. Targets with one name count
                as one image in statistics.
            cues: planted cues ``(B, *S)``: the class index that a cue argues for, 0 where there is none.
            groups: what each image belongs to: a patient, a sequence, a site. Images of one group are not independent, so
                statistics count the group as one unit. Defaults to none; "" and None stand for an image without a group.
            targets: targets to explain, such as those of a panel. Defaults to those that the selector chooses.

        Raises:
            ValueError: if something that a metric or the selector needs is missing or has the wrong shape.

        """
        ids = self._ids(images, sample_ids)
        if groups is not None and len(groups) != len(images):
            raise ValueError(f"{len(groups)} groups were given for {len(images)} images.")
        of_group = [""] * len(images) if groups is None else ["" if group is None else str(group) for group in groups]
        if cues is None and {"cue", "confidence_without_cue"} & {one.name for one in self._needed}:
            raise ValueError(
                "a metric needs planted cues, but none were given: pass cues, or leave out cue_mass and cue_effect."
            )
        with attribution_context(model) as keep_hooks:
            # A tensor made under inference_mode takes no part in autograd. What a subclass carries (MONAI's, torchvision's)
            # is no business of an audit, and slow.
            images = images.detach().as_subclass(Tensor).clone()
            masks = None if masks is None else masks.as_subclass(Tensor)
            logits = forward(model, images, self.batching)
            keep_hooks()
            targets = self.selector(logits, masks) if targets is None else _fitting(targets.to(logits.device), logits)
            probe = Probe(model, images, targets, self.intervention, logits, cues, batching=self.batching)
            classes = class_logits(logits).shape[1]
            batch = AuditedBatch(
                ids, images, predict(logits), masks, targets, classes=classes, channels=logits.shape[1],
                provisional=self.provisional, groups=of_group,
            )  # fmt: skip
            batch.fills = probe.fill_names
            if len(targets):
                batch.confidence = probe.confidence.cpu()
                batch.predicted_area = _predicted_area(batch.prediction, targets).cpu()
            asks = self._collect(Ask(probe, self.perturbations), batch) if len(targets) else {}
        with self._all_or_nothing():
            for name in asks:
                if self._metrics[name]:
                    batch.scores[name] = self._score(name, batch.evidence[name])
            for name in self.explainers if asks else ():
                scores = batch.scores.get("", {}) | batch.scores.get(name, {})
                asked = {score: list(self._asked[score].values()) for score in scores}
                own = {score: self._missing(place, score, batch) for place in ("", name) for score in self._metrics[place]}
                partly = partly_missing(asks[name], scores, asked, own)
                batch.reasons[name] = [why or some for why, some in zip(batch.reasons[name], partly, strict=True)]
        if self.provisional:
            fresh = self._fresh(images, targets)
            batch.likeness = {name: _likeness(asks[name], fresh) for name in self.explainers if asks}
            self._likeness = merged([self._likeness, batch.likeness])
        self._images.update(ids)
        self._records += batch.records()
        return batch

    @contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
        """Take back what a metric has already counted of a batch if another fails on it."""
        metrics = self._each_metric()
        before = [
            {name: list(state) if isinstance(state, list) else state.clone() for name, state in metric.metric_state.items()}
            for metric in metrics
        ]
        try:
            yield
        except BaseException:
            for metric, states in zip(metrics, before, strict=True):
                for name, state in states.items():
                    setattr(metric, name, state)
            raise

    def compute(self) -> dict[str, Tensor]:
        """Return scores by ``<explainer>/<score>``, and by ``<score>`` where they do not depend on an explainer.

        Means over all targets of all updates and ranks, beside :meth:`counts`; every rank must call it. Scores above chance
        are compared with all images of the audit so far, in whatever order they came.
        """
        values: dict[str, Tensor] = {}
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*`compute`` method.*was called before.*")  # a rank without images
            for name, metrics in self._metrics.items():
                for key, metric in metrics.items():
                    values[score_key(name, key)] = metric.compute()
        if self.provisional:
            records = self.records()
            for name in self.explainers:
                mine = [row for row in records if row["explainer"] == name]
                for key in self.provisional:
                    found = torch.tensor([row[key] for row in mine], dtype=torch.float64)
                    values[score_key(name, key)] = found.nanmean().float()
        return values | self.counts()

    def counts(self) -> dict[str, Tensor]:
        """Count what was audited, over all updates and ranks; every rank must call it.

        ``images``, ``targets``, by ``<explainer>/unscored`` the targets for which some score is missing, other than under
        a second fill, and by ``<explainer>/<score>/targets`` those that the score's mean is over.
        """
        records = self.records()
        first = next(iter(self.explainers))
        counts = {
            "images": torch.tensor(float(len(set().union(*gather(self._images))))),
            "targets": torch.tensor(float(sum(row["explainer"] == first for row in records))),
        }
        for explainer in self.explainers:
            missing = sum(row["explainer"] == explainer and bool(without_second_fill(row["reason"])) for row in records)
            counts[score_key(explainer, "unscored")] = torch.tensor(float(missing))
        for name, metrics in self._metrics.items():
            rows = [row for row in records if row["explainer"] == (name or first)]
            for key in (key for key, metric in metrics.items() if isinstance(metric, TargetMean)):
                scored = sum(isfinite(row[key]) for row in rows)
                counts[f"{score_key(name, key)}/targets"] = torch.tensor(float(scored))
        return counts

    def records(self) -> list[dict[str, Any]]:
        """Return one row per (target, explainer) of all ranks: ids, class, area, fill, scores, the reason if one is missing.

        Under a process group every rank must call it; all get all rows.
        """
        records = [row for rows in gather(self._records) for row in rows]
        return above_chance(records, merged(gather(self._likeness)), self.provisional) if self.provisional else records

    def unscored(self, records: Sequence[Mapping[str, Any]]) -> dict[str, Counter[str]]:
        """Count the targets that lack some score, by explainer and reason, in records; a target may have several reasons."""
        counts: dict[str, Counter[str]] = {name: Counter() for name in self.explainers}
        for row in records:
            counts[row["explainer"]].update(filter(None, row["reason"].split("; ")))
        return counts

    def intervals(self, by_class: bool = False) -> dict[tuple[str | int, ...], Estimate]:
        """Return means over images and 95 % intervals, by (explainer, score), and class where asked for.

        Every image has equal weight, or every group where the records name one, so that these means differ a little from
        those of :meth:`compute`. Under a process group every rank must call it; all get the same. See
        :func:`segaudit.statistics.summary`.
        """
        return summary(self.records(), by_class=by_class, ranges=self.ranges)

    @property
    def directions(self) -> dict[str, bool | None]:
        """Directions by score: True where higher is better, None where neither is."""
        return dict(self._directions)

    @property
    def ranges(self) -> dict[str, tuple[float, float] | None]:
        """Lowest and highest value by score, as its class declares in ``score_range``; None where it declares none."""
        return dict(self._ranges)

    @property
    def shared(self) -> list[str]:
        """The scores that do not depend on an explainer."""
        return list(self._metrics[""])

    @property
    def provisional(self) -> list[str]:
        """The scores that are compared with chance at the end of an audit: until then their values are correlations."""
        return list(self._provisional)

    @property
    def _needed(self) -> list[Evidence]:
        """Every evidence that some metric asks for."""
        return list(dict.fromkeys(one for asked in self._asked.values() for one in asked.values()))

    def _each_metric(self) -> list[Metric]:
        return [metric for metrics in self._metrics.values() for metric in metrics.values()]

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

    def _collect(self, ask: Ask, batch: AuditedBatch) -> dict[str, Ask]:
        """Explain the targets and put the evidence into the batch; an ask by explainer, the shared one under ``""``."""
        asks = {"": ask} | {name: self._explain(name, explainer, ask, batch) for name, explainer in self.explainers.items()}
        shared = {one.name: compute(one.name, ask) for one in self._needed if not one.per_explainer}
        for name, one_ask in asks.items():
            own = {one.name: compute(one.name, one_ask) for one in self._needed if one.per_explainer and name}
            batch.evidence[name] = shared | own
        return asks

    def _explain(self, name: str, explainer: Explainer, ask: Ask, batch: AuditedBatch) -> Ask:
        with ask.probe.measure_cost() as cost:
            attribution = explainer.explain(ask.probe)
        own = ask.of(explainer, attribution, cost)
        batch.attributions[name] = attribution
        batch.reasons[name] = unscorable(own)
        return own

    def _score(self, name: str, evidence: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Update an explainer's metrics, or the shared ones, and return each one's values ``(N,)``."""
        values = {}
        for key, metric in self._metrics[name].items():
            asked = {parameter: evidence[one.name] for parameter, one in self._asked[key].items()}
            metric.to(next(iter(asked.values())).device if asked else "cpu")
            metric.update(**asked)
            if isinstance(metric, TargetMean):
                values[key] = metric.values[-1].cpu()
        return values

    def _fresh(self, images: Tensor, targets: Targets) -> Tensor:
        """Tell which targets' images have not been compared with others of the class yet, ``(N,)`` bool, and note them."""
        keys = randomness.combine(randomness.image_keys(images)[targets.image_index], targets.class_index).tolist()
        fresh = []
        for key in keys:
            fresh.append(key not in self._compared)
            self._compared.add(key)
        return torch.tensor(fresh, dtype=torch.bool, device=targets.region.device)

    def _missing(self, name: str, score: str, batch: AuditedBatch) -> dict[str, Tensor]:
        """Ask a metric for the reasons that follow from its own settings."""
        metric = self._metrics[name][score]
        if not isinstance(metric, TargetMean):
            return {}
        return metric.missing(**{p: batch.evidence[name][one.name] for p, one in self._asked[score].items()})


def _likeness(ask: Ask, fresh: Tensor) -> Likeness:
    """Add up an explainer's maps that can be scored, of images that were not audited before."""
    found, scorable = Likeness(), is_scorable(ask) & fresh
    found.add(ask.attribution[scorable], ask.targets.class_index[scorable])
    return found


def _fitting(targets: Targets, logits: Tensor) -> Targets:
    """Return the targets; raise if their regions or classes are not those of the logits."""
    if len(targets) and targets.region.shape[1:] != logits.shape[2:]:
        raise ValueError(
            f"the targets' regions have the size {tuple(targets.region.shape[1:])}, but the logits have "
            f"{tuple(logits.shape[2:])}: draw the targets from masks of the logits' size."
        )
    classes = max(2, logits.shape[1])
    if wrong := sorted({one for one in targets.class_index.tolist() if not 0 <= one < classes}):
        raise ValueError(f"classes {wrong} of the targets do not exist: the model has the classes 0 to {classes - 1}.")
    return targets


def _predicted_area(prediction: Tensor, targets: Targets) -> Tensor:
    """Return the share of its image that the model calls the target's class, ``(N,)``."""
    flat = prediction.flatten(1)
    return (flat[targets.image_index] == targets.class_index[:, None]).float().mean(dim=1)


def gather(value: T) -> list[T]:
    """Return the value of every rank, in their order; every rank must call it."""
    if not _distributed():
        return [value]
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def _distributed() -> bool:
    return dist.is_available() and dist.is_initialized()
