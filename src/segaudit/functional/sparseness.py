"""Scores on how few pixels the credit lies. Nothing here knows the model: a sparse map can be wrong."""

import torch
from torch import Tensor

__all__ = ["entropy", "sparseness"]


def sparseness(attribution: Tensor) -> Tensor:
    """Compute the Gini index of the absolute values: 0 for a map that is the same everywhere, near 1 for a single pixel.

    Higher is sparser. A single pixel among P has 1 − 1/P.

    Unit:
        Gini index

    Cost:
        0

    Definition:
        Chalasani et al. 2020, section 2.3.

    Pitfalls:
        It takes absolute values, so evidence against the target counts too. It knows nothing of the model: a sparse map can
        be wrong.

    Args:
        attribution: ``(N, *S)``, signed.

    Returns:
        ``(N,)`` in [0, 1); NaN for a map of zeros or one that is not finite.

    Example:
        >>> sparseness(torch.tensor([[0.0, 0.0, 0.0, -2.0], [1.0, -1.0, 1.0, 1.0]]))
        tensor([0.7500, 0.0000])

    """
    share = _shares(attribution).sort(dim=1).values
    pixels = share.shape[1]
    weight = 2 * torch.arange(1, pixels + 1, dtype=share.dtype, device=share.device) - pixels - 1
    return (share @ weight / pixels).clamp(0, 1).float()


def entropy(attribution: Tensor) -> Tensor:
    """Compute the Shannon entropy of the absolute values, as shares of their sum, divided by log P for P pixels.

    Lower is sparser: it is 1 for a map that is the same everywhere, 0 for a single pixel, and log M / log P for M even ones
    among P.

    Unit:
        share of the largest entropy

    Cost:
        0

    Definition:
        Bhatt, Weller, Moura 2020, complexity. Dividing by log P is our reading, so that the size of the image cancels.

    Pitfalls:
        Those of ``sparseness``. It is less sensitive to the tail of small values.

    Args:
        attribution: ``(N, *S)``, signed.

    Returns:
        ``(N,)`` in [0, 1]; NaN for a map of zeros, one that is not finite, and an image of a single pixel.

    Example:
        >>> entropy(torch.tensor([[0.0, 0.0, 0.0, -2.0], [1.0, -1.0, 1.0, 1.0], [1.0, 0.0, 1.0, 0.0]]))
        tensor([0.0000, 1.0000, 0.5000])

    """
    share = _shares(attribution)
    most = torch.tensor(float(share.shape[1]), dtype=share.dtype, device=share.device).log()
    nats: Tensor = torch.special.entr(share).sum(dim=1)
    return (nats / most).clamp(0, 1).float()


def _shares(attribution: Tensor) -> Tensor:
    """Return the absolute values as shares that add up to 1, ``(N, P)`` float64; NaN for maps of zeros or not finite."""
    size = attribution.flatten(1).abs().double()
    size = size / size.amax(dim=1, keepdim=True)  # their sum must not overflow
    return (size / size.sum(dim=1, keepdim=True)).where(size.isfinite().all(dim=1, keepdim=True), torch.nan)
