"""Evidence of sets of segments that are filled together: random sets, and those that a map ranks first."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from segaudit import randomness
from segaudit.evidence.ask import Ask
from segaudit.evidence.missing import fill_too_weak
from segaudit.evidence.registry import evidence
from segaudit.forwards.probe import Probe
from segaudit.forwards.removal_order import segment_ranks, segment_sums
from segaudit.forwards.target import Targets


@evidence()
def subset_effect(ask: Ask) -> Tensor:
    """Return how far S falls, relative to S(x), when each of M random sets of segments is filled, ``(N, M)``."""
    return subset_effects(ask.probe, random_subsets(ask.probe))


@evidence()
def subset_size(ask: Ask) -> Tensor:
    """Return how many segments each random set has, ``(M,)``."""
    return random_subsets(ask.probe).size


@evidence()
def subset_area(ask: Ask) -> Tensor:
    """Return the share of the image's pixels that each of M random sets has, ``(N, M)`` float64."""
    return subset_areas(random_subsets(ask.probe))[ask.targets.image_index]


@evidence()
def subset_attribution(ask: Ask) -> Tensor:
    """Return the map's sum over each of M random sets of segments, ``(N, M)``."""
    return subset_sums(ask.attribution, random_subsets(ask.probe), ask.targets)


def _segment_deletion(ask: Ask) -> tuple[Tensor, Tensor]:
    return ask.once("segment_deletion", lambda: trace_segment_deletion(ask.probe, ask.attribution))


@evidence(missing={"fill too weak": fill_too_weak})
def segment_deletion_curve(ask: Ask) -> Tensor:
    """Trace S over S(x) as whole segments are filled, those first in which the map's mean is highest, ``(N, K)``."""
    return _segment_deletion(ask)[0]


@evidence()
def segment_deletion_fractions(ask: Ask) -> Tensor:
    """Return the shares of filled segments at the curve's points, ``(N, K)`` from 0 to 1."""
    return _segment_deletion(ask)[1]


class Subsets(NamedTuple):
    """Holds M random sets of segments for each of B images.

    Attributes:
        labels: the segment of each pixel, ``(B, *S)`` int64.
        member: which of R segments each set has, ``(B, M, R)`` bool.
        size: how many segments each set has, ``(M,)`` int64, the same for all images; an image of fewer segments gives all.

    """

    labels: Tensor
    member: Tensor
    size: Tensor


def random_subsets(probe: Probe, shares: Sequence[float] = (0.1, 0.25, 0.5), draws: int = 16, seed: int = 0) -> Subsets:
    """Draw random sets of segments: ``draws`` of each size, from the middle one of the intervention's scales.

    They follow from each image's content and the seed, whatever else is in the batch. Segments, not pixels: single pixels
    that are filled here and there are noise to a network, and hardly remove anything.

    Args:
        probe: the batch.
        shares: sizes, as shares in (0, 1) of the number of segments that the scale is meant to have; at least one segment.
        draws: sets of each size. Each costs a forward an image, which serves all its targets.
        seed: another seed, other sets.

    Raises:
        ValueError: if a share is not in (0, 1) or there are fewer than two draws to compare.

    """
    if not shares or not all(0 < share < 1 for share in shares):
        raise ValueError(f"shares are sizes of sets between 0 and 1, got {list(shares)}.")
    if draws < 2:
        raise ValueError(f"draws must be at least 2, as sets of one size are compared with each other, got {draws}.")
    key = ("random_subsets", tuple(shares), draws, seed)
    return probe.once(key, lambda: _draw(probe, shares, draws, seed))


def subset_effects(probe: Probe, sets: Subsets) -> Tensor:
    """Return how far S falls, relative to S(x), when the segments of a set are filled: ``(N, M)``; NaN if S(x) is too low.

    Args:
        probe: the batch.
        sets: of its images.

    """
    segments = sets.labels.flatten(1)

    def removed(image: Tensor, which: Tensor) -> Tensor:
        return sets.member[image, which].gather(1, segments[image]).view(-1, *sets.labels.shape[1:])

    return probe.fall(probe.sweep(sets.member.any(dim=2), removed))


def subset_sums(attribution: Tensor, sets: Subsets, targets: Targets) -> Tensor:
    """Return the sum of each map over each set's pixels, ``(N, M)`` float64; NaN for a map that is not finite.

    Args:
        attribution: ``(N, *S)``, signed.
        sets: of the targets' images.
        targets: N targets.

    """
    sums, _ = segment_sums(attribution, sets.labels[targets.image_index], sets.member.shape[2])
    return (sets.member[targets.image_index].double() @ sums[:, :, None])[:, :, 0]


def subset_areas(sets: Subsets) -> Tensor:
    """Return the share of each image's pixels that each set has, ``(B, M)`` float64 in (0, 1]."""
    sizes = segment_sums(torch.zeros_like(sets.labels), sets.labels, sets.member.shape[2])[1]
    return (sets.member.double() @ sizes[:, :, None])[:, :, 0] / sets.labels[0].numel()


def trace_segment_deletion(probe: Probe, attribution: Tensor, steps: int | None = None) -> tuple[Tensor, Tensor]:
    """Trace S over S(x) as whole segments are filled, those first in which the map's mean is highest (Rieger, Hansen 2020).

    Args:
        probe: the batch; the segments are those of the middle one of the intervention's scales.
        attribution: ``(N, *S)``; segments of equal means go in a random order that follows
            from the image.
        steps: points between the ends, evenly spaced over the segments. Defaults to the intervention's. No more than the
            scale is meant to have segments; each costs a forward a target.

    Returns:
        The curve ``(N, K)``, from nothing (1) to everything filled, NaN where S(x) is too low, and the share of the image's
        segments that are filled, ``(N, K)`` float64 from 0 to 1. A place may come twice in an image of few segments.

    """
    labels, count = _middle_scale(probe)
    labels = labels[probe.targets.image_index]
    filled_at_least, sizes = segment_ranks(attribution, labels, probe.tie_keys[probe.targets.image_index])
    segments = (sizes > 0).sum(dim=1, keepdim=True)
    steps = min(steps or probe.intervention.steps, count - 1)
    filled = (torch.linspace(0, 1, steps + 2, dtype=torch.float64, device=labels.device) * segments).round()
    shape = (-1, *[1] * (labels.ndim - 1))
    between = [probe.confidence_without(filled_at_least < number.view(shape)) for number in filled[:, 1:-1].unbind(dim=1)]
    confidences = torch.stack([probe.confidence, *between, probe.filled_confidence], dim=1)
    return confidences / probe.reference[:, None], filled / segments


def _draw(probe: Probe, shares: Sequence[float], draws: int, seed: int) -> Subsets:
    labels, count = _middle_scale(probe)
    size = torch.tensor([max(1, round(share * count)) for share in shares], device=labels.device).repeat_interleave(draws)
    used = torch.zeros(len(labels), int(labels.max()) + 1, dtype=torch.bool, device=labels.device)
    used.scatter_(1, labels.flatten(1), True)
    # Regions come first, so that an image's numbers do not depend on how many segments others have.
    order = randomness.uniform(randomness.image_keys(probe.images, seed), (used.shape[1], len(size))).mT
    place = order.masked_fill(~used[:, None], torch.inf).argsort(dim=2, stable=True).argsort(dim=2)
    return Subsets(labels, (place < size[:, None]) & used[:, None], size)


def _middle_scale(probe: Probe) -> tuple[Tensor, int]:
    """Labels ``(B, *S)`` of the images' segments, and about how many an image is meant to have."""
    counts = probe.intervention.regions.counts
    return probe.partitions[len(counts) // 2], counts[len(counts) // 2]
