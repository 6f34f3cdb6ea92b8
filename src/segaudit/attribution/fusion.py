"""Fuses the evidence of gradients and that of an intervention in one map: Dual-Evidence Attribution."""

from collections.abc import Sequence

import torch
from torch import Tensor

from segaudit.attribution.base import Explainer
from segaudit.attribution.gradient import Saliency
from segaudit.forwards import Probe

__all__ = ["DEA"]

#: Points of the short curves, beside their ends, by which the weight is chosen.
_STEPS = 3
#: Smaller differences of two gaps do not matter, and rounding errors, which change with the batch, must not decide.
_RESOLUTION = 1e-4


class DEA(Explainer):
    """Fuse gradients and interventions: Dual-Evidence Attribution (arXiv 2603.22624), in our reading of its abstract.

    Gradient evidence g (the map of ``source``) and intervention evidence i (the effect map), each scaled to the mean
    absolute value 1, are fused to their signed power mean of exponent 1/2: with r(v) = sign(v)·√|v| and its inverse,

        r⁻¹(√λ·r(g) + √(1 - λ)·r(i)),

    which is λ·g + (1 - λ)·i + 2·√(λ·(1 - λ)·g·i) where both are positive. It rewards agreement. Where the signs differ,
    one weighs against the other. The weight λ is the reliability of the gradients. It is chosen for each target: of
    ``weights``, the one whose map has the largest faithfulness gap on short deletion and insertion curves. So the map
    falls back to the effects where gradients mislead, and to the gradients where segments are too coarse. Signed; units
    are arbitrary. docs/dea.md gives the reasons for this form, and says what choosing by such a gap means for scores that
    rest on curves.

    When to use:
        As the map to look at. It follows gradients as far as they can be relied on, and effects otherwise. It chooses its
        weight by short deletion and insertion curves, see docs/dea.md.

    Args:
        source: the explainer that gives the gradient evidence. Defaults to saliency.
        weights: candidates for λ in [0, 1], the preferred ones first: they win where it makes no difference. Each costs
            six forwards a target; a single one is taken as it is and costs none.

    """

    cost = "R·F + source + 42·T·F"

    def __init__(
        self, source: Explainer | None = None, weights: Sequence[float] = (0.35, 0.65, 0.1, 0.9, 0.97, 0.0, 1.0)
    ) -> None:
        if not weights or not all(0 <= weight <= 1 for weight in weights):
            raise ValueError(f"weights needs at least one number in [0, 1], got {list(weights)}.")
        self.source = source or Saliency()
        self.weights = list(weights)

    def attribute(self, probe: Probe) -> Tensor:
        """Take the passes of ``source``, those of the effect map, which others share, and those of the weight's curves."""
        gradient, effects = self.source.explain(probe), probe.effect_map()
        return fuse(gradient, effects, self.weight(probe, gradient, effects))

    def weight(self, probe: Probe, gradient: Tensor, effects: Tensor) -> Tensor:
        """Choose λ, ``(N,)``, for two kinds of evidence ``(N, *S)``."""
        candidates = gradient.new_tensor(self.weights)
        if len(candidates) == 1:
            return candidates.expand(len(gradient))
        gaps = torch.stack(
            [short_gap(probe, fuse(gradient, effects, weight.expand(len(gradient)))) for weight in candidates]
        )
        return candidates[(gaps.nan_to_num() / _RESOLUTION).round().argmax(dim=0)]


def fuse(gradient: Tensor, effects: Tensor, weight: Tensor) -> Tensor:
    """Return the signed power mean of exponent 1/2 of two kinds of evidence, each scaled by :func:`equal_mass`.

    Args:
        gradient: gradient evidence ``(N, *S)``.
        effects: intervention evidence ``(N, *S)``.
        weight: of the gradient evidence, ``(N,)`` in [0, 1].

    Example:
        >>> g, i = torch.tensor([[4.0, 0.0, 3.0, -1.0]]), torch.tensor([[2.0, 2.0, 0.0, 0.0]])
        >>> fuse(g, i, torch.tensor([0.5]))
        tensor([[ 4.0000,  1.0000,  0.7500, -0.2500]])
        >>> fuse(g, i, torch.tensor([0.0])).round(decimals=4).tolist()
        [[2.0, 2.0, 0.0, 0.0]]

    """
    weight = weight.view(-1, *[1] * (gradient.ndim - 1))
    root = weight.sqrt() * _root(equal_mass(gradient)) + (1 - weight).sqrt() * _root(equal_mass(effects))
    return root * root.abs()


def equal_mass(values: Tensor) -> Tensor:
    """Scale each row of ``(N, *S)`` to the mean absolute value 1; zeros stay zeros.

    Example:
        >>> equal_mass(torch.tensor([[-1.0, 1.0, 4.0, 2.0], [0.0, 0.0, 0.0, 0.0]])).tolist()
        [[-0.5, 0.5, 2.0, 1.0], [0.0, 0.0, 0.0, 0.0]]

    """
    mean = values.abs().flatten(1).mean(dim=1).view(-1, *[1] * (values.ndim - 1))
    return values / mean.where(mean > 0, 1)


def short_gap(probe: Probe, attribution: Tensor) -> Tensor:
    """Return the area under a short insertion curve less that under a short deletion curve, ``(N,)``, relative to S(x)."""
    area = [
        torch.trapezoid(curve.values.double(), curve.fractions)
        for curve in (probe.insertion_curve(attribution, _STEPS), probe.deletion_curve(attribution, _STEPS))
    ]
    return area[0] - area[1]


def _root(values: Tensor) -> Tensor:
    return values.sign() * values.abs().sqrt()
