"""Evidence of segments: what filling one is worth, and what a map claims that it is."""

import torch
from torch import Tensor

from segaudit.evidence.ask import Ask
from segaudit.evidence.registry import evidence
from segaudit.forwards.probe import Probe
from segaudit.forwards.removal_order import segment_sums


def no_effect(ask: Ask) -> Tensor:
    """Tell where no segment has a positive effect, ``(N,)`` bool."""
    return (segment_effect(ask).nan_to_num(0) <= 0).flatten(1).all(dim=1)


def equal_effects(ask: Ask) -> Tensor:
    """Tell where all segments of each partition have one effect, ``(N,)`` bool."""
    return _alike(segment_effect(ask))


def no_credit(ask: Ask) -> Tensor:
    """Tell which maps are positive on no segment, ``(N,)`` bool."""
    return (segment_attribution(ask).nan_to_num(0) <= 0).flatten(1).all(dim=1)


def equal_credit(ask: Ask) -> Tensor:
    """Tell which maps have one mean on all segments of each partition, ``(N,)`` bool."""
    return _alike(segment_attribution(ask))


@evidence()
def effect_map(ask: Ask) -> Tensor:
    """Map how far S falls, relative to S(x), when the segment at a pixel is filled, ``(N, *S)``."""
    return ask.probe.effect_map()


@evidence(missing={"no segment has an effect": no_effect, "no difference of effect between segments": equal_effects})
def segment_effect(ask: Ask) -> Tensor:
    """Return how far S falls, relative to S(x), when one segment is filled, ``(N, K, R)`` for K partitions."""
    return segment_effects(ask.probe)


@evidence(missing={"no segment has credit": no_credit, "no difference of credit between segments": equal_credit})
def segment_attribution(ask: Ask) -> Tensor:
    """Return the map's mean over each segment, ``(N, K, R)`` for K partitions."""
    return segment_means(ask.probe, ask.attribution)


def segment_effects(probe: Probe) -> Tensor:
    """Return how far S falls, relative to S(x), when one segment is filled: ``(N, K, R)`` for K partitions.

    It comes from the sweep that effect maps are made of, at no further forward. NaN where an image has no such segment,
    or S(x) is too low.
    """
    found = []
    for labels, effects in probe.partition_effects():
        of_target = labels[probe.targets.image_index].flatten(1)
        values = torch.full((len(of_target), _count(probe)), torch.nan, device=effects.device)
        found.append(values.scatter_(1, of_target, effects.flatten(1)))  # all pixels of a segment have its effect
    return torch.stack(found, dim=1)


def segment_means(probe: Probe, attribution: Tensor) -> Tensor:
    """Return the mean of each map ``(N, *S)`` over each segment of K partitions: ``(N, K, R)`` float64.

    NaN where an image has no such segment.
    """
    found = []
    for labels in probe.partitions:
        sums, sizes = segment_sums(attribution, labels[probe.targets.image_index], _count(probe))
        found.append(sums / sizes)
    return torch.stack(found, dim=1)


def _count(probe: Probe) -> int:
    """Count the labels of the partition that has most."""
    return probe.once("most_segments", lambda: max(int(labels.max()) + 1 for labels in probe.partitions))


def _alike(values: Tensor) -> Tensor:
    """Tell whether those of ``(N, K, R)`` that are not NaN are the same in each of the K partitions, ``(N,)`` bool."""
    has = ~values.isnan()
    low, high = values.where(has, torch.inf).amin(dim=2), values.where(has, -torch.inf).amax(dim=2)
    return (low >= high).all(dim=1)
