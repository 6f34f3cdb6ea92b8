"""Averages scores of credit against effects over targets; see :mod:`segaudit.functional.calibration`."""

from torch import Tensor

from segaudit.functional.calibration import effect_calibration, effect_calibration_error
from segaudit.metrics.base import TargetMean

__all__ = ["EffectCalibration", "EffectCalibrationError"]


class EffectCalibration(TargetMean):
    """Average :func:`segaudit.functional.effect_calibration` over targets."""

    higher_is_better = True
    plot_lower_bound = -1.0
    plot_upper_bound = 1.0
    score_range = (-1.0, 1.0)

    def update(self, segment_attribution: Tensor, segment_effect: Tensor, segment_area: Tensor | None = None) -> None:
        """Add the maps' means ``(N, K, R)`` over the segments of K partitions and the segments' effects and areas."""
        self.add(effect_calibration(segment_attribution, segment_effect, segment_area))


class EffectCalibrationError(TargetMean):
    """Average :func:`segaudit.functional.effect_calibration_error` over targets."""

    higher_is_better = False
    plot_lower_bound = 0.0
    plot_upper_bound = 1.0
    score_range = (0.0, 1.0)

    def update(self, segment_attribution: Tensor, segment_effect: Tensor) -> None:
        """Add the maps' means ``(N, K, R)`` over the segments of K partitions and the segments' effects ``(N, K, R)``."""
        self.add(effect_calibration_error(segment_attribution, segment_effect))
