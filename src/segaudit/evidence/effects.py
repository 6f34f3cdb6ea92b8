"""Evidence of segments: what filling one is worth, and what a map claims that it is.

The segments are those of a partition that no explainer uses, :attr:`segaudit.Probe.judge_partition`. Region effects, and
whatever is fused with them, would otherwise be judged by the very effects that they consist of.
"""

import torch
from torch import Tensor

from segaudit.evidence.ask import Ask
from segaudit.evidence.registry import evidence
from segaudit.forwards.probe import Probe
from segaudit.forwards.removal_order import segment_sums
from segaudit.functional.calibration import effect_calibration


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
    """Map how far S falls, relative to S(x), when the judging segment at a pixel is filled, ``(N, *S)``."""
    return ask.probe.judge_effects()


@evidence(missing={"no segment has an effect": no_effect, "no difference of effect between segments": equal_effects})
def segment_effect(ask: Ask) -> Tensor:
    """Return how far S falls, relative to S(x), when one judging segment is filled, ``(N, 1, R)``: one partition."""
    return segment_effects(ask.probe)


def area_explains(ask: Ask) -> Tensor:
    """Tell where credit or effects differ between segments no further than the segments' areas explain, ``(N,)`` bool."""
    credit, effects = segment_attribution(ask), segment_effect(ask)
    given = effect_calibration(credit, effects, segment_area(ask))
    return effect_calibration(credit, effects).isfinite() & given.isnan()


@evidence(missing={"the areas of the segments explain the differences": area_explains})
def segment_area(ask: Ask) -> Tensor:
    """Return the share of the image's pixels that each judging segment has, ``(N, 1, R)`` float64; 0 for none."""
    return segment_areas(ask.probe)


@evidence(missing={"no segment has credit": no_credit, "no difference of credit between segments": equal_credit})
def segment_attribution(ask: Ask) -> Tensor:
    """Return the map's mean over each judging segment, ``(N, 1, R)``: one partition."""
    return segment_means(ask.probe, ask.attribution)


def segment_effects(probe: Probe) -> Tensor:
    """Return how far S falls, relative to S(x), when one segment of the judging partition is filled: ``(N, 1, R)``.

    NaN where an image has no such segment, or S(x) is too low.
    """
    of_target = probe.judge_partition[probe.targets.image_index].flatten(1)
    values = torch.full((len(of_target), _count(probe)), torch.nan, device=of_target.device)
    # All pixels of a segment have its effect.
    return values.scatter_(1, of_target, probe.judge_effects().flatten(1))[:, None]


def segment_means(probe: Probe, attribution: Tensor) -> Tensor:
    """Return the mean of each map ``(N, *S)`` over each segment of the judging partition: ``(N, 1, R)`` float64.

    NaN where an image has no such segment.
    """
    sums, sizes = segment_sums(attribution, probe.judge_partition[probe.targets.image_index], _count(probe))
    return (sums / sizes)[:, None]


def segment_areas(probe: Probe) -> Tensor:
    """Return the share of the image's pixels that each segment of the judging partition has: ``(N, 1, R)`` float64."""
    labels = probe.judge_partition[probe.targets.image_index]
    _, sizes = segment_sums(torch.zeros_like(labels), labels, _count(probe))
    return (sizes / labels[:1].numel())[:, None] if len(labels) else sizes[:, None]


def _count(probe: Probe) -> int:
    """Count the labels of the judging partition."""
    return probe.once("judge_segments", lambda: int(probe.judge_partition.max()) + 1)


def _alike(values: Tensor) -> Tensor:
    """Tell whether those of ``(N, K, R)`` that are not NaN are the same in each of the K partitions, ``(N,)`` bool."""
    has = ~values.isnan()
    low, high = values.where(has, torch.inf).amin(dim=2), values.where(has, -torch.inf).amax(dim=2)
    return (low >= high).all(dim=1)
