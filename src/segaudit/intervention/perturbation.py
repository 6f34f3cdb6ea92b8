"""Small changes of the input that a map should survive as long as the prediction does."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from segaudit import noise


class Perturbation(ABC):
    """Change each image a little. It may look at nothing but its own image."""

    @abstractmethod
    def __call__(self, images: Tensor) -> Tensor:
        """Perturbed images of the same shape ``(B, channels, *S)``."""


class GaussianNoise(Perturbation):
    """Add Gaussian noise.

    Args:
        level: standard deviation of the noise over that of the image.
        seed: another seed, another noise; one image always gets the same.

    """

    def __init__(self, level: float = 0.1, seed: int = 0) -> None:
        if level <= 0:
            raise ValueError(f"level must be above 0, got {level}.")
        self.level = level
        self.seed = seed

    def __call__(self, images: Tensor) -> Tensor:
        """Noise that follows from each image's content and the seed."""
        return add_noise(images, self.level, noise.image_keys(images, self.seed))


class Brightness(Perturbation):
    """Add a constant to all channels.

    Args:
        shift: the constant over the image's standard deviation.

    """

    def __init__(self, shift: float = 0.2) -> None:
        self.shift = shift

    def __call__(self, images: Tensor) -> Tensor:
        """Brighter images, darker ones for a negative shift."""
        return images + self.shift * _spread(images)


def add_noise(images: Tensor, level: float, keys: Tensor) -> Tensor:
    """Images ``(B, channels, *S)`` with Gaussian noise of ``level`` times their standard deviation, drawn from ``keys``.

    Args:
        images: ``(B, channels, *S)``.
        level: standard deviation of the noise over that of each image.
        keys: ``(B,)``, see :func:`segaudit.noise.image_keys`.

    """
    return images + level * _spread(images) * noise.normal(keys, images.shape[1:]).to(images.dtype)


def _spread(images: Tensor) -> Tensor:
    return torch.std(images, dim=tuple(range(1, images.ndim)), keepdim=True, correction=0)
