"""Averages scores of maps of randomised models over targets; see :mod:`segaudit.functional.randomisation`."""

from torch import Tensor

from segaudit.functional.randomisation import randomisation, randomisation_full
from segaudit.metrics.base import TargetMean

__all__ = ["Randomisation", "RandomisationFull"]


class Randomisation(TargetMean):
    """Average :func:`segaudit.functional.randomisation` over targets."""

    higher_is_better = False
    plot_lower_bound = -1.0
    plot_upper_bound = 1.0
    score_range = (-1.0, 1.0)

    def update(self, attribution: Tensor, randomised_attribution: Tensor) -> None:
        """Add maps ``(N, *S)`` and maps of the randomised model ``(N, L, *S)``."""
        self.add(randomisation(attribution, randomised_attribution))


class RandomisationFull(TargetMean):
    """Average :func:`segaudit.functional.randomisation_full` over targets."""

    higher_is_better = False
    plot_lower_bound = -1.0
    plot_upper_bound = 1.0
    score_range = (-1.0, 1.0)

    def update(self, attribution: Tensor, randomised_attribution: Tensor) -> None:
        """Add maps ``(N, *S)`` and maps of the randomised model ``(N, L, *S)``."""
        self.add(randomisation_full(attribution, randomised_attribution))
