"""Targets: the (image, class, region) triples that are explained."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from segaudit.forwards.output import class_logits, predict
from segaudit.names import Immutable

Region = Literal["predicted", "ground_truth", "correct"]


@dataclass(frozen=True)
class Targets:
    """Holds N targets from B images.

    Attributes:
        image_index: number of the target's image in the batch, ``(N,)`` int64, ascending.
        class_index: the explained class, ``(N,)`` int64 (0 or 1 for a one-channel model).
        region: the pixels whose class is explained, ``(N, *S)`` bool. It does not change when the image is perturbed.

    """

    image_index: Tensor
    class_index: Tensor
    region: Tensor

    def __post_init__(self) -> None:
        if not len(self.image_index) == len(self.class_index) == len(self.region):
            raise ValueError(
                f"targets need one image, class and region each, got {len(self.image_index)} images, "
                f"{len(self.class_index)} classes and {len(self.region)} regions."
            )
        if self.region.dtype is not torch.bool:
            raise ValueError(f"a target's region must be boolean, got {self.region.dtype}; compare it with a class first.")
        if bool((self.image_index[1:] < self.image_index[:-1]).any()):
            raise ValueError("targets must be ordered by image: sort image_index and the rest along with it.")

    def __len__(self) -> int:
        return len(self.image_index)

    def __getitem__(self, index: Tensor | slice) -> "Targets":
        return Targets(self.image_index[index], self.class_index[index], self.region[index])

    def to(self, device: torch.device | str) -> "Targets":
        """Return the targets on a device."""
        return Targets(self.image_index.to(device), self.class_index.to(device), self.region.to(device))

    @property
    def area(self) -> Tensor:
        """Share of the image that the region covers, ``(N,)`` in [0, 1]."""
        return self.region.flatten(1).float().mean(dim=1)

    @property
    def position(self) -> Tensor:
        """Place among the targets of an image, ``(N,)``, from 0; one backward pass serves all targets of one place."""
        return _positions(self.image_index)

    def rounds(self) -> list[Tensor]:
        """Return the indices of the targets, in groups that never have two targets of one image."""
        return rounds(self.image_index)


def rounds(group: Tensor) -> list[Tensor]:
    """Return the indices of ``group`` ``(N,)`` in as few lists as possible, none of which has a group twice.

    Example:
        >>> [found.tolist() for found in rounds(torch.tensor([0, 0, 1, 0]))]
        [[0, 2], [1], [3]]

    """
    position = _positions(group)
    return [(position == p).nonzero()[:, 0] for p in range(int(position.max()) + 1)] if len(group) else []


def _positions(group: Tensor) -> Tensor:
    """Count, for each value of ``(N,)``, the equal values before it."""
    order = group.argsort(stable=True)
    ordered = group[order]
    position = torch.empty_like(group)
    position[order] = torch.arange(len(group), device=group.device) - torch.searchsorted(ordered, ordered)
    return position


class TargetSelector(Immutable):
    """Chooses the targets of a batch: the largest regions of each image, one per class.

    Args:
        region: ``predicted`` (argmax == class), ``ground_truth`` (mask == class) or ``correct`` (both).
        min_area: smallest region, as a share of the image in [0, 1].
        max_per_image: largest number of targets of an image; its largest regions are taken.
        classes: classes that may become targets. Defaults to all; for a one-channel model, to the foreground alone.

    Example:
        >>> logits = torch.tensor([[[0.0, 0.0, 9.0, 9.0], [1.0, 1.0, 1.0, 1.0]]])  # one image of four pixels, two classes
        >>> targets = TargetSelector(max_per_image=2)(logits)
        >>> targets.class_index.tolist(), targets.region.int().tolist()
        ([0, 1], [[0, 0, 1, 1], [1, 1, 0, 0]])

    """

    def __init__(
        self,
        region: Region = "predicted",
        min_area: float = 0.005,
        max_per_image: int = 3,
        classes: Sequence[int] | None = None,
    ) -> None:
        if region not in get_args(Region):
            raise ValueError(f"region must be one of {', '.join(get_args(Region))}, got {region!r}.")
        if not 0 <= min_area <= 1:
            raise ValueError(f"min_area is a share of the image in [0, 1], got {min_area}.")
        if max_per_image < 1:
            raise ValueError(f"max_per_image must be at least 1, got {max_per_image}.")
        self.region = region
        self.min_area = min_area
        self.max_per_image = max_per_image
        self.classes = None if classes is None else list(classes)

    def __call__(self, logits: Tensor, masks: Tensor | None = None) -> Targets:
        """Choose the targets.

        Args:
            logits: ``(B, C, *S)``.
            masks: class indices ``(B, *S)``, needed for all regions but ``predicted``.

        Raises:
            ValueError: if masks are needed and absent, of another size, or a wanted class does not exist.

        """
        num_classes = max(2, logits.shape[1])
        allowed = torch.zeros(num_classes, dtype=torch.long, device=logits.device)
        allowed[self.allowed(num_classes, logits.shape[1])] = 1
        labels = predict(logits)
        if self.region != "predicted":
            if masks is None:
                raise ValueError(f"region={self.region!r} needs the masks; pass them or use region='predicted'.")
            if masks.shape != labels.shape:
                raise ValueError(f"masks have the shape {tuple(masks.shape)}, the prediction {tuple(labels.shape)}.")
            masks = masks.to(labels)  # of any integer type
            labels = masks if self.region == "ground_truth" else torch.where(labels == masks, labels, -1)
        flat = labels.flatten(1)
        valid = (flat >= 0) & (flat < num_classes)  # leaves out ignored pixels
        counts = flat.new_zeros(len(flat), num_classes).scatter_add_(1, flat.where(valid, 0), valid.long())
        counts = counts * allowed
        smallest = max(1.0, self.min_area * flat.shape[1])
        # A stable order: regions of equal size by class index.
        order = counts.argsort(dim=1, descending=True, stable=True)[:, : self.max_per_image]
        chosen = torch.zeros_like(counts, dtype=torch.bool).scatter_(1, order, counts.gather(1, order) >= smallest)
        image_index, class_index = chosen.nonzero(as_tuple=True)
        region = labels[image_index] == class_index.view(-1, *[1] * (labels.ndim - 1))
        return Targets(image_index, class_index, region)

    def allowed(self, classes: int, channels: int) -> list[int]:
        """Return the classes that may become targets.

        Args:
            classes: number of classes.
            channels: number of channels of the logits; with one, the foreground alone may become a target by default.

        Raises:
            ValueError: if a wanted class does not exist.

        """
        wanted = self.classes if self.classes is not None else list(range(classes)) if channels > 1 else [1]
        if wrong := [c for c in wanted if not 0 <= c < classes]:
            raise ValueError(f"classes {wrong} do not exist: the model has the classes 0 to {classes - 1}.")
        return wanted


def target_logit(logits: Tensor, targets: Targets) -> Tensor:
    """Compute the mean logit of each target's class over its region, ``(N,)``, which is differentiated for gradients.

    Args:
        logits: ``(N, C, *S)``, one row per target.
        targets: N targets.

    """
    chosen = class_logits(logits)[torch.arange(len(targets), device=logits.device), targets.class_index]
    return _region_mean(chosen, targets.region)


def target_confidence(logits: Tensor, targets: Targets) -> Tensor:
    """Compute the confidence S(x), the mean class probability over the region, ``(N,)`` in [0, 1]; NaN for an empty region.

    It is a mean, not a sum, so that large objects do not weigh more. The probability is the softmax over the classes, or the
    sigmoid for a one-channel model.

    Args:
        logits: ``(N, C, *S)``, one row per target.
        targets: N targets.

    """
    logits = logits.float()
    rows = torch.arange(len(targets), device=logits.device)
    chosen = class_logits(logits)[rows, targets.class_index]
    # Softmax of one class alone: the other classes' probabilities are not needed.
    probability = chosen.sigmoid() if logits.shape[1] == 1 else (chosen - logits.logsumexp(dim=1)).exp()
    return _region_mean(probability, targets.region)


def _region_mean(values: Tensor, region: Tensor) -> Tensor:
    inside = region.flatten(1).to(values.dtype)
    return (values.flatten(1) * inside).sum(dim=1) / inside.sum(dim=1)
