"""What each region of an image is worth, and what a map claims that it is."""

import torch
from torch import Tensor

from segaudit.intervention.probe import Probe
from segaudit.intervention.rank import region_sums


def region_effects(probe: Probe) -> Tensor:
    """How far S falls, relative to S(x), when one region is filled: ``(N, K, R)`` for the intervention's K partitions.

    From the sweep that effect maps are made of, at no further forward. NaN where an image has no such region, or S(x) is
    too low.
    """
    found = []
    for labels, effects in probe.scale_effects():
        of_target = labels[probe.targets.image_index].flatten(1)
        values = torch.full((len(of_target), _count(probe)), torch.nan, device=effects.device)
        found.append(values.scatter_(1, of_target, effects.flatten(1)))  # all of a region's pixels have its effect
    return torch.stack(found, dim=1)


def region_means(probe: Probe, attribution: Tensor) -> Tensor:
    """Mean of each map ``(N, *S)`` over each region of the intervention's K partitions: ``(N, K, R)`` float64.

    NaN where an image has no such region.
    """
    found = []
    for labels in probe.regions:
        sums, sizes = region_sums(attribution, labels[probe.targets.image_index], _count(probe))
        found.append(sums / sizes)
    return torch.stack(found, dim=1)


def _count(probe: Probe) -> int:
    """Labels of the partition that has most."""
    return probe.once("most_regions", lambda: max(int(labels.max()) + 1 for labels in probe.regions))
