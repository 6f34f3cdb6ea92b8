"""Takes images and labels out of batches of any form."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass
class Sample:
    """Holds images, and their labels as far as they are known.

    Attributes:
        images: ``(B, channels, *S)``, as the model takes them.
        masks: class indices ``(B, *S)``, or None.
        ids: names of the images, or None.
        cues: planted cues ``(B, *S)``, or None.
        groups: what each image belongs to (a patient, a sequence, a site), or None.

    """

    images: Tensor
    masks: Tensor | None = None
    ids: Sequence[Any] | None = None
    cues: Tensor | None = None
    groups: Sequence[Any] | None = None


def unpack(batch: Any) -> Sample:
    """Take images, masks, ids, cues and groups out of a batch.

    Understands ``(images, masks, ...)``, a lone tensor, and mappings with the keys ``image``, ``images`` or
    ``pixel_values``, ``mask``, ``masks``, ``label`` or ``labels``, ``id``, ``cue``, and ``group`` or ``groups``. Masks
    may have a channel of their own, ``(B, 1, *S)``, and be floating point, as MONAI's are.

    Raises:
        ValueError: if the batch has no images.

    Example:
        >>> import torch
        >>> unpack((torch.zeros(2, 3, 4, 4), torch.zeros(2, 4, 4))).images.shape
        torch.Size([2, 3, 4, 4])

    """
    if isinstance(batch, Mapping):
        images = _first(batch, "image", "images", "pixel_values")
        masks = _first(batch, "mask", "masks", "label", "labels")
        if isinstance(images, Tensor):
            groups = _first(batch, "group", "groups")
            return Sample(_plain(images), _class_indices(masks, images), batch.get("id"), batch.get("cue"), _listed(groups))
    elif isinstance(batch, Tensor):
        return Sample(_plain(batch))
    elif isinstance(batch, Sequence) and batch and isinstance(batch[0], Tensor):
        return Sample(_plain(batch[0]), _class_indices(batch[1], batch[0]) if len(batch) > 1 else None)
    raise ValueError(f"there are no images in a batch of the type {type(batch).__name__}.")


def _plain(values: Tensor) -> Tensor:
    """Return a plain tensor: the subclasses of MONAI and torchvision are slow."""
    return values if type(values) is Tensor else values.as_subclass(Tensor)


def _class_indices(masks: Any, images: Tensor) -> Any:
    if not isinstance(masks, Tensor):
        return masks
    masks = _plain(masks[:, 0] if masks.ndim == images.ndim and masks.shape[1] == 1 else masks)
    return masks.long() if masks.is_floating_point() else masks


def _listed(groups: Any) -> Any:
    """Return groups as plain numbers: a tensor's entries have other texts than the numbers in them."""
    return groups.tolist() if isinstance(groups, Tensor) else groups


def _first(batch: Mapping[str, Any], *keys: str) -> Any:
    return next((batch[key] for key in keys if key in batch), None)
