"""Evidence of deletion and insertion curves."""

from torch import Tensor

from segaudit.evidence.ask import Ask
from segaudit.evidence.missing import fill_too_weak
from segaudit.evidence.registry import evidence
from segaudit.forwards.curve import Curve

_WEAK = {"fill too weak": fill_too_weak}


def _deletion(ask: Ask) -> Curve:
    return ask.once("deletion", lambda: ask.probe.deletion_curve(ask.attribution))


def _insertion(ask: Ask) -> Curve:
    return ask.once("insertion", lambda: ask.probe.insertion_curve(ask.attribution))


@evidence(missing=_WEAK)
def deletion_curve(ask: Ask) -> Tensor:
    """Trace S over S(x) as the most attributed pixels are filled, ``(N, K)``."""
    return _deletion(ask).values


@evidence()
def deletion_fractions(ask: Ask) -> Tensor:
    """Return the shares of filled pixels at the curve's points, ``(N, K)`` from 0 to 1."""
    return _deletion(ask).fractions


@evidence(missing=_WEAK)
def deletion_error(ask: Ask) -> Tensor:
    """Return how much the last points moved the area under the deletion curve, ``(N,)``."""
    return _deletion(ask).error


@evidence(missing=_WEAK)
def insertion_curve(ask: Ask) -> Tensor:
    """Trace S over S(x) as the most attributed pixels are shown in the filled image, ``(N, K)``."""
    return _insertion(ask).values


@evidence()
def insertion_fractions(ask: Ask) -> Tensor:
    """Return the shares of shown pixels at the curve's points, ``(N, K)`` from 0 to 1."""
    return _insertion(ask).fractions


@evidence(missing=_WEAK)
def insertion_error(ask: Ask) -> Tensor:
    """Return how much the last points moved the area under the insertion curve, ``(N,)``."""
    return _insertion(ask).error
