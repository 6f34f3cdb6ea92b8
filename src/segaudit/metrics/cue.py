"""Averages scores of planted data over targets; see :mod:`segaudit.functional.cue`."""

from torch import Tensor

from segaudit.functional.cue import cue_effect, cue_mass
from segaudit.metrics.base import TargetMean

__all__ = ["CueEffect", "CueMass"]


class CueMass(TargetMean):
    """Average :func:`segaudit.functional.cue_mass` over targets."""

    plot_lower_bound = 0.0
    plot_upper_bound = 1.0
    score_range = (0.0, 1.0)

    def update(self, attribution: Tensor, cue: Tensor) -> None:
        """Add maps ``(N, *S)`` and cues ``(N, *S)`` bool."""
        self.add(cue_mass(attribution, cue))


class CueEffect(TargetMean):
    """Average :func:`segaudit.functional.cue_effect` over targets."""

    plot_lower_bound = -19.0
    plot_upper_bound = 1.0
    score_range = (-1.0, 1.0)

    def update(self, confidence: Tensor, confidence_without_cue: Tensor) -> None:
        """Add confidences ``(N,)`` with and without the cue."""
        self.add(cue_effect(confidence, confidence_without_cue))
