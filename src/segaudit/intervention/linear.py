"""Interpolates removed pixels from their neighbours: solves a sparse linear system for each image of a batch."""

from typing import NamedTuple

import torch
from torch import Tensor

#: A channel stops when a step changes no pixel by more, in units of its (known pixels') standard deviation.
_TOLERANCE = 2e-4
#: Conjugate gradients need about ten steps, whatever the image's size. This limit is never reached in practice.
_MOST_STEPS = 200
#: Damping of Jacobi's method; without it, images one pixel wide would not converge.
_DAMPING = 0.8


def interpolate(images: Tensor, unknown: Tensor) -> Tensor:
    """Replace the unknown pixels of images by the weighted means of their neighbours.

    In two dimensions a direct neighbour weighs 1/6 and a diagonal one 1/12 (Rong et al. 2022). Neighbours outside the image
    do not count, and the weights of the others grow to a sum of 1. In other numbers of dimensions (our generalisation) a
    neighbour's weight halves with each further axis along which it differs: 1/2 and 1/2 in one dimension.

    The solver is conjugate gradients with a multigrid cycle as preconditioner, on the images' device. The result is within
    1e-3 of the exact one, in units of a channel's standard deviation. Each channel of each image stops on its own.

    Args:
        images: ``(M, channels, *S)``.
        unknown: ``(M, *S)`` bool. An image without a known pixel becomes its mean colour.

    Returns:
        ``(M, channels, *S)``; known pixels are unchanged.

    """
    values = images.to(torch.promote_types(images.dtype, torch.float32))
    axes = tuple(range(2, values.ndim))
    hidden = unknown[:, None]
    mean = values.mean(axes, keepdim=True)
    known = torch.where(hidden, 0, values - mean)
    largest = known.abs().amax(axes, keepdim=True)
    unit = largest.where(largest > 0, 1)  # or else squares of very small or large deviations would be 0 or infinite
    known = known / unit
    everywhere = (values / unit).std(axes, correction=0, keepdim=True)
    seen = (known.square().sum(axes, keepdim=True) / (~hidden).sum(axes, keepdim=True).clamp_min(1)).sqrt()
    # The values of hidden pixels must not loosen the tolerance.
    tolerance = _TOLERANCE * torch.minimum(everywhere, seen)
    solution = _solve(_levels(hidden.to(values)), _spread(known).masked_fill_(~hidden, 0), tolerance)
    return torch.where(hidden, (mean + unit * solution).to(images), images)


class _Level(NamedTuple):
    """Holds the equations of one grid, ``diagonal x - part spread(part x) = right``; each grid is half as fine as the last.

    On the finest grid ``part`` is 1 where a pixel is unknown, else 0. On a coarser one it is the share of unknown pixels in
    a coarse pixel. So the grids agree up to the borders of a hole, and sums over rows are those of the finer grid.

    Attributes:
        part: ``(M, 1, *S)`` in [0, 1].
        diagonal: ``(M, 1, *S)``.
        active: 1 where there is an equation, else 0, ``(M, 1, *S)``.
        damped: factor of a residual in a step of Jacobi's method, ``(M, 1, *S)``.
        own: factor of a pixel's own value in such a step, ``1 - damped * diagonal``.
        inner: factor of the neighbours' sum in such a step, ``damped * part``.
        entering: factor of a finer grid's residual: 0 where there is no equation, elsewhere chosen so that neighbours weigh
            as on the finest grid.

    """

    part: Tensor
    diagonal: Tensor
    active: Tensor
    damped: Tensor
    own: Tensor
    inner: Tensor
    entering: Tensor


def _levels(hidden: Tensor) -> list[_Level]:
    levels: list[_Level] = []
    itself = 2.0 ** (hidden.ndim - 2)
    weight = _spread(torch.ones_like(hidden[:1])) - itself
    # The weight of a pixel's known neighbours is all weight less that of its unknown ones. A lone pixel has no neighbours.
    borders, part, scale = hidden * (weight.where(weight > 0, 1) - _spread(hidden) + itself), hidden, 1.0
    while True:
        own = torch.addcmul(borders, part, _spread(part) - itself * part)  # exactly 0 where there is no equation
        diagonal = own + itself * part**2
        active = (own > 0).to(part)
        damped = active * _DAMPING / own.where(own > 0, 1)
        levels.append(_Level(part, diagonal, active, damped, 1 - damped * diagonal, damped * part, active / scale))
        size = part.shape[2:]
        if max(size) <= 2 or not bool(part.any()):
            return levels
        scale = 2.0 ** (sum(s > 1 for s in size) - 2)
        borders = _coarsen(borders) / scale
        for axis in range(2, part.ndim):
            if part.shape[axis] > 1:
                even, odd = _halves(part, axis)
                part = (even + odd) / 2


def _solve(levels: list[_Level], right: Tensor, tolerance: Tensor) -> Tensor:
    """Solve the finest grid's equations, one system per channel and image."""
    axes = tuple(range(2, right.ndim))
    solution, residual = torch.zeros_like(right), right
    step = _cycle(levels, residual)
    direction, decrease = step, (residual * step).sum(axes, keepdim=True)
    for _ in range(_MOST_STEPS):
        # A cycle's correction estimates the remaining error.
        open_ = step.abs().amax(axes, keepdim=True) > tolerance
        if not bool(open_.any()):
            break
        image = (levels[0].diagonal * direction).addcmul_(levels[0].part, _spread(direction), value=-1)
        length = torch.where(open_, decrease / (direction * image).sum(axes, keepdim=True), 0)
        solution = solution.addcmul_(length, direction)
        residual = torch.addcmul(residual, length, image, value=-1)
        step = _cycle(levels, residual)
        before, decrease = decrease, (residual * step).sum(axes, keepdim=True)
        direction = torch.addcmul(step, torch.where(open_, decrease / before, 0), direction)
    return solution


def _cycle(levels: list[_Level], right: Tensor, finest: bool = True) -> Tensor:
    """Approximate the solution by one V-cycle, a symmetric linear map as conjugate gradients need it."""
    level, coarser = levels[0], levels[1:]
    # On the finest grid known pixels are 0 already.
    first = level.damped * right
    solution = first
    if coarser:
        left = (level.own * right).addcmul_(level.part, _spread(first if finest else level.part * first))
        left = _coarsen(left).mul_(coarser[0].entering)
        solution = torch.addcmul(first, level.active, _refine(_cycle(coarser, left, finest=False), right.shape[2:]))
    reaching = _spread(solution if finest else level.part * solution)
    return torch.addcmul(first, level.own, solution).addcmul_(level.inner, reaching)


def _spread(values: Tensor) -> Tensor:
    """Sum each pixel and its neighbours with the weights 1, 2, 1 along each axis."""
    for axis in range(2, values.ndim):
        rest = values.shape[axis] - 1
        longer = values + values
        longer.narrow(axis, 1, rest).add_(values.narrow(axis, 0, rest))
        longer.narrow(axis, 0, rest).add_(values.narrow(axis, 1, rest))
        values = longer
    return values


def _refine(values: Tensor, size: torch.Size) -> Tensor:
    """Interpolate linearly to a grid twice as fine."""
    for axis, target in enumerate(size, start=2):
        if target == 1:
            continue
        last = values.shape[axis] - 1
        before = torch.cat([values.narrow(axis, 0, 1), values.narrow(axis, 0, last)], dim=axis)
        after = torch.cat([values.narrow(axis, 1, last), values.narrow(axis, last, 1)], dim=axis)
        pairs = torch.stack([torch.lerp(values, before, 0.25), torch.lerp(values, after, 0.25)], dim=axis + 1)
        values = pairs.flatten(axis, axis + 1).narrow(axis, 0, target)
    return values


def _coarsen(values: Tensor) -> Tensor:
    """Apply the adjoint of :func:`_refine`."""
    for axis in range(2, values.ndim):
        if values.shape[axis] == 1:
            continue
        even, odd = _halves(values, axis)
        last = even.shape[axis] - 1
        values = 0.75 * (even + odd)
        values.narrow(axis, 0, last).add_(even.narrow(axis, 1, last), alpha=0.25)
        values.narrow(axis, 0, 1).add_(even.narrow(axis, 0, 1), alpha=0.25)
        values.narrow(axis, 1, last).add_(odd.narrow(axis, 0, last), alpha=0.25)
        values.narrow(axis, last, 1).add_(odd.narrow(axis, last, 1), alpha=0.25)
    return values


def _halves(values: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """Return the even and the odd pixels along an axis; an odd size is padded with 0."""
    if values.shape[axis] % 2:
        values = torch.cat([values, torch.zeros_like(values.narrow(axis, 0, 1))], dim=axis)
    even, odd = values.unflatten(axis, (-1, 2)).unbind(axis + 1)
    return even, odd
