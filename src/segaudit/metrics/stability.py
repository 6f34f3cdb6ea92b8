"""Metrics of maps under perturbations; see :mod:`segaudit.functional.stability`."""

from torch import Tensor

from segaudit.functional.stability import stability, stability_retention
from segaudit.metrics.base import TargetMean


class Stability(TargetMean):
    """Mean of :func:`segaudit.functional.stability` over targets."""

    higher_is_better = True
    plot_lower_bound = -1.0
    plot_upper_bound = 1.0

    def update(self, attribution: Tensor, perturbed_attribution: Tensor, kept: Tensor) -> None:
        """Add maps ``(N, *S)``, their perturbed versions ``(N, P, *S)`` and which pairs count ``(N, P)``."""
        self.add(stability(attribution, perturbed_attribution, kept))


class StabilityRetention(TargetMean):
    """Mean of :func:`segaudit.functional.stability_retention` over targets."""

    higher_is_better = True
    plot_lower_bound = 0.0
    plot_upper_bound = 1.0

    def update(self, kept: Tensor) -> None:
        """Add which perturbations kept the prediction, ``(N, P)`` bool."""
        self.add(stability_retention(kept))
