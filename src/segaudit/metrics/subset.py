"""Averages scores of random subsets of segments over targets; see :mod:`segaudit.functional.subset`."""

from torch import Tensor

from segaudit.functional.subset import faithfulness_correlation, infidelity, sensitivity_n
from segaudit.metrics.base import TargetMean

__all__ = ["FaithfulnessCorrelation", "Infidelity", "SensitivityN"]


class Infidelity(TargetMean):
    """Average :func:`segaudit.functional.infidelity` over targets."""

    higher_is_better = False
    plot_lower_bound = 0.0
    plot_upper_bound = 1.0
    score_range = (0.0, 1.0)

    def update(self, subset_attribution: Tensor, subset_effect: Tensor) -> None:
        """Add the maps' sums over subsets ``(N, M)`` and the subsets' effects ``(N, M)``."""
        self.add(infidelity(subset_attribution, subset_effect))


class FaithfulnessCorrelation(TargetMean):
    """Average :func:`segaudit.functional.faithfulness_correlation` over targets."""

    higher_is_better = True
    plot_lower_bound = -1.0
    plot_upper_bound = 1.0
    score_range = (-1.0, 1.0)

    def update(
        self, subset_attribution: Tensor, subset_effect: Tensor, subset_size: Tensor, subset_area: Tensor | None = None
    ) -> None:
        """Add the maps' sums over subsets ``(N, M)``, the subsets' effects and areas ``(N, M)`` and sizes ``(M,)``."""
        self.add(faithfulness_correlation(subset_attribution, subset_effect, subset_size, subset_area))


class SensitivityN(TargetMean):
    """Average :func:`segaudit.functional.sensitivity_n` over targets."""

    higher_is_better = True
    plot_lower_bound = -1.0
    plot_upper_bound = 1.0
    score_range = (-1.0, 1.0)

    def update(
        self, subset_attribution: Tensor, subset_effect: Tensor, subset_size: Tensor, subset_area: Tensor | None = None
    ) -> None:
        """Add the maps' sums over subsets ``(N, M)``, the subsets' effects and areas ``(N, M)`` and sizes ``(M,)``."""
        self.add(sensitivity_n(subset_attribution, subset_effect, subset_size, subset_area))
