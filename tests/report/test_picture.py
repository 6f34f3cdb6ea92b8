"""Panels: what they show, for whatever images."""

import warnings

import numpy as np
import pytest
import torch
from _models import Net, images

from segaudit.auditor import AuditedBatch, Auditor
from segaudit.forwards.target import TargetSelector
from segaudit.intervention import GridRegions, Intervention
from segaudit.report import Panel, draw_panels
from segaudit.report.picture import display_image, first_targets


def audited(channels: int = 3, masks: bool = True, dims: int = 2, classes: int = 3) -> AuditedBatch:
    size = {1: (40,), 2: (20, 26), 3: (7, 6, 8)}[dims]
    x = images(channels=channels, size=size)
    auditor = Auditor(
        ["saliency", "random"],
        ["deletion_auc", "off_target_leakage"],
        TargetSelector(max_per_image=9),
        Intervention(regions=GridRegions([4]), steps=2),
    )
    truth = torch.randint(0, 3, (4, *size), generator=torch.Generator().manual_seed(0)) if masks else None
    if truth is not None:
        truth[:, :2] = 255
    return auditor.update(Net(channels=channels, dims=dims, classes=classes), x, truth, sample_ids=["a", "b", "c", "d"])


@pytest.mark.parametrize(
    ("channels", "masks", "names"),
    [(1, True, ["sky", "road", "car"]), (2, False, ["sky"]), (3, False, []), (5, True, ["sky"])],
)
def test_panels_are_rgb_pictures_that_show_something(channels: int, masks: bool, names: list[str]) -> None:
    panels = first_targets(audited(channels, masks), 2)
    picture = draw_panels(panels, names)
    assert picture.dtype == np.uint8
    assert picture.ndim == 3
    assert picture.shape[2] == 3
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 100
    assert 0.5 < draw_panels(panels[:1], names).shape[0] / picture.shape[0] < 0.65  # a row a target, and the legend


def test_the_map_the_prediction_and_the_truth_reach_the_picture() -> None:
    (panel,) = first_targets(audited(), 1)
    first = draw_panels([panel], [])
    assert np.array_equal(draw_panels([panel], []), first)
    other = {
        "attributions": {**panel.attributions, "saliency": panel.attributions["saliency"].flip(0)},
        "prediction": (panel.prediction + 1) % 3,
        "mask": (panel.mask + 1) % 3,
        "image": panel.image.flip(1),
        "region": ~panel.region,
        "scores": {"saliency": {"deletion_auc": 0.987}},
        "sample_id": "another",
    }
    for name, value in other.items():
        changed = draw_panels([Panel(**{**vars(panel), name: value})], [])
        assert changed.shape != first.shape or not np.array_equal(changed, first), name


@pytest.mark.parametrize("values", [0.0, -1.0, float("nan"), 1.0])
def test_maps_that_say_nothing_can_be_drawn(values: float) -> None:
    (panel,) = first_targets(audited(), 1)
    dull = {name: torch.full_like(a, values) for name, a in panel.attributions.items()}
    region = torch.full_like(panel.region, values > 0)  # an outline of all or nothing
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        picture = draw_panels([Panel(**{**vars(panel), "attributions": dull, "region": region})], ["one"])
    assert picture.dtype == np.uint8


def test_many_classes() -> None:
    (panel,) = first_targets(audited(), 1)
    many = torch.arange(20 * 26).view(20, 26) % 150
    assert draw_panels([Panel(**{**vars(panel), "prediction": many, "class_index": 149})], []).ndim == 3


def test_first_targets_are_the_largest_of_each_image() -> None:
    batch = audited()
    area, image = batch.targets.area, batch.targets.image_index
    panels = first_targets(batch, 9)
    assert [p.sample_id for p in panels] == [batch.sample_ids[b] for b in image.unique().tolist()]
    largest_is_not_first = False
    for panel in panels:
        mine = (image == batch.sample_ids.index(panel.sample_id)).nonzero()[:, 0]
        n = int(mine[area[mine].argmax()])
        largest_is_not_first |= n != int(mine[0])
        assert torch.equal(panel.region, batch.targets.region[n])
        assert panel.class_index == int(batch.targets.class_index[n])
        assert torch.equal(panel.image, batch.images[int(image[n])])
        assert torch.equal(panel.attributions["saliency"], batch.attributions["saliency"][n])
        assert str(panel.scores["random"]) == str({k: float(v[n]) for k, v in batch.scores["random"].items()})
    assert largest_is_not_first
    assert [p.sample_id for p in first_targets(batch, 2)] == [p.sample_id for p in panels[:2]]
    assert first_targets(batch, 0) == []
    assert first_targets(audited(dims=1), 3) == []


def test_of_a_volume_the_slice_with_most_of_the_target_is_shown() -> None:
    batch = audited(dims=3)  # (7, 6, 8): the second axis is the shortest
    for panel in first_targets(batch, 9):
        b = batch.sample_ids.index(panel.sample_id)
        (n,) = [
            n for n in range(len(batch.targets))
            if int(batch.targets.image_index[n]) == b and int(batch.targets.class_index[n]) == panel.class_index
        ]  # fmt: skip
        areas = [int(batch.targets.region[n][:, i].sum()) for i in range(6)]
        assert panel.slice_index == areas.index(max(areas))
        i = panel.slice_index
        assert torch.equal(panel.image, batch.images[b][:, :, i])
        assert torch.equal(panel.region, batch.targets.region[n][:, i])
        assert torch.equal(panel.attributions["saliency"], batch.attributions["saliency"][n][:, i])
        assert torch.equal(panel.prediction, batch.prediction[b][:, i])
        assert torch.equal(panel.mask, batch.masks[b][:, i])
        assert panel.image._base is None  # or the whole volume would be kept
        other = draw_panels([Panel(**{**vars(panel), "slice_index": (i + 1) % 6})], [])
        assert not np.array_equal(draw_panels([panel], []), other)  # the row says which slice it is


@pytest.mark.parametrize(("channels", "shown"), [(1, [0, 0, 0]), (2, [0, 0, 0]), (3, [0, 1, 2]), (5, [0, 1, 2])])
def test_display_image_stretches_to_the_range(channels: int, shown: list[int]) -> None:
    x = 7 * torch.rand(channels, 30, 40, generator=torch.Generator().manual_seed(0)) - 90
    picture = display_image(x)
    assert picture.shape == (30, 40, 3)
    assert picture.min() == 0
    assert picture.max() == 1
    seen = x[sorted(set(shown))].double().numpy()
    low, high = np.quantile(seen, [0.005, 0.995])
    expected = np.clip((x[shown].double().numpy() - low) / (high - low), 0, 1)
    np.testing.assert_allclose(picture, np.moveaxis(expected, 0, -1), atol=1e-9)
    assert np.isfinite(display_image(torch.zeros(channels, 4, 4))).all()
