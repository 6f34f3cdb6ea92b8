"""Dual-Evidence Attribution: what the gradients say and what an intervention shows, in one map."""

from functools import partial

import torch
from torch import Tensor

from segaudit.attribution.base import Explainer
from segaudit.attribution.gradient import Saliency
from segaudit.intervention import GaussianNoise, Probe


class DEA(Explainer):
    """Dual-Evidence Attribution (arXiv 2603.22624), in our reading of its abstract: gradients and interventions fused.

    Gradient evidence g (the source's map) and intervention evidence i (the effect map), both positive parts scaled to
    equal mass, are fused to their power mean of exponent 1/2,

        (√(s·g) + √i)² = s·g + i + 2·√(s·g·i),

    whose last term rewards agreement: it is largest where both speak and 0 where one is silent. The reliability s is the
    correlation of g with itself under small input noise, cut at 0: where gradients are unstable, the intervention is left.
    Inside one region, the gradients order the pixels. Never negative; units are arbitrary. Why this form: docs/dea.md.

    Args:
        source: the explainer that gives the gradient evidence; saliency unless told.
        draws: noisy copies of the image for the reliability; each costs what the source costs. 0: s is 1.
        level: standard deviation of that noise over the image's.

    """

    cost = "R·F + (1 + draws)·source"

    def __init__(self, source: Explainer | None = None, draws: int = 1, level: float = 0.05) -> None:
        if draws < 0:
            raise ValueError(f"draws must be at least 0, got {draws}.")
        if level <= 0:
            raise ValueError(f"level is the noise over the image's standard deviation, above 0, got {level}.")
        self.source = source or Saliency()
        self.draws = draws
        self.level = level

    def attribute(self, probe: Probe) -> Tensor:
        """The cost of the source, ``draws`` times over again, and that of the effect map, which others share."""
        gradient = self.source.explain(probe)
        return fuse(gradient, probe.effect_map(), self.reliability(probe, gradient))

    def reliability(self, probe: Probe, gradient: Tensor) -> Tensor:
        """Mean correlation ``(N,)`` in [0, 1] of the source's map ``(N, *S)`` with its maps of noisy images."""
        if not self.draws:
            return gradient.new_ones(len(gradient))
        found = []
        for draw in range(self.draws):
            noise = GaussianNoise(self.level, draw + 1)
            noisy = probe.once((DEA, self.level, draw), partial(_noisy, probe, noise))
            found.append(_correlation(gradient, self.source.explain(noisy)))
        return torch.stack(found).mean(dim=0).clamp(0, 1)


def fuse(gradient: Tensor, effects: Tensor, reliability: Tensor) -> Tensor:
    """Power mean of exponent 1/2 of two kinds of evidence, ``(N, *S)``, each scaled to the mean 1 in its positive part.

    Args:
        gradient: gradient evidence ``(N, *S)``.
        effects: intervention evidence ``(N, *S)``.
        reliability: weight of the gradient evidence, ``(N,)`` in [0, 1].

    Example:
        >>> g, i = torch.tensor([[4.0, 0.0, 0.0, -1.0]]), torch.tensor([[2.0, 2.0, 0.0, 0.0]])
        >>> fuse(g, i, torch.tensor([1.0]))
        tensor([[11.6569,  2.0000,  0.0000,  0.0000]])
        >>> fuse(g, i, torch.tensor([0.0]))
        tensor([[2.0000, 2.0000, 0.0000, 0.0000]])

    """
    weight = reliability.view(-1, *[1] * (gradient.ndim - 1))
    return ((weight * equal_mass(gradient)).sqrt() + equal_mass(effects).sqrt()).square()


def equal_mass(values: Tensor) -> Tensor:
    """Positive part of ``(N, *S)``, scaled to the mean 1 in each row; zeros where nothing is positive.

    Example:
        >>> equal_mass(torch.tensor([[-1.0, 1.0, 4.0, 3.0], [0.0, 0.0, -2.0, 0.0]])).tolist()
        [[0.0, 0.5, 2.0, 1.5], [0.0, 0.0, 0.0, 0.0]]

    """
    positive = values.clamp_min(0)
    mean = positive.flatten(1).mean(dim=1).view(-1, *[1] * (values.ndim - 1))
    return positive / mean.where(mean > 0, 1)


def _noisy(probe: Probe, noise: GaussianNoise) -> Probe:
    return probe.at(noise(probe.images))


def _correlation(a: Tensor, b: Tensor) -> Tensor:
    a, b = (v.flatten(1) - v.flatten(1).mean(dim=1, keepdim=True) for v in (a, b))
    return torch.nan_to_num((a * b).sum(dim=1) / (a.norm(dim=1) * b.norm(dim=1)))
