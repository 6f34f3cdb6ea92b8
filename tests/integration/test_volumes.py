"""Volumes walk the same road as images: to the same figures where they have one slice, through every explainer and score."""

import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from _models import CONV, NORM, Net, images
from integration.tiny import trainer
from PIL import Image
from torch import Tensor, nn

import segaudit.attribution.catalogue as explainers
import segaudit.metrics.catalogue as scores
from segaudit import Auditor, Intervention, TargetSelector
from segaudit.callbacks import AttributionAudit, MaskWriter
from segaudit.data import ShortcutScenes
from segaudit.intervention import JPEG, Brightness, GaussianNoise, GridRegions, Shift, SuperpixelRegions
from segaudit.training.task import SegmentationTask

#: They need another network than convolutions and ReLUs, or know two dimensions alone.
NOT_HERE = {"attention_rollout"}
EXPLAINERS = [entry.name for entry in explainers.catalogue() if entry.name not in NOT_HERE]
METRICS = [entry.name for entry in scores.catalogue()]
CLOCKS = {"seconds"}


class SliceWise(Net):
    """A network of images, on each slice of a volume."""

    def forward(self, x: Tensor) -> Tensor:
        slices: Tensor = super().forward(x.transpose(1, 2).flatten(0, 1))
        return slices.unflatten(0, (len(x), x.shape[2])).transpose(1, 2)


def thick(module: nn.Module) -> nn.Module:
    """The same network with a third dimension, along which its kernels are 1."""
    for name, child in module.named_children():
        if isinstance(child, CONV[2]):
            new: Any = CONV[3](child.in_channels, child.out_channels, (1, *child.kernel_size), padding=(0, *child.padding))
            new.load_state_dict(
                {key: value.unsqueeze(2) if key == "weight" else value for key, value in child.state_dict().items()}
            )
            setattr(module, name, new)
        elif isinstance(child, NORM[2]):
            norm = NORM[3](child.num_features)
            norm.load_state_dict(child.state_dict())
            setattr(module, name, norm)
        else:
            thick(child)
    return module.eval()


def audited(model: nn.Module, x: Tensor, names: list[str], metrics: list[str], regions: Any) -> list[dict[str, Any]]:
    auditor = Auditor(
        names, metrics, TargetSelector(min_area=0.0, max_per_image=2),
        Intervention(regions=regions, steps=5, max_batch=1000), [GaussianNoise(), Brightness()],
    )  # fmt: skip
    cues = torch.zeros(len(x), *x.shape[2:], dtype=torch.long)
    cues[..., :4, :4] = 1
    auditor.update(model, x, sample_ids=list("abcd")[: len(x)], cues=cues)
    return [{key: value for key, value in row.items() if key not in CLOCKS} for row in auditor.records()]


def test_a_volume_of_one_slice_is_an_image_bit_for_bit():
    names = ["saliency", "integrated_gradients", "smooth_grad", "region_effects", "dea", "random", "edges"]
    # ROAD's solver stops at a tolerance, and maps of two images are compared on a grid of the space's own dimensions.
    metrics = [name for name in METRICS if name not in {"road", "stability", "robustness_pearson"}]
    regions = SuperpixelRegions([4, 9])
    flat, solid = images(), images()[:, :, None]
    expected = audited(Net(), flat, names, metrics, regions)
    found = audited(SliceWise(), solid, names, metrics, regions)
    assert len(expected) == 8 * len(names)
    assert repr(found) == repr(expected)  # NaN stands where NaN stood


def test_every_explainer_and_score_of_one_slice():
    regions = GridRegions([4, 9])
    names = [name for name in EXPLAINERS if name not in {"rise", "captum", "pytorch_grad_cam"}]  # RISE draws for each axis
    expected = audited(Net(), images(), names, METRICS, regions)
    found = audited(thick(Net()), images()[:, :, None], names, METRICS, regions)
    scored = 0
    for one, other in zip(found, expected, strict=True):
        for key, value in other.items():
            if isinstance(value, float) and not math.isnan(value):
                scored += 1
                close = 2e-2 if key in ("stability", "robustness_pearson") else 2e-3  # their grids differ
                assert one[key] == pytest.approx(value, rel=close, abs=close), (one["explainer"], key)
            else:
                assert repr(one[key]) == repr(value), (one["explainer"], key)
    assert scored > 8 * len(names) * 20


def test_regions_of_a_thin_volume_are_those_of_its_slices():
    x = images(size=(24, 32))
    for kind in (GridRegions, SuperpixelRegions):
        for flat, solid in zip(kind([4, 24])(x), kind([4, 24])(x[:, :, None]), strict=True):
            assert torch.equal(solid[:, 0], flat)
        (labels,) = kind([24])(x[:, :, None].repeat(1, 1, 2, 1, 1))
        assert 12 <= len(labels[0].unique()) <= 38
        assert torch.equal(labels[:, 0], labels[:, 1])  # an axis shorter than a region is left whole


def test_every_score_of_every_explainer_on_volumes():
    x = images(2, size=(9, 8, 10))
    records = audited(Net(dims=3), x, EXPLAINERS, METRICS, SuperpixelRegions([4, 9]))
    assert {row["explainer"] for row in records} == set(EXPLAINERS)
    for name in METRICS:
        if name not in CLOCKS:
            assert any(not math.isnan(row[name]) for row in records), name


def test_what_knows_images_alone_says_so():
    auditor = Auditor(["saliency"], ["stability"], perturbations=[JPEG()])
    with pytest.raises(ValueError, match=r"JPEG knows images \(B, channels, H, W\) alone, got \(2, 3, 9, 8, 10\); leave"):
        auditor.update(Net(dims=3), images(2, size=(9, 8, 10)))
    with pytest.raises(ValueError, match=r"a shift by 4 pixels leaves nothing of an image of \(3, 20, 20\)"):
        Shift()(torch.zeros(1, 1, 3, 20, 20))


@pytest.fixture
def data() -> ShortcutScenes:
    return ShortcutScenes(size=24, depth=12, train_images=6, val_images=4, test_images=2, batch_size=3)


@pytest.fixture
def task() -> SegmentationTask:
    return SegmentationTask(Net(classes=4, dims=3), optimizer=lambda p: torch.optim.Adam(p, lr=0.01))


def test_fit_audit_and_predict(data, task, tmp_path):
    audit = AttributionAudit(
        ["saliency", "seg_grad_cam", "dea", "random"], ["faithfulness_gap", "unsupported_leakage", "stability", "cue_mass"],
        TargetSelector(region="ground_truth", classes=[1, 2, 3]), Intervention(regions=SuperpixelRegions([4]), steps=3),
        max_images=3, panels=2,
    )  # fmt: skip
    run = trainer(audit, MaskWriter(), folder=tmp_path)
    run.fit(task, data)
    assert 0 <= run.callback_metrics["val/iou"] <= 1
    assert run.callback_metrics["audit/images"] == 3
    assert run.callback_metrics["audit/targets"] == 3
    assert 0 < run.callback_metrics["audit/random/cue_mass"] < 1
    (picture,) = tmp_path.glob("version_0/audit/*.png")
    assert np.asarray(Image.open(picture)).std() > 10

    (summary,) = run.audit(task, data, split="val")
    assert summary["parts"][0]["images"] == 4
    out = tmp_path / "version_0" / "audit"
    assert len(list(out.glob("worst/*_maps.png"))) == len(list(out.glob("worst/*_leakage.png"))) >= 2
    assert json.loads((out / "summary.json").read_text())["parts"][0]["iou"]["mean"] > 0
    assert (out / "report.html").stat().st_size > 50_000

    (predicted,) = run.predict(task, data)
    assert predicted["mask"].shape == (2, 12, 24, 24)
    for name, mask in zip(predicted["id"], predicted["mask"], strict=True):
        with Image.open(tmp_path / "version_0" / "predictions" / f"{name}.tiff") as file:
            assert file.n_frames == 12
            for page in range(12):
                file.seek(page)
                assert np.array_equal(np.asarray(file), mask[page].numpy())
