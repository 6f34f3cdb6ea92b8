"""Metrics for planted data; see :mod:`segaudit.functional.cue`."""

from torch import Tensor

from segaudit.functional.cue import cue_effect, cue_mass
from segaudit.metrics.base import TargetMean


class CueMass(TargetMean):
    """Mean of :func:`segaudit.functional.cue_mass` over targets."""

    def update(self, attribution: Tensor, cue: Tensor) -> None:
        """Add maps ``(N, *S)`` and cues ``(N, *S)`` bool."""
        self.add(cue_mass(attribution, cue))


class CueEffect(TargetMean):
    """Mean of :func:`segaudit.functional.cue_effect` over targets."""

    def update(self, score: Tensor, score_without_cue: Tensor) -> None:
        """Add scores ``(N,)`` with and without the cue."""
        self.add(cue_effect(score, score_without_cue))
