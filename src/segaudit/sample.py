"""What an audit takes from a batch of whatever form."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass
class Sample:
    """Images and what is known of them.

    Attributes:
        images: ``(B, channels, *S)``, as the model takes them.
        masks: class indices ``(B, *S)``, or None.
        ids: a name for each image, or None.
        cues: planted cues ``(B, *S)``, or None.

    """

    images: Tensor
    masks: Tensor | None = None
    ids: Sequence[Any] | None = None
    cues: Tensor | None = None


def unpack(batch: Any) -> Sample:
    """Take images, masks, ids and cues out of a batch.

    Understands ``(images, masks, ...)``, a lone tensor, and mappings with the keys ``image`` or ``images``, ``mask``,
    ``masks``, ``label`` or ``labels``, ``id`` and ``cue``.

    Raises:
        ValueError: if there are no images in it.

    Example:
        >>> import torch
        >>> unpack((torch.zeros(2, 3, 4, 4), torch.zeros(2, 4, 4))).images.shape
        torch.Size([2, 3, 4, 4])

    """
    if isinstance(batch, Mapping):
        images = _first(batch, "image", "images", "pixel_values")
        masks = _first(batch, "mask", "masks", "label", "labels")
        if isinstance(images, Tensor):
            return Sample(images, masks, batch.get("id"), batch.get("cue"))
    elif isinstance(batch, Tensor):
        return Sample(batch)
    elif isinstance(batch, Sequence) and batch and isinstance(batch[0], Tensor):
        return Sample(batch[0], batch[1] if len(batch) > 1 else None)
    raise ValueError(f"there are no images in a batch of the type {type(batch).__name__}.")


def _first(batch: Mapping[str, Any], *keys: str) -> Any:
    return next((batch[key] for key in keys if key in batch), None)
