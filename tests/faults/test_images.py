"""Faults of images, masks and loaders."""

from math import isnan
from typing import Any

import pytest
import torch
from faults.given import (
    GAP,
    LEAKAGE,
    ORDER,
    Changed,
    conv,
    feeding,
    fit,
    logged,
    pictures,
    unreadable,
    update,
)
from faults.table import fault
from integration.tiny import CLASSES, Squares, TinyNetwork, loader, quick, task, trainer
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback
from torch.utils.data import BatchSampler, DataLoader, Dataset, IterableDataset, SequentialSampler, default_collate

from segaudit import Auditor, Intervention, TargetSelector
from segaudit.attribution import DEA, attribution_context
from segaudit.callbacks import AttributionAudit
from segaudit.callbacks.images import AuditImages
from segaudit.forwards.target import target_confidence
from segaudit.intervention import BlurFill, SuperpixelRegions
from segaudit.training.task import SegmentationTask


class Begin(Callback):
    """Lets a data set go wrong once training has begun."""

    def __init__(self, dataset: Changed) -> None:
        self.dataset = dataset

    def on_train_epoch_start(self, *_: Any) -> None:
        self.dataset.begun = True


#: Images of the audit that the validation, cut to one batch, does not read.
BEHIND = [index for index in ORDER[1:] if index > 1]


@fault("an image cannot be read, in mid-training", "lost and counted; the others of its block are scored; training goes on")
def test_an_image_that_cannot_be_read_costs_itself_alone() -> None:
    data = Changed(unreadable, BEHIND[:1])
    with pytest.warns(UserWarning, match=f"1 of 4 images could not be audited.*image {BEHIND[0]}: OSError: image file"):
        loop = fit(quick(), Begin(data), val=feeding(data), limit_val_batches=1)
    assert logged(loop, "lost", "images") == [1, 3]
    (audited,) = [one for one in loop.callbacks if isinstance(one, AttributionAudit)]
    assert audited.series.scored("saliency/off_target_leakage") >= 4
    _, share = audited.series.means("saliency/off_target_leakage")
    assert bool(loop.callback_metrics[LEAKAGE].isfinite()) == (share[-1] >= 0.8)


@fault("an image cannot be read in one epoch and can in the next", "each audit counts its own losses")
def test_each_audit_counts_its_own_losses() -> None:
    data, counts = Changed(unreadable, BEHIND[:1]), []

    class Mend(Callback):
        def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
            counts.append(int(trainer.callback_metrics["audit/lost"]))

        def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
            data.begun = trainer.current_epoch == 0

    with pytest.warns(UserWarning, match="1 of 4 images could not be audited"):
        fit(quick(), Mend(), val=feeding(data), limit_val_batches=1, max_epochs=2, num_sanity_val_steps=0)
    assert counts == [1, 0]


@fault("the first image cannot be read", "an error before training begins")
def test_a_first_image_that_cannot_be_read_ends_the_run_before_training() -> None:
    data = Changed(unreadable, ORDER[:1])
    data.begun = True
    loop = trainer(quick())
    with pytest.raises(OSError, match="truncated"):
        loop.fit(task(), loader(8, train=True), feeding(data))
    assert loop.global_step == 0


@fault("no image can be read any more", "all are lost and counted, scores are NaN, training goes on")
def test_where_no_image_can_be_read_training_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    data = Changed(unreadable, BEHIND)
    audited = quick()
    monkeypatch.setattr(AuditImages, "order", lambda *_: BEHIND)
    begin = Begin(data)
    with pytest.warns(UserWarning, match=f"{len(BEHIND)} of {len(BEHIND)} images could not be audited"):
        loop = fit(audited, begin, val=feeding(data), limit_val_batches=1)
    assert logged(loop, "lost", "images", "targets") == [len(BEHIND), 0, 0]
    assert loop.callback_metrics[GAP].isnan()
    assert loop.global_step > 0


@fault("on_error: raise, and an image cannot be read", "the error ends the run")
def test_on_error_raise_ends_the_run() -> None:
    data = Changed(unreadable, BEHIND[:1])
    loop = trainer(quick(on_error="raise"), Begin(data), limit_val_batches=1)
    with pytest.raises(OSError, match="truncated"):
        loop.fit(task(), loader(8, train=True), feeding(data))


@fault("an image cannot be read in `validate`", "an error: there is no training to save")
def test_in_validate_an_error_is_an_error() -> None:
    data = Changed(unreadable, BEHIND[:1])
    data.begun = True
    with pytest.raises(OSError, match="truncated"):
        trainer(quick(), limit_val_batches=1).validate(task(), feeding(data), verbose=False)


class Mixed(Dataset[Any]):
    """Images of two sizes."""

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> Any:
        return Squares(6, size=16 if index % 2 else 24)[index]


@fault("images of different sizes, which cannot be stacked", "each is audited on its own, none is lost")
def test_images_of_different_sizes_are_audited_one_by_one() -> None:
    loop = fit(quick(), val=feeding(Mixed(), batch_size=1))
    assert logged(loop, "lost", "images") == [0, 4]
    assert loop.callback_metrics[GAP].isfinite()


@fault("images smaller than the blur's kernel", "no crash: scored, or the reason is told")
def test_images_smaller_than_the_kernel_of_the_fill() -> None:
    auditor = update(conv(), pictures(side=3), intervention=Intervention(BlurFill(), SuperpixelRegions([4]), steps=3))
    assert auditor.records()
    for row in auditor.records():
        assert isnan(row["deletion_auc"]) == bool(row["reason"])


@fault("images of one pixel", "not scored, with a reason: the darkest and the brightest colour are the image itself")
def test_images_of_one_pixel() -> None:
    auditor = update(conv(), pictures(side=1), explainers=["saliency", "region_effects"])
    assert auditor.compute()["targets"] == 2  # one class has the only pixel
    assert all(row["reason"] for row in auditor.records())


@fault("more regions asked for than there are pixels", "as many as there are pixels")
def test_more_regions_than_pixels() -> None:
    intervention = Intervention(regions=SuperpixelRegions([100]), steps=3)
    assert update(conv(), pictures(side=4), intervention=intervention).compute()["region_effects/deletion_auc"].isfinite()


@fault("one image only", "audited")
def test_one_image() -> None:
    assert logged(fit(quick(), val=loader(1)), "images", "lost") == [1, 0]


NOTHING = "nothing will be audited, for there is no validation"


@fault("an empty validation set", "no audit, which is said before training begins; training goes on")
def test_an_empty_validation_set() -> None:
    with pytest.warns(UserWarning, match=NOTHING):
        loop = fit(quick(), val=feeding(Squares(0)))
    assert loop.global_step == 2
    assert not [name for name in loop.callback_metrics if name.startswith("audit/")]


@fault("limit_val_batches=0", "no audit, which is said before training begins; training goes on")
def test_a_validation_that_is_turned_off() -> None:
    with pytest.warns(UserWarning, match=NOTHING):
        loop = fit(quick(), limit_val_batches=0)
    assert loop.global_step == 2
    assert "audit/images" not in loop.callback_metrics


@fault("no validation loader", "no audit, which is said before training begins; training goes on")
def test_no_validation_loader() -> None:
    loop = trainer(quick())
    with pytest.warns(UserWarning, match=NOTHING):
        loop.fit(task(), loader(8, train=True))
    assert loop.global_step == 2
    assert "audit/images" not in loop.callback_metrics


def masked(value: int) -> Any:
    def change(item: Any) -> Any:
        return item | {"mask": torch.full_like(item["mask"], value)}

    data = Changed(change)
    data.begun = True
    return data


@fault("masks in which everything is ignored (255), targets from the masks", "no targets, NaN, counted; training goes on")
def test_masks_in_which_everything_is_ignored() -> None:
    loop = fit(quick(selector=TargetSelector("ground_truth")), val=feeding(masked(255)))
    assert logged(loop, "images", "targets", "lost") == [0, 0, 0]
    assert loop.callback_metrics[GAP].isnan()


@fault("a border of ignored pixels (255), padding say", "never a target")
def test_padding_is_no_target() -> None:
    masks = torch.ones(2, 12, 12, dtype=torch.long)
    masks[:, :4] = 255
    auditor = update(conv(), pictures(), masks, selector=TargetSelector("ground_truth"))
    assert {row["class_index"] for row in auditor.records()} == {1}
    assert [row["area"] for row in auditor.records()] == pytest.approx([96 / 144] * 6)


@fault("labels beyond the classes in the masks", "never a target")
def test_labels_beyond_the_classes_are_no_targets() -> None:
    masks = torch.full((2, 12, 12), 77)
    masks[:, :6] = 2
    auditor = update(conv(), pictures(), masks, selector=TargetSelector("ground_truth"))
    assert {row["class_index"] for row in auditor.records()} == {2}


@fault("targets from masks, and there are none", "one sentence")
def test_targets_from_masks_without_masks() -> None:
    with pytest.raises(ValueError, match="region='ground_truth' needs the masks"):
        update(conv(), pictures(), selector=TargetSelector("ground_truth"))


@fault("masks of another size than the images", "one sentence with both sizes")
def test_masks_of_another_size() -> None:
    with pytest.raises(ValueError, match=r"masks have the shape \(2, 6, 6\), the prediction \(2, 12, 12\)"):
        update(conv(), pictures(), torch.zeros(2, 6, 6), selector=TargetSelector("ground_truth"))


@fault("masks with an axis for channels", "one sentence with both shapes")
def test_masks_with_channels() -> None:
    with pytest.raises(ValueError, match=r"masks have the shape \(2, 1, 12, 12\)"):
        update(conv(), pictures(), torch.zeros(2, 1, 12, 12), selector=TargetSelector("ground_truth"))


@fault("int16 images", "one sentence: images are floating point")
def test_int16_images() -> None:
    with pytest.raises(ValueError, match=r"images must be floating point, as the model takes them, got torch\.int16"):
        update(conv(), (1000 * pictures()).short())


@fault("uint8 images", "one sentence: images are floating point")
def test_uint8_images() -> None:
    with pytest.raises(ValueError, match=r"got torch\.uint8"):
        update(conv(), (255 * pictures()).byte())


@fault("float64 images and network", "the figures of single precision")
def test_double_precision() -> None:
    single, double = update(conv(), pictures()), update(conv().double(), pictures().double())
    for name, value in single.compute().items():
        torch.testing.assert_close(double.compute()[name], value, rtol=1e-3, atol=1e-3, equal_nan=True)


@fault("bfloat16 images and network", "scored, in the network's precision")
def test_half_precision() -> None:
    values = update(conv().bfloat16(), pictures().bfloat16()).compute()
    assert values["saliency/off_target_leakage"].isfinite()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@fault("a NaN or infinite pixel in an image", "its scores are missing, with a reason; those of the others are as without it")
def test_an_image_that_is_not_finite(value: float) -> None:
    images = pictures()
    alone = update(conv(), images[1:])
    images[0, 0, 3, 3] = value
    auditor = update(conv(), images)
    spoilt = [row for row in auditor.records() if row["sample_id"] == "0"]
    clean = [row for row in auditor.records() if row["sample_id"] == "1"]
    assert all(row["reason"] for row in spoilt if row["explainer"] == "saliency")
    for row, other in zip(clean, alone.records(), strict=True):
        assert row["deletion_auc"] == pytest.approx(other["deletion_auc"], abs=5e-3, nan_ok=True)  # ties


@pytest.mark.parametrize("channels", [1, 4, 12])
@fault("images of 1, 4 or 12 channels", "audited as those of three")
def test_other_numbers_of_channels(channels: int) -> None:
    values = update(conv(channels), pictures(channels=channels)).compute()
    assert all(values[f"{name}/deletion_auc"].isfinite() for name in ("saliency", "region_effects", "seg_grad_cam"))


@fault("an image of one colour", "scored, or the reason is told; nothing is NaN without one")
def test_an_image_of_one_colour() -> None:
    for row in update(conv(), torch.full((1, 3, 12, 12), 0.5)).records():
        missing = [name for name in ("deletion_auc", "off_target_leakage", "stability") if isnan(row[name])]
        assert bool(missing) == bool(row["reason"])


@fault("no names for the images", "numbers in the order of arrival")
def test_images_without_names() -> None:
    assert {row["sample_id"] for row in update(conv(), pictures()).records()} == {"0", "1"}


@fault("one name for several images", "they count as one image in statistics")
def test_one_name_for_several_images() -> None:
    assert update(conv(), pictures(4), ids=["a", "a", "b", "b"]).compute()["images"] == 2


@fault("fewer names than images", "one sentence")
def test_fewer_names_than_images() -> None:
    with pytest.raises(ValueError, match="1 sample_ids were given for 2 images"):
        update(conv(), pictures(), ids=["a"])


@fault("a score of planted cues on data without any", "one sentence, before training begins")
def test_cues_that_the_data_lack_are_missed_before_training() -> None:
    loop = trainer(quick(metrics=["cue_mass"]))
    with pytest.raises(ValueError, match="needs planted cues"):
        loop.fit(task(), loader(8, train=True), loader(6))
    assert loop.global_step == 0


@fault("a validation loader with a batch sampler", "the same images and figures")
def test_a_batch_sampler_changes_nothing() -> None:
    sampler = BatchSampler(SequentialSampler(range(6)), batch_size=3, drop_last=False)
    loop = fit(quick(), val=DataLoader(Squares(6), batch_sampler=sampler))
    assert logged(loop, "images", "lost") == [4, 0]
    assert loop.callback_metrics[GAP] == fit(quick()).callback_metrics[GAP]


@fault("drop_last in the validation loader", "the audit's images are those of the data set")
def test_drop_last_drops_nothing_from_the_audit() -> None:
    loop = fit(quick(max_images=6), val=loader(6), model=task())
    dropped = fit(quick(max_images=6), val=DataLoader(Squares(6), batch_size=4, drop_last=True))
    assert logged(loop, "images") == logged(dropped, "images") == [6]


@fault("several validation loaders", "the first is audited")
def test_of_several_loaders_the_first() -> None:
    audited = quick(max_images=9)
    fit(audited, val=[loader(3), loader(6)], model=First(TinyNetwork(), class_names=CLASSES))
    assert {row["sample_id"] for row in audited.records} == {f"square-{k:03d}" for k in range(3)}


class First(SegmentationTask):
    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        if not dataloader_idx:
            super().validation_step(batch, batch_idx)


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter([Squares(2)[0], Squares(2)[1]])


@fault("a stream in place of a data set", "one sentence, before training begins")
def test_a_stream_is_refused_before_training() -> None:
    loop = trainer(quick())
    with pytest.raises(MisconfigurationException, match="needs a data set with __len__ and __getitem__"):
        loop.fit(task(), loader(8, train=True), DataLoader(Stream(), batch_size=2))
    assert loop.global_step == 0


@fault("a validation loader with workers", "the audit reads the data set itself; the figures are the same")
def test_workers_change_nothing() -> None:
    loop = fit(quick(), val=DataLoader(Squares(6), batch_size=4, num_workers=1))
    assert loop.callback_metrics[GAP] == fit(quick()).callback_metrics[GAP]


@pytest.mark.parametrize("layout", ["strided", "channels_last"])
@fault("images that are not contiguous, or channels last", "the same figures")
def test_the_layout_of_images_changes_nothing(layout: str) -> None:
    images = pictures(side=12)
    laid = (
        images.to(memory_format=torch.channels_last)
        if layout == "channels_last"
        else torch.stack([images, images], dim=-1)[..., 0]
    )
    assert not laid.is_contiguous()
    for name, value in update(conv(), images).compute().items():
        torch.testing.assert_close(update(conv(), laid).compute()[name], value, rtol=1e-3, atol=1e-4, equal_nan=True)


@fault("images with a gradient", "no gradient reaches them")
def test_images_that_ask_for_a_gradient_get_none() -> None:
    images = pictures().requires_grad_(True)
    update(conv(), images)
    assert images.grad is None


@fault("images made under inference_mode", "audited")
def test_images_made_under_inference_mode() -> None:
    with torch.inference_mode():
        images = pictures()
    assert update(conv(), images).compute()["saliency/deletion_auc"].isfinite()


@fault("no image of a batch has a target", "no records, no crash; the images are counted")
def test_a_batch_without_targets() -> None:
    auditor = update(conv(), pictures(), selector=TargetSelector(min_area=1.0, classes=[2]))
    values = auditor.compute()
    assert [float(values[name]) for name in ("images", "targets")] == [2, 0]
    assert auditor.records() == []


@fault("a class that does not exist among the wanted ones", "one sentence that names it")
def test_a_wanted_class_that_does_not_exist() -> None:
    with pytest.raises(ValueError, match=r"classes \[9\] do not exist: the model has the classes 0 to 2"):
        update(conv(), pictures(), selector=TargetSelector(classes=[9]))


@fault("scores near nothing: S(x) below 0.05", "not scored, with a reason; never a silent zero")
def test_targets_with_hardly_any_score() -> None:
    model = conv(classes=40)  # so many classes that the winner has little
    with torch.no_grad():
        model[2].weight.mul_(1e-3), model[2].bias.mul_(1e-3)
    auditor = Auditor(["saliency"], ["deletion_auc"], TargetSelector(min_area=0, max_per_image=1), Intervention(steps=3))
    images = pictures()
    with attribution_context(model):
        targets = auditor.selector(model(images))
        assert float(target_confidence(model(images)[targets.image_index], targets).max()) < 0.05
    auditor.update(model, images)
    assert all(isnan(row["deletion_auc"]) and row["reason"] for row in auditor.records())


def test_the_tools_do_what_they_say() -> None:
    assert len(BEHIND) >= 2


@fault("masks with an axis for channels, in a batch of the loader", "the figures of those without")
def test_masks_with_channels_in_a_batch() -> None:
    found = []
    for change in (lambda item: item | {"mask": item["mask"][None].float()}, lambda item: item):
        data = Changed(change)
        data.begun = True
        audited = quick(selector=TargetSelector("ground_truth"))
        trainer(audited).validate(Own(), feeding(data), verbose=False)
        found.append([(row["class_index"], row["faithfulness_gap"]) for row in audited.records])
    assert found[0] == found[1] != []


class Own(SegmentationTask):
    """Looks at no masks in the validation."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        super().__init__(TinyNetwork(), class_names=CLASSES)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        pass


class Bytes(Own):
    """Has its images made floating point on the device."""

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return batch | {"image": batch["image"].float() / 64 - 1}


@fault("uint8 images that on_after_batch_transfer makes floating point", "audited as the network sees them")
def test_images_that_a_hook_makes_floating_point() -> None:
    def coarse(item: Any) -> Any:
        return item | {"image": ((item["image"] + 1) * 64).clamp(0, 255).byte()}

    def fine(item: Any) -> Any:
        return item | {"image": coarse(item)["image"].float() / 64 - 1}

    found = []
    for model, change in ((Bytes(), coarse), (Own(), fine)):
        data = Changed(change)
        data.begun = True
        audited = quick()
        trainer(audited).validate(model, feeding(data), verbose=False)
        found.append([row["faithfulness_gap"] for row in audited.records])
    assert found[0] == found[1] != []


@fault("float16 images and network", "scored, close to single precision")
def test_float16() -> None:
    half, single = update(conv().half(), pictures().half()).compute(), update(conv(), pictures()).compute()
    assert float(half["saliency/deletion_auc"]) == pytest.approx(float(single["saliency/deletion_auc"]), abs=0.02)


@pytest.mark.parametrize("double", [False, True])
@fault("torch.set_default_dtype(torch.float64)", "the figures of single precision, whatever the network has")
def test_a_default_of_double_precision(double: bool) -> None:
    # One weight: of several, the best may change by a rounding error.
    kinds = ["saliency", "region_effects", "seg_grad_cam", DEA(weights=[0.5])]
    plain = update(conv(), pictures(), explainers=kinds).compute()
    model, images = (conv().double(), pictures().double()) if double else (conv(), pictures())
    torch.set_default_dtype(torch.float64)
    try:
        found = update(model, images, explainers=kinds).compute()
    finally:
        torch.set_default_dtype(torch.float32)
    for name, value in plain.items():
        torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-3, equal_nan=True, check_dtype=False)


@fault("a batch of no images", "one sentence")
def test_a_batch_of_no_images() -> None:
    with pytest.raises(ValueError, match="there are no images in the batch"):
        update(conv(), pictures()[:0])


class Nameless(Squares):
    """Gives None for an image, and no names."""

    def __getitem__(self, index: int) -> Any:
        item = super().__getitem__(index)
        return None if index == ORDER[1] else {"image": item["image"], "mask": item["mask"]}


@fault("a collate function that leaves images out of batches without names", "they are not drawn into the panel")
def test_a_collate_function_that_leaves_images_out() -> None:
    def collate(items: Any) -> Any:
        return default_collate([item for item in items if item is not None])

    audited = quick()
    loop = fit(audited, val=feeding(Nameless(6), collate_fn=collate))
    assert logged(loop, "lost", "images") == [0, 4]
    assert ORDER[1] not in audited.panel.order


@fault("sides that are no multiple of the network's stride", "audited at the image's own size")
def test_sides_that_are_no_multiple_of_the_stride() -> None:
    images = pictures(side=15)[..., :13]
    auditor = update(TinyNetwork(), images, explainers=["saliency", "region_effects"])
    assert {round(row["area"] * 15 * 13, 3).is_integer() for row in auditor.records()} == {True}
    assert auditor.compute()["region_effects/deletion_auc"].isfinite()


@fault("a batch in which no images are found", "one sentence that names unpack, before training begins")
def test_a_batch_in_which_no_images_are_found() -> None:
    data = Changed(lambda item: {"picture": item["image"]})
    data.begun = True
    loop = trainer(quick())
    with pytest.raises(MisconfigurationException, match=r"finds no images in a batch of the type dict.*unpack\(batch\)"):
        loop.fit(Own(), loader(8, train=True), feeding(data))
    assert loop.global_step == 0
