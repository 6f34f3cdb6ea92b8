"""On planted data the truth is known: how much credit the planted cue gets, and how much the model leans on it."""

from torch import Tensor

from segaudit.functional.faithfulness import relative_confidence
from segaudit.functional.leakage import mass_share


def cue_mass(attribution: Tensor, cue: Tensor) -> Tensor:
    """Share of the positive mass on a planted cue, ``(N,)`` in [0, 1]; NaN where there is no cue.

    Args:
        attribution: ``(N, *S)``.
        cue: ``(N, *S)`` bool.

    Example:
        >>> import torch
        >>> cue_mass(torch.tensor([[3.0, 1.0, -9.0]]), torch.tensor([[False, True, True]]))
        tensor([0.2500])

    """
    return mass_share(attribution, cue, cue)


def cue_effect(confidence: Tensor, confidence_without_cue: Tensor) -> Tensor:
    """How far the score falls, relative to it, when the cue is filled: ``(N,)`` in [-19, 1]; near 0 for an honest model.

    Args:
        confidence: S(x), ``(N,)`` in [0, 1].
        confidence_without_cue: S of the image with its cue filled, ``(N,)``; NaN where there is no cue.

    Returns:
        NaN for a score below 0.05 or without a cue.

    Example:
        >>> import torch
        >>> cue_effect(torch.tensor([0.8]), torch.tensor([0.2]))
        tensor([0.7500])

    """
    return 1 - relative_confidence(confidence_without_cue, confidence)
