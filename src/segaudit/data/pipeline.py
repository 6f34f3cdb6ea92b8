"""Pipeline: turns a numpy image and its label maps into the tensors of one item."""

import random
import zlib
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
    """Resizes an image, applies random transforms, normalises it and converts it to a tensor, in this order.

    Label maps follow the geometry of the image and are resized by nearest neighbour. The random transforms depend on the
    seed, the epoch and the sample's id alone. The order of reading and the number of workers do not matter, and a resumed
    run gets the images that it would have had.

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
            [*resize, *deepcopy(list(transforms)), *normalise],
            additional_targets={"cue": "mask", "cue3d": "mask3d"},
            seed=seed,
        )
        self.seed = seed
        self._random = bool(transforms)
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()  # workers see what the main process sets

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, and with it what the random transforms draw."""
        self._epoch.fill_(epoch)

    def __call__(self, image: NDArray[np.uint8], sample_id: str, **labels: NDArray[np.uint8]) -> dict[str, Any]:
        """Turn one sample into one item.

        Args:
            image: (H, W, 3), or a volume (D, H, W, 3), whose slices are transformed alike.
            sample_id: Becomes the item's `id`; the random transforms depend on it.
            **labels: `mask` and, for planted data, `cue`, each of the image's size.
        """
        if self._random:
            # Not Compose.set_random_seed: it gives every transform a generator of its own with the same seed, so that a
            # horizontal and a vertical flip always happen together (albumentations 2.0.8). Here all share one generator.
            generator = np.random.default_rng([self.seed, int(self._epoch), zlib.crc32(sample_id.encode())])
            self.compose.set_random_state(generator, random.Random(int(generator.integers(2**63))))
        if image.ndim == 3:
            out = self.compose(image=image, **labels)
        else:
            out = self.compose(volume=image, **{f"{name}3d": label for name, label in labels.items()})
            out = {"image": torch.from_numpy(out["volume"]).movedim(-1, 0)} | {
                name: torch.from_numpy(out[f"{name}3d"]) for name in labels
            }
        item: dict[str, Any] = {"image": out["image"].float(), "id": sample_id}
        for name in labels:
            item[name] = out[name].long()
        if "cue" in item:
            item["cue"] = _without_ignore(item["cue"])
        return item


def _without_ignore(cue: Tensor) -> Tensor:
    """Set `ignore` to 0: a transform may pad masks with it, and a padded pixel has no cue."""
    return torch.where(cue == IGNORE_INDEX, 0, cue)
