"""Explainers that change the image and watch the score."""

from torch import Tensor

from segaudit.attribution.base import Explainer
from segaudit.intervention import Probe


class RegionEffects(Explainer):
    """How far the score falls when a pixel's region is filled, relative to S(x): the mean over several scales.

    Signed: a region whose removal raises the score is negative. One sweep serves all targets of an image. Regions, their
    scales and the fill are the audit's :class:`~segaudit.intervention.Intervention`.
    """

    def attribute(self, probe: Probe) -> Tensor:
        """As many forwards an image as there are regions, over all scales."""
        return probe.effect_map()
