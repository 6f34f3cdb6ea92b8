"""Do the highlighted pixels drive the prediction, when what is removed is replaced by a guess from its neighbours?"""

import torch
from torch import Tensor


def road(road_deletion: Tensor, road_retention: Tensor) -> Tensor:
    """Half of how much more of the score is left without the least attributed pixels than without the most.

    Remove and debias (Rong et al. 2022): removed pixels are imputed from their neighbours, so that neither their shape nor
    an odd colour tells the model what was there. Higher is better. Both orders of removal in one number, (least first −
    most first) / 2, averaged over the shares, as in pytorch-grad-cam's ``ROADCombined``; relative to S(x), which theirs is
    not.

    Args:
        road_deletion: S with the most attributed share q_j of pixels imputed, over S(x), ``(N, J)``.
        road_retention: S with the least attributed share q_j of pixels imputed, over S(x), ``(N, J)``.

    Returns:
        ``(N,)``, in [-0.5, 0.5] unless imputing raises the score (then in [-10, 10], as S(x) is at least 0.05), about 0 for
        a random map; NaN where a value is not finite.

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
