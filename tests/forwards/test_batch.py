"""Batches of whatever form."""

import pytest
import torch
from torch import Tensor

from segaudit.forwards.batch import unpack

X, Y = torch.linspace(0, 1, 120).view(2, 3, 4, 5), torch.arange(40).view(2, 4, 5) % 3


@pytest.mark.parametrize("images", ["image", "images", "pixel_values"])
@pytest.mark.parametrize("masks", ["mask", "masks", "label", "labels"])
def test_keys(images: str, masks: str) -> None:
    sample = unpack({images: X, masks: Y, "id": ["a", "b"], "cue": Y, "more": 1})
    assert sample.images is X or torch.equal(sample.images, X)
    assert torch.equal(sample.masks, Y)
    assert sample.ids == ["a", "b"]
    assert torch.equal(sample.cues, Y)


@pytest.mark.parametrize("key", ["group", "groups"])
@pytest.mark.parametrize("groups", [["a", "b"], torch.tensor([3, 4])])
def test_groups(key: str, groups: object) -> None:
    assert unpack({"image": X, key: groups}).groups == (["a", "b"] if isinstance(groups, list) else [3, 4])
    assert unpack({"image": X}).groups is None


@pytest.mark.parametrize("batch", [X, (X,), [X], {"image": X}])
def test_without_masks(batch: object) -> None:
    sample = unpack(batch)
    assert torch.equal(sample.images, X)
    assert sample.masks is None


@pytest.mark.parametrize("masks", [Y[:, None], Y.float(), Y[:, None].float(), Y])
def test_masks_become_class_indices(masks: Tensor) -> None:
    for batch in ((X, masks), {"image": X, "label": masks}):
        found = unpack(batch).masks
        assert found.dtype == torch.int64
        assert torch.equal(found, Y)


def test_masks_of_several_channels_stay_as_they_are() -> None:
    assert unpack((X, X)).masks.shape == X.shape


class Marked(Tensor):
    """What MONAI's and torchvision's tensors are."""


def test_subclasses_are_left_behind() -> None:
    sample = unpack((X.as_subclass(Marked), Y.as_subclass(Marked)))
    assert type(sample.images) is type(sample.masks) is Tensor
    assert sample.images.data_ptr() == X.data_ptr()


@pytest.mark.parametrize("batch", [None, [], {}, {"mask": Y}, {"image": "a.png"}, "text", [1, 2]])
def test_no_images(batch: object) -> None:
    with pytest.raises(ValueError, match="there are no images in a batch of the type"):
        unpack(batch)
