"""Maps with known meaning, audited like any explainer: what every table needs beside it."""

from torch import Tensor

from segaudit import noise
from segaudit.attribution.base import Explainer
from segaudit.intervention import Probe


class Random(Explainer):
    """Uniform noise in (0, 1): what a score gives to a map that knows nothing.

    Args:
        seed: another seed, another map; one (image, class) always gets the same.

    """

    control = True

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def attribute(self, probe: Probe) -> Tensor:
        """No forwards."""
        keys = noise.image_keys(probe.images, self.seed)[probe.targets.image_index]
        return noise.uniform(noise.combine(keys, probe.targets.class_index), probe.images.shape[2:])


class TargetMask(Explainer):
    """The target's own region as a map: a strong control for deletion, a weak one for insertion."""

    control = True

    def attribute(self, probe: Probe) -> Tensor:
        """No forwards."""
        return probe.targets.region.float()
