"""Scores how much credit a planted cue gets, and how much the model leans on it: on planted data the truth is known."""

from torch import Tensor

from segaudit.functional.faithfulness import relative_confidence
from segaudit.functional.leakage import mass_share

__all__ = ["cue_effect", "cue_mass"]


def cue_mass(attribution: Tensor, cue: Tensor) -> Tensor:
    """Compute the share of the positive mass on a planted cue.

    Unit:
        share of the positive mass

    Cost:
        0

    Definition:
        Our reading.

    Pitfalls:
        High is right where the model leans on the cue (``cue_effect``), and wrong where it does not.

    Args:
        attribution: ``(N, *S)``.
        cue: ``(N, *S)`` bool.

    Returns:
        ``(N,)`` in [0, 1]; NaN where there is no cue.

    Example:
        >>> import torch
        >>> cue_mass(torch.tensor([[3.0, 1.0, -9.0]]), torch.tensor([[False, True, True]]))
        tensor([0.2500])

    """
    return mass_share(attribution, cue, cue)


def cue_effect(confidence: Tensor, confidence_without_cue: Tensor) -> Tensor:
    """Compute how far the confidence falls, relative to it, when the planted cue is filled.

    Near 0 for an honest model.

    Unit:
        share of S(x)

    Cost:
        1

    Definition:
        Our reading.

    Pitfalls:
        It is a score of the model and not of a map. It depends on what the cue is filled with.

    Args:
        confidence: S(x), ``(N,)`` in [0, 1].
        confidence_without_cue: S of the image with its cue filled, ``(N,)``; NaN where there is no cue.

    Returns:
        ``(N,)`` in [-19, 1]; NaN where S(x) is below 0.05 or there is no cue.

    Example:
        >>> import torch
        >>> cue_effect(torch.tensor([0.8]), torch.tensor([0.2]))
        tensor([0.7500])

    """
    return 1 - relative_confidence(confidence_without_cue, confidence)
