"""Makes what stands in place of removed pixels."""

from abc import ABC, abstractmethod
from inspect import signature
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from segaudit import randomness
from segaudit.intervention.linear import interpolate
from segaudit.names import snake_case


class Fill(ABC):
    """Makes from each image the image in which everything is removed.

    A fill must be able to remove the evidence. ``fill_residual``, the confidence in the filled image over that in the image,
    tells how much of it survives. A fill may look at nothing but its own image.
    """

    @property
    def label(self) -> str:
        """Name of the fill in records: its class's short name and its settings. Fills of one label count as equal.

        The settings are the attributes that have the names of the constructor's parameters. A fill whose attributes have
        other names, or are more than numbers and strings, should have a label of its own.

        Example:
            >>> RangeFill(1.0).label, NoisyLinearFill().label, MeanFill().label
            ('range_fill(1)', 'noisy_linear_fill(0.01, 0)', 'mean_fill')

        """
        settings = [getattr(self, name) for name in signature(type(self)).parameters if hasattr(self, name)]
        name = snake_case(type(self).__name__)
        return f"{name}({', '.join(map(_setting, settings))})" if settings else name

    @abstractmethod
    def __call__(self, images: Tensor) -> Tensor:
        """Return filled images ``(B, channels, *S)`` for images of the same shape."""

    def remove(self, images: Tensor, removed: Tensor, filled: Tensor) -> Tensor:
        """Return images ``(M, channels, *S)`` with some of their pixels filled.

        Args:
            images: ``(M, channels, *S)``.
            removed: the pixels to fill, ``(M, *S)``: boolean, or the share of each in [0, 1].
            filled: the filled images, ``(M, channels, *S)``.

        """
        if removed.dtype is torch.bool:
            return torch.where(removed[:, None], filled, images)
        return torch.lerp(images, filled, removed[:, None].to(images))


class MeanFill(Fill):
    """Fill with each image's mean colour.

    Removes:
        All structure.

    Keeps or invents:
        It keeps the overall colour, which alone may tell road from sky.

    Example:
        >>> MeanFill()(torch.tensor([[[0.0, 1.0]]])).tolist()
        [[[0.5, 0.5]]]

    """

    def __call__(self, images: Tensor) -> Tensor:
        """Return the mean over the spatial dimensions, spread over them."""
        return images.mean(dim=tuple(range(2, images.ndim)), keepdim=True).expand_as(images).contiguous()


class ConstantFill(Fill):
    """Fill with one value everywhere.

    Removes:
        All structure and the image's own colour.

    Keeps or invents:
        It invents one colour, the same for all images. 0 is grey, and some class always looks like grey.

    Args:
        value: in the units that the model takes; 0 is the data's mean colour where images are normalised.

    """

    def __init__(self, value: float = 0.0) -> None:
        self.value = value

    def __call__(self, images: Tensor) -> Tensor:
        """Return the value in the images' shape."""
        return torch.full_like(images, self.value)


class RangeFill(Fill):
    """Fill with a flat colour from the image's own range, or beyond it: from each channel's darkest to its brightest value.

    It works in any units of the model's input. Some class looks like a night and another like a glare. So an audit uses
    the darkest colour and one that is brighter than the brightest by default, and each target gets the one that is farther
    from its own colour: docs/fills.md tells what they leave on CamVid.

    Removes:
        All structure and the image's own colour.

    Keeps or invents:
        It invents a night (0) or a glare (1 and more), channel by channel, so that its colour need not occur in the image.

    Args:
        place: in the range, 0 for the darkest value of a channel, 1 for the brightest. Above 1 it is brighter than all
            pixels: 1.5 by half the range. Below 0 it is darker, which a model may not bear if its input cannot be negative.

    Example:
        >>> RangeFill(1.0)(torch.tensor([[[0.0, 0.5], [-1.0, 3.0]]])).tolist()
        [[[0.5, 0.5], [3.0, 3.0]]]

    """

    def __init__(self, place: float = 0.0) -> None:
        if not -10 <= place <= 10:
            raise ValueError(f"place is a number in [-10, 10], 0 and 1 for the ends of the image's range, got {place}.")
        self.place = place

    def __call__(self, images: Tensor) -> Tensor:
        """Return the colour, spread over the spatial dimensions."""
        axes = tuple(range(2, images.ndim))
        low, high = images.amin(axes, keepdim=True), images.amax(axes, keepdim=True)
        return torch.lerp(low, high, self.place).expand_as(images).contiguous()


class BlurFill(Fill):
    """Fill with a heavy Gaussian blur of the image.

    Removes:
        Shape and texture.

    Keeps or invents:
        It keeps the layout of colours, often enough to be recognised: a blurred road is still a road.

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
            images = blur_axis(images, axis, self.sigma * images.shape[axis])
        return images


class NoiseFill(Fill):
    """Fill with Gaussian noise of each channel's mean and standard deviation.

    Removes:
        Structure.

    Keeps or invents:
        It keeps mean and contrast, and invents texture.

    Args:
        seed: of the noise. One image always gets the same.

    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def __call__(self, images: Tensor) -> Tensor:
        """Draw noise from each image's content and the seed, whatever else is in the batch."""
        axes = tuple(range(2, images.ndim))
        draws = randomness.normal(randomness.image_keys(images, self.seed), images.shape[1:]).to(images.dtype)
        return images.mean(axes, keepdim=True) + draws * images.std(axes, keepdim=True, correction=0)


class LocalMeanFill(Fill):
    """Fill each pixel with the mean colour of a large box around it.

    Removes:
        Texture, and shapes that are small beside the box.

    Keeps or invents:
        It keeps the layout of colours, more smoothly than a blur of the same width.

    Args:
        window: side of the box as a share of the image's size along each axis; at least the two neighbours are in it.

    Example:
        >>> LocalMeanFill(0.5)(torch.tensor([[[0.0, 0.0, 3.0, 6.0]]])).tolist()
        [[[0.0, 1.0, 3.0, 4.5]]]

    """

    def __init__(self, window: float = 0.5) -> None:
        if window <= 0:
            raise ValueError(f"window is a share of the image's size above 0, got {window}.")
        self.window = window

    def __call__(self, images: Tensor) -> Tensor:
        """Average along one axis after the other; at the borders over the part of the box that is inside the image."""
        for axis in range(2, images.ndim):
            moved = images.movedim(axis, -1)
            # Half a box on either side; a box that covers the image from every pixel need not be larger.
            reach = min(max(1, round(self.window * moved.shape[-1] / 2)), moved.shape[-1])
            rows = moved.reshape(-1, 1, moved.shape[-1])
            means = F.avg_pool1d(rows, 2 * reach + 1, stride=1, padding=reach, count_include_pad=False)
            images = means.view(moved.shape).movedim(-1, axis).contiguous()
        return images


class ShuffleFill(Fill):
    """Fill with the image's own pixels in random order.

    Removes:
        Structure and texture.

    Keeps or invents:
        It keeps every colour that occurs, and invents a speckle that looks like foliage or gravel.

    Args:
        seed: of the order. One image always gets the same.

    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def __call__(self, images: Tensor) -> Tensor:
        """Move whole pixels, so that colours stay; the order follows from each image's content and the seed."""
        flat = images.flatten(2)
        draws = randomness.uniform(randomness.image_keys(images, self.seed), (flat.shape[2],))
        order = draws.argsort(dim=1, stable=True)
        return flat.gather(2, order[:, None].expand_as(flat)).view(images.shape)


class NoisyLinearFill(Fill):
    """Interpolate removed pixels from those that are left and add a little noise (ROAD, Rong et al. 2022, section 4.2).

    Each removed pixel is the weighted mean of its neighbours, removed ones included; see
    :func:`segaudit.intervention.linear.interpolate`. A small hole in a road is filled with road, so removing one part of
    something that is seen many times changes little. Where everything is removed it is the mean colour, and as weak or
    strong as :class:`MeanFill`.

    Removes:
        What the surroundings do not tell.

    Keeps or invents:
        It keeps low frequencies, and invents a smooth transition between the surroundings. It hides the outline of the mask,
        which a flat colour shows.

    Args:
        noise: standard deviation of the noise over that of the image; 0 for none.
        seed: of the noise. One image always gets the same, whatever is removed.

    """

    def __init__(self, noise: float = 0.01, seed: int = 0) -> None:
        if noise < 0:
            raise ValueError(f"noise must not be negative, got {noise}.")
        self.noise = noise
        self.seed = seed

    def __call__(self, images: Tensor) -> Tensor:
        """Return the mean colour and noise, as nothing is left to interpolate from."""
        axes = tuple(range(1, images.ndim))
        draws = randomness.normal(randomness.image_keys(images, self.seed), images.shape[1:]).to(images.dtype)
        return images.mean(axes[1:], keepdim=True) + self.noise * images.std(axes, keepdim=True, correction=0) * draws

    def remove(self, images: Tensor, removed: Tensor, filled: Tensor) -> Tensor:
        """Return images ``(M, channels, *S)`` with some of their pixels interpolated.

        Args:
            images: ``(M, channels, *S)``.
            removed: the pixels to interpolate, ``(M, *S)``: boolean, or the share of each in [0, 1]. A pixel of which only a
                share is removed is mixed with its interpolation from the untouched pixels.
            filled: the filled images, ``(M, channels, *S)``: their noise is used.

        """
        grain = filled - images.mean(tuple(range(2, images.ndim)), keepdim=True)
        return super().remove(images, removed, interpolate(images, removed > 0) + grain)


def _setting(value: Any) -> str:
    """Write a setting so that it is the same in every process; of what is no number or string, only the type."""
    if isinstance(value, bool | int | str | None):
        return str(value)
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_setting, value))}]"
    return type(value).__name__


def blur_axis(images: Tensor, axis: int, sigma: float) -> Tensor:
    """Blur by a Gaussian of ``sigma`` pixels along one axis; the borders are continued by their own value."""
    moved = images.movedim(axis, -1)
    rows = moved.reshape(-1, 1, moved.shape[-1])
    reach = max(1, round(3 * sigma))
    offsets = torch.arange(-reach, reach + 1, device=images.device, dtype=images.dtype)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    padded = F.pad(rows, (reach, reach), mode="replicate")
    blurred = F.conv1d(padded, (kernel / kernel.sum())[None, None])
    return blurred.view(moved.shape).movedim(-1, axis).contiguous()
