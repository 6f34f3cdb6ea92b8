"""Perturbations: small changes of the input under which a map should be stable as long as the prediction is."""

import random
from abc import ABC, abstractmethod
from collections.abc import Callable
from copy import deepcopy
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from segaudit import randomness
from segaudit.intervention.fill import blur_axis

if TYPE_CHECKING:
    from albumentations import ImageOnlyTransform


class Perturbation(ABC):
    """Changes each image a little, without looking at the other images.

    A perturbation that moves the image's content overrides ``move`` and ``back``. Regions are moved before a perturbed image
    is explained, and maps and predictions are moved back before they are compared.
    """

    @abstractmethod
    def __call__(self, images: Tensor) -> Tensor:
        """Return perturbed images of the same shape ``(B, channels, *S)``."""

    def move(self, values: Tensor) -> Tensor:
        """Move values ``(N, *S)`` of any type from an image's pixels to their places in the perturbed image."""
        return values

    def back(self, maps: Tensor) -> Tensor:
        """Move values ``(N, *S)`` of any type from a perturbed image's pixels to their places in the image."""
        return maps


class GaussianNoise(Perturbation):
    """Adds Gaussian noise.

    Args:
        level: standard deviation of the noise over that of the image.
        seed: seed of the noise; an image always gets the same noise for a seed.

    """

    def __init__(self, level: float = 0.1, seed: int = 0) -> None:
        if level <= 0:
            raise ValueError(f"level must be above 0, got {level}.")
        self.level = level
        self.seed = seed

    def __call__(self, images: Tensor) -> Tensor:
        """Add noise that depends on each image's content and the seed."""
        return add_noise(images, self.level, randomness.image_keys(images, self.seed))


class Brightness(Perturbation):
    """Adds a constant to all channels.

    Args:
        shift: the constant over the image's standard deviation.

    """

    def __init__(self, shift: float = 0.2) -> None:
        self.shift = shift

    def __call__(self, images: Tensor) -> Tensor:
        """Return brighter images, or darker ones for a negative shift."""
        return images + self.shift * _spread(images)


class Contrast(Perturbation):
    """Scales each channel about its mean, so that the channels' normalisation does not matter.

    Args:
        factor: below 1 for less contrast, above for more.

    Example:
        >>> Contrast(0.5)(torch.tensor([[[0.0, 4.0]]])).tolist()
        [[[1.0, 3.0]]]

    """

    def __init__(self, factor: float = 0.7) -> None:
        if factor <= 0:
            raise ValueError(f"factor must be above 0, got {factor}.")
        self.factor = factor

    def __call__(self, images: Tensor) -> Tensor:
        """Multiply the deviations from the mean colour by ``factor``."""
        mean = images.mean(dim=tuple(range(2, images.ndim)), keepdim=True)
        return mean + self.factor * (images - mean)


class GaussianBlur(Perturbation):
    """Blurs a little, like a camera out of focus.

    Args:
        sigma: standard deviation of the blur in pixels.

    """

    def __init__(self, sigma: float = 1.0) -> None:
        if sigma <= 0:
            raise ValueError(f"sigma must be above 0 pixels, got {sigma}.")
        self.sigma = sigma

    def __call__(self, images: Tensor) -> Tensor:
        """Blur along one axis after the other; beyond the borders, their values repeat."""
        for axis in range(2, images.ndim):
            images = blur_axis(images, axis, self.sigma)
        return images


class Shift(Perturbation):
    """Moves the image's content by a few pixels along every axis.

    The strip that enters the image repeats the border's value. The strip that leaves it is lost: after moving back, it has
    the value of the nearest pixel that stayed, in maps and predictions alike.

    Args:
        pixels: distance, towards higher indices; negative for lower ones.

    Example:
        >>> shift = Shift(1)
        >>> shift(torch.tensor([[[1, 2, 3, 4]]])).tolist(), shift.back(torch.tensor([[1, 1, 2, 3]])).tolist()
        ([[[1, 1, 2, 3]]], [[1, 2, 3, 3]])

    """

    def __init__(self, pixels: int = 4) -> None:
        self.pixels = pixels

    def __call__(self, images: Tensor) -> Tensor:
        """Return moved images.

        Raises:
            ValueError: if nothing of an image would stay in it.

        """
        if min(images.shape[2:]) <= abs(self.pixels):
            raise ValueError(f"a shift by {self.pixels} pixels leaves nothing of an image of {tuple(images.shape[2:])}.")
        return _shift(images, 2, self.pixels)

    def move(self, values: Tensor) -> Tensor:
        """Move values like the images."""
        return _shift(values, 1, self.pixels)

    def back(self, maps: Tensor) -> Tensor:
        """Move values the other way."""
        return _shift(maps, 1, -self.pixels)


class JPEG(Perturbation):
    """Compresses each image and decodes it again.

    Each image's own range, over all channels, is mapped to the bytes 0 to 255 and back, because normalised images have no
    fixed range. It runs on the CPU, so that the result does not depend on the device. Images need two spatial dimensions
    and 1 or 3 channels.

    Args:
        quality: quality of the compression, from 1 (bad) to 100.

    """

    def __init__(self, quality: int = 50) -> None:
        if not 1 <= quality <= 100:
            raise ValueError(f"quality must be from 1 to 100, got {quality}.")
        self.quality = quality

    def __call__(self, images: Tensor) -> Tensor:
        """Return decoded images.

        Raises:
            ValueError: if an image is not two-dimensional or has neither 1 nor 3 channels.

        """
        if images.shape[1] not in (1, 3):
            raise ValueError(f"JPEG knows images of 1 or 3 channels, got {images.shape[1]}; leave it out for this model.")
        return _as_bytes(images, self, lambda image, _: self._compress(image))

    def _compress(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        stream = BytesIO()
        Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).save(stream, "JPEG", quality=self.quality)
        with Image.open(stream) as decoded:
            return np.asarray(decoded).reshape(image.shape)


class Albumentations(Perturbation):
    """Applies a pixel-level transform of Albumentations.

    Each image's own range, over all channels, is mapped to the bytes 0 to 255 and back, because normalised images have no
    fixed range. The transform gets bytes ``(H, W, channels)``. It is applied to every image, whatever its ``p``, and its
    random choices depend on the image's content and the seed. It runs on the CPU, image by image.

    Args:
        transform: a transform such as ``albumentations.RandomFog()``. It must not move pixels.
        seed: seed of the random choices; an image always gets the same ones for a seed.

    Raises:
        ValueError: if the transform may move pixels.

    """

    def __init__(self, transform: "ImageOnlyTransform", seed: int = 0) -> None:
        from albumentations import ImageOnlyTransform  # takes seconds, which only its users should wait

        if not isinstance(transform, ImageOnlyTransform):
            raise ValueError(
                f"{type(transform).__name__} is no pixel-level transform of Albumentations: maps could not be laid over "
                "one another; take an ImageOnlyTransform, or Shift."
            )
        self.transform = deepcopy(transform)  # it keeps a random state
        self.seed = seed

    def __call__(self, images: Tensor) -> Tensor:
        """Return transformed images.

        Raises:
            ValueError: if an image is not two-dimensional, or the transform changes its shape or its type.

        """
        keys = randomness.image_keys(images, self.seed).cpu().numpy().view(np.uint64).tolist()
        return _as_bytes(images, self.transform, lambda image, place: self._transform(image, keys[place]))

    def _transform(self, image: NDArray[np.uint8], key: int) -> NDArray[np.uint8]:
        self.transform.set_random_state(np.random.default_rng(key), random.Random(key))
        changed: NDArray[np.uint8] = self.transform(image=image, force_apply=True)["image"]
        if changed.shape != image.shape or changed.dtype != image.dtype:
            raise ValueError(
                f"{type(self.transform).__name__} turns {image.dtype} {image.shape} into {changed.dtype} {changed.shape}: "
                "take a transform that keeps an image's shape and type."
            )
        return changed


def add_noise(images: Tensor, level: float, keys: Tensor) -> Tensor:
    """Add Gaussian noise to images.

    Args:
        images: ``(B, channels, *S)``.
        level: standard deviation of the noise over that of each image.
        keys: random keys ``(B,)``, see :func:`segaudit.randomness.image_keys`.

    """
    return images + level * _spread(images) * randomness.normal(keys, images.shape[1:]).to(images.dtype)


def _spread(images: Tensor) -> Tensor:
    return torch.std(images, dim=tuple(range(1, images.ndim)), keepdim=True, correction=0)


def _shift(values: Tensor, first: int, pixels: int) -> Tensor:
    for axis in range(first, values.ndim):
        place = torch.arange(values.shape[axis], device=values.device) - pixels
        values = values.index_select(axis, place.clamp(0, values.shape[axis] - 1))
    return values


def _as_bytes(images: Tensor, who: object, change: Callable[[NDArray[np.uint8], int], NDArray[np.uint8]]) -> Tensor:
    """Change images one by one as bytes ``(H, W, channels)``; each image's range is mapped to 0..255 and back."""
    if images.ndim != 4:
        raise ValueError(
            f"{type(who).__name__} knows images (B, channels, H, W) alone, got {tuple(images.shape)}; leave it out here."
        )
    axes = (1, 2, 3)
    values = images.detach().float().cpu()
    low = values.amin(axes, keepdim=True)
    unit = (values.amax(axes, keepdim=True) - low) / 255
    levels = ((values - low) / unit.where(unit > 0, 1)).round().clamp(0, 255).to(torch.uint8)
    pictures = levels.movedim(1, -1).contiguous().numpy()
    changed = np.stack([change(picture, place) for place, picture in enumerate(pictures)])
    return (low + unit * torch.from_numpy(changed).movedim(-1, 1)).to(images)
