"""Averages scores of where a map points over targets; see :mod:`segaudit.functional.localisation`."""

from typing import Any

from torch import Tensor

from segaudit.functional.localisation import localisation_auc, pointing_game, relevance_mass, relevance_rank
from segaudit.metrics.base import TargetMean

__all__ = ["LocalisationAUC", "PointingGame", "RelevanceMass", "RelevanceRank"]


class PointingGame(TargetMean):
    """Average :func:`segaudit.functional.pointing_game` over targets.

    Args:
        tolerance: pixels by which the region is dilated first.
        kwargs: of :class:`torchmetrics.Metric`.

    """

    higher_is_better = True
    plot_lower_bound = 0.0
    plot_upper_bound = 1.0
    score_range = (0.0, 1.0)

    def __init__(self, tolerance: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.tolerance = tolerance

    def update(self, attribution: Tensor, region: Tensor) -> None:
        """Add maps ``(N, *S)`` and regions ``(N, *S)`` bool."""
        self.add(pointing_game(attribution, region, self.tolerance))


class RelevanceMass(TargetMean):
    """Average :func:`segaudit.functional.relevance_mass` over targets."""

    higher_is_better = True
    plot_lower_bound = 0.0
    plot_upper_bound = 1.0
    score_range = (0.0, 1.0)

    def update(self, attribution: Tensor, region: Tensor) -> None:
        """Add maps ``(N, *S)`` and regions ``(N, *S)`` bool."""
        self.add(relevance_mass(attribution, region))


class RelevanceRank(TargetMean):
    """Average :func:`segaudit.functional.relevance_rank` over targets."""

    higher_is_better = True
    plot_lower_bound = 0.0
    plot_upper_bound = 1.0
    score_range = (0.0, 1.0)

    def update(self, attribution: Tensor, region: Tensor) -> None:
        """Add maps ``(N, *S)`` and regions ``(N, *S)`` bool."""
        self.add(relevance_rank(attribution, region))


class LocalisationAUC(TargetMean):
    """Average :func:`segaudit.functional.localisation_auc` over targets."""

    higher_is_better = True
    plot_lower_bound = 0.0
    plot_upper_bound = 1.0
    score_range = (0.0, 1.0)

    def update(self, attribution: Tensor, region: Tensor) -> None:
        """Add maps ``(N, *S)`` and regions ``(N, *S)`` bool."""
        self.add(localisation_auc(attribution, region))
