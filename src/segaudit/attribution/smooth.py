"""Explains by another explainer's maps of noisy copies of the image."""

import torch
from torch import Tensor

from segaudit import randomness
from segaudit.attribution.base import Explainer
from segaudit.attribution.gradient import Saliency
from segaudit.forwards import Probe
from segaudit.intervention.perturbation import add_noise

__all__ = ["SmoothGrad", "VarGrad"]


class SmoothGrad(Explainer):
    """Average another explainer's maps over noisy copies of the image (Smilkov et al. 2017).

    Signed where those maps are, and in their units.

    When to use:
        Where saliency is too noisy to read or too unstable to compare.

    Args:
        source: the explainer whose maps are averaged. Defaults to saliency.
        draws: noisy copies; each costs one run of ``source``.
        level: standard deviation of the noise over the image's.

    """

    cost = "draws·source"
    _fewest = 1

    def __init__(self, source: Explainer | None = None, draws: int = 8, level: float = 0.15) -> None:
        if draws < self._fewest:
            raise ValueError(f"draws must be at least {self._fewest}, got {draws}.")
        if level <= 0:
            raise ValueError(f"level is the noise over the image's standard deviation, above 0, got {level}.")
        self.source = source or Saliency()
        self.draws = draws
        self.level = level

    def attribute(self, probe: Probe) -> Tensor:
        """Run ``source`` as often as there are draws."""
        return self._maps(probe).mean(dim=0)

    def _maps(self, probe: Probe) -> Tensor:
        """Return the maps ``(draws, N, *S)`` of the noisy images."""
        images = probe.images
        keys = randomness.image_keys(images)
        noisy = (add_noise(images, self.level, randomness.combine(keys, draw)) for draw in range(self.draws))
        return torch.stack([self.source.explain(probe.at(copy)) for copy in noisy])


class VarGrad(SmoothGrad):
    """Compute the variance of another explainer's maps over noisy copies of the image (Adebayo et al. 2018).

    In the units of those maps, squared; never negative. It is high where the maps are large and unsteady.

    When to use:
        To see where gradients are unsteady. It is weak as an explanation of its own.

    Args:
        source: the explainer whose maps vary. Defaults to saliency.
        draws: noisy copies, at least two; each costs one run of ``source``.
        level: standard deviation of the noise over the image's.

    """

    _fewest = 2

    def attribute(self, probe: Probe) -> Tensor:
        """Run ``source`` as often as there are draws."""
        return self._maps(probe).var(dim=0, correction=0)
