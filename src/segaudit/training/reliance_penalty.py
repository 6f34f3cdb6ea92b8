"""ReliancePenalty: a loss term that makes a model independent of pixels that should not matter."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segaudit import randomness
from segaudit.forwards.output import class_logits
from segaudit.functional.leakage import dilate
from segaudit.intervention import Fill, Regions, SuperpixelRegions


class ReliancePenalty(nn.Module):
    """Penalises a change of the prediction on objects when pixels that should not matter are filled.

    These pixels are a known artefact (a tag, a ruler, a watermark) whose place the data give. If no artefact is known, they
    are random segments outside the objects. The penalty is the :func:`divergence` of the class probabilities on the filled
    image from those on the image, averaged over an image's object pixels that were not filled, and over the images of the
    batch. An image without an object or without a filled pixel counts as 0. No gradient goes through the prediction on the
    unfilled image: it is the teacher, and the loss trains it. The penalty costs one more forward per step.

    Ross et al. 2017 (Right for the Right Reasons) penalise input gradients where the artefact is. Gradients can vanish
    while the model still depends on it, so this is our reading: it penalises the effect, not the map.

    Args:
        classes: class indices of the objects, whose predictions must not change.
        artefact: key of the artefacts in the batch, ``(B, *S)``, 0 where there is none. Defaults to random segments outside
            the objects.
        weight: weight of the term in the loss.
        fill: replaces the removed pixels. Defaults to one random colour per image and step: each channel's darkest or
            brightest value in the image. A model could learn a constant fill as "no artefact here".
        regions: cuts images into segments, each of which is filled or not; only without an artefact. One of its scales is
            used at each step.
        share: probability that a segment is filled, in (0, 1]; only without an artefact.
        tolerance: a segment within this many pixels of an object is never filled; only without an artefact.
        seed: seed of the random choices.

    Raises:
        ValueError: if a number is out of its range.

    Example:
        >>> x = torch.tensor([[[[3.0, 1.0]]]])  # an object of one pixel, with a tag beside it
        >>> batch = {"image": x, "mask": torch.tensor([[[1, 0]]]), "tag": torch.tensor([[[0, 1]]])}
        >>> model = lambda x: x.sum(dim=-1, keepdim=True).expand_as(x) - 3  # logit 1 with the tag, 0 without it
        >>> from segaudit.intervention import ConstantFill
        >>> penalty = ReliancePenalty(classes=[1], artefact="tag", fill=ConstantFill(0.0))
        >>> penalty(model, batch, model(x), step=0).round(decimals=4)  # of the probability 1/2 from sigmoid(1)
        tensor(0.1109)

    """

    def __init__(
        self,
        classes: Sequence[int],
        artefact: str | None = None,
        weight: float = 1.0,
        fill: Fill | None = None,
        regions: Regions | None = None,
        share: float = 0.5,
        tolerance: int = 1,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not classes or min(classes) < 0:
            raise ValueError(f"classes are the class indices of the objects, at least one and none below 0, got {classes}.")
        if weight < 0:
            raise ValueError(f"weight must not be negative, got {weight}.")
        if not 0 < share <= 1:
            raise ValueError(f"share is a probability in (0, 1], got {share}.")
        if tolerance < 0:
            raise ValueError(f"tolerance is a number of pixels of at least 0, got {tolerance}.")
        self.classes = list(classes)
        self.artefact = artefact
        self.weight = weight
        self.fill = fill
        self.regions = regions or SuperpixelRegions([24, 64])
        self.share = share
        self.tolerance = tolerance
        self.seed = seed

    def forward(self, model: Callable[[Tensor], Tensor], batch: Mapping[str, Any], logits: Tensor, step: int) -> Tensor:
        """Return the term to add to the loss, a scalar of at least 0.

        Args:
            model: maps images ``(B, channels, *S)`` to logits ``(B, K, *S)``.
            batch: ``image`` ``(B, channels, *S)``, ``mask`` ``(B, *S)`` integer and, where it is known, the artefact.
            logits: the model's logits for these images, ``(B, K, *S)``.
            step: number of the training step; the random choices depend on it, the image's content and the seed alone.

        Raises:
            ValueError: if a class does not exist, or the artefact is not in the batch or of another size.

        """
        images, masks = batch["image"].detach(), batch["mask"]
        if max(self.classes) >= max(2, logits.shape[1]):
            raise ValueError(
                f"right_reasons names the class {max(self.classes)}, but the model has the classes 0 to "
                f"{max(2, logits.shape[1]) - 1}."
            )
        objects = torch.isin(masks, torch.tensor(self.classes, device=masks.device))
        keys = randomness.image_keys(images, self.seed + step)
        removed = self._outside(images, objects, keys, step) if self.artefact is None else _artefact(batch, self.artefact)
        # No `if` on the content of the batch: all processes of a group must run the model equally often.
        filled = _corner_colour(images, keys) if self.fill is None else self.fill(images)
        without = model(torch.where(removed[:, None], filled, images))
        changed, seen = divergence(logits, without).flatten(1), (objects & ~removed).flatten(1)
        penalty = (changed * seen).sum(dim=1) / seen.sum(dim=1).clamp_min(1) * removed.flatten(1).any(dim=1)
        return self.weight * penalty.mean()

    def _outside(self, images: Tensor, objects: Tensor, keys: Tensor, step: int) -> Tensor:
        counts = self.regions.counts
        labels = self.regions.partition(images, counts[step % len(counts)]).flatten(1)
        near = dilate(objects, self.tolerance).flatten(1).float()
        near = torch.zeros_like(near).scatter_add_(1, labels, near)  # by segment; there are fewer segments than pixels
        drawn = randomness.uniform(randomness.combine(keys, 1), near.shape[1:])
        return ((drawn < self.share) & (near == 0)).gather(1, labels).view_as(objects)


def divergence(logits: Tensor, others: Tensor) -> Tensor:
    """Compute the Kullback-Leibler divergence of class probabilities q from a teacher's p at each pixel.

    This is Σ p·(log p − log q). The gradient goes to q alone.

    Args:
        logits: the teacher's logits, ``(B, K, *S)``; a single channel is that of the foreground.
        others: the other logits, ``(B, K, *S)``.

    Returns:
        ``(B, *S)``, at least 0.

    Example:
        >>> divergence(torch.tensor([[[0.0]]]), torch.tensor([[[2.0]]]))  # log cosh(2 / 2)
        tensor([[0.4338]])

    """
    p, q = _log_probabilities(logits.detach()), _log_probabilities(others)
    return (p.exp() * (p - q)).sum(dim=1)


def _artefact(batch: Mapping[str, Any], key: str) -> Tensor:
    if key not in batch:
        raise ValueError(
            f"right_reasons names the artefact {key!r}, which the batch does not have; it has {', '.join(map(str, batch))}. "
            "Leave `artefact` out where no artefact is known."
        )
    removed: Tensor = batch[key] > 0
    if removed.shape != batch["mask"].shape:
        raise ValueError(
            f"the artefact {key!r} has the shape {tuple(removed.shape)}, but the masks have {tuple(batch['mask'].shape)}, "
            "and it must be like them."
        )
    return removed


def _log_probabilities(logits: Tensor) -> Tensor:
    logits = logits.float()
    return F.logsigmoid(class_logits(logits)) if logits.shape[1] == 1 else logits.log_softmax(dim=1)


def _corner_colour(images: Tensor, keys: Tensor) -> Tensor:
    """Draw a colour at a corner of each image's range, ``(B, channels, *1)``."""
    axes = tuple(range(2, images.ndim))
    low, high = images.amin(axes, keepdim=True), images.amax(axes, keepdim=True)
    return torch.where(randomness.uniform(keys, low.shape[1:]) < 0.5, low, high)
