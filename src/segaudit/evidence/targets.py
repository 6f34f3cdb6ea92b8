"""Evidence of the targets themselves and of the maps: regions, confidences, attributions."""

from torch import Tensor

from segaudit.evidence.ask import Ask
from segaudit.evidence.registry import evidence


def whole_image(ask: Ask) -> Tensor:
    """Tell which regions are the whole image, ``(N,)`` bool."""
    return ask.targets.region.flatten(1).all(dim=1)


def no_positive_mass(ask: Ask) -> Tensor:
    """Tell which maps are positive nowhere, ``(N,)`` bool."""
    return ask.attribution.flatten(1).amax(dim=1) <= 0


@evidence(missing={"region is the whole image": whole_image})
def region(ask: Ask) -> Tensor:
    """Return the pixels of each target, ``(N, *S)`` bool."""
    return ask.targets.region


@evidence(missing={"no positive mass": no_positive_mass})
def attribution(ask: Ask) -> Tensor:
    """Return each target's map, ``(N, *S)``."""
    return ask.attribution


@evidence()
def confidence(ask: Ask) -> Tensor:
    """Return S(x), ``(N,)`` in [0, 1]; NaN where it is below 0.05."""
    return ask.probe.reference


@evidence()
def filled_confidence(ask: Ask) -> Tensor:
    """Return the confidence in each target when its whole image is filled, ``(N,)`` in [0, 1]."""
    return ask.probe.filled_confidence
