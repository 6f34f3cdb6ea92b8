"""The likeness of maps of different images, and stability above it."""

import json
import math
from itertools import combinations
from typing import Any

import pytest
import torch
from _models import Net, Threshold, images
from scipy.stats import spearmanr
from torch import Tensor

from segaudit import Auditor, TargetSelector
from segaudit.attribution import Centre, Explainer, Random, Saliency, TargetMask
from segaudit.forwards import Probe
from segaudit.forwards.output import predict
from segaudit.functional import robustness_pearson, stability, stability_raw
from segaudit.intervention import GaussianNoise, GridRegions, Intervention, MeanFill, Perturbation, Shift
from segaudit.metrics.chance import ALIKE, NO_OTHER, Likeness, above_chance, merged
from segaudit.records.blocks import Block, rows_of

FEW = Intervention(MeanFill(), GridRegions([4]), steps=3)
NOISE = [GaussianNoise(level=1e-4)]  # so that pairs are kept


def some(n: int = 7, size: tuple[int, ...] = (32, 32)) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(0)
    shape = torch.randn(1, *size, generator=g)
    return (shape + torch.randn(n, *size, generator=g)).mul(3).round(), torch.arange(n) % 3


def of(maps: Tensor, classes: Tensor) -> Likeness:
    found = Likeness()
    found.add(maps, classes)
    return found


@pytest.mark.parametrize("size", [(16,), (16, 32), (32, 32), (10, 10, 10), (64, 96)])
def test_the_chance_level_is_the_mean_of_scipys_correlations_of_all_pairs(size: tuple[int, ...]) -> None:
    maps, classes = some(9, size)
    found = of(maps, classes)
    exact = max(size) <= 32
    for c in range(3):
        pairs = combinations(maps[classes == c].flatten(1).numpy(), 2)
        each = [spearmanr(a, b).statistic for a, b in pairs]
        assert len(each) == 3
        assert found.chance(c) == pytest.approx(sum(each) / 3, abs=1e-6 if exact else 0.04)


def test_batches_and_order_do_not_matter_and_it_survives_a_file() -> None:
    maps, classes = some()
    whole, turned = of(maps, classes), of(maps.flip(0), classes.flip(0))
    parts = merged([{"a": of(maps[:2], classes[:2])}, {}, {"a": of(maps[2:], classes[2:])}])["a"]
    again = Likeness.unpacked(json.loads(json.dumps(whole.packed())))
    for c in range(3):
        assert turned.chance(c) == pytest.approx(whole.chance(c), abs=1e-12)
        assert parts.chance(c) == pytest.approx(whole.chance(c), abs=1e-12)
        assert again.chance(c) == pytest.approx(whole.chance(c), abs=2e-3)


def test_maps_that_say_nothing_are_left_out_and_one_image_has_no_other() -> None:
    maps, classes = some()
    spoilt = maps.clone()
    spoilt[0], spoilt[1] = 2.0, torch.nan
    left = of(spoilt, classes)
    assert left.chance(0) == pytest.approx(of(maps[2:], classes[2:]).chance(0))
    assert math.isnan(left.chance(5))
    assert math.isnan(of(maps[:1], classes[:1]).chance(0))
    many, label = some(300)
    assert abs(of(torch.randn(300, 32, 32, generator=torch.Generator().manual_seed(1)), 0 * label).chance(0)) < 3e-3
    assert of(many, 0 * label).chance(0) > 0.3
    mixed = of(many[:3], label[:3] * 0)
    mixed.add(many[3:5, ::2], label[3:5] * 0)  # images of another size
    assert math.isfinite(mixed.chance(0))


def test_rows_are_compared_with_the_chance_level_of_their_explainer_and_class() -> None:
    maps, classes = some()
    alike = of(maps[:1].expand(4, -1, -1), torch.zeros(4))
    likeness = {"a": of(maps, classes), "b": alike}
    rows = [
        {"explainer": "a", "class_index": 0, "stability": 0.9, "other": 3.0, "reason": ""},
        {"explainer": "a", "class_index": 7, "stability": 0.9, "other": 3.0, "reason": "no cue"},
        {"explainer": "b", "class_index": 0, "stability": 1.0, "other": 3.0, "reason": ""},
        {"explainer": "a", "class_index": 0, "stability": math.nan, "other": 3.0, "reason": "prediction not kept"},
    ]
    found = above_chance(rows, likeness, ["stability"])
    level = likeness["a"].chance(0)
    assert found[0]["stability"] == pytest.approx((0.9 - level) / (1 - level))
    assert [row["reason"] for row in found] == ["", f"no cue; {NO_OTHER}", ALIKE, "prediction not kept"]
    assert [math.isnan(row["stability"]) for row in found] == [False, True, True, True]
    assert [row["other"] for row in found] == [3.0] * 4
    assert rows[0]["stability"] == 0.9  # a copy


def test_above_chance_by_hand() -> None:
    a = torch.tensor([[1.0, 2.0, 3.0, 4.0]]).expand(5, -1)
    b = torch.tensor([[1.0, 2.0, 4.0, 3.0]]).expand(5, -1)[:, None]
    kept = torch.ones(5, 1, dtype=torch.bool)
    assert stability_raw(a, b, kept).tolist() == pytest.approx([0.8] * 5)
    assert robustness_pearson(a, b, kept).tolist() == pytest.approx([0.8] * 5)
    chance = torch.tensor([0.0, 0.5, 0.8, -1.0, 0.995])
    assert stability(a, b, kept, chance).tolist() == pytest.approx([0.8, 0.6, 0.0, 0.9, math.nan], nan_ok=True)
    assert torch.equal(stability(a, b, kept), stability_raw(a, b, kept))


class Layout(Explainer):
    """Much the same map for every image: a slope from top to bottom, with some noise of the image's own."""

    def attribute(self, probe: Probe) -> Tensor:
        slope = torch.linspace(0, 3, probe.images.shape[2])[:, None]
        return slope + probe.images.mean(dim=1)[probe.targets.image_index]


def audited(parts: list[Tensor], explainers: dict[str, Explainer], names: tuple[str, ...] = ("stability",)) -> Auditor:
    auditor = Auditor(explainers, [*names, "stability_raw"], TargetSelector(), FEW, NOISE)
    for part in parts:
        auditor.update(Net(), part, sample_ids=[str(float(image.sum())) for image in part])
    return auditor


def by_target(auditor: Auditor) -> dict[tuple[Any, ...], dict[str, Any]]:
    return {(row["explainer"], row["sample_id"], row["class_index"]): row for row in auditor.records()}


def test_an_audit_takes_off_what_maps_of_different_images_share() -> None:
    x = images(6)
    explainers = {"random": Random(), "layout": Layout(), "centre": Centre(), "saliency": Saliency()}
    auditor = audited([x], explainers)
    values = {name: float(value) for name, value in auditor.compute().items()}
    assert values["layout/stability_raw"] > 0.95
    assert values["layout/stability"] < values["layout/stability_raw"]
    assert abs(values["random/stability"]) < 0.1
    assert math.isnan(values["centre/stability"])
    assert {row["reason"] for row in auditor.records() if row["explainer"] == "centre"} == {ALIKE}
    assert values["centre/unscored"] == values["targets"]
    for name in explainers:
        mine = torch.tensor([row["stability"] for row in auditor.records() if row["explainer"] == name])
        assert values[f"{name}/stability"] == pytest.approx(float(mine.nanmean()), nan_ok=True)


def test_the_order_and_the_batches_of_the_images_do_not_matter() -> None:
    x, explainers = images(6), {"saliency": Saliency(), "random": Random()}
    expected = by_target(audited([x], explainers))
    for parts in (list(x.split(1)), list(x.flip(0).split(4))):
        found = by_target(audited(parts, explainers))
        assert found.keys() == expected.keys()
        for key, row in found.items():
            assert row["stability"] == pytest.approx(expected[key]["stability"], abs=1e-5, nan_ok=True)
            assert row["reason"] == expected[key]["reason"]


def test_one_image_alone_has_nothing_to_be_compared_with_and_a_reset_forgets() -> None:
    x = images(6)
    auditor = audited([x[:1]], {"saliency": Saliency()})
    assert {row["reason"] for row in auditor.records()} == {NO_OTHER}
    assert math.isnan(float(auditor.compute()["saliency/stability"]))
    assert math.isfinite(float(auditor.compute()["saliency/stability_raw"]))
    auditor.update(Net(), x[1:])
    assert math.isfinite(float(auditor.compute()["saliency/stability"]))
    auditor.reset()
    auditor.update(Net(), x[:1])
    assert {row["reason"] for row in auditor.records()} == {NO_OTHER}


def test_an_image_that_is_audited_twice_is_no_other_image() -> None:
    x = images(4)
    auditor = audited([x], {"saliency": Saliency()})
    once = [row["stability"] for row in auditor.records()]
    auditor.update(Net(), x)
    assert [row["stability"] for row in auditor.records()] == once * 2
    alone = audited([x[:1], x[:1]], {"saliency": Saliency()})
    assert {row["reason"] for row in alone.records()} == {NO_OTHER}


def test_blocks_give_the_rows_of_the_audit(tmp_path) -> None:
    x = images(6)
    auditor = Auditor({"saliency": Saliency()}, ["stability"], TargetSelector(), FEW, [GaussianNoise(level=0.01)])
    blocks = []
    for place, part in enumerate(x.split(2)):
        batch = auditor.update(Net(), part)
        Block(batch.records(), [[1]], {}, batch.likeness).write(tmp_path / f"{place}.parquet")
        blocks.append(Block.read(tmp_path / f"{place}.parquet"))
    for row, other in zip(rows_of(blocks, auditor.provisional), auditor.records(), strict=True):
        assert row["stability"] == pytest.approx(other["stability"], abs=5e-3, nan_ok=True)
        assert row["reason"] == other["reason"]
    assert batch.scores["saliency"]["stability"].tolist() != [
        row["stability"] for row in auditor.records()[-len(batch.targets) :]
    ]


class Dimmer(Perturbation):
    """Takes a sixteenth of the object away from the prediction."""

    def __call__(self, images: Tensor) -> Tensor:
        return images - 0.3 * (torch.arange(images.shape[3]) == 15)


def test_the_target_mask_is_recomputed_from_the_perturbed_prediction() -> None:
    x = torch.zeros(3, 1, 24, 24)
    for i in range(3):
        x[i, 0, 4 + i : 16 + i, :16] = 0.7
    selector = TargetSelector(classes=[1])
    auditor = Auditor({"mask": TargetMask()}, ["stability_raw", "robustness_pearson"], selector, FEW, [Dimmer()])
    batch = auditor.update(Threshold(), x)
    after = (predict(Threshold()(Dimmer()(x))) == 1).float()
    before = batch.targets.region.float()
    assert 0 < float((before - after).sum()) < 0.1 * float(before.sum())
    expected = [spearmanr(a.flatten(), b.flatten()).statistic for a, b in zip(before, after, strict=True)]
    assert batch.scores["mask"]["stability_raw"].tolist() == pytest.approx(expected, abs=1e-6)
    assert batch.scores["mask"]["robustness_pearson"].tolist() == pytest.approx(expected, abs=1e-6)
    assert max(expected) < 0.98


def test_the_target_mask_of_a_shifted_image_is_moved_back() -> None:
    x = torch.zeros(2, 1, 24, 24)
    x[:, 0, 6:14, 6:14] = 1
    auditor = Auditor({"mask": TargetMask()}, ["stability_raw"], TargetSelector(classes=[1]), FEW, [Shift(3)])
    assert auditor.update(Threshold(), x).scores["mask"]["stability_raw"].tolist() == pytest.approx([1, 1])
