"""Gives maps of known meaning, audited like any explainer, to compare explanations with."""

import torch
from torch import Tensor

from segaudit import randomness
from segaudit.attribution.base import Explainer
from segaudit.forwards import Probe

__all__ = ["Centre", "Edges", "Oracle", "Random", "TargetMask"]


class Random(Explainer):
    """Draw uniform noise in (0, 1), a map that knows nothing.

    When to use:
        Always, as the control for every score. A map that does not beat it says nothing.

    Args:
        seed: of the noise. One image and class always gets the same.

    """

    control = True
    cost = "0"

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def attribute(self, probe: Probe) -> Tensor:
        """Take no forwards."""
        keys = randomness.image_keys(probe.images, self.seed)[probe.targets.image_index]
        return randomness.uniform(randomness.combine(keys, probe.targets.class_index), probe.images.shape[2:])


class TargetMask(Explainer):
    """Take the target's own region as the map: 1 inside, 0 outside.

    Of a perturbed image it is the region that the prediction of that image draws, so that it is as stable as the prediction.

    When to use:
        As the control for maps that merely repeat the prediction. It is strong in deletion and weak in insertion.
    """

    control = True
    cost = "0"

    def attribute(self, probe: Probe) -> Tensor:
        """Take no forwards."""
        return probe.predicted.float()


class Edges(Explainer):
    """Measure the image's own edges, by central differences over all channels and axes.

    Units of the image a pixel (Adebayo et al. 2018, figure 1).

    When to use:
        As the control for maps that look like explanations and know nothing of the model.
    """

    control = True
    cost = "0"

    def attribute(self, probe: Probe) -> Tensor:
        """Take no forwards."""
        axes = [axis for axis, size in enumerate(probe.images.shape) if axis >= 2 and size > 1]
        slopes = [torch.gradient(probe.images, dim=axis)[0].square().sum(dim=1) for axis in axes]
        edges = torch.stack(slopes).sum(dim=0).sqrt() if slopes else torch.zeros_like(probe.images[:, 0])
        return edges[probe.targets.image_index]


class Centre(Explainer):
    """Draw a Gaussian about the centre of the image, 1 at its top.

    When to use:
        As the control for "objects are in the middle".

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
        """Take no forwards."""
        region = probe.targets.region
        exponent = torch.zeros(region.shape[1:], device=region.device)
        for axis, size in enumerate(region.shape[1:]):
            place = (torch.arange(size, device=region.device) + 0.5) / size - 0.5
            exponent = exponent + (place / self.sigma).square().view(-1, *[1] * (exponent.ndim - 1 - axis)) / 2
        return (-exponent).exp().expand(region.shape).clone()


class Oracle(Explainer):
    """Mark the target's region and the planted cue that argues for its class, 1 on both.

    Only data with planted cues have it. Every pixel weighs the same, which assumes nothing about how much the model leans
    on the cue. So an explainer is expected to give a pixel of the cue about as much credit as a pixel of the object, and
    the bar is the same for every model. Where a target has no cue, the map is its region.

    When to use:
        On planted data, as the perfect map of a model that cheats.
    """

    control = True
    cost = "0"

    def attribute(self, probe: Probe) -> Tensor:
        """Take no forwards; raise ValueError where no cues are known."""
        return (probe.predicted | probe.cue).float()
