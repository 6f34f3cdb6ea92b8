"""Averages scores of attribution outside the target over targets; see :mod:`segaudit.functional.leakage`."""

from typing import Any

from torch import Tensor

from segaudit.functional.leakage import EPSILON, covers_image, off_target_leakage, unsupported_leakage
from segaudit.metrics.base import TargetMean

__all__ = ["OffTargetLeakage", "UnsupportedLeakage"]

#: The reason for a missing score of a target that leaves nothing outside.
WHOLE_IMAGE = "region is the whole image"


class OffTargetLeakage(TargetMean):
    """Average :func:`segaudit.functional.off_target_leakage` over targets.

    Args:
        tolerance: pixels by which the region is dilated first.
        kwargs: of :class:`torchmetrics.Metric`.

    """

    higher_is_better = False
    plot_lower_bound = 0.0
    plot_upper_bound = 1.0
    score_range = (0.0, 1.0)

    def __init__(self, tolerance: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.tolerance = tolerance

    def update(self, attribution: Tensor, region: Tensor) -> None:
        """Add maps ``(N, *S)`` and regions ``(N, *S)`` bool."""
        self.add(off_target_leakage(attribution, region, self.tolerance))

    def missing(self, **evidence: Tensor) -> dict[str, Tensor]:
        """Tell which regions are the whole image once they are dilated."""
        return {WHOLE_IMAGE: covers_image(evidence["region"], self.tolerance)}


class UnsupportedLeakage(TargetMean):
    """Average :func:`segaudit.functional.unsupported_leakage` over targets.

    Args:
        tolerance: pixels by which the region is dilated first.
        epsilon: largest effect that counts as none.
        kwargs: of :class:`torchmetrics.Metric`.

    """

    higher_is_better = False
    plot_lower_bound = 0.0
    plot_upper_bound = 1.0
    score_range = (0.0, 1.0)

    def __init__(self, tolerance: int = 0, epsilon: float = EPSILON, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.tolerance = tolerance
        self.epsilon = epsilon

    def update(self, attribution: Tensor, region: Tensor, effect_map: Tensor) -> None:
        """Add maps, regions and effect maps, each ``(N, *S)``."""
        self.add(unsupported_leakage(attribution, region, effect_map, self.tolerance, self.epsilon))

    def missing(self, **evidence: Tensor) -> dict[str, Tensor]:
        """Tell which regions are the whole image once they are dilated."""
        return {WHOLE_IMAGE: covers_image(evidence["region"], self.tolerance)}
