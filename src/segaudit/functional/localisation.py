"""Scores whether credit lies on the target: the order of the map's pixels, and its mass, against the target's region.

How far an explanation *should* lie on the target is another question: a model may look elsewhere. These scores say where a
map points, not whether it is right to. Where the region is the whole image they say nothing: every map lies on it.
"""

import torch
from torch import Tensor

from segaudit.functional.leakage import dilate, mass_share
from segaudit.functional.tied_ranks import mean_ranks, top_membership

__all__ = ["localisation_auc", "pointing_game", "relevance_mass", "relevance_rank"]


def pointing_game(attribution: Tensor, region: Tensor, tolerance: int = 0) -> Tensor:
    """Compute whether the map's highest pixel lies in the region, 1 or 0.

    Where several pixels share the maximum, it is the share of them that lies inside: the chance to hit with one of them
    picked at random. Quantus counts a hit if any lies inside. Only the order of the pixels matters: a maximum below 0
    points as well. Higher is better. A random map has the region's share of the image.

    Unit:
        hit or miss

    Cost:
        0

    Definition:
        Zhang et al. 2016.

    Pitfalls:
        It rests on one pixel. Large targets are easy to hit: compare with ``random``.

    Args:
        attribution: ``(N, *S)``.
        region: ``(N, *S)`` bool.
        tolerance: pixels by which the region is dilated first, along each axis and diagonal; the paper has 15.

    Returns:
        ``(N,)`` in [0, 1]; NaN for a region that is empty or the whole image, and for a map that is constant or not finite.

    Example:
        >>> region = torch.tensor([[True, False, False]])
        >>> pointing_game(torch.tensor([[3.0, 1.0, -9.0]]), region), pointing_game(torch.tensor([[3.0, 3.0, -9.0]]), region)
        (tensor([1.]), tensor([0.5000]))

    """
    grown = dilate(region, tolerance)
    one = torch.ones(len(attribution), dtype=torch.int64, device=attribution.device)
    hit = (top_membership(attribution.flatten(1), one) * grown.flatten(1)).sum(dim=1)
    return _where_it_says_where(hit, attribution, region)


def relevance_mass(attribution: Tensor, region: Tensor) -> Tensor:
    """Compute the share of the positive mass inside the region.

    Negative values argue against the target and count as no credit, wherever they lie. It is 1 −
    :func:`off_target_leakage` without tolerance, and the attribution localisation of Kohlbrenner et al. 2020. Higher is
    better. A random map has about the region's share of the image.

    Unit:
        share of the positive mass

    Cost:
        0

    Definition:
        Arras, Osman, Samek 2022, relevance mass accuracy.

    Pitfalls:
        It is 1 - ``off_target_leakage`` under its well-known name. Honest context counts against it.

    Args:
        attribution: ``(N, *S)``.
        region: ``(N, *S)`` bool.

    Returns:
        ``(N,)`` in [0, 1]; NaN for a region that is empty or the whole image, and for a map that has no positive mass, is
        constant or not finite.

    Example:
        >>> relevance_mass(torch.tensor([[3.0, 1.0, -9.0]]), torch.tensor([[True, False, False]]))
        tensor([0.7500])

    """
    return _where_it_says_where(mass_share(attribution, region, region), attribution, region)


def relevance_rank(attribution: Tensor, region: Tensor) -> Tensor:
    """Compute the share of the K highest pixels that lie inside the region of K pixels.

    Pixels that tie for the last of the K places share them evenly, so that no place in the image is favoured: most of a CAM
    can be exactly 0. Only the order of the pixels matters; negative ones come last. Higher is better. A random map has
    about the region's share of the image.

    Unit:
        share of the region's pixels

    Cost:
        0

    Definition:
        Arras, Osman, Samek 2022, relevance rank accuracy.

    Pitfalls:
        Those of ``relevance_mass``. It knows the order of the pixels alone.

    Args:
        attribution: ``(N, *S)``.
        region: ``(N, *S)`` bool.

    Returns:
        ``(N,)`` in [0, 1]; NaN for a region that is empty or the whole image, and for a map that is constant or not finite.

    Example:
        >>> relevance_rank(torch.tensor([[3.0, 1.0, 2.0, 0.0]]), torch.tensor([[True, True, False, False]]))
        tensor([0.5000])

    """
    inside = region.flatten(1)
    size = inside.sum(dim=1)
    found = (top_membership(attribution.flatten(1), size.clamp_min(1)) * inside).sum(dim=1)
    return _where_it_says_where(found / size, attribution, region)


def localisation_auc(attribution: Tensor, region: Tensor) -> Tensor:
    """Compute the chance that a pixel of the region ranks above a pixel outside, both picked at random.

    It is the area under the ROC curve of the map as a detector of the region; a tie counts one half. Only the order of the
    pixels matters; negative ones come last. Higher is better. Unlike the others of the family it is 0.5 for a random map,
    whatever the size of the region.

    Unit:
        area under the ROC curve

    Cost:
        0

    Definition:
        Fawcett 2006; the AUC of Quantus.

    Pitfalls:
        A random map has 0.5, not 0. NaN where the region is the whole image.

    Args:
        attribution: ``(N, *S)``.
        region: ``(N, *S)`` bool.

    Returns:
        ``(N,)`` in [0, 1]; NaN for a region that is empty or the whole image, and for a map that is constant or not finite.

    Example:
        >>> localisation_auc(torch.tensor([[3.0, 1.0, 2.0, 0.0]]), torch.tensor([[True, True, False, False]]))
        tensor([0.7500])

    """
    inside = region.flatten(1)
    size = inside.sum(dim=1).double()
    outside = inside.shape[1] - size
    ranks = (mean_ranks(attribution.flatten(1)) * inside).sum(dim=1)
    # The ranks of the region's pixels among themselves add up to size² / 2.
    return _where_it_says_where((ranks - size**2 / 2) / (size * outside), attribution, region)


def _where_it_says_where(value: Tensor, attribution: Tensor, region: Tensor) -> Tensor:
    flat = attribution.flatten(1)
    inside = region.flatten(1)
    says = flat.isfinite().all(dim=1) & (flat.amax(dim=1) > flat.amin(dim=1)) & inside.any(dim=1) & ~inside.all(dim=1)
    return value.where(says, torch.nan).float()
