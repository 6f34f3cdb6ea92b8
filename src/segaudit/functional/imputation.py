"""Scores whether the highlighted pixels drive the prediction when removed pixels are guessed from their neighbours."""

import torch
from torch import Tensor

__all__ = ["road"]


def road(road_deletion: Tensor, road_retention: Tensor) -> Tensor:
    """Compute half of how much more of S is left without the least attributed pixels than without the most.

    Remove and debias: removed pixels are imputed from their neighbours, so that neither their shape nor an odd colour tells
    the model what was there. Both orders of removal give one number, (least first − most first) / 2, averaged over the
    shares. Higher is better, about 0 for a random map.

    Unit:
        share of S(x)

    Cost:
        8

    Definition:
        Rong et al. 2022. Both orders in one number as in pytorch-grad-cam's ``ROADCombined``; relative to S(x) is our
        reading.

    Pitfalls:
        Imputed pixels keep low frequencies. So large objects stay visible, and all maps come near 0.

    Args:
        road_deletion: S with the most attributed share q_j of pixels imputed, over S(x), ``(N, J)``.
        road_retention: S with the least attributed share q_j of pixels imputed, over S(x), ``(N, J)``.

    Returns:
        ``(N,)``, in [-0.5, 0.5] unless imputing raises the confidence (then in [-10, 10], as S(x) is at least 0.05); NaN
        where a value is not finite.

    Example:
        >>> road(torch.tensor([[0.2, 0.0]]), torch.tensor([[1.0, 0.8]]))
        tensor([0.4000])

    """
    if road_deletion.shape != road_retention.shape:
        raise ValueError(
            "both orders of removal need the same shares of pixels, got the shapes "
            f"{tuple(road_deletion.shape)} and {tuple(road_retention.shape)}."
        )
    gain = (road_retention.double() - road_deletion.double()).mean(dim=1) / 2
    return gain.where(gain.isfinite(), torch.nan).float()
