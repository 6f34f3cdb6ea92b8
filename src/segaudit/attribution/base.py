"""Defines what every explainer is: a function from a model, images and targets to one signed map a target."""

from abc import ABC, abstractmethod
from collections.abc import Hashable

import torch
from torch import Tensor, nn

from segaudit.attribution.context import attribution_context, version
from segaudit.forwards import Probe
from segaudit.forwards.target import Targets
from segaudit.intervention import Intervention
from segaudit.names import snake_case

__all__ = ["Explainer"]


class Explainer(ABC):
    """Attributes the confidence in a target to the pixels of its image.

    A subclass implements :meth:`attribute`. Calling the explainer adds what all of them need: the attribution context
    (gradients on, the model in eval mode and restored), detached images, a probe where none is shared, and checks.

    Example:
        >>> from segaudit.forwards.target import TargetSelector
        >>> model = nn.Conv2d(3, 2, 1)
        >>> images = torch.rand(2, 3, 8, 8)
        >>> targets = TargetSelector()(model(images))
        >>> from segaudit.attribution import Saliency
        >>> Saliency()(model, images, targets).shape == targets.region.shape
        True

    """

    #: Whether it is a control, a map of known meaning that is no explanation; tables show it apart.
    control: bool = False
    #: Passes an image takes, for tables: F a forward, B a backward pass, T the image's targets,
    #: R the segments of all partitions, K the layer's channels.
    cost: str = ""

    @property
    def name(self) -> str:
        """The short name, in logs and YAML: the class's name in snake case."""
        return snake_case(type(self).__name__)

    @abstractmethod
    def attribute(self, probe: Probe) -> Tensor:
        """Return signed maps ``(N, *S)`` of the probe's targets; called inside the attribution context."""

    def __call__(
        self, model: nn.Module, images: Tensor, targets: Targets, *, intervention: Intervention | None = None
    ) -> Tensor:
        """Explain targets in a batch of images.

        Args:
            model: maps images to logits ``(B, C, *S)``, a dict with ``out`` or an object with ``.logits``.
            images: ``(B, channels, *S)``.
            targets: N targets, each in one of the images.
            intervention: how pixels are removed, for the explainers that remove some.

        Returns:
            Attribution ``(N, *S)``, detached, on the images' device.

        """
        with attribution_context(model):
            return self.explain(Probe(model, images, targets, intervention or Intervention()))

    def explain(self, probe: Probe) -> Tensor:
        """Explain a probe's targets, from inside the attribution context; explainers of one batch share the probe.

        One explainer explains a probe once: several others that build on its map share it.
        """
        if not isinstance(self, Hashable):  # a dataclass, say
            return self._checked(probe)
        return probe.once(self, lambda: self._checked(probe))

    def _checked(self, probe: Probe) -> Tensor:
        shape = probe.targets.region.shape
        if not len(probe.targets):
            return torch.zeros(shape, device=probe.images.device)
        given = (probe.images, probe.targets.region)
        before = [version(tensor) for tensor in given]
        attribution = self.attribute(probe)
        if [version(tensor) for tensor in given] != before:
            raise ValueError(
                f"the explainer {self.name!r} has changed the images or the regions that it was given in place, and others "
                "are still to see them: let it work on copies."
            )
        if not isinstance(attribution, Tensor):
            raise ValueError(f"the explainer {self.name!r} returned no tensor, but the type {type(attribution).__name__}.")
        if attribution.shape != shape:
            raise ValueError(
                f"the explainer {self.name!r} returned the shape {tuple(attribution.shape)} for targets of the shape "
                f"{tuple(shape)}; it must give one map a target."
            )
        return attribution.detach().float()
