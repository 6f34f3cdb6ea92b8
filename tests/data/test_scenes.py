import pickle

import albumentations as A
import numpy as np
import pytest
import torch
from torch.utils.data import default_collate

from segaudit.data import ShortcutScenes, scenes
from segaudit.data.scene import SHAPES, draw_scene, tag_width


def scenes_of(**kwargs):
    return ShortcutScenes(**{"train_images": 8, "val_images": 4, "test_images": 4, **kwargs})


def test_item_contract():
    data = scenes_of(size=48)
    item = data.dataset("train")[0]
    assert item["image"].shape == (3, 48, 48)
    assert item["image"].dtype == torch.float32
    for name in ("mask", "cue"):
        assert item[name].shape == (48, 48)
        assert item[name].dtype == torch.int64
    assert item["id"] == "train-00000"
    assert data.class_names == ["background", "disc", "square", "triangle"]
    batch = default_collate([data.dataset("val")[i] for i in range(3)])
    assert batch["image"].shape == (3, 3, 48, 48)
    assert batch["id"] == ["val-00000", "val-00001", "val-00002"]


def test_a_scene_is_a_function_of_seed_split_and_index():
    first, again = scenes_of().dataset("train"), scenes_of(train_images=3, batch_size=2).dataset("train")
    assert len(first) == 8
    assert len(list(again)) == 3
    for index in (2, 0, 1):
        assert torch.equal(first[index]["image"], again[index]["image"])
        assert torch.equal(first[index]["cue"], again[index]["cue"])
    image = first[0]["image"]
    for other in (first[1], scenes_of().dataset("val")[0], scenes_of(seed=1).dataset("train")[0]):
        assert not torch.equal(image, other["image"])


class Blank(A.ImageOnlyTransform):
    """Changes the array that it is given."""

    def apply(self, img, **params):
        img[...] = 0
        return img


def test_a_scene_is_drawn_once_and_stays_as_it_was(monkeypatch):
    drawn = []
    monkeypatch.setattr(scenes, "draw_scene", lambda rng, *args: drawn.append(args) or draw_scene(rng, *args))
    for kwargs, times in (({}, 1), ({"size": 512, "train_images": 64}, 3)):  # 80 MiB are not kept
        data = scenes_of(**kwargs).dataset("train")
        first = data[1]
        drawn.clear()
        for again in (data[1], data[1], pickle.loads(pickle.dumps(data))[1]):
            assert all(torch.equal(first[name], again[name]) for name in ("image", "mask", "cue"))
        assert len(drawn) == times  # once in the copy, which other processes get
    data = scenes_of(train_transforms=[Blank(p=1)]).dataset("train")
    image = data.scene(0).image
    for _ in range(2):
        assert data[0]["image"].flatten(1).std(dim=1).max() == 0
    data.pipeline = scenes_of().dataset("train").pipeline
    assert torch.equal(data[0]["image"], scenes_of().dataset("train")[0]["image"])
    assert (data.scene(0).image == image).all()


@pytest.mark.parametrize("shortcut", [0.0, 0.4, 1.0])
def test_tags_agree_at_the_promised_rate(shortcut):
    data = scenes_of(val_images=900, size=16, shortcut=shortcut).dataset("val")
    placed = [data.scene(i).objects[0] for i in range(900)]
    promised = shortcut + (1 - shortcut) / 3
    assert np.mean([o.label == o.colour for o in placed]) == pytest.approx(promised, abs=0.05)
    for label in (1, 2, 3):
        assert np.mean([o.label == label for o in placed]) == pytest.approx(1 / 3, abs=0.05)
        others = [o.colour for o in placed if o.label == label and o.colour != label]
        if others:
            assert np.mean([colour == max(others) for colour in others]) == pytest.approx(1 / 2, abs=0.12)


def test_shifted_tags_change_nothing_but_their_colour():
    data = scenes_of(max_objects=2).dataset("val")
    for index in range(4):
        scenes = [data.scene(index, shift) for shift in range(4)]
        tag = scenes[0].cue > 0
        for shift, scene in enumerate(scenes):
            assert (scene.mask == scenes[0].mask).all()
            assert (scene.image[~tag] == scenes[0].image[~tag]).all()
            assert (scene.cue[tag] == (scenes[0].cue[tag] - 1 + shift) % 3 + 1).all()
            assert not scene.cue[~tag].any()
            assert [o.colour for o in scene.objects] == [(o.colour - 1 + shift) % 3 + 1 for o in scenes[0].objects]
        assert (scenes[3].image == scenes[0].image).all()
        assert (scenes[1].image[tag] != scenes[0].image[tag]).mean() > 0.5


def test_the_test_split_has_its_own_shortcut():
    data = scenes_of(val_images=200, test_images=200, size=16, shortcut=0.0, test_shortcut=1.0)
    assert all(o.label == o.colour for o in (data.dataset("test").scene(i).objects[0] for i in range(200)))
    assert not all(o.label == o.colour for o in (data.dataset("val").scene(i).objects[0] for i in range(200)))


@pytest.mark.parametrize(("size", "max_objects"), [(32, 1), (64, 1), (64, 3), (96, 3), (17, 2)])
def test_nothing_touches(size, max_objects):
    most = 0
    for seed in range(60):
        scene = draw_scene(np.random.default_rng(seed), size, 1.0, max_objects)
        most = max(most, len(scene.objects))
        assert 1 <= len(scene.objects) <= max_objects
        width = tag_width(size)
        assert (scene.cue > 0).sum() == len(scene.objects) * width**2  # tags lie inside and apart
        for item in scene.objects:
            left, top = item.tag
            around = np.s_[max(0, top - 1) : top + width + 1, max(0, left - 1) : left + width + 1]
            assert (scene.mask[around] == 0).all()
            assert set(np.unique(scene.cue[around])) <= {0, item.colour}
            x, y = item.centre
            assert scene.mask[int(y), int(x)] == item.label
    assert most == max_objects


def test_the_class_is_in_the_shape_alone():
    drawn = [draw_scene(np.random.default_rng([7, i]), 64, 1 / 3) for i in range(900)]
    groups = [[s for s in drawn if s.objects[0].label == label] for label in range(1, len(SHAPES) + 1)]
    areas = [np.mean([(s.mask > 0).sum() for s in group]) for group in groups]
    distances = [np.mean([np.hypot(*np.subtract(s.objects[0].tag, s.objects[0].centre)) for s in g]) for g in groups]
    contrast = [np.mean([abs(s.image[s.mask > 0].mean() - s.image.mean()) for s in group]) for group in groups]
    grain = [np.mean([s.image[s.mask > 0].std() for s in group]) for group in groups]
    for values, tolerance in ((areas, 0.05), (distances, 0.05), (contrast, 0.1), (grain, 0.05)):
        assert max(values) / min(values) < 1 + tolerance


def test_binary_keeps_discs_only():
    multi, binary = scenes_of(train_images=60), scenes_of(train_images=60, binary=True)
    assert binary.class_names == ["background", "object"]
    assert binary.num_classes == 2
    counts = 0
    for a, b in zip(multi.dataset("train"), binary.dataset("train"), strict=True):
        assert torch.equal(a["image"], b["image"])
        assert torch.equal((a["mask"] == 1).long(), b["mask"])
        assert torch.equal((a["cue"] == 1).long(), b["cue"])
        counts += int(b["mask"].any())
    assert 5 < counts < 40


def test_the_cue_shows_the_tag_colours():
    data = scenes_of(mean=(0, 0, 0), std=(1, 1, 1), train_images=30).dataset("train")
    for item in data:
        colour = int(item["cue"].max())
        tag = item["image"][:, item["cue"] == colour].mean(dim=1)
        assert int(tag.argmax()) + 1 == colour  # red, green, blue in the order of the classes
        assert not ((item["mask"] > 0) & (item["cue"] > 0)).any()


def test_wrong_shortcut():
    with pytest.raises(ValueError, match=r"test_shortcut is 1\.5, but it must lie in 0\.\.1"):
        ShortcutScenes(test_shortcut=1.5)


def test_too_small():
    with pytest.raises(ValueError, match="size is 12, but"):
        ShortcutScenes(size=12)


def test_the_dataset_can_be_sent_to_a_worker():
    data = scenes_of().dataset("train")
    copy = pickle.loads(pickle.dumps(data))
    assert torch.equal(copy[3]["image"], data[3]["image"])


def test_a_volume_is_a_function_of_seed_split_and_index():
    first, again = scenes_of(size=24, depth=10).dataset("train"), scenes_of(size=24, depth=10).dataset("train")
    item = first[2]
    assert item["image"].shape == (3, 10, 24, 24)
    assert item["image"].dtype == torch.float32
    for name in ("mask", "cue"):
        assert item[name].shape == (10, 24, 24)
        assert item[name].dtype == torch.int64
    for other in (
        first[1],
        scenes_of(size=24, depth=10).dataset("val")[2],
        scenes_of(size=24, depth=10, seed=1).dataset("train")[2],
    ):
        assert not torch.equal(item["image"], other["image"])
    assert torch.equal(item["image"], again[2]["image"])
    assert torch.equal(item["cue"], again[2]["cue"])


@pytest.mark.parametrize(("size", "depth"), [(32, 16), (48, 48), (32, 3), (16, 1)])
def test_solids_are_as_deep_as_they_are_wide(size, depth):
    starts = set()
    for seed in range(30):
        scene = draw_scene(np.random.default_rng(seed), size, 1.0, max_objects=2, depth=depth)
        assert scene.image.shape == (depth, size, size, 3)
        width = tag_width(size)
        assert (scene.cue > 0).sum() == len(scene.objects) * width**2 * min(depth, width)
        for item in scene.objects:
            first, last = item.slices
            assert 0 <= first < last <= depth
            assert last - first == min(depth, round(item.side))
            assert first <= item.tag_slices[0]
            assert item.tag_slices[1] - item.tag_slices[0] == min(depth, width)
            assert item.tag_slices[1] <= min(depth, max(last, first + width))
            starts.add(first)
            centre = scene.mask[:, int(item.centre[1]), int(item.centre[0])]
            assert (np.flatnonzero(centre) == np.arange(first, last)).all()
            left, top = item.tag
            tag = scene.cue[slice(*item.tag_slices), top : top + width, left : left + width]
            assert (tag == item.colour).all()
        assert not ((scene.mask > 0) & (scene.cue > 0)).any()
    assert len(starts) == 1 if depth < 4 else len(starts) > 4


def test_slices_of_a_volume_share_their_texture():
    volume = draw_scene(np.random.default_rng(0), 64, 1.0, depth=24).image[..., 0].astype(float)

    def alike(a, b):
        return np.corrcoef(a.ravel(), b.ravel())[0, 1]

    assert alike(volume[:-1], volume[1:]) > 0.8
    assert alike(volume[:, :-1], volume[:, 1:]) == pytest.approx(alike(volume[:-1], volume[1:]), abs=0.1)


def test_wrong_depth():
    with pytest.raises(ValueError, match="depth is 0, but a volume needs at least one slice"):
        ShortcutScenes(depth=0)
