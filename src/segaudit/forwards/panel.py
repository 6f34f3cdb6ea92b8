"""Panels: targets that stay the same at every audit of a training."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from segaudit.forwards.target import Targets


@dataclass(frozen=True)
class Panel:
    """Holds fixed targets: images of a data set by their numbers, and of each the classes and regions to explain.

    Scores of different epochs can be compared only on the same targets. A model's own predictions change from epoch to
    epoch, so the targets of a training are drawn once.

    Attributes:
        images: number of each target's image in the data set, ``(N,)`` int64; targets of one image stand together.
        classes: explained class, ``(N,)`` int64.
        regions: explained pixels, ``(H, W)`` bool for each of the N targets; images may differ in size.
        sample_ids: name of each target's image, as records have it.
        origin: ``masks`` for regions of the ground truth, ``predictions`` for those of a model.
        settings: settings that the panel was drawn with; a run that resumes with others starts a new series.

    Example:
        >>> region = torch.tensor([[True, False]])
        >>> panel = Panel(torch.tensor([7]), torch.tensor([2]), [region], ["a"], "masks", "seed 0")
        >>> panel.targets([5, 7]).image_index.tolist()  # the second image of this batch
        [1]

    """

    images: Tensor
    classes: Tensor
    regions: list[Tensor]
    sample_ids: list[str]
    origin: str
    settings: str

    def __len__(self) -> int:
        return len(self.images)

    @property
    def identities(self) -> list[tuple[str, int, int]]:
        """Identity of each target in a :class:`segaudit.statistics.TargetSeries`: image, class, and a number, here 0."""
        return [(name, one, 0) for name, one in zip(self.sample_ids, self.classes.tolist(), strict=True)]

    @property
    def order(self) -> list[int]:
        """Numbers of the images, in the order in which they were drawn."""
        return list(dict.fromkeys(self.images.tolist()))

    def targets(self, batch: Sequence[int], device: torch.device | str = "cpu") -> Targets:
        """Return the targets of a batch.

        Args:
            batch: number of each image of the batch in the data set; the images must have one size.
            device: device of the result.

        Raises:
            ValueError: if regions of the batch differ in size.

        """
        place = {image: row for row, image in enumerate(batch)}
        found = sorted((place[image], n) for n, image in enumerate(self.images.tolist()) if image in place)
        rows, chosen = [row for row, _ in found], [n for _, n in found]
        shapes = {tuple(self.regions[n].shape) for n in chosen}
        if len(shapes) > 1:
            raise ValueError(f"the images {list(batch)} have regions of different sizes: {sorted(shapes)}.")
        regions = torch.stack([self.regions[n] for n in chosen]) if chosen else torch.zeros(0, 1, 1, dtype=torch.bool)
        return Targets(torch.tensor(rows, dtype=torch.long), self.classes[chosen], regions).to(device)

    def state_dict(self) -> dict[str, Any]:
        """Return the panel in plain types and tensors, regions with eight pixels a byte."""
        return {
            "images": self.images,
            "classes": self.classes,
            "shapes": [list(region.shape) for region in self.regions],
            "regions": [torch.from_numpy(np.packbits(region.numpy())) for region in self.regions],
            "sample_ids": list(self.sample_ids),
            "origin": self.origin,
            "settings": self.settings,
        }

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Any]) -> "Panel":
        """Make a panel of what :meth:`state_dict` returned."""
        regions = [
            torch.from_numpy(np.unpackbits(packed.cpu().numpy(), count=int(np.prod(shape))).astype(bool)).view(shape)
            for packed, shape in zip(state["regions"], state["shapes"], strict=True)
        ]
        names = list(state["sample_ids"])
        return cls(state["images"].cpu(), state["classes"].cpu(), regions, names, state["origin"], state["settings"])

    def rows(self) -> list[dict[str, Any]]:
        """Return one row per target: image, class, area, and what the panel was drawn with."""
        return [
            {
                "image": image,
                "sample_id": name,
                "class_index": class_index,
                "area": float(region.float().mean()),
                "origin": self.origin,
                "settings": self.settings,
            }
            for image, name, class_index, region in zip(
                self.images.tolist(), self.sample_ids, self.classes.tolist(), self.regions, strict=True
            )
        ]


def balanced(
    areas: Mapping[int, Mapping[int, float]], max_images: int, max_per_image: int, min_area: float = 0.0
) -> list[tuple[int, int]]:
    """Choose pairs of image and class, of each class about as many, from as many images as there may be.

    Classes take turns, the rarest first. Each takes an image that has no target yet, while there may be more images, then
    one with the fewest targets. So many images are in the choice, which matters because images are what is independent. No
    class gets more than its share of the places, so a class that few images have gets fewer than the others.

    Args:
        areas: by image and class, the share of the image that the class covers; images in the order of preference.
        max_images: largest number of images.
        max_per_image: largest number of targets of an image.
        min_area: smallest area.

    Returns:
        Pairs, those of one image together, images in their order.

    Example:
        >>> balanced({4: {0: 0.9, 1: 0.1}, 2: {0: 1.0}, 3: {0: 0.5, 1: 0.5}}, max_images=2, max_per_image=2)
        [(4, 0), (4, 1), (2, 0)]

    """
    having: dict[int, list[int]] = {}
    for image, classes in areas.items():
        for one, area in classes.items():
            if area >= min_area and area > 0:
                having.setdefault(one, []).append(image)
    if not having:
        return []
    quota = max(1, max_images * max_per_image // len(having))
    turns = sorted(having, key=lambda one: (len(having[one]), one))
    taken: dict[int, list[int]] = {}
    counts = dict.fromkeys(having, 0)
    while turns:
        turns = [one for one in turns if counts[one] < quota and _take(one, having[one], taken, max_images, max_per_image)]
        for one in turns:
            counts[one] += 1
    order = {image: place for place, image in enumerate(areas)}
    return [(image, one) for image in sorted(taken, key=order.__getitem__) for one in sorted(taken[image])]


def _take(one: int, images: Iterable[int], taken: dict[int, list[int]], max_images: int, max_per_image: int) -> bool:
    """Add a target of the class to the best image that has room for it; False where none has."""
    free = [image for image in images if one not in taken.get(image, ()) and len(taken.get(image, ())) < max_per_image]
    if len(taken) >= max_images:
        free = [image for image in free if image in taken]
    if not free:
        return False
    taken.setdefault(min(free, key=lambda image: len(taken.get(image, ()))), []).append(one)
    return True
