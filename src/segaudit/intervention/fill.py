"""Fills: what stands in place of removed pixels."""

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor

from segaudit import noise


class Fill(ABC):
    """Make from each image the image in which everything is removed.

    A fill must be able to remove the evidence: ``fill_residual``, the score of the filled image over that of the image,
    tells how much of it survives. It may look at nothing but its own image.
    """

    @abstractmethod
    def __call__(self, images: Tensor) -> Tensor:
        """Filled images ``(B, channels, *S)`` for images of the same shape."""


class MeanFill(Fill):
    """Each image's mean colour: removes all structure, and keeps the overall colour.

    Example:
        >>> MeanFill()(torch.tensor([[[0.0, 1.0]]])).tolist()
        [[[0.5, 0.5]]]

    """

    def __call__(self, images: Tensor) -> Tensor:
        """Mean over the spatial dimensions, spread over them."""
        return images.mean(dim=tuple(range(2, images.ndim)), keepdim=True).expand_as(images).contiguous()


class ConstantFill(Fill):
    """One value everywhere: removes all structure and the image's own colour.

    The default of an audit: on a CamVid U-Net (mean IoU 0.41, 160 predicted targets) it left more than half of the score
    to 26 % of the targets, against 50 % for mean and noise and 58 to 86 % for blur.

    Args:
        value: in the units that the model takes; 0 is the data's mean colour where images are normalised.

    """

    def __init__(self, value: float = 0.0) -> None:
        self.value = value

    def __call__(self, images: Tensor) -> Tensor:
        """The value, in the images' shape."""
        return torch.full_like(images, self.value)


class BlurFill(Fill):
    """A heavy Gaussian blur: removes shape and texture, but keeps the layout of colours, often enough to be recognised.

    Args:
        sigma: standard deviation of the blur as a share of the image's size along each axis.

    """

    def __init__(self, sigma: float = 0.1) -> None:
        if sigma <= 0:
            raise ValueError(f"sigma is a share of the image's size above 0, got {sigma}.")
        self.sigma = sigma

    def __call__(self, images: Tensor) -> Tensor:
        """Blur along one axis after the other; the borders are continued by their own value."""
        for axis in range(2, images.ndim):
            images = _blur_axis(images, axis, self.sigma * images.shape[axis])
        return images


class NoiseFill(Fill):
    """Gaussian noise with each channel's mean and standard deviation: removes structure, invents texture.

    Args:
        seed: another seed, another noise; one image always gets the same.

    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def __call__(self, images: Tensor) -> Tensor:
        """Noise that follows from each image's content and the seed, whatever else is in the batch."""
        axes = tuple(range(2, images.ndim))
        draws = noise.normal(noise.image_keys(images, self.seed), images.shape[1:]).to(images.dtype)
        return images.mean(axes, keepdim=True) + draws * images.std(axes, keepdim=True, correction=0)


def _blur_axis(images: Tensor, axis: int, sigma: float) -> Tensor:
    moved = images.movedim(axis, -1)
    rows = moved.reshape(-1, 1, moved.shape[-1])
    reach = max(1, round(3 * sigma))
    offsets = torch.arange(-reach, reach + 1, device=images.device, dtype=images.dtype)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    padded = F.pad(rows, (reach, reach), mode="replicate")
    blurred = F.conv1d(padded, (kernel / kernel.sum())[None, None])
    return blurred.view(moved.shape).movedim(-1, axis).contiguous()
