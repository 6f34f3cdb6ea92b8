"""Averages scores of how few pixels hold the credit over targets; see :mod:`segaudit.functional.sparseness`."""

from torch import Tensor

from segaudit.functional.sparseness import entropy, sparseness
from segaudit.metrics.base import TargetMean

__all__ = ["Entropy", "Sparseness"]


class Sparseness(TargetMean):
    """Average :func:`segaudit.functional.sparseness` over targets."""

    higher_is_better = True
    plot_lower_bound = 0.0
    plot_upper_bound = 1.0
    score_range = (0.0, 1.0)

    def update(self, attribution: Tensor) -> None:
        """Add maps ``(N, *S)``."""
        self.add(sparseness(attribution))


class Entropy(TargetMean):
    """Average :func:`segaudit.functional.entropy` over targets."""

    higher_is_better = False
    plot_lower_bound = 0.0
    plot_upper_bound = 1.0
    score_range = (0.0, 1.0)

    def update(self, attribution: Tensor) -> None:
        """Add maps ``(N, *S)``."""
        self.add(entropy(attribution))
