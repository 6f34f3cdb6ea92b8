"""Averages scores of imputed pixels over targets; see :mod:`segaudit.functional.imputation`."""

from torch import Tensor

from segaudit.functional.imputation import road
from segaudit.metrics.base import TargetMean

__all__ = ["ROAD"]


class ROAD(TargetMean):
    """Average :func:`segaudit.functional.road` over targets."""

    higher_is_better = True
    plot_lower_bound = -10.0
    plot_upper_bound = 10.0
    score_range = (-1.0, 1.0)

    def update(self, road_deletion: Tensor, road_retention: Tensor) -> None:
        """Add relative confidences ``(N, J)`` without the most and without the least attributed shares of pixels."""
        self.add(road(road_deletion, road_retention))
