"""Dual-Evidence Attribution: what the gradients say and what an intervention shows, in one map."""

import torch
from torch import Tensor

from segaudit import noise
from segaudit.attribution.base import Explainer
from segaudit.attribution.gradient import Saliency
from segaudit.intervention import Probe


class DEA(Explainer):
    """Dual-Evidence Attribution (arXiv 2603.22624), in our reading of its abstract.

    Gradient evidence g (the source's map) and intervention evidence i (the effect map), both positive parts scaled to
    [0, 1] by their largest value in the target, are fused to

        s · w · √(g·i) + i / 4,   w = 2·g·i / (g² + i²),

    where the agreement w is 1 at equal evidence and 0 where one is silent, and the reliability s is the correlation of g
    with itself under small input noise, cut at 0. Where gradients are unstable or disagree, the intervention is left;
    inside one region, the gradients order the pixels.

    Args:
        source: the explainer that gives the gradient evidence; saliency unless told.
        draws: noisy copies of the image for the reliability; each costs what the source costs.
        level: standard deviation of that noise over the image's.
        floor: weight of the intervention alone.

    """

    def __init__(self, source: Explainer | None = None, draws: int = 2, level: float = 0.05, floor: float = 0.25) -> None:
        if draws < 0:
            raise ValueError(f"draws must be at least 0, got {draws}.")
        self.source = source or Saliency()
        self.draws = draws
        self.level = level
        self.floor = floor

    def attribute(self, probe: Probe) -> Tensor:
        """The cost of the source, ``draws`` times over again, and that of the effect map, which others share."""
        gradient = self.source.explain(probe)
        reliability = self._reliability(probe, gradient)
        g, i = unit_scale(gradient), unit_scale(probe.effect_map())
        both = g * i
        # 0/0 where both are silent: no agreement, and none needed.
        agreement = 2 * both / (g.square() + i.square()).clamp_min(torch.finfo(g.dtype).tiny)
        weight = reliability.view(-1, *[1] * (g.ndim - 1))
        return weight * agreement * both.sqrt() + self.floor * i

    def _reliability(self, probe: Probe, gradient: Tensor) -> Tensor:
        """Mean correlation ``(N,)`` in [0, 1] of the source's map with its maps on noisy images."""
        if not self.draws:
            return gradient.new_ones(len(gradient))
        images = probe.images
        spread = images.std(dim=tuple(range(1, images.ndim)), keepdim=True, correction=0)
        correlations = []
        for draw in range(self.draws):
            jitter = noise.normal(noise.image_keys(images, draw + 1), images.shape[1:]).to(images.dtype)
            noisy = probe.at(images + self.level * spread * jitter)
            correlations.append(_correlation(gradient, self.source.explain(noisy)))
        return torch.stack(correlations).mean(dim=0).clamp(0, 1)


def unit_scale(values: Tensor) -> Tensor:
    """Positive part of ``(N, *S)``, scaled by each row's largest value to [0, 1]; zeros where nothing is positive.

    Example:
        >>> unit_scale(torch.tensor([[-1.0, 1.0, 4.0], [0.0, 0.0, -2.0]])).tolist()
        [[0.0, 0.25, 1.0], [0.0, 0.0, 0.0]]

    """
    positive = values.clamp_min(0)
    top = positive.flatten(1).amax(dim=1).view(-1, *[1] * (values.ndim - 1))
    return positive / top.where(top > 0, 1)


def _correlation(a: Tensor, b: Tensor) -> Tensor:
    a, b = (v.flatten(1) - v.flatten(1).mean(dim=1, keepdim=True) for v in (a, b))
    return torch.nan_to_num((a * b).sum(dim=1) / (a.norm(dim=1) * b.norm(dim=1)))
