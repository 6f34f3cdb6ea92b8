"""Masked forwards: what the model says when parts of an image are filled."""

import time
from collections.abc import Callable, Hashable
from functools import cached_property
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from segaudit.intervention.fill import ConstantFill, Fill
from segaudit.intervention.region import Regions, SuperpixelRegions
from segaudit.output import logits_of
from segaudit.target import Targets, target_score

T = TypeVar("T")

#: A target whose score is lower than this cannot be scored: relative changes of it would be noise.
MIN_SCORE = 0.05
#: Smaller differences of two scores are rounding errors of single precision, which change with the batch.
_ROUNDING = 1e-6


class Intervention:
    """How pixels are removed and how finely: shared by all explainers and scores of an audit.

    Args:
        fill: what stands in place of removed pixels; the constant 0 unless told.
        regions: the partitions whose parts are removed one at a time for effect maps.
        steps: points of a deletion or insertion curve beside its two ends.
        max_batch: most images in one forward pass.

    """

    def __init__(
        self, fill: Fill | None = None, regions: Regions | None = None, steps: int = 16, max_batch: int = 64
    ) -> None:
        if steps < 1:
            raise ValueError(f"steps must be at least 1, got {steps}.")
        if max_batch < 1:
            raise ValueError(f"max_batch must be at least 1, got {max_batch}.")
        self.fill = fill or ConstantFill()
        self.regions = regions or SuperpixelRegions()
        self.steps = steps
        self.max_batch = max_batch


class Probe:
    """An intervention bound to one batch: every masked forward that several askers need is run once.

    Use it inside :func:`segaudit.attribution.attribution_context`; :class:`segaudit.Auditor` and explainers do.

    Args:
        model: maps images to logits ``(B, C, *S)``, a dict with ``out`` or an object with ``.logits``.
        images: ``(B, channels, *S)``.
        targets: N targets, each in one of the images.
        intervention: how pixels are removed.
        logits: of the images, ``(B, C, *S)``, where they are known already.
        cues: planted cues ``(B, *S)``: the class index that a cue argues for, 0 where there is none.

    """

    def __init__(
        self,
        model: nn.Module,
        images: Tensor,
        targets: Targets,
        intervention: Intervention,
        logits: Tensor | None = None,
        cues: Tensor | None = None,
    ) -> None:
        self.model = model
        # A tensor made under inference_mode takes no part in autograd; its clone does.
        self.images = images.detach().clone()
        self.targets = targets
        self.intervention = intervention
        #: Seconds of shared work that an asker used but did not wait for, because it had been done before.
        self.borrowed = 0.0
        self._logits = logits
        self.cues = cues
        self._shared: dict[Hashable, tuple[Any, float]] = {}

    def at(self, images: Tensor) -> "Probe":
        """The same targets and intervention at other images ``(B, channels, *S)``."""
        return Probe(self.model, images, self.targets, self.intervention, cues=self.cues)

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """What ``make`` gives, made for the first asker of ``key`` alone; later ones are charged its seconds as well."""
        if key in self._shared:
            value, seconds = self._shared[key]
            self.borrowed += seconds
            return value  # type: ignore[no-any-return]
        started, borrowed = now(self.images.device), self.borrowed
        value = make()
        self._shared[key] = value, now(self.images.device) - started + self.borrowed - borrowed
        return value

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``(M, C, *S)`` of images ``(M, channels, *S)``, with gradients where these are on."""
        return logits_of(self.model(images), images.shape[2:])

    @cached_property
    def logits(self) -> Tensor:
        """Logits ``(B, C, *S)`` of the unperturbed images."""
        return forward(self.model, self.images, self.intervention.max_batch) if self._logits is None else self._logits

    @cached_property
    def score(self) -> Tensor:
        """S(x) of each target, ``(N,)`` in [0, 1]."""
        return target_score(self.logits[self.targets.image_index], self.targets)

    @property
    def reference(self) -> Tensor:
        """S(x) as the denominator of relative scores: NaN where it is below :data:`MIN_SCORE`."""
        return self.score.where(self.score >= MIN_SCORE, torch.nan)

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

    @cached_property
    def regions(self) -> list[Tensor]:
        """For each scale, the labels ``(B, *S)`` of the images' regions."""
        return list(self.intervention.regions(self.images))

    @cached_property
    def filled(self) -> Tensor:
        """The images with everything removed, ``(B, channels, *S)``."""
        return self.intervention.fill(self.images)

    @cached_property
    def filled_score(self) -> Tensor:
        """S of each target when its whole image is filled, ``(N,)`` in [0, 1]."""
        logits = forward(self.model, self.filled, self.intervention.max_batch)
        return target_score(logits[self.targets.image_index], self.targets)

    @cached_property
    def counts(self) -> Tensor:
        """How many pixels are removed at each point of a curve, ``(K,)`` from 0 to all."""
        # Quadratic: good maps change the score early, where even points would be too few.
        nodes = torch.linspace(0, 1, self.intervention.steps + 2, dtype=torch.float64) ** 2
        pixels = self.targets.region[0].numel()
        counts: Tensor = (nodes * pixels).round().long().unique()
        return counts.to(self.images.device)

    @property
    def fractions(self) -> Tensor:
        """The share of pixels removed at each point of a curve, ``(K,)`` float64, from 0 to 1."""
        return self.counts.double() / self.counts[-1]

    def deletion_curve(self, attribution: Tensor) -> Tensor:
        """S with the most attributed pixels filled, over S(x): ``(N, K)`` at :attr:`fractions`.

        Args:
            attribution: ``(N, *S)``; ties are broken by place.

        """
        filled_at_least = self._ranks(attribution)
        return self._curve(lambda n, count: filled_at_least[n] < count, (self.score, self.filled_score))

    def insertion_curve(self, attribution: Tensor) -> Tensor:
        """S with all pixels filled but the most attributed, over S(x): ``(N, K)`` at :attr:`fractions`.

        Args:
            attribution: ``(N, *S)``; ties are broken by place.

        """
        shown_first = self._ranks(attribution)
        return self._curve(lambda n, count: shown_first[n] >= count, (self.filled_score, self.score))

    def score_without(self, removed: Tensor) -> Tensor:
        """S of each target when ``removed`` ``(N, *S)`` bool is filled in its image, ``(N,)`` in [0, 1]."""
        return self._masked_scores(len(self.targets), lambda rows: rows, lambda rows: removed[rows])

    def effect_map(self) -> Tensor:
        """How far S falls, relative to S(x), when the region at a pixel is filled: ``(N, *S)``, mean over the scales.

        One sweep serves all targets of an image: B·R forwards for R regions.
        """
        return torch.stack([effects for _, effects in self.scale_effects()]).mean(dim=0)

    def scale_effects(self) -> list[tuple[Tensor, Tensor]]:
        """For each scale, the labels ``(B, *S)`` of its regions and the effect map ``(N, *S)`` of filling one of them."""
        return self.once("scale_effects", self._scale_effects)

    def fall(self, scores: Tensor) -> Tensor:
        """How far S falls to each of ``scores`` ``(N, R)``, relative to S(x); NaN where S(x) is below :data:`MIN_SCORE`."""
        fall = self.reference[:, None] - scores
        # What does not matter must tie with the next that does not, not be ranked by rounding errors.
        return torch.where(fall.abs() < _ROUNDING, 0.0, fall) / self.reference[:, None]

    def sweep(
        self,
        wanted: Tensor,
        removed: Callable[[Tensor, Tensor], Tensor],
        value: Callable[[Tensor, Targets], Tensor] = target_score,
    ) -> Tensor:
        """Value of each target under every mask of its image, ``(N, R)``: one forward a mask serves all targets.

        Args:
            wanted: ``(B, R)`` bool: which of R masks each image has; the others give 0. An image without targets costs
                nothing.
            removed: for M image indices and M mask indices, the share of each pixel that is filled: ``(M, *S)``, boolean
                or in [0, 1].
            value: what is read from logits ``(M, C, *S)`` for M targets; S unless told.

        """
        # Which targets an image has, -1 where it has fewer than the fullest image.
        rounds = self.targets.rounds()
        of_image = torch.full((len(wanted), len(rounds)), -1, device=wanted.device)
        for position, chosen in enumerate(rounds):
            of_image[self.targets.image_index[chosen], position] = chosen
        image, mask = (wanted & (of_image >= 0).any(dim=1, keepdim=True)).nonzero(as_tuple=True)
        values = torch.zeros(len(self.targets), wanted.shape[1], device=wanted.device)
        for rows in torch.arange(len(image), device=wanted.device).split(self.intervention.max_batch):
            logits = self._masked_forward(image[rows], removed(image[rows], mask[rows]))
            for position in range(len(rounds)):
                target = of_image[image[rows], position]
                has = (target >= 0).nonzero()[:, 0]
                values[target[has], mask[rows][has]] = value(logits[has], self.targets[target[has]]).float()
        return values

    def _ranks(self, attribution: Tensor) -> Tensor:
        order = attribution.flatten(1).argsort(dim=1, descending=True, stable=True)
        ranks = torch.empty_like(order)
        place = torch.arange(order.shape[1], device=order.device).expand_as(order)
        return ranks.scatter_(1, order, place).view(attribution.shape)

    def _curve(self, mask: Callable[[Tensor, Tensor], Tensor], ends: tuple[Tensor, Tensor]) -> Tensor:
        targets, inner = len(self.targets), self.counts[1:-1]
        shape = (-1, *[1] * (self.images.ndim - 2))
        between = self._masked_scores(
            targets * len(inner),
            lambda rows: rows // len(inner),
            lambda rows: mask(rows // len(inner), inner[rows % len(inner)].view(shape)),
        ).view(targets, len(inner))
        return torch.cat([ends[0][:, None], between, ends[1][:, None]], dim=1) / self.reference[:, None]

    def _masked_scores(
        self, count: int, target_of: Callable[[Tensor], Tensor], mask_of: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """S for ``count`` masked images; row i shows the image of target ``target_of(i)`` with ``mask_of(i)`` filled."""

        def score(rows: Tensor) -> Tensor:
            these = self.targets[target_of(rows)]
            return target_score(self._masked_forward(these.image_index, mask_of(rows)), these)

        return self._in_chunks(count, score)

    @torch.no_grad()
    def _masked_forward(self, image: Tensor, mask: Tensor) -> Tensor:
        if mask.dtype is torch.bool:
            return self.forward(torch.where(mask[:, None], self.filled[image], self.images[image]))
        return self.forward(torch.lerp(self.images[image], self.filled[image], mask[:, None].to(self.images)))

    def _scale_effects(self) -> list[tuple[Tensor, Tensor]]:
        return [(labels, self._effects_of(labels)) for labels in self.regions]

    def _effects_of(self, labels: Tensor) -> Tensor:
        """Effect map ``(N, *S)`` of one partition ``(B, *S)``."""
        flat = labels.flatten(1)
        sizes = torch.zeros(len(flat), int(flat.max()) + 1, device=flat.device, dtype=torch.int64)
        sizes.scatter_add_(1, flat, torch.ones_like(flat))
        shape = (-1, *[1] * (labels.ndim - 1))
        # An unused label costs no forward.
        scores = self.sweep(sizes > 0, lambda image, region: labels[image] == region.view(shape))
        return self.fall(scores).gather(1, flat[self.targets.image_index]).view(self.targets.region.shape)

    def _in_chunks(self, count: int, compute: Callable[[Tensor], Tensor]) -> Tensor:
        chunks = torch.arange(count, device=self.images.device).split(self.intervention.max_batch)
        return torch.cat([compute(rows) for rows in chunks])


@torch.no_grad()
def forward(model: nn.Module, images: Tensor, max_batch: int) -> Tensor:
    """Logits ``(M, C, *S)`` of images ``(M, channels, *S)``, at most ``max_batch`` at a time and without gradients."""
    return torch.cat([logits_of(model(part), part.shape[2:]) for part in images.split(max_batch)])


def now(device: torch.device) -> float:
    """Seconds on a clock that waits for the device's work to end."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
