"""Traces curves of S over the share of an image that is filled or shown, with points where the curve changes most."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

#: Smallest number of points that is split into rounds.
_LEAST_REFINED = 6
#: A change of the curve that any interval may hide between its ends.
_UNSEEN = 0.05
#: Changes of a curve are rounded to this: rounding errors, which depend on the batch, must not decide where points go.
_RESOLUTION = 1e-3


class Curve(NamedTuple):
    """Holds S of N targets at K points, both ends included, relative to S of the image.

    Attributes:
        values: ``(N, K)``; NaN where S of the image is too low for a relative value.
        fractions: share of the pixels that is filled (deletion) or shown (insertion), ``(N, K)`` float64 from 0 to 1; in an
            image of few pixels a share may occur twice.
        error: estimated error of the area under the curve, ``(N,)``: its change in the last round of points; 0 if there was
            only one round.

    """

    values: Tensor
    fractions: Tensor
    error: Tensor


def trace(
    confidence: Callable[[Tensor], Tensor],
    ends: tuple[Tensor, Tensor],
    pixels: int,
    steps: int,
    snap: Callable[[Tensor], Tensor] = lambda counts: counts,
) -> Curve:
    """Trace a curve at ``steps`` points between its ends, in up to three rounds.

    The first half of the points is evenly spaced. Each later round puts points into the middle of the intervals with the
    largest uncertainty, for each target its own. The area under a monotone curve is uncertain by an interval's width times
    its change. Since no curve is quite monotone, a wide interval is uncertain even if its ends are equal. Fewer than six
    points form one round, spaced quadratically, because good maps change the confidence early. docs/curves.md measures the
    gain.

    Args:
        confidence: computes the relative values ``(N, M)`` at numbers of pixels ``(N, M)``.
        ends: values ``(N,)`` at no and at all pixels.
        pixels: number of pixels of the image.
        steps: number of points between the ends; an image of few pixels has fewer.
        snap: returns, for numbers of pixels ``(N, M)``, the nearest ones at which the curve may be evaluated. If there are
            few of these, some occur twice.

    """
    device = ends[0].device
    steps = min(steps, pixels - 1)
    rounds = [steps] if steps < _LEAST_REFINED else [steps - 2 * (steps // 4), steps // 4, steps // 4]
    counts = snap(spaced(rounds[0], pixels, 1 if len(rounds) > 1 else 2).to(device).repeat(len(ends[0]), 1))
    values = torch.cat([ends[0][:, None], confidence(counts[:, 1:-1]), ends[1][:, None]], dim=1)
    area = torch.zeros_like(ends[0], dtype=torch.float64)
    for place, more in enumerate(rounds[1:], start=1):
        if place == len(rounds) - 1:
            area = _area(values, counts)
        middle = _doubtful(values, counts, more, snap)
        order = torch.cat([counts, middle], dim=1).argsort(dim=1, stable=True)
        values = torch.cat([values, confidence(middle)], dim=1).gather(1, order)
        counts = torch.cat([counts, middle], dim=1).gather(1, order)
    error = (_area(values, counts) - area).abs() / pixels if len(rounds) > 1 else torch.zeros_like(area)
    return Curve(values, counts.double() / pixels, error.float())


def spaced(steps: int, pixels: int, power: float) -> Tensor:
    """Return numbers of pixels ``(steps + 2,)`` int64 from 0 to all, as powers of even ones; fewer if some are equal."""
    nodes = torch.linspace(0, 1, steps + 2, dtype=torch.float64) ** power
    counts: Tensor = (nodes * pixels).round().long().unique()
    return counts


def _doubtful(values: Tensor, counts: Tensor, more: int, snap: Callable[[Tensor], Tensor]) -> Tensor:
    """Return the middles ``(N, more)`` of the most uncertain intervals; of ties, the first."""
    width = counts.diff(dim=1)
    middle = snap(counts[:, :-1] + width // 2)
    change = (values.nan_to_num().double() / _RESOLUTION).round().diff(dim=1).abs()
    doubt = (width * (change + _UNSEEN / _RESOLUTION)).masked_fill(
        (middle <= counts[:, :-1]) | (middle >= counts[:, 1:]), -1.0
    )
    chosen = doubt.argsort(dim=1, descending=True, stable=True)[:, :more]
    middle = middle.gather(1, chosen)
    # With fewer intervals than points, the last place is repeated, which costs a forward and changes nothing.
    missing = more - middle.shape[1]
    return torch.cat([middle, middle[:, -1:].expand(-1, missing)], dim=1) if missing else middle


def _area(values: Tensor, counts: Tensor) -> Tensor:
    return torch.trapezoid(values.double(), counts.double())
