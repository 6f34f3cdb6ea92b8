"""Checks what must hold for every perturbation."""

from collections.abc import Callable, Sequence

import torch

from segaudit.intervention import Perturbation
from segaudit.testing.expectation import expect
from segaudit.testing.fill import check_images
from segaudit.testing.networks import images


def check_perturbation(
    perturbation: Perturbation | Callable[[], Perturbation],
    *,
    channels: int | Sequence[int] = (3, 1, 5),
    dims: int | Sequence[int] = (1, 2, 3),
    tolerance: float = 1e-6,
) -> None:
    """Check a perturbation on small images.

    Perturbed images have the shape and the dtype of the images, are finite, and follow from each image alone: not from the
    batch nor from the global random state. The images stay as they were. ``back`` takes back what ``move`` moves, but for
    what has left the image.

    Args:
        perturbation: to be checked: an object, or a class or function that makes one.
        channels: of the images.
        dims: spatial dimensions of the images, of 1 to 3.
        tolerance: largest difference that counts as rounding, relative and absolute.

    Raises:
        AssertionError: if something does not hold. The message says what.

    Example:
        >>> from segaudit.intervention import Contrast
        >>> check_perturbation(Contrast)

    """
    make = perturbation if not isinstance(perturbation, Perturbation) else lambda: perturbation
    check_images(make, channels, dims, tolerance)
    name, change = type(make()).__name__, make()
    for one in [dims] if isinstance(dims, int) else dims:
        values = images(2, 1, (16,) * one)[:, 0]
        for given in (values, values > 0, (4 * values).long()):
            before = given.clone()
            moved = change.move(given)
            back = change.back(moved)
            expect(torch.equal(given, before), f"{name}.move changes what it is given: work on a copy.")
            for found, what in ((moved, "move"), (back, "back")):
                alike = found.shape == given.shape and found.dtype == given.dtype
                expect(alike, f"{name}.{what} must keep the shape and the dtype {given.dtype} of what it moves.")
            share = float((back == given).float().mean())
            expect(share > 0.5, f"{name}.back does not take back what {name}.move moves.")
