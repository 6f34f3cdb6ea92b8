"""Evidence under a second fill: do deletion and insertion say the same when pixels are filled by something else?"""

import torch
from torch import Tensor

from segaudit.evidence.ask import Ask
from segaudit.evidence.registry import evidence
from segaudit.forwards.curve import Curve
from segaudit.forwards.probe import Probe
from segaudit.functional.faithfulness import MAX_RESIDUAL

#: Points of a curve beside its two ends, or as many as the intervention says if these are fewer.
_STEPS = 6


def no_second_fill(ask: Ask) -> Tensor:
    """Tell where the intervention has one fill only, ``(N,)`` bool."""
    only_one = len(ask.probe.intervention.fills) == 1
    return torch.full((len(ask.targets),), only_one, device=ask.targets.region.device)


def second_fill_too_weak(ask: Ask) -> Tensor:
    """Tell where the image that the second fill has filled keeps more than half of the confidence, ``(N,)`` bool."""
    if bool(no_second_fill(ask).any()):
        return torch.zeros_like(no_second_fill(ask))
    return _probe(ask.shared).filled_confidence / ask.probe.confidence > MAX_RESIDUAL


_WEAK = {"no second fill": no_second_fill, "second fill too weak": second_fill_too_weak}


def without_second_fill(reason: str) -> list[str]:
    """Split the reason of a record, and leave out what concerns the second fill alone: there the first one counts."""
    return [one for one in reason.split("; ") if one and one not in _WEAK]


def _probe(shared: Ask) -> Probe:
    return shared.once("second_fill", shared.probe.with_second_fill)


def _curves(ask: Ask) -> tuple[Curve, Curve]:
    return ask.once("second_fill_curves", lambda: _trace(ask))


def _trace(ask: Ask) -> tuple[Curve, Curve]:
    steps = min(_STEPS, ask.probe.intervention.steps)
    if len(ask.probe.intervention.fills) == 1:
        fractions = torch.linspace(0, 1, 2, dtype=torch.float64, device=ask.attribution.device).expand(len(ask.targets), 2)
        nothing = torch.full_like(fractions, torch.nan, dtype=torch.float32)
        return (Curve(nothing, fractions, nothing[:, 0]),) * 2
    probe = _probe(ask.shared)
    return probe.deletion_curve(ask.attribution, steps), probe.insertion_curve(ask.attribution, steps)


@evidence(missing=_WEAK)
def second_deletion_curve(ask: Ask) -> Tensor:
    """Trace S over S(x) as the most attributed pixels are filled by the second fill, ``(N, K)``."""
    return _curves(ask)[0].values


@evidence()
def second_deletion_fractions(ask: Ask) -> Tensor:
    """Return the shares of pixels that the second fill has filled at the curve's points, ``(N, K)`` from 0 to 1."""
    return _curves(ask)[0].fractions


@evidence(missing=_WEAK)
def second_insertion_curve(ask: Ask) -> Tensor:
    """Trace S over S(x) as the most attributed pixels are shown in the image that the second fill has filled, ``(N, K)``."""
    return _curves(ask)[1].values


@evidence()
def second_insertion_fractions(ask: Ask) -> Tensor:
    """Return the shares of pixels that are shown at the curve's points, ``(N, K)`` from 0 to 1."""
    return _curves(ask)[1].fractions
