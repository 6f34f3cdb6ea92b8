"""Checks what must hold for every fill, and for every function of images that looks at one image at a time."""

from collections.abc import Callable, Sequence
from itertools import product

import torch
from torch import Tensor

from segaudit.attribution.context import isolate_rng
from segaudit.intervention import Fill
from segaudit.testing.expectation import expect
from segaudit.testing.networks import differences, images, process_state

#: Images whose sides differ, and the smallest that have a neighbour along each axis.
_SIZES = {1: (30,), 2: (9, 14), 3: (5, 6, 7)}
_TINY = {1: ((2,),), 2: ((2, 2), (2, 5), (7, 2)), 3: ((2, 2, 3),)}
_DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def check_fill(
    fill: Fill | Callable[[], Fill],
    *,
    channels: int | Sequence[int] = (3, 1, 5),
    dims: int | Sequence[int] = (1, 2, 3),
    tolerance: float = 1e-6,
) -> None:
    """Check a fill on small images.

    Filled images have the shape and the dtype of the images, are finite, and follow from each image alone: not from the
    batch nor from the global random state. The images stay as they were. ``remove`` fills the pixels that are removed and
    leaves the others.

    Args:
        fill: to be checked: an object, or a class or function that makes one.
        channels: of the images.
        dims: spatial dimensions of the images, of 1 to 3.
        tolerance: largest difference that counts as rounding, relative and absolute.

    Raises:
        AssertionError: if something does not hold. The message says what.

    Example:
        >>> from segaudit.intervention import MeanFill
        >>> check_fill(MeanFill)

    """
    make = fill if not isinstance(fill, Fill) else lambda: fill
    check_images(make, channels, dims, tolerance)
    name = type(make()).__name__
    for one in _several(dims):
        pixel = make()(torch.randn(2, _several(channels)[0], *[1] * one, generator=torch.Generator().manual_seed(0)))
        expect(bool(pixel.isfinite().all()), f"{name} is not finite for an image of one pixel.")
        _check_remove(make(), name, images(3, _several(channels)[0], _SIZES[one]), tolerance)


def check_images(
    make: Callable[[], Callable[[Tensor], Tensor]],
    channels: int | Sequence[int],
    dims: int | Sequence[int],
    tolerance: float,
) -> None:
    """Check a function of images: shape, dtype, finite values; each result follows from its own image alone.

    Args:
        make: gives the function.
        channels: of the images.
        dims: spatial dimensions of the images.
        tolerance: largest difference that counts as rounding.

    """
    name = type(make()).__name__
    with isolate_rng():
        for count, one, dtype in product(_several(channels)[:1], _several(dims), _DTYPES):
            x = images(3, count, _SIZES[one]).to(dtype)
            result = _check_batch(make, name, x, tolerance)
            expect(not torch.equal(result, x), f"{name} returns the images as they are.")
            torch.manual_seed(1)
            again = torch.equal(make()(x), result)
            expect(again, f"{name} gives other images when it is called again: draw from a seed and the image's content.")
        for count, one in product(_several(channels), _several(dims)):
            for size in _TINY[one]:
                _check_batch(make, name, images(2, count, size), tolerance)


def _check_batch(make: Callable[[], Callable[[Tensor], Tensor]], name: str, x: Tensor, tolerance: float) -> Tensor:
    given, before, what = x.clone(), process_state(), f"images {tuple(x.shape)} of {x.dtype}"
    try:
        result = make()(x)
    except Exception as error:
        raise AssertionError(f"{name} fails with {what}: {error}") from error
    drawn = ", ".join(differences(before, process_state()))
    expect(not drawn, f"{name} draws from the global random state of {drawn}: take segaudit.randomness instead.")
    expect(torch.equal(x, given), f"{name} changes the images that it is given: work on a copy.")
    expect(result.shape == x.shape, f"{name} must return {what}, got the shape {tuple(result.shape)}.")
    expect(result.dtype == x.dtype, f"{name} must return {what}, got {result.dtype}.")
    expect(bool(result.isfinite().all()), f"{name} returns values that are not finite for {what}.")
    rounding = max(tolerance, 2 * torch.finfo(x.dtype).eps if x.dtype.itemsize < 4 else 0)
    for order in (*([n] for n in range(len(x))), list(range(len(x)))[::-1]):
        alone = torch.allclose(make()(x[order]), result[order], rounding, rounding)
        expect(alone, f"{name} gives an image another result in another batch, for {what}.")
    return result


def _check_remove(fill: Fill, name: str, x: Tensor, tolerance: float) -> None:
    g = torch.Generator().manual_seed(0)
    filled = fill(x)
    removed = torch.rand(len(x), *x.shape[2:], generator=g) < 0.4
    share = torch.rand(removed.shape, generator=g).where(removed, 0.0)
    share[:, ..., :2] = share[:, ..., :2].ceil()
    given = [tensor.clone() for tensor in (x, removed, share, filled)]
    result, mixed = fill.remove(x, removed, filled), fill.remove(x, share, filled)
    unchanged = all(torch.equal(a, b) for a, b in zip(given, (x, removed, share, filled), strict=True))
    expect(unchanged, f"{name}.remove changes what it is given: work on a copy.")
    for found in (result, mixed):
        expect(found.shape == x.shape and found.dtype == x.dtype, f"{name}.remove must return images like those given.")
        expect(bool(found.isfinite().all()), f"{name}.remove returns values that are not finite.")
        left = torch.equal(found.where(~removed[:, None], 0.0), x.where(~removed[:, None], 0.0))
        expect(left, f"{name}.remove changes pixels that are not removed.")
    if type(fill).remove is Fill.remove:
        right = torch.equal(result.where(removed[:, None], 0.0), filled.where(removed[:, None], 0.0))
        expect(right, f"{name}.remove does not show the filled image where pixels are removed.")
    close = torch.allclose(mixed, torch.lerp(x, result, share[:, None]), tolerance, 10 * tolerance)
    expect(close, f"{name}.remove must mix each pixel with its fill by the share that is removed.")
    alone = fill.remove(x[1:2], removed[1:2], filled[1:2])
    expect(torch.allclose(alone, result[1:2], tolerance, 10 * tolerance), f"{name}.remove depends on the batch.")
    nothing = fill.remove(x, torch.zeros_like(removed), filled)
    expect(torch.equal(nothing, x), f"{name}.remove changes images of which nothing is removed.")
    everything = torch.allclose(fill.remove(x, torch.ones_like(removed), filled), filled, tolerance, 10 * tolerance)
    expect(everything, f"{name}.remove must give the filled image where everything is removed.")


def _several(values: int | Sequence[int]) -> list[int]:
    return [values] if isinstance(values, int) else list(values)
