"""Evidence of planted cues."""

import torch
from torch import Tensor

from segaudit.evidence.ask import Ask
from segaudit.evidence.registry import evidence


def no_cue(ask: Ask) -> Tensor:
    """Tell which targets have no cue, ``(N,)`` bool."""
    return ~ask.probe.cue.flatten(1).any(dim=1)


@evidence(missing={"no cue": no_cue})
def cue(ask: Ask) -> Tensor:
    """Return the planted cues that argue for each target's class, ``(N, *S)`` bool."""
    return ask.probe.cue


@evidence(missing={"no cue": no_cue})
def confidence_without_cue(ask: Ask) -> Tensor:
    """Return the confidence in each target when its cue is filled, ``(N,)``; NaN where there is no cue."""
    without = ask.probe.confidence_without(ask.probe.cue)
    return without.where(~no_cue(ask), torch.nan)
