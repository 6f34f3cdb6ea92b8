"""Maps with known meaning, audited like any explainer: what every table needs beside it."""

import torch
from torch import Tensor

from segaudit import randomness
from segaudit.attribution.base import Explainer
from segaudit.forwards import Probe


class Random(Explainer):
    """Uniform noise in (0, 1): what a score gives to a map that knows nothing.

    Args:
        seed: another seed, another map; one (image, class) always gets the same.

    """

    control = True
    cost = "0"

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def attribute(self, probe: Probe) -> Tensor:
        """No forwards."""
        keys = randomness.image_keys(probe.images, self.seed)[probe.targets.image_index]
        return randomness.uniform(randomness.combine(keys, probe.targets.class_index), probe.images.shape[2:])


class TargetMask(Explainer):
    """The target's own region as a map: a strong control for deletion, a weak one for insertion."""

    control = True
    cost = "0"

    def attribute(self, probe: Probe) -> Tensor:
        """No forwards."""
        return probe.targets.region.float()


class Edges(Explainer):
    """Size of the image's own gradient by central differences, over all channels and axes; units of the image a pixel.

    What looks like an explanation and knows nothing of the model (Adebayo et al. 2018, figure 1).
    """

    control = True
    cost = "0"

    def attribute(self, probe: Probe) -> Tensor:
        """No forwards."""
        axes = [axis for axis, size in enumerate(probe.images.shape) if axis >= 2 and size > 1]
        slopes = [torch.gradient(probe.images, dim=axis)[0].square().sum(dim=1) for axis in axes]
        edges = torch.stack(slopes).sum(dim=0).sqrt() if slopes else torch.zeros_like(probe.images[:, 0])
        return edges[probe.targets.image_index]


class Centre(Explainer):
    """A Gaussian about the centre of the image, 1 at its top: what a score gives to "objects are in the middle".

    Args:
        sigma: standard deviation as a share of the image's size along each axis.

    """

    control = True
    cost = "0"

    def __init__(self, sigma: float = 0.25) -> None:
        if sigma <= 0:
            raise ValueError(f"sigma is a share of the image's size above 0, got {sigma}.")
        self.sigma = sigma

    def attribute(self, probe: Probe) -> Tensor:
        """No forwards."""
        region = probe.targets.region
        exponent = torch.zeros(region.shape[1:], device=region.device)
        for axis, size in enumerate(region.shape[1:]):
            place = (torch.arange(size, device=region.device) + 0.5) / size - 0.5
            exponent = exponent + (place / self.sigma).square().view(-1, *[1] * (exponent.ndim - 1 - axis)) / 2
        return (-exponent).exp().expand(region.shape).clone()


class Oracle(Explainer):
    """The target's region and the planted cue that argues for its class, 1 on both: what a perfect map of a cheat holds.

    Only data with planted cues have it. Equal weight a pixel assumes nothing about how much the model leans on the cue: the
    cue's share of the mass is its share of the pixels, so an explainer is held to giving a pixel of the cue about as much
    credit as a pixel of the object, and the bar is the same for every model. Where a target has no cue, its region is left.
    """

    control = True
    cost = "0"

    def attribute(self, probe: Probe) -> Tensor:
        """No forwards; raises ValueError where no cues are known."""
        return (probe.targets.region | probe.cue).float()
