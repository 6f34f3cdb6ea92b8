"""Explainers that look at another one's maps of noisy copies of the image."""

import torch
from torch import Tensor

from segaudit import randomness
from segaudit.attribution.base import Explainer
from segaudit.attribution.gradient import Saliency
from segaudit.forwards import Probe
from segaudit.intervention.perturbation import add_noise


class SmoothGrad(Explainer):
    """Mean of another explainer's maps over noisy copies of the image (Smilkov et al. 2017).

    Signed where the source is, and in its units.

    Args:
        source: the explainer whose maps are averaged; saliency unless told.
        draws: noisy copies; each costs what the source costs.
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
        """The cost of the source, ``draws`` times over."""
        return self._maps(probe).mean(dim=0)

    def _maps(self, probe: Probe) -> Tensor:
        """The source's maps ``(draws, N, *S)`` of the noisy images."""
        images = probe.images
        keys = randomness.image_keys(images)
        noisy = (add_noise(images, self.level, randomness.combine(keys, draw)) for draw in range(self.draws))
        return torch.stack([self.source.explain(probe.at(copy)) for copy in noisy])


class VarGrad(SmoothGrad):
    """Variance of another explainer's maps over noisy copies of the image (Adebayo et al. 2018).

    In the source's units squared: where the map is large and unsteady, never negative.

    Args:
        source: the explainer whose maps vary; saliency unless told.
        draws: noisy copies, at least two; each costs what the source costs.
        level: standard deviation of the noise over the image's.

    """

    _fewest = 2

    def attribute(self, probe: Probe) -> Tensor:
        """The cost of the source, ``draws`` times over."""
        return self._maps(probe).var(dim=0, correction=0)
