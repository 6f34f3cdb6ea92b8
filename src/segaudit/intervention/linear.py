"""Removed pixels as weighted means of their neighbours: a sparse linear system an image, solved for a whole batch."""

from typing import NamedTuple

import torch
from torch import Tensor

#: Largest change that a last step would still make, over the largest deviation of a known pixel from the image's mean.
_TOLERANCE = 1e-5
#: Conjugate gradients need about ten steps, whatever the image's size; this many are never reached in practice.
_MOST_STEPS = 200
#: Damping of Jacobi's method: keeps it convergent where an image is one pixel wide.
_DAMPING = 0.8


def interpolate(images: Tensor, unknown: Tensor) -> Tensor:
    """Images whose unknown pixels are the weighted mean of their neighbours, the other pixels as they are.

    In two dimensions a direct neighbour weighs 1/6 and a diagonal one 1/12 (Rong et al. 2022); neighbours outside the image
    count nothing, and the others' weights grow to a sum of 1. In other numbers of dimensions (our generalisation) a
    neighbour's weight halves with each further axis along which it lies off: 1/2 and 1/2 in one.

    Conjugate gradients with a multigrid cycle as preconditioner, on the images' device. The result is within 1e-3 of the
    exact one, in units of the image's standard deviation. Each channel of each image stops on its own.

    Args:
        images: ``(M, channels, *S)``.
        unknown: ``(M, *S)`` bool. An image without a known pixel becomes its mean colour.

    """
    values = images.to(torch.promote_types(images.dtype, torch.float32))
    axes = tuple(range(2, values.ndim))
    hidden = unknown[:, None]
    mean = values.mean(axes, keepdim=True)
    known = torch.where(hidden, 0, values - mean)
    levels = _levels(hidden.to(values))
    solution = _solve(levels, _neighbours(known) * levels[0].hidden, known.abs().amax(axes, keepdim=True))
    return torch.where(hidden, (mean + solution).to(images), images)


class _Level(NamedTuple):
    """One of the grids, each half as fine as the one before.

    Attributes:
        hidden: 1 where a pixel is unknown, else 0, ``(M, 1, *S)``.
        weight: sum of the weights of each pixel's neighbours in the image, ``(1, 1, *S)``.
        damped: what a residual is multiplied by in a step of Jacobi's method, ``(M, 1, *S)``.
        scale: what the grid's equations are divided by, so that they agree with those of the next finer one.

    """

    hidden: Tensor
    weight: Tensor
    damped: Tensor
    scale: float


def _levels(hidden: Tensor) -> list[_Level]:
    levels: list[_Level] = []
    scale = 1.0
    while True:
        weight = _neighbours(torch.ones_like(hidden[:1]))
        weight = weight.where(weight > 0, 1)
        levels.append(_Level(hidden, weight, hidden * (_DAMPING / weight), scale))
        size = hidden.shape[2:]
        if max(size) <= 2 or not bool(hidden.any()):
            return levels
        scale = 2.0 ** (sum(s > 1 for s in size) - 2)
        # A coarse pixel with a known one in it counts as known.
        for axis in range(2, hidden.ndim):
            if hidden.shape[axis] > 1:
                even, odd = _halves(hidden, axis, 1.0)
                hidden = even * odd


def _solve(levels: list[_Level], right: Tensor, scale: Tensor) -> Tensor:
    """Solution of (weight - neighbours) x = right on the unknown pixels, one system a channel of an image."""
    axes = tuple(range(2, right.ndim))
    solution, residual = torch.zeros_like(right), right
    step = _cycle(levels, residual)
    direction, decrease = step, (residual * step).sum(axes, keepdim=True)
    for _ in range(_MOST_STEPS):
        # A cycle's correction is about the error that is left.
        open_ = step.abs().amax(axes, keepdim=True) > _TOLERANCE * scale
        if not bool(open_.any()):
            break
        image = _apply(levels[0], direction)
        length = torch.where(open_, decrease / (direction * image).sum(axes, keepdim=True), 0)
        solution = solution + length * direction
        residual = residual - length * image
        step = _cycle(levels, residual)
        before, decrease = decrease, (residual * step).sum(axes, keepdim=True)
        direction = step + torch.where(open_, decrease / before, 0) * direction
    return solution


def _cycle(levels: list[_Level], right: Tensor) -> Tensor:
    """About the solution for ``right``: one V-cycle, a symmetric linear map as conjugate gradients need it."""
    level, coarser = levels[0], levels[1:]
    solution = level.damped * right
    if coarser:
        left = _coarsen(right - _apply(level, solution)) / coarser[0].scale
        solution.addcmul_(level.hidden, _refine(_cycle(coarser, left.mul_(coarser[0].hidden)), right.shape[2:]))
    return solution.addcmul_(level.damped, right - _apply(level, solution))


def _apply(level: _Level, values: Tensor) -> Tensor:
    return (level.weight * values).sub_(_neighbours(values)).mul_(level.hidden)


def _neighbours(values: Tensor) -> Tensor:
    """Weighted sum of each pixel's neighbours: binomial weights 1, 2, 1 along each axis, less the pixel itself."""
    total = values
    for axis in range(2, values.ndim):
        rest = values.shape[axis] - 1
        longer = 2 * total
        longer.narrow(axis, 1, rest).add_(total.narrow(axis, 0, rest))
        longer.narrow(axis, 0, rest).add_(total.narrow(axis, 1, rest))
        total = longer
    itself, every = 2.0 ** (values.ndim - 2), 4.0 ** (values.ndim - 2)
    return torch.sub(total, values, alpha=itself).mul_(1 / (every - itself))


def _refine(values: Tensor, size: torch.Size) -> Tensor:
    """Linear interpolation to a grid twice as fine."""
    for axis, target in enumerate(size, start=2):
        if target == 1:
            continue
        last = values.shape[axis] - 1
        before = torch.cat([values.narrow(axis, 0, 1), values.narrow(axis, 0, last)], dim=axis)
        after = torch.cat([values.narrow(axis, 1, last), values.narrow(axis, last, 1)], dim=axis)
        pairs = torch.stack([0.75 * values + 0.25 * before, 0.75 * values + 0.25 * after], dim=axis + 1)
        values = pairs.flatten(axis, axis + 1).narrow(axis, 0, target)
    return values


def _coarsen(values: Tensor) -> Tensor:
    """The adjoint of :func:`_refine`."""
    for axis in range(2, values.ndim):
        if values.shape[axis] == 1:
            continue
        even, odd = _halves(values, axis, 0.0)
        last = even.shape[axis] - 1
        values = 0.75 * (even + odd)
        values.narrow(axis, 0, last).add_(even.narrow(axis, 1, last), alpha=0.25)
        values.narrow(axis, 0, 1).add_(even.narrow(axis, 0, 1), alpha=0.25)
        values.narrow(axis, 1, last).add_(odd.narrow(axis, 0, last), alpha=0.25)
        values.narrow(axis, last, 1).add_(odd.narrow(axis, last, 1), alpha=0.25)
    return values


def _halves(values: Tensor, axis: int, beyond: float) -> tuple[Tensor, Tensor]:
    """Every other pixel along an axis, from the first and from the second on; ``beyond`` where the size is odd."""
    if values.shape[axis] % 2:
        values = torch.cat([values, torch.full_like(values.narrow(axis, 0, 1), beyond)], dim=axis)
    even, odd = values.unflatten(axis, (-1, 2)).unbind(axis + 1)
    return even, odd
