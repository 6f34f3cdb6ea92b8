"""Does the map survive a change of the input that leaves the prediction alone?"""

import torch
from torch import Tensor


def stability(attribution: Tensor, perturbed_attribution: Tensor, kept: Tensor) -> Tensor:
    """Mean rank correlation between a map and its maps under perturbations that keep the prediction; higher is better.

    Unconditioned pairs mostly measure the model, not the map (arXiv 2604.02532), so only kept pairs count.

    Args:
        attribution: ``(N, *S)``.
        perturbed_attribution: ``(N, P, *S)``, the maps on P perturbed images.
        kept: ``(N, P)`` bool, whether the prediction survived: IoU of the class's region of at least 0.9.

    Returns:
        ``(N,)`` in [-1, 1]; NaN where no pair was kept or a map is constant or not finite.

    Example:
        >>> maps = torch.rand(2, 1, 5, 5)
        >>> stability(maps[:, 0], maps * 3 + 1, torch.tensor([[True], [False]]))
        tensor([1., nan])

    """
    pairs, size = perturbed_attribution.shape[1], attribution.flatten(1).shape[1]
    first = attribution.flatten(1)[:, None].expand(-1, pairs, -1)
    correlation = rank_correlation(first.reshape(-1, size), perturbed_attribution.reshape(-1, size)).view(-1, pairs)
    # Not nanmean over the kept: a kept pair whose correlation is undefined must show.
    total: Tensor = correlation.where(kept, 0.0).sum(dim=1)
    return total / kept.sum(dim=1)


def stability_retention(kept: Tensor) -> Tensor:
    """Share of the perturbations that kept the prediction, ``(N,)`` in [0, 1]; the larger, the more stability rests on.

    Args:
        kept: ``(N, P)`` bool.

    """
    return kept.float().mean(dim=1)


def rank_correlation(a: Tensor, b: Tensor) -> Tensor:
    """Spearman's rank correlation ``(N,)`` of rows ``(N, P)``, ties given their mean rank; NaN for a constant row."""
    a, b = (r - r.mean(dim=1, keepdim=True) for r in (_mean_ranks(a), _mean_ranks(b)))
    scale = a.norm(dim=1) * b.norm(dim=1)
    correlation: Tensor = (a * b).sum(dim=1) / scale
    return correlation.float()


def _mean_ranks(values: Tensor) -> Tensor:
    values = values.contiguous()
    ordered = values.sort(dim=1).values
    below = torch.searchsorted(ordered, values)
    up_to = torch.searchsorted(ordered, values, right=True)
    ranks = (below + up_to).double() / 2
    return ranks.where(values.isfinite().all(dim=1, keepdim=True), torch.nan)
