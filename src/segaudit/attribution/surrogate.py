"""Explains by linear models of how the confidence depends on which segments are shown."""

from abc import abstractmethod

import torch
from torch import Tensor

from segaudit import randomness
from segaudit.attribution.base import Explainer
from segaudit.forwards import Probe

__all__ = ["LIME", "KernelSHAP"]

#: Eigenvalues below this share of the largest are directions that no coalition tells apart.
_FLAT = 1e-10


class _Surrogate(Explainer):
    """Fits a linear model of the confidence for each target and partition.

    A pixel gets its segment's coefficient over S(x).
    """

    cost = "scales·samples·F"

    def __init__(self, samples: int, seed: int) -> None:
        self.samples = samples
        self.seed = seed

    def attribute(self, probe: Probe) -> Tensor:
        """Take as many forwards an image as there are samples, for each partition."""
        keys = randomness.image_keys(probe.images, self.seed)
        maps = [self._of_partition(probe, labels, randomness.combine(keys, n)) for n, labels in enumerate(probe.partitions)]
        return torch.stack(maps).mean(dim=0)

    def _of_partition(self, probe: Probe, labels: Tensor, keys: Tensor) -> Tensor:
        """Return the maps ``(N, *S)`` of one partition ``(B, *S)``."""
        targets, images = probe.targets, probe.images
        segments, count = _renumbered(labels.flatten(1))
        shown, weight = self._draw(keys, count)

        def removed(image: Tensor, sample: Tensor) -> Tensor:
            return ~shown[image, sample].gather(1, segments[image]).view(-1, *images.shape[2:])

        rise = probe.sweep(weight > 0, removed).double() - probe.filled_confidence[:, None]
        # A row an image and position, so that one product with an image's coalitions serves all its targets.
        place = targets.image_index, targets.position
        rises = rise.new_zeros(len(images), int(targets.position.max()) + 1, self.samples)
        rises[place] = rise
        change = rises.new_zeros(rises.shape[:2])
        change[place] = (probe.confidence - probe.filled_confidence).double()
        coefficients = self._fit(shown.double(), weight, count, rises, change)
        values = (coefficients[place] / probe.reference[:, None]).gather(1, segments[targets.image_index])
        return values.view(targets.region.shape)

    @abstractmethod
    def _draw(self, keys: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
        """Draw the segments that each sample shows, ``(B, samples, P)`` bool, and its weight ``(B, samples)``.

        A sample of weight 0 is not asked for.

        Args:
            keys: ``(B,)``, of the images' contents.
            count: ``(B,)``, how many of the P segments an image has; those that it lacks are never shown.

        """

    @abstractmethod
    def _fit(self, shown: Tensor, weight: Tensor, count: Tensor, rises: Tensor, change: Tensor) -> Tensor:
        """Return the coefficients ``(B, T, P)``.

        Args:
            shown: ``(B, samples, P)``, 0 or 1.
            weight: ``(B, samples)``.
            count: ``(B,)``, how many of the P segments an image has.
            rises: how far S of each sample is above that of the filled image, ``(B, T, samples)``.
            change: how far S(x) is above it, ``(B, T)``.

        """


class KernelSHAP(_Surrogate):
    """Compute the Shapley values of the segments' shares in the confidence, relative to S(x) (Lundberg, Lee 2017).

    Theorem 2 of the paper. Signed. The values of an image's segments add up to 1 − S(all filled)/S(x) in each partition;
    the map is the mean over the partitions. Coalitions come in pairs that complement each other (Covert, Lee 2021). Where
    all coalitions of an image's segments fit into ``samples``, each is asked for once and the values are exact. The
    partitions and the fill are those of the audit's :class:`~segaudit.intervention.Intervention`. NaN where S(x) is too low
    for a relative change.

    When to use:
        Where segments stand in for each other: it shares the credit where occlusion gives none. It is the dearest here.

    Args:
        samples: coalitions an image and partition, an even number, at least twice the number of segments.
        seed: of the coalitions. One image always gets the same.

    """

    def __init__(self, samples: int = 512, seed: int = 0) -> None:
        if samples < 2 or samples % 2:
            raise ValueError(f"samples must be an even number, at least 2, got {samples}.")
        super().__init__(samples, seed)

    def _draw(self, keys: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
        # All coalitions but none and all: their kernel is infinite, they are met exactly.
        coalitions = (1 << count.clamp_max(62)) - 2
        exact = coalitions <= self.samples
        most = int(count.max())
        if bool((~exact & (2 * count > self.samples)).any()):
            raise ValueError(
                f"KernelSHAP needs at least twice as many samples as segments, got {self.samples} samples and {most} "
                "segments: give more samples or take fewer segments."
            )
        player = torch.arange(most, device=keys.device)
        present = (player < count[:, None])[:, None]
        sample = torch.arange(self.samples, device=keys.device)
        every = ((sample[:, None] + 1) >> player.clamp_max(62) & 1).bool()
        asked = ~exact[:, None] | (sample < coalitions[:, None])
        shown = torch.where(exact[:, None, None], every & asked[:, :, None], self._pairs(keys, count, most)) & present
        size = shown.sum(dim=2).double()
        weight = torch.where(exact[:, None], _kernel(size, count.double()[:, None]), 1.0)
        return shown, weight.where(asked, 0.0)

    def _pairs(self, keys: Tensor, count: Tensor, most: int) -> Tensor:
        """Draw random coalitions ``(B, samples, P)``: sizes by the kernel's mass, then any segments of that number."""
        half = self.samples // 2
        size = torch.arange(1, most + 1, device=keys.device)
        # The kernel's mass at a size: (p − 1) / (s · (p − s)).
        mass = (1 / (size * (count[:, None] - size)).double()).where(size < count[:, None], 0.0).cumsum(dim=1)
        drawn = randomness.uniform(randomness.combine(keys, 1), (half,)).double() * mass[:, -1:]
        chosen = torch.searchsorted(mass, drawn) + 1
        # Segments come first, so that an image's numbers do not depend on how many segments others have.
        order = randomness.uniform(randomness.combine(keys, 2), (most, half)).mT
        player = torch.arange(most, device=keys.device)
        order = order.masked_fill((player >= count[:, None])[:, None], torch.inf)
        rank = order.argsort(dim=2, stable=True).argsort(dim=2)
        shown: Tensor = rank < chosen[:, :, None]
        return torch.cat([shown, ~shown], dim=1)

    def _fit(self, shown: Tensor, weight: Tensor, count: Tensor, rises: Tensor, change: Tensor) -> Tensor:
        # Around equal shares of the whole change, values that add up to 0: then the constraint needs no multiplier.
        share = shown.mean(dim=2, keepdim=True) * shown.shape[2] / count.view(-1, 1, 1)
        present = torch.arange(shown.shape[2], device=shown.device) < count[:, None]
        centred = (shown - share) * present[:, None]
        rest = rises - change[:, :, None] * share.mT
        gram = centred.mT @ (weight[:, :, None] * centred)
        inverse: Tensor = torch.linalg.pinv(gram, rtol=_FLAT, hermitian=True)
        return (rest * weight[:, None]) @ centred @ inverse + (change / count[:, None])[:, :, None]


class LIME(_Surrogate):
    """Regress the confidence on which segments are shown, relative to S(x) (LIME; Ribeiro, Singh, Guestrin 2016).

    A ridge regression. Signed: how far the confidence rises when a segment is shown. Each segment is shown in half of the
    samples. A sample in which the share d of the segments is removed weighs exp(−d²/width²), equation 2 with our distance.
    The intercept takes no part in the ridge. The map is the mean over the partitions. The partitions and the fill are those
    of the audit's :class:`~segaudit.intervention.Intervention`. NaN where S(x) is too low for a relative change.

    When to use:
        As KernelSHAP with a local kernel, to compare with published results.

    Args:
        samples: random images an image and partition.
        width: of the kernel, a share of removed segments.
        ridge: penalty on the squared coefficients, in the weights' units, above 0.
        seed: of the samples. One image always gets the same.

    """

    def __init__(self, samples: int = 256, width: float = 0.5, ridge: float = 1.0, seed: int = 0) -> None:
        if samples < 2:
            raise ValueError(f"samples must be at least 2, got {samples}.")
        if width <= 0:
            raise ValueError(f"width is a share of removed segments above 0, got {width}.")
        if ridge <= 0:
            raise ValueError(f"ridge must be above 0, got {ridge}.")
        super().__init__(samples, seed)
        self.width = width
        self.ridge = ridge

    def _draw(self, keys: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
        most = int(count.max())
        present = torch.arange(most, device=keys.device) < count[:, None]
        # Segments come first, so that an image's numbers do not depend on how many segments others have.
        shown = (randomness.uniform(randomness.combine(keys, 1), (most, self.samples)).mT < 0.5) & present[:, None]
        removed = 1 - shown.sum(dim=2).double() / count[:, None]
        return shown, torch.exp(-((removed / self.width) ** 2))

    def _fit(self, shown: Tensor, weight: Tensor, count: Tensor, rises: Tensor, change: Tensor) -> Tensor:
        weight = weight[:, :, None]
        total = weight.sum(dim=1, keepdim=True)
        centred = shown - (weight * shown).sum(dim=1, keepdim=True) / total
        rest = (rises.mT - (weight * rises.mT).sum(dim=1, keepdim=True) / total) * weight
        eye = torch.eye(shown.shape[2], dtype=shown.dtype, device=shown.device)
        solved: Tensor = torch.linalg.solve(centred.mT @ (weight * centred) + self.ridge * eye, centred.mT @ rest)
        return solved.mT


def _renumbered(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Number labels ``(B, P)`` from 0 without gaps in each image, and count those of each image, ``(B,)``."""
    used = torch.zeros(len(labels), int(labels.max()) + 1, dtype=torch.long, device=labels.device).scatter_(1, labels, 1)
    number = used.cumsum(dim=1)
    return number.gather(1, labels) - 1, number[:, -1]


def _kernel(size: Tensor, count: Tensor) -> Tensor:
    """Return the Shapley kernel (p − 1) / (C(p, s) · s · (p − s)) of coalitions of s among p segments, 0 < s < p."""
    ways = torch.lgamma(count + 1) - torch.lgamma(size + 1) - torch.lgamma(count - size + 1)
    return (count - 1) * torch.exp(-ways) / (size * (count - size))
