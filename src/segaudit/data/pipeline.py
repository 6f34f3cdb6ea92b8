"""Pipeline: from a numpy image and its label maps to the tensors of one item."""

import random
from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import albumentations as A
import numpy as np
import torch
from albumentations.pytorch import ToTensorV2
from numpy.typing import NDArray
from torch import Tensor

IGNORE_INDEX = 255
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Pipeline:
    """Resize, random transforms, normalisation and conversion to tensors, in this order.

    Label maps follow the geometry of the image and are resized by nearest neighbour.

    Args:
        image_size: (height, width) to resize to; None keeps the size.
        transforms: Albumentations transforms between resizing and normalisation.
        mean: Per-channel mean, on the scale 0..1.
        std: Per-channel standard deviation, on the scale 0..1.
        seed: Seed of the random transforms.
    """

    def __init__(
        self,
        image_size: tuple[int, int] | None = None,
        transforms: Sequence[A.BasicTransform] = (),
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        seed: int = 0,
    ) -> None:
        resize = [A.Resize(*image_size)] if image_size else []
        normalise = [A.Normalize(mean=tuple(mean), std=tuple(std)), ToTensorV2()]
        # Copies, because a transform keeps its random state: pipelines that share it would share the state too.
        self.compose = A.Compose(
            [*resize, *deepcopy(list(transforms)), *normalise], additional_targets={"cue": "mask"}, seed=seed
        )
        self.reseed(seed)

    def reseed(self, seed: int) -> None:
        """Restart the random transforms."""
        # Not Compose.set_random_seed: it hands every transform a generator of its own with the same seed, so that a
        # horizontal and a vertical flip always happen together (albumentations 2.0.8). Here all share one generator.
        self.compose.set_random_state(np.random.default_rng(seed), random.Random(seed))

    def __call__(self, image: NDArray[np.uint8], sample_id: str, **labels: NDArray[np.uint8]) -> dict[str, Any]:
        """Turn one sample into one item.

        Args:
            image: (H, W, 3).
            sample_id: Goes into the item as `id`.
            **labels: `mask` and, for planted data, `cue`, each (H, W).
        """
        out = self.compose(image=image, **labels)
        item: dict[str, Any] = {"image": out["image"].float(), "id": sample_id}
        for name in labels:
            item[name] = out[name].long()
        if "cue" in item:
            item["cue"] = _without_ignore(item["cue"])
        return item


def _without_ignore(cue: Tensor) -> Tensor:
    """A transform may pad masks with `ignore`; a padded pixel holds no cue."""
    return torch.where(cue == IGNORE_INDEX, 0, cue)
