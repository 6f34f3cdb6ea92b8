"""Scores whether the map survives a change of the input that leaves the prediction alone."""

from collections.abc import Callable

import torch
from torch import Tensor

from segaudit.functional.tied_ranks import mean_ranks, top_membership

__all__ = [
    "max_sensitivity",
    "robustness_pearson",
    "stability",
    "stability_raw",
    "stability_retention",
    "topk_overlap",
]

#: Chance level above which maps of different images are alike, so that nothing can lie above chance.
MAX_CHANCE = 0.99


def stability(attribution: Tensor, perturbed_attribution: Tensor, kept: Tensor, chance: Tensor | None = None) -> Tensor:
    """Compute how far a map's mean rank correlation with its maps under perturbations lies above chance.

    (ρ − ρ₀) / (1 − ρ₀). ρ is :func:`stability_raw`. ρ₀ is the chance level: the mean correlation of this explainer's maps of
    different images of the class. 1 for a map that does not change, 0 for one that is as near to its perturbed versions as
    to the maps of other images. Higher is better. A random map has 0 on average.

    Unit:
        Spearman's correlation above chance

    Cost:
        P/T + P·E

    Definition:
        Our reading, for pairs whose prediction is kept, as arXiv 2604.02532 asks. The chance level is Cohen's idea of
        agreement beyond chance (1960). In an audit it is that of all its images, so a value is final at its end.

    Pitfalls:
        A map that follows the image and ignores the model is stable. NaN where no pair is kept, where the audit has no other
        image of the class, and where the maps of different images are alike (ρ₀ above 0.99). Below -1 is possible.

    Args:
        attribution: ``(N, *S)``.
        perturbed_attribution: ``(N, P, *S)``, the maps on P perturbed images.
        kept: ``(N, P)`` bool, whether the prediction survived: IoU of the class's region of at least 0.9.
        chance: the chance level ρ₀ of each target, ``(N,)`` in [-1, 1]. Defaults to 0, the plain correlation.

    Returns:
        ``(N,)``, at most 1; NaN where no pair was kept, a map is constant or not finite, or the chance level is NaN or above
        0.99.

    Example:
        >>> maps = torch.rand(2, 1, 5, 5)
        >>> stability(maps[:, 0], maps * 3 + 1, torch.tensor([[True], [False]]), torch.tensor([0.4, 0.4]))
        tensor([1., nan])

    """
    raw = stability_raw(attribution, perturbed_attribution, kept)
    if chance is None:
        return raw
    chance = chance.double()
    return ((raw - chance) / (1 - chance)).where(chance <= MAX_CHANCE, torch.nan).float()


def stability_raw(attribution: Tensor, perturbed_attribution: Tensor, kept: Tensor) -> Tensor:
    """Compute the mean rank correlation of a map with its maps under perturbations that keep the prediction.

    Higher is better. Only pairs whose prediction is kept count, because the others mostly tell of the model and not of the
    map (arXiv 2604.02532).

    Unit:
        Spearman's correlation

    Cost:
        P/T + P·E

    Definition:
        Our reading, for pairs whose prediction is kept, as arXiv 2604.02532 asks.

    Pitfalls:
        Maps of different images correlate as well: read it beside :func:`stability`, which takes that off.

    Args:
        attribution: ``(N, *S)``.
        perturbed_attribution: ``(N, P, *S)``, the maps on P perturbed images.
        kept: ``(N, P)`` bool, whether the prediction survived: IoU of the class's region of at least 0.9.

    Returns:
        ``(N,)`` in [-1, 1]; NaN where no pair was kept or a map is constant or not finite.

    Example:
        >>> maps = torch.rand(2, 1, 5, 5)
        >>> stability_raw(maps[:, 0], maps * 3 + 1, torch.tensor([[True], [False]]))
        tensor([1., nan])

    """
    return _mean_of_pairs(rank_correlation, attribution, perturbed_attribution, kept)


def robustness_pearson(attribution: Tensor, perturbed_attribution: Tensor, kept: Tensor) -> Tensor:
    """Compute the mean of Pearson's correlation of a map with its maps under perturbations that keep the prediction.

    Higher is better, 0 on average for a random map. Unlike ranks it is ruled by the few largest values of a map.

    Unit:
        Pearson's correlation

    Cost:
        P/T + P·E

    Definition:
        Our reading of arXiv 2603.22624, for pairs whose prediction is kept.

    Pitfalls:
        Maps of different images correlate as well, and that is not taken off. A few outliers decide.

    Args:
        attribution: ``(N, *S)``.
        perturbed_attribution: ``(N, P, *S)``, the maps on P perturbed images.
        kept: ``(N, P)`` bool, whether the prediction survived.

    Returns:
        ``(N,)`` in [-1, 1]; NaN where no pair was kept or a map is constant or not finite.

    Example:
        >>> a = torch.tensor([[1.0, 2.0, 4.0]])
        >>> robustness_pearson(a, torch.stack([3 * a + 1, -a], dim=1), torch.tensor([[True, False]]))
        tensor([1.])

    """
    return _mean_of_pairs(pearson_correlation, attribution, perturbed_attribution, kept)


def stability_retention(kept: Tensor) -> Tensor:
    """Compute the share of the perturbations that keep the prediction.

    The larger it is, the more pairs ``stability`` rests on.

    Unit:
        share of the perturbations

    Cost:
        P/T

    Definition:
        Our reading.

    Pitfalls:
        It is a score of the model and not of a map. 0 is a value, not a missing one.

    Args:
        kept: ``(N, P)`` bool.

    Returns:
        ``(N,)`` in [0, 1].

    """
    return kept.float().mean(dim=1)


def max_sensitivity(attribution: Tensor, perturbed_attribution: Tensor, kept: Tensor) -> Tensor:
    """Compute the largest relative change of a map under perturbations that keep the prediction.

    max ‖a(x') − a(x)‖ / ‖a(x)‖, with Euclidean norms. Lower is better. A map's size matters, which :func:`stability`
    does not see.

    Unit:
        share of the map's norm

    Cost:
        P/T + P·E

    Definition:
        Yeh et al. 2019, definition 2.2, relative as in captum and Quantus. They draw x' from a ball around x. Our reading
        takes the audit's perturbations that keep the prediction.

    Pitfalls:
        It is the worst of few draws, so it grows with their number. Explainers that scale each map anew look worse.

    Args:
        attribution: ``(N, *S)``.
        perturbed_attribution: ``(N, P, *S)``, the maps on P perturbed images.
        kept: ``(N, P)`` bool, whether the prediction survived.

    Returns:
        ``(N,)``, at least 0 and without an upper bound; NaN where no pair was kept, the map is zero everywhere or one of the
        maps is not finite.

    Example:
        >>> a = torch.tensor([[3.0, 4.0]])
        >>> max_sensitivity(a, torch.tensor([[[3.0, 3.0], [0.0, 0.0]]]), torch.tensor([[True, False]]))
        tensor([0.2000])

    """
    first, others = attribution.flatten(1).double(), perturbed_attribution.flatten(2).double()
    largest = first.abs().amax(dim=1, keepdim=True)  # squares must not overflow, or vanish
    first, others = first / largest, others / largest[:, None]
    change = (others - first[:, None]).norm(dim=2) / first.norm(dim=1, keepdim=True)
    # Not nanmax over the kept: a kept pair whose change is undefined must show.
    worst: Tensor = change.where(kept, 0.0).amax(dim=1).float()  # a change beyond single precision is none to report
    return worst.where(kept.any(dim=1) & worst.isfinite() & first.isfinite().all(dim=1), torch.nan)


def topk_overlap(attribution: Tensor, perturbed_attribution: Tensor, kept: Tensor, k: float = 0.1) -> Tensor:
    """Compute the mean overlap of the top share k of a map's pixels with those under perturbations that keep the prediction.

    The number of pixels that are in both, over the number of places. Higher is better, about k for maps that have nothing
    in common. Pixels that tie for the last places belong to the top in part, each with the same membership m; otherwise the
    zeros of a CAM would agree or not by their place. Then the overlap is Σ m·m' / √(Σm² · Σm'²), which is the same where
    nothing ties.

    Unit:
        share of the top 10 % of pixels

    Cost:
        P/T + P·E

    Definition:
        Ghorbani, Abid, Zou 2019, top-k intersection. Membership in part is our reading.

    Pitfalls:
        Unrelated maps have about 0.1, not 0. It sees nothing below the top.

    Args:
        attribution: ``(N, *S)``.
        perturbed_attribution: ``(N, P, *S)``, the maps on P perturbed images.
        kept: ``(N, P)`` bool, whether the prediction survived.
        k: share of the image's pixels in (0, 1]; at least one pixel.

    Returns:
        ``(N,)`` in [0, 1]; NaN where no pair was kept or a map is constant or not finite.

    Raises:
        ValueError: if k is not in (0, 1].

    Example:
        >>> a, b = torch.tensor([[9.0, 8.0, 1.0, 0.0]]), torch.tensor([[[8.0, 0.0, 9.0, 1.0]]])
        >>> topk_overlap(a, b, torch.tensor([[True]]), k=0.5)
        tensor([0.5000])

    """
    if not 0 < k <= 1:
        raise ValueError(f"k is a share of the image's pixels in (0, 1], got {k}.")
    first, others = attribution.flatten(1), perturbed_attribution.flatten(2)
    count = max(1, round(k * first.shape[1]))

    def top(maps: Tensor) -> Tensor:
        member = top_membership(maps, torch.full((len(maps),), count, device=maps.device))
        differs = maps.isfinite().all(dim=1) & (maps.amax(dim=1) > maps.amin(dim=1))
        direction: Tensor = member / member.norm(dim=1, keepdim=True)
        return direction.where(differs[:, None], torch.nan)

    overlap = (top(first)[:, None] * top(others.flatten(0, 1)).view(others.shape)).sum(dim=2)
    total: Tensor = overlap.where(kept, 0.0).sum(dim=1)
    return (total / kept.sum(dim=1)).float()


def _mean_of_pairs(
    correlate: Callable[[Tensor, Tensor], Tensor], attribution: Tensor, perturbed_attribution: Tensor, kept: Tensor
) -> Tensor:
    """Correlate each map with its perturbed ones and return the mean over the kept pairs, ``(N,)``."""
    pairs, size = perturbed_attribution.shape[1], attribution.flatten(1).shape[1]
    first = attribution.flatten(1)[:, None].expand(-1, pairs, -1)
    correlation = correlate(first.reshape(-1, size), perturbed_attribution.reshape(-1, size)).view(-1, pairs)
    # Not nanmean over the kept: a kept pair whose correlation is undefined must show.
    total: Tensor = correlation.where(kept, 0.0).sum(dim=1)
    return total / kept.sum(dim=1)


def pearson_correlation(a: Tensor, b: Tensor) -> Tensor:
    """Return Pearson's correlation ``(N,)`` of rows ``(N, P)``; NaN for a row that is constant or not finite."""
    says = torch.stack([r.isfinite().all(dim=1) & (r.amax(dim=1) > r.amin(dim=1)) for r in (a, b)]).all(dim=0)

    def direction(values: Tensor) -> Tensor:
        values = values.double()
        values = values / values.abs().amax(dim=1, keepdim=True)  # squares must not overflow, or vanish
        values = values - values.mean(dim=1, keepdim=True)
        unit: Tensor = values / values.norm(dim=1, keepdim=True)
        return unit

    correlation: Tensor = (direction(a) * direction(b)).sum(dim=1).clamp(-1, 1)
    return correlation.where(says, torch.nan).float()


def rank_correlation(a: Tensor, b: Tensor) -> Tensor:
    """Return Spearman's correlation ``(N,)`` of rows ``(N, P)``, ties given their mean rank; NaN for a constant row."""
    finite = a.isfinite().all(dim=1) & b.isfinite().all(dim=1)
    a, b = (r - r.mean(dim=1, keepdim=True) for r in (mean_ranks(a), mean_ranks(b)))
    scale = a.norm(dim=1) * b.norm(dim=1)
    correlation: Tensor = (a * b).sum(dim=1) / scale
    return correlation.where(finite, torch.nan).float()
