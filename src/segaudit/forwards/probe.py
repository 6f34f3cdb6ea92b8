"""Runs masked forwards: asks the model for its confidence when parts of an image are filled."""

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Any, Self, TypeVar

import torch
from torch import Tensor, nn

from segaudit.forwards.batching import Batching
from segaudit.forwards.cost import Cost, PassCounter, now
from segaudit.forwards.curve import Curve, trace
from segaudit.forwards.output import logits_of
from segaudit.forwards.removal_order import nearest, pixel_ranks, tie_keys, tie_order, unit_ranks
from segaudit.forwards.target import Targets, rounds, target_confidence
from segaudit.functional.faithfulness import MIN_CONFIDENCE
from segaudit.intervention.choice import fill_distances, ranked
from segaudit.intervention.intervention import Intervention
from segaudit.intervention.partition import ScatteredRegions

T = TypeVar("T")


class Probe:
    """Asks one model about one batch of images, and runs every masked forward that several ask for only once.

    Explainers and evidence get one. Use it inside :func:`segaudit.attribution.attribution_context`.

    Args:
        model: maps images to logits ``(B, C, *S)``, a dict with ``out`` or an object with ``.logits``.
        images: ``(B, channels, *S)``.
        targets: N targets, each in one of the images.
        intervention: sets how pixels are removed.
        logits: of the images, ``(B, C, *S)``. Defaults to a forward pass when they are first needed.
        cues: planted cues ``(B, *S)``: the class index that a cue argues for, 0 where there is none.
        fill_index: which of the intervention's fills each target gets, ``(N,)``. Defaults to the one that differs most from
            the image over the target's region.
        batching: the run's limit of images in a pass, and its precision. Defaults to what the intervention says.
        predicted: the regions as the prediction of these images draws them, ``(N, *S)`` bool, where the targets' regions are
            those of other images, of which these are perturbed versions. Defaults to the targets' regions.

    """

    def __init__(
        self,
        model: nn.Module,
        images: Tensor,
        targets: Targets,
        intervention: Intervention,
        logits: Tensor | None = None,
        cues: Tensor | None = None,
        fill_index: Tensor | None = None,
        batching: Batching | None = None,
        predicted: Tensor | None = None,
    ) -> None:
        self.model = model
        # A tensor made under inference_mode takes no part in autograd; its clone does.
        self.images = images.detach().clone()
        self.targets = _outside_inference_mode(targets)
        self.intervention = intervention
        self.cues = cues
        self.predicted = self.targets.region if predicted is None else predicted
        self.batching = batching or Batching(intervention.max_batch, intervention.precision)
        self._logits = logits
        self._fill_index = fill_index
        self._origin: Probe | None = None
        self._shared: dict[Hashable, tuple[Any, Cost]] = {}
        self._counter = PassCounter(model)
        self._open: Cost | None = None
        #: Seconds and forwards of the open cost's time that other costs account for.
        self._elsewhere = (0.0, 0.0)

    def at(self, images: Tensor) -> Self:
        """Ask about other images ``(B, channels, *S)``, with the same targets, fills and intervention."""
        moved = type(self)(self.model, images, self.targets, self.intervention, cues=self.cues, batching=self.batching)
        moved._origin = self
        return moved

    def with_second_fill(self) -> Self:
        """Ask about the same images and targets, each target filled by the fill that differs next most from its region.

        Raises:
            ValueError: if the intervention has one fill only.

        """
        if len(self.intervention.fills) == 1:
            raise ValueError("the intervention has one fill only, so there is no second one.")
        # Not simply the second of the order: the first may have been given.
        order = self._fill_order
        second = torch.where(order[0] == self.fill_index, order[1], order[0])
        return type(self)(
            self.model, self.images, self.targets, self.intervention, self.logits, self.cues, second, self.batching
        )

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """Call ``make`` for the first who asks for ``key``, and give all others the same result and the same cost."""
        if key not in self._shared:
            with self.measure_cost() as cost:
                made = make()
            self._shared[key] = made, cost
        value, cost = self._shared[key]
        if self._open is not None:
            self._open.shared |= {cost, *cost.shared}
        return value  # type: ignore[no-any-return]

    @contextmanager
    def measure_cost(self) -> Iterator[Cost]:
        """Measure the work inside; the result is complete at the end. A cost that is open around it does not count it.

        Work that is shared by :meth:`once` counts once in each cost that uses it, whoever did it.

        Example:
            >>> from segaudit.attribution import Saliency, attribution_context
            >>> from segaudit.forwards import TargetSelector
            >>> model, images = nn.Conv2d(3, 2, 1), torch.rand(5, 3, 8, 8)
            >>> with attribution_context(model):
            ...     logits = model(images)
            ...     probe = Probe(model, images, TargetSelector(max_per_image=1)(logits), Intervention(), logits)
            ...     with probe.measure_cost() as cost:
            ...         _ = Saliency().explain(probe)
            >>> cost.forwards  # one forward and one backward pass of five images
            15.0

        """
        cost, around = Cost(), (self._open, self._elsewhere)
        self._open, self._elsewhere = cost, (0.0, 0.0)
        try:
            with self._counter.on():
                start = self._reading()
                yield cost
                taken = [end - begin for end, begin in zip(self._reading(), start, strict=True)]
                cost.own_seconds, cost.own_forwards = (t - e for t, e in zip(taken, self._elsewhere, strict=True))
                around = around[0], (around[1][0] + taken[0], around[1][1] + taken[1])
        finally:
            self._open, self._elsewhere = around

    def _reading(self) -> tuple[float, float]:
        return now(self.images.device), self._counter.passes

    def forward(self, images: Tensor) -> Tensor:
        """Return logits ``(M, C, *S)`` of images ``(M, channels, *S)``, with gradients where these are on."""
        # A first layer may work in place, which a tensor whose gradient is asked for does not bear.
        return logits_of(self.model(images.clone() if images.requires_grad else images), images.shape[2:])

    @property
    def logits(self) -> Tensor:
        """Logits ``(B, C, *S)`` of the unperturbed images."""
        if self._logits is not None:
            return self._logits
        return self.once("logits", lambda: forward(self.model, self.images, self.batching))

    @property
    def confidence(self) -> Tensor:
        """S(x) of each target, ``(N,)`` in [0, 1]."""
        return self.once("confidence", lambda: target_confidence(self.logits[self.targets.image_index], self.targets))

    @property
    def reference(self) -> Tensor:
        """S(x) as the denominator of relative values ``(N,)``: NaN where it is below :data:`MIN_CONFIDENCE`."""
        return self.confidence.where(self.confidence >= MIN_CONFIDENCE, torch.nan)

    @property
    def cue(self) -> Tensor:
        """The planted cues that argue for each target's class, ``(N, *S)`` bool.

        Raises:
            ValueError: if the data have none.

        """
        if self.cues is None:
            raise ValueError("planted cues are asked for, but none were given: only data with planted cues have them.")
        classes = self.targets.class_index.view(-1, *[1] * (self.targets.region.ndim - 1))
        return self.cues.to(self.images.device)[self.targets.image_index] == classes

    @property
    def partitions(self) -> list[Tensor]:
        """Segment of each pixel, labels ``(B, *S)``, for each scale of the intervention."""
        return self.once("partitions", lambda: list(self.intervention.regions(self.images)))

    @property
    def filled(self) -> Tensor:
        """The images with everything removed by each of F fills, ``(F, B, channels, *S)``."""
        return self.once("filled", lambda: torch.stack([fill(self.images) for fill in self.intervention.fills]))

    @property
    def fill_index(self) -> Tensor:
        """Index of each target's fill, ``(N,)``: the fill that differs most from the image over the target's region.

        It follows from the image and the region alone, never from the model; see :mod:`segaudit.intervention.choice`.
        """
        if self._fill_index is not None:
            return self._fill_index
        if self._origin is not None:
            return self._origin.fill_index
        return self.once("fill_index", lambda: self._fill_order[0])

    @property
    def fill_names(self) -> list[str]:
        """The name of each target's fill, N of them; see :attr:`segaudit.intervention.Fill.label`."""
        labels = [fill.label for fill in self.intervention.fills]
        return [labels[place] for place in self.fill_index.tolist()]

    @property
    def filled_confidence(self) -> Tensor:
        """Confidence in each target when its whole image is filled, ``(N,)`` in [0, 1]."""
        return self.once("filled_confidence", self._ask_filled)

    @property
    def tie_keys(self) -> Tensor:
        """A key for each image ``(B,)``, from which the random order of ties follows; it depends on the image alone."""
        return self.once("tie_keys", lambda: tie_keys(self.images))

    @property
    def tie_order(self) -> Tensor:
        """The pixels of each image in the random order in which ties are filled, ``(B, P)``, the same for all explainers."""
        return self.once("tie_order", lambda: tie_order(self.tie_keys, self.images[0, 0].numel()))

    def deletion_curve(self, attribution: Tensor, steps: int | None = None) -> Curve:
        """Trace the confidence, relative to S(x), as the most attributed pixels are filled.

        Args:
            attribution: ``(N, *S)``; ties go in the order of :attr:`tie_order`.
            steps: points between the ends. Defaults to the intervention's.

        """
        filled_at_least, snap = self._order(attribution)
        ends = self.confidence, self.filled_confidence
        return self._curve(lambda n, count: filled_at_least[n] < count, ends, steps, snap)

    def insertion_curve(self, attribution: Tensor, steps: int | None = None) -> Curve:
        """Trace the confidence, relative to S(x), as the most attributed pixels are shown in the filled image.

        Args:
            attribution: ``(N, *S)``; ties go in the order of :attr:`tie_order`.
            steps: points between the ends. Defaults to the intervention's.

        """
        shown_first, snap = self._order(attribution)
        ends = self.filled_confidence, self.confidence
        return self._curve(lambda n, count: shown_first[n] >= count, ends, steps, snap)

    def confidence_without(self, removed: Tensor) -> Tensor:
        """Ask for the confidence in each target, ``(N,)``, when ``removed`` ``(N, *S)`` bool is filled in its image."""
        return self._masked_confidences(len(self.targets), lambda rows: rows, lambda rows: removed[rows])

    def effect_map(self) -> Tensor:
        """Map how far S falls, relative to S(x), when the segment at a pixel is filled: ``(N, *S)``, mean over the scales.

        One sweep serves all targets of an image: B·R forwards for R segments.
        """
        return torch.stack([effects for _, effects in self.partition_effects()]).mean(dim=0)

    def partition_effects(self) -> list[tuple[Tensor, Tensor]]:
        """Return, for each partition, its labels ``(B, *S)`` and the effect map ``(N, *S)`` of filling one segment."""
        return self.once("partition_effects", lambda: [(labels, self._effects_of(labels)) for labels in self.partitions])

    @property
    def judge_partition(self) -> Tensor:
        """Segment of each pixel, labels ``(B, *S)``, in the partition that judges maps; no map is made of its effects.

        :class:`segaudit.intervention.ScatteredRegions`, about as many as the middle one of the intervention's scales has.
        """
        counts = self.intervention.regions.counts
        count = counts[len(counts) // 2]
        return self.once("judge_partition", lambda: ScatteredRegions([count]).partition(self.images, count))

    def judge_effects(self) -> Tensor:
        """Map how far S falls, relative to S(x), when the segment at a pixel is filled, in the partition that judges maps.

        ``(N, *S)``. One sweep serves all explainers and all targets of an image: a forward a segment and fill. An explainer
        must not ask for it, or its map would be judged by the evidence that it was made of.
        """
        return self.once("judge_effects", lambda: self._effects_of(self.judge_partition))

    def fall(self, confidences: Tensor) -> Tensor:
        """Return how far S falls to each of ``confidences`` ``(N, R)``, relative to S(x); NaN where S(x) is too low."""
        fall = self.reference[:, None] - confidences
        # What does not matter must tie with the next that does not, not be ranked by rounding errors.
        return torch.where(fall.abs() < self.batching.rounding, 0.0, fall) / self.reference[:, None]

    def sweep(
        self,
        wanted: Tensor,
        removed: Callable[[Tensor, Tensor], Tensor],
        value: Callable[[Tensor, Targets], Tensor] = target_confidence,
        fills: int | None = None,
    ) -> Tensor:
        """Return a value of each target under every mask of its image, ``(N, R)``. One forward a mask serves all targets.

        Args:
            wanted: ``(B, R)`` bool: which of R masks each image has; the others give 0. An image without targets costs
                nothing.
            removed: for M image indices and M mask indices, the share of each pixel that is filled: ``(M, *S)``, boolean
                or in [0, 1].
            value: what is read from logits ``(M, C, *S)`` for M targets. Defaults to the confidence.
            fills: 1 where the masks fill nothing, so that it does not matter with what. Defaults to the intervention's.

        """
        # An image is masked once for each of the fills that its targets have: a scene.
        fills = fills or len(self.intervention.fills)
        fill_index = self.fill_index if fills > 1 else torch.zeros_like(self.targets.image_index)
        scenes, scene_of = (self.targets.image_index * fills + fill_index).unique(return_inverse=True)
        image_of, fill_of = scenes // fills, scenes % fills
        # Which targets a scene has, -1 where it has fewer than the fullest.
        turns = rounds(scene_of)
        of_scene = torch.full((len(scenes), len(turns)), -1, device=wanted.device)
        for position, chosen in enumerate(turns):
            of_scene[scene_of[chosen], position] = chosen
        scene, mask = wanted[image_of].nonzero(as_tuple=True)
        values = torch.zeros(len(self.targets), wanted.shape[1], device=wanted.device, dtype=torch.float32)

        def read(rows: Tensor) -> None:
            image = image_of[scene[rows]]
            logits = self._masked_forward(image, fill_of[scene[rows]], removed(image, mask[rows]))
            for position in range(len(turns)):
                target = of_scene[scene[rows], position]
                has = (target >= 0).nonzero()[:, 0]
                values[target[has], mask[rows][has]] = value(logits[has], self.targets[target[has]]).float()

        self.run(len(scene), read)
        return values

    def run(self, count: int, compute: Callable[[Tensor], T], weight: int = 1) -> list[T]:
        """Call ``compute`` for the rows 0 to ``count``, as many at a time as the run allows; see :meth:`Batching.run`."""
        return self.batching.run(count, compute, weight, self.images.device)

    @property
    def _fill_order(self) -> Tensor:
        """The fills of each target, ``(F, N)``, the first choice first."""
        if len(self.intervention.fills) == 1:
            return torch.zeros_like(self.targets.image_index)[None]
        where = self.targets.image_index, self.targets.region
        return self.once("fill_order", lambda: ranked(fill_distances(self.images, self.filled, *where)))

    def _ask_filled(self) -> Tensor:
        """Confidence in each target when its whole image is filled, ``(N,)``: one forward for each fill of an image."""
        images = self.targets.image_index
        if not len(images):
            return self.images.new_zeros(0)
        scenes, scene_of = (self.fill_index * len(self.images) + images).unique(return_inverse=True)
        filled = self.filled.flatten(0, 1)[scenes]
        return target_confidence(forward(self.model, filled, self.batching)[scene_of], self.targets)

    def _order(self, attribution: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """Ranks ``(N, *S)``, one for all pixels of a unit, and what gives the nearest number of pixels in whole units."""
        if self.intervention.units is None:
            return pixel_ranks(attribution, self.tie_order[self.targets.image_index]), lambda counts: counts
        units = self.intervention.units
        (labels,) = self.once("units", lambda: units(self.images))
        image = self.targets.image_index
        ranks, whole = unit_ranks(attribution, labels[image], self.tie_keys[image])
        return ranks, lambda counts: nearest(counts, whole)

    def _curve(
        self,
        mask: Callable[[Tensor, Tensor], Tensor],
        ends: tuple[Tensor, Tensor],
        steps: int | None,
        snap: Callable[[Tensor], Tensor],
    ) -> Curve:
        shape = (-1, *[1] * (self.images.ndim - 2))

        def confidence(counts: Tensor) -> Tensor:
            points = counts.shape[1]
            confidences = self._masked_confidences(
                counts.numel(),
                lambda rows: rows // max(1, points),
                lambda rows: mask(rows // points, counts.flatten()[rows].view(shape)),
            )
            return confidences.view(counts.shape) / self.reference[:, None]

        relative = (ends[0] / self.reference, ends[1] / self.reference)
        return trace(confidence, relative, self.targets.region[0].numel(), steps or self.intervention.steps, snap)

    def _masked_confidences(
        self, count: int, target_of: Callable[[Tensor], Tensor], mask_of: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """S for ``count`` masked images; row i shows the image of target ``target_of(i)`` with ``mask_of(i)`` filled."""

        def confidence(rows: Tensor) -> Tensor:
            target = target_of(rows)
            these = self.targets[target]
            return target_confidence(self._masked_forward(these.image_index, self.fill_index[target], mask_of(rows)), these)

        return torch.cat(self.run(count, confidence)) if count else self.images.new_zeros(0)

    @torch.no_grad()
    def _masked_forward(self, image: Tensor, fill: Tensor, mask: Tensor) -> Tensor:
        """Logits of M images, of each of which the share ``mask`` ``(M, *S)`` is filled by one of the fills."""
        masked = self._masked(self.images[image], self.filled[fill, image], fill, mask)
        with self.batching.autocast(masked.device):
            return self.forward(masked)

    def _masked(self, images: Tensor, filled: Tensor, fill: Tensor, mask: Tensor) -> Tensor:
        fills = self.intervention.fills
        if len(fills) == 1:
            return fills[0].remove(images, mask, filled)
        masked = torch.empty_like(images)
        for place, one in enumerate(fills):
            rows = (fill == place).nonzero()[:, 0]
            if len(rows):
                masked[rows] = one.remove(images[rows], mask[rows], filled[rows])
        return masked

    def _effects_of(self, labels: Tensor) -> Tensor:
        """Effect map ``(N, *S)`` of one partition ``(B, *S)``."""
        flat = labels.flatten(1)
        sizes = torch.zeros(len(flat), int(flat.max()) + 1, device=flat.device, dtype=torch.int64)
        sizes.scatter_add_(1, flat, torch.ones_like(flat))
        shape = (-1, *[1] * (labels.ndim - 1))
        # An unused label costs no forward.
        confidences = self.sweep(sizes > 0, lambda image, segment: labels[image] == segment.view(shape))
        return self.fall(confidences).gather(1, flat[self.targets.image_index]).view(self.targets.region.shape)


@torch.no_grad()
def forward(model: nn.Module, images: Tensor, batching: Batching) -> Tensor:
    """Return logits ``(M, C, *S)`` of images ``(M, channels, *S)``, without gradients."""

    def logits(rows: Tensor) -> Tensor:
        # By their numbers, which copies them: a first layer may work in place.
        with batching.autocast(images.device):
            return logits_of(model(images[rows]), images.shape[2:])

    return torch.cat(batching.run(len(images), logits, device=images.device))


def _outside_inference_mode(targets: Targets) -> Targets:
    """Copy targets that were made under inference_mode: their tensors take no part in autograd."""
    if not targets.region.is_inference():
        return targets
    return Targets(targets.image_index.clone(), targets.class_index.clone(), targets.region.clone())
