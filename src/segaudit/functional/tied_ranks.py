"""Ranks a map's pixels for scores, so that pixels that tie share their places.

Curves remove pixels one by one and need an order of ties as well: see :mod:`segaudit.forwards.removal_order`.
"""

import torch
from torch import Tensor


def mean_ranks(values: Tensor) -> Tensor:
    """Rank each value in its row ``(N, P)``, float64, from 1/2 to P − 1/2 for values that differ; ties share their mean.

    Infinite values have their place in the order; a row with NaN has no meaning.

    Example:
        >>> mean_ranks(torch.tensor([[5.0, 7.0, 5.0]])).tolist()
        [[1.0, 2.5, 1.0]]

    """
    ordered = values.sort(dim=1).values
    below = torch.searchsorted(ordered, values.contiguous())
    up_to = torch.searchsorted(ordered, values.contiguous(), right=True)
    return (below + up_to).double() / 2


def top_membership(values: Tensor, count: Tensor) -> Tensor:
    """Compute how far each value of ``(N, P)`` belongs to the ``count`` ``(N,)`` largest of its row, float64 in [0, 1].

    1 above the last place, 0 below it. Values that tie for the last places share them evenly, which is the average over
    breaking the tie at random. A row adds up to its count, which is from 1 to P.

    Example:
        >>> top_membership(torch.tensor([[9.0, 5.0, 5.0, 1.0]]), torch.tensor([2])).tolist()
        [[1.0, 0.5, 0.5, 0.0]]

    """
    last = values.sort(dim=1, descending=True).values.gather(1, count[:, None] - 1)
    above, tied = values > last, values == last
    left = (count - above.sum(dim=1)).double() / tied.sum(dim=1)
    return above.double() + left[:, None] * tied
