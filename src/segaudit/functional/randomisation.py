"""Scores whether the map changes when the model forgets what it has learnt."""

import torch
from torch import Tensor

from segaudit.functional.stability import rank_correlation

__all__ = ["randomisation", "randomisation_full"]


def randomisation(attribution: Tensor, randomised_attribution: Tensor) -> Tensor:
    """Compute the mean rank correlation of a map with the maps of the model whose last layers are random.

    The model parameter randomisation test, cascading from the output, averaged over the levels. Lower is better, about 0 at
    best. A map that stays the same explains the image and not what the model has learnt. A negative value is no triumph:
    the map points at the same places with the other sign.

    Unit:
        Spearman's correlation

    Cost:
        3·E

    Definition:
        Adebayo et al. 2018, the mean over the cascade, as Quantus' ``return_average_correlation`` takes it, without the
        unchanged model.

    Pitfalls:
        It depends on how the model is cut into levels; ``randomisation_full`` does not. A negative value is no triumph.

    Args:
        attribution: ``(N, *S)``.
        randomised_attribution: ``(N, L, *S)``, the maps with more and more layers re-initialised, the last time all.

    Returns:
        ``(N,)`` in [-1, 1], the mean over the levels whose map is not constant; NaN where all are, where the map itself is,
        or where a value is not finite.

    Example:
        >>> a = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
        >>> randomisation(a, torch.stack([2 * a, torch.tensor([[1.0, 3.0, 0.0, 2.0]])], dim=1))
        tensor([0.5000])

    """
    finite = randomised_attribution.flatten(1).isfinite().all(dim=1)
    return _correlations(attribution, randomised_attribution).nanmean(dim=1).where(finite, torch.nan).float()


def randomisation_full(attribution: Tensor, randomised_attribution: Tensor) -> Tensor:
    """Compute the rank correlation of a map with the map of the model whose layers are all random.

    The end of the cascade. Lower is better, about 0 at best. Where only the last layers are random, the features of the
    first ones still shape the map of any explainer, so this is the fairer number between models.

    Unit:
        Spearman's correlation

    Cost:
        3·E

    Definition:
        Adebayo et al. 2018, the end of the cascade; Binder et al. 2023 give the reason for it.

    Pitfalls:
        Maps that follow edges correlate with those of any model. A negative value is no triumph.

    Args:
        attribution: ``(N, *S)``.
        randomised_attribution: ``(N, L, *S)``, of which the last level is read.

    Returns:
        ``(N,)`` in [-1, 1]; NaN where one of the two maps is constant or not finite.

    Example:
        >>> a = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
        >>> randomisation_full(a, torch.stack([2 * a, torch.tensor([[1.0, 3.0, 0.0, 2.0]])], dim=1))
        tensor([0.])

    """
    return _correlations(attribution, randomised_attribution[:, -1:])[:, 0]


def _correlations(attribution: Tensor, randomised: Tensor) -> Tensor:
    """Return the rank correlation ``(N, L)`` of maps ``(N, *S)`` with maps ``(N, L, *S)``; NaN for constant maps."""
    levels, size = randomised.shape[1], attribution.flatten(1).shape[1]
    first = attribution.flatten(1)[:, None].expand(-1, levels, -1)
    return rank_correlation(first.reshape(-1, size), randomised.reshape(-1, size)).view(-1, levels)
