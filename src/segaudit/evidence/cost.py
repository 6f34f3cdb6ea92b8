"""Evidence of what an explanation costs."""

import torch
from torch import Tensor

from segaudit.evidence.ask import Ask
from segaudit.evidence.registry import evidence


@evidence()
def seconds(ask: Ask) -> Tensor:
    """Return wall-clock seconds per target, ``(N,)``; the targets of a batch share its time evenly."""
    return torch.full_like(ask.probe.confidence, ask.cost.seconds / len(ask.targets))


@evidence()
def forwards(ask: Ask) -> Tensor:
    """Return forward-equivalents per target, ``(N,)``; the targets of a batch share its passes evenly."""
    return torch.full_like(ask.probe.confidence, ask.cost.forwards / len(ask.targets))
