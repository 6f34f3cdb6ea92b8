"""Do the highlighted pixels drive the prediction? Areas under deletion and insertion curves."""

import torch
from torch import Tensor

#: Above this share of the score left in the filled image, the fill is too weak to test anything.
MAX_RESIDUAL = 0.5


def deletion_auc(deletion_curve: Tensor, fractions: Tensor) -> Tensor:
    """Area under the deletion curve between its floor and 1; lower is better.

    The curve is q ↦ S(x with the top q of pixels filled) / S(x) (Petsiuk, Das, Saenko 2018, for a dense target). Its
    floor is its value at q = 1, where everything is filled; the area above it is divided by 1 - floor, so that 0 means
    gone at once and 1 never (our reading). It leaves [0, 1] only where the score leaves the range of its two ends.

    Args:
        deletion_curve: ``(N, K)``, first the unperturbed point (1), last the filled image.
        fractions: true shares of filled pixels, ``(K,)`` or ``(N, K)``, from 0 to 1.

    Returns:
        ``(N,)``; NaN where the curve is not finite or the floor exceeds 0.5 (fill too weak).

    Example:
        >>> deletion_auc(torch.tensor([[1.0, 0.2, 0.2]]), torch.tensor([0.0, 0.5, 1.0]))
        tensor([0.2500])

    """
    return _area_above_floor(deletion_curve, fractions, deletion_curve[:, -1])


def insertion_auc(insertion_curve: Tensor, fractions: Tensor) -> Tensor:
    """Area under the insertion curve between its floor and 1; higher is better.

    The curve is q ↦ S(filled image with the top q of pixels shown) / S(x); its floor is its value at q = 0.

    Args:
        insertion_curve: ``(N, K)``, first the filled image, last the unperturbed point (1).
        fractions: true shares of shown pixels, ``(K,)`` or ``(N, K)``, from 0 to 1.

    Returns:
        ``(N,)``; NaN where the curve is not finite or the floor exceeds 0.5 (fill too weak).

    Example:
        >>> insertion_auc(torch.tensor([[0.2, 1.0, 1.0]]), torch.tensor([0.0, 0.5, 1.0]))
        tensor([0.7500])

    """
    return _area_above_floor(insertion_curve, fractions, insertion_curve[:, 0])


def faithfulness_gap(deletion_curve: Tensor, insertion_curve: Tensor, fractions: Tensor) -> Tensor:
    """Insertion AUC minus deletion AUC, ``(N,)``; higher is better, about 0 for a random map.

    Args:
        deletion_curve: ``(N, K)``, see :func:`deletion_auc`.
        insertion_curve: ``(N, K)``, see :func:`insertion_auc`.
        fractions: ``(K,)`` or ``(N, K)``, of both curves.

    """
    return insertion_auc(insertion_curve, fractions) - deletion_auc(deletion_curve, fractions)


def fill_residual(score: Tensor, filled_score: Tensor) -> Tensor:
    """Share of the score that is left when everything is filled, ``(N,)``; lower is better, NaN for a score of 0.

    A fault of the fill, not of a map. Above 0.5 the fill is too weak to test anything, and the areas of that target are NaN.

    Args:
        score: S(x), ``(N,)`` in [0, 1].
        filled_score: S of the filled image, ``(N,)`` in [0, 1].

    Example:
        >>> fill_residual(torch.tensor([0.8]), torch.tensor([0.2]))
        tensor([0.2500])

    """
    return filled_score / score.where(score > 0, torch.nan)


def _area_above_floor(curve: Tensor, fractions: Tensor, floor: Tensor) -> Tensor:
    if fractions.shape[-1] != curve.shape[-1]:
        raise ValueError(f"the curve has {curve.shape[-1]} points, but {fractions.shape[-1]} fractions were given.")
    area = torch.trapezoid(curve.double(), fractions.double().expand_as(curve))
    value = (area - floor) / (1 - floor)
    return value.where((floor <= MAX_RESIDUAL) & curve.isfinite().all(dim=1), torch.nan).float()
