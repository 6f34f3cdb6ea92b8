"""Panels: drawn balanced, the same for every batch, and whole after a checkpoint."""

import io
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from segaudit.forwards.panel import Panel, balanced

AREAS = st.dictionaries(st.integers(0, 30), st.dictionaries(st.integers(0, 4), st.floats(0.0, 1.0), max_size=5), max_size=12)


@given(AREAS, st.integers(1, 6), st.integers(1, 3))
@settings(max_examples=100, deadline=None)
def test_the_choice_keeps_its_limits_and_cannot_grow(areas, max_images, max_per_image):
    pairs = balanced(areas, max_images, max_per_image, min_area=0.1)
    per_image, per_class = Counter(image for image, _ in pairs), Counter(one for _, one in pairs)
    assert len(set(pairs)) == len(pairs)
    assert all(areas[image][one] >= 0.1 for image, one in pairs)
    assert len(per_image) <= max_images
    assert max(per_image.values(), default=0) <= max_per_image
    classes = {one for image in areas for one, area in areas[image].items() if area >= 0.1}
    quota = max(1, max_images * max_per_image // max(1, len(classes)))
    assert max(per_class.values(), default=0) <= quota
    free = [
        (image, one)
        for image in areas
        for one, area in areas[image].items()
        if area >= 0.1 and (image, one) not in pairs and per_image[image] < max_per_image and per_class[one] < quota
        and (image in per_image or len(per_image) < max_images)
    ]  # fmt: skip
    assert not free


def test_classes_get_as_many_and_images_are_spread():
    areas = {image: {0: 0.8, 1: 0.1, 2: 0.1} for image in range(20)}
    pairs = balanced(areas, max_images=12, max_per_image=3)
    assert Counter(one for _, one in pairs) == {0: 12, 1: 12, 2: 12}
    pairs = balanced(areas, max_images=12, max_per_image=1)
    assert Counter(one for _, one in pairs) == {0: 4, 1: 4, 2: 4}
    assert len({image for image, _ in pairs}) == 12


def test_a_rare_class_is_not_crowded_out():
    areas = {image: {0: 0.9} for image in range(8)} | {5: {0: 0.5, 7: 0.02}}
    assert (5, 7) in balanced(areas, max_images=2, max_per_image=1)


def panel() -> Panel:
    torch.manual_seed(0)
    regions = [torch.rand(5, 7) > 0.5 for _ in range(3)] + [torch.rand(3, 3) > 0.5]
    images, classes, names = torch.tensor([9, 9, 2, 4]), torch.tensor([1, 2, 1, 0]), ["i9", "i9", "i2", "i4"]
    return Panel(images, classes, regions, names, "masks", "seed 0")


def test_targets_of_a_batch_stand_in_its_order():
    one = panel()
    found = one.targets([2, 7, 9])
    assert found.image_index.tolist() == [0, 2, 2]
    assert found.class_index.tolist() == [1, 1, 2]
    for place, n in enumerate((2, 0, 1)):
        assert torch.equal(found.region[place], one.regions[n])
    assert len(one.targets([7])) == 0
    assert one.order == [9, 2, 4]


def test_images_of_two_sizes_cannot_be_one_batch():
    with pytest.raises(ValueError, match="regions of different sizes"):
        panel().targets([2, 4])


def test_it_survives_a_checkpoint():
    one, file = panel(), io.BytesIO()
    torch.save(one.state_dict(), file)
    file.seek(0)
    again = Panel.from_state_dict(torch.load(file, weights_only=True))
    assert (again.origin, again.settings, again.identities) == (one.origin, one.settings, one.identities)
    assert torch.equal(again.images, one.images)
    assert torch.equal(again.classes, one.classes)
    assert all(torch.equal(a, b) for a, b in zip(again.regions, one.regions, strict=True))
