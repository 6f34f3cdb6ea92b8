"""AttributionAudit in a real Trainer: when it audits, what, what it logs and what it leaves in the run folder."""

import csv
from math import isnan
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from integration.tiny import (
    CLASSES,
    Squares,
    TinyNetwork,
    adam,
    audit,
    figures,
    loader,
    quick,
    small_intervention,
    task,
    trainer,
)
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningDataModule, LightningModule, seed_everything
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from torch.utils.data import DataLoader, IterableDataset

from segaudit.attribution import Explainer
from segaudit.auditor import DEFAULT_EXPLAINERS, DEFAULT_METRICS
from segaudit.callbacks import AttributionAudit, Sample
from segaudit.forwards import TargetSelector

GAP = "audit/saliency/faithfulness_gap"


class Log(Callback):
    """Notes the figures of each validation epoch that was audited, and what was known in the sanity check."""

    def __init__(self, audited: AttributionAudit) -> None:
        self.audited, self.gaps, self.sane = audited, {}, None

    def on_sanity_check_end(self, trainer, pl_module):
        self.sane = dict(self.audited.values)

    def on_validation_epoch_end(self, trainer, pl_module):  # stands behind the audit
        if not trainer.sanity_checking and self.audited._fresh:
            self.gaps[trainer.current_epoch] = float(self.audited.values["saliency/faithfulness_gap"])


def fit(audited: AttributionAudit, *callbacks: Callback, val: Any = None, model: Any = None, **options: Any) -> Any:
    loop = trainer(audited, *callbacks, **options)
    seed_everything(0, verbose=False)
    loop.fit(model or task(), loader(8, train=True), loader(6) if val is None else val)
    return loop


def validate(audited: AttributionAudit, val: Any = None, model: Any = None, **options: Any) -> Any:
    loop = trainer(audited, **options)
    loop.validate(model or task(), loader(6) if val is None else val, verbose=False)
    return loop


# When


def test_scores_are_there_from_the_first_epoch_for_whoever_monitors_them(tmp_path):
    audited = quick()
    keep = ModelCheckpoint(tmp_path, monitor=GAP, mode="max", save_top_k=1, filename="{epoch}")
    stop = EarlyStopping(GAP, mode="max", patience=0, min_delta=1.0)  # no gain is enough: stops in the second epoch
    log = Log(audited)
    loop = fit(audited, log, keep, stop, max_epochs=5, enable_checkpointing=True)
    assert sorted(log.gaps) == [0, 1]
    assert float(keep.best_model_score) == max(log.gaps.values())
    assert loop.callback_metrics[GAP] == log.gaps[1]
    assert loop.callback_metrics["audit/images"] == 4
    assert loop.callback_metrics["audit/seconds"] > 0


@pytest.mark.parametrize("monitor", [ModelCheckpoint(monitor=GAP), EarlyStopping(GAP)], ids=["checkpoint", "stopping"])
@pytest.mark.parametrize("every", [2, 3])
def test_a_monitor_that_would_see_stale_scores_is_refused(monitor, every):
    with pytest.raises(
        MisconfigurationException, match=rf"looks at 'audit/saliency/faithfulness_gap' every 1 .*every {every}"
    ):
        fit(quick(every_n_epochs=every), monitor, max_epochs=4, enable_checkpointing=True)
    val = EarlyStopping("val/loss")  # other keys are none of the audit's business
    fit(quick(every_n_epochs=every), val, max_epochs=1)


@pytest.mark.parametrize("every", [2, 3])
def test_a_monitor_is_welcome_where_only_audited_epochs_are_validated(every):
    audited = quick(every_n_epochs=every)
    log = Log(audited)
    fit(audited, log, EarlyStopping(GAP, patience=9), max_epochs=2 * every, check_val_every_n_epoch=every)
    assert sorted(log.gaps) == [every - 1, 2 * every - 1]


def test_early_stopping_counts_audits_where_only_audited_epochs_are_validated():
    audited = quick(every_n_epochs=3)
    log = Log(audited)
    stop = EarlyStopping(GAP, mode="max", patience=1, min_delta=1.0)  # no gain is enough: stops at the second audit
    loop = fit(audited, log, stop, max_epochs=30, check_val_every_n_epoch=3)
    assert sorted(log.gaps) == [2, 5]
    assert loop.current_epoch == 6


@pytest.mark.parametrize("mode", ["max", "min"])
@pytest.mark.parametrize(("every", "epochs"), [(2, [1, 3]), (3, [2, 5, 6])])
def test_an_aligned_checkpoint_picks_the_right_epoch(tmp_path, mode, every, epochs):
    audited = quick(every_n_epochs=every)
    keep = ModelCheckpoint(tmp_path, monitor=GAP, mode=mode, every_n_epochs=every, filename="{epoch}")
    log = Log(audited)
    fit(audited, log, keep, max_epochs=epochs[-1] + 1, enable_checkpointing=True)
    assert sorted(log.gaps) == epochs  # the last epoch too, which ModelCheckpoint passes over
    seen = {epoch: gap for epoch, gap in log.gaps.items() if (epoch + 1) % every == 0}
    best = {"max": max, "min": min}[mode](seen, key=seen.get)
    assert [path.name for path in tmp_path.glob("*.ckpt")] == [f"epoch={best}.ckpt"]
    assert len(set(log.gaps.values())) == len(epochs)


def test_the_last_epoch_is_audited_and_the_sanity_check_is_not():
    audited = quick(every_n_epochs=2)
    log = Log(audited)
    fit(audited, log, max_epochs=3, num_sanity_val_steps=2)
    assert log.sane == {}
    assert sorted(log.gaps) == [1, 2]


def test_the_last_epoch_is_audited_where_steps_end_the_training():
    audited = quick(every_n_epochs=2)
    log = Log(audited)
    fit(audited, log, max_epochs=-1, max_steps=6)  # two steps an epoch
    assert sorted(log.gaps) == [1, 2]


def test_fast_dev_run_audits_one_batch_and_writes_nothing(tmp_path):
    audited = quick(batch_size=2, max_images=6)
    loop = fit(audited, folder=tmp_path, fast_dev_run=True)
    assert loop.callback_metrics["audit/images"] == 2
    assert not list(tmp_path.iterdir())


def test_the_test_loop_audits_the_test_images(tmp_path):
    audited = quick()
    loop = trainer(audited, folder=tmp_path)
    loop.test(task(), DataLoader(Squares(3), batch_size=2), verbose=False)
    assert loop.callback_metrics["audit/images"] == 3
    assert {row["sample_id"] for row in audited.auditor.records()} == {f"square-00{i}" for i in range(3)}
    assert [path.name for path in tmp_path.glob("version_0/audit/*.parquet")] == ["test-epoch=000-step=000000.parquet"]


# What


def test_more_images_wanted_than_there_are():
    audited = quick(max_images=100, batch_size=4)
    assert validate(audited).callback_metrics["audit/images"] == 6


def scores(audited: AttributionAudit) -> list[dict[str, str]]:
    """Records in full precision, NaN equal to NaN."""
    rows = audited.auditor.records()
    return [{name: repr(value) for name, value in row.items() if name != "seconds"} for row in rows]


def test_a_time_budget_takes_a_prefix_of_the_full_order():
    full, short = quick(max_images=6), quick(max_images=6, time_budget=1e-9)
    fit(full), fit(short)
    assert short.values["images"] == 2  # at least one batch
    assert full.values["images"] == 6
    assert scores(short)
    assert scores(short) == scores(full)[: len(scores(short))]


def test_a_wide_time_budget_takes_all_and_it_binds_training_alone():
    wide, narrow = quick(max_images=6, time_budget=1e6), quick(max_images=6, time_budget=1e-9)
    fit(wide), validate(narrow)
    assert wide.values["images"] == narrow.values["images"] == 6


def test_the_images_are_the_same_in_each_epoch_and_others_with_another_seed():
    def ids(audited: AttributionAudit) -> list[str]:
        return list(dict.fromkeys(row["sample_id"] for row in audited.auditor.records()))

    audited, other = quick(max_images=3), quick(max_images=3, seed=1)
    validate(audited, val=loader(50))
    first = ids(audited)
    fit(audited, val=loader(50), max_epochs=2)
    validate(other, val=loader(50))
    assert ids(audited) == first
    assert len(first) == 3
    assert set(ids(other)) != set(first)


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter(Squares(4)[i] for i in range(4))


def test_a_stream_of_images_is_refused_in_a_sentence():
    with pytest.raises(MisconfigurationException, match=r"needs a data set with __len__ and __getitem__; Stream has not"):
        validate(quick(), val=DataLoader(Stream(), batch_size=2))


class Odd(LightningModule):
    """Wants batches of a form of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.network = TinyNetwork()
        self.seen: list[torch.Tensor] = []

    def forward(self, x):
        return {"out": self.network(x), "aux": None}

    def training_step(self, batch, *_):
        return self(batch["x"])["out"].square().mean()

    def validation_step(self, batch, *_):
        self.seen += list(batch["x"])

    def configure_optimizers(self):
        return adam(self.parameters())


def odd_loader(count: int = 4) -> DataLoader[Any]:
    items = map(Squares(count).__getitem__, range(count))
    return DataLoader([{"x": item["image"], "y": item["mask"]} for item in items], batch_size=2)


class Unpacking(AttributionAudit):
    def unpack(self, batch):
        return Sample(batch["x"], batch["y"])


def test_a_batch_of_another_form_needs_unpack():
    with pytest.raises(MisconfigurationException, match=r"no images in a batch of the type dict: .*override\s+unpack"):
        trainer(quick()).fit(Odd(), odd_loader(), odd_loader())
    audited = quick(Unpacking)
    loop = trainer(audited)
    loop.fit(Odd(), odd_loader(), odd_loader())
    assert loop.callback_metrics["audit/images"] == 4
    assert loop.callback_metrics[GAP].isfinite()
    assert {row["sample_id"] for row in audited.auditor.records()} == {"0", "1", "2", "3"}  # places in the data set


IMAGES, MASKS = torch.rand(2, 3, 4, 4), torch.zeros(2, 4, 4, dtype=torch.long)


@pytest.mark.parametrize(
    ("batch", "masks"),
    [
        (IMAGES, None),
        ([IMAGES], None),
        ((IMAGES, MASKS), MASKS),
        ([IMAGES, MASKS, "more"], MASKS),
        ({"image": IMAGES}, None),
        ({"image": IMAGES, "mask": MASKS}, MASKS),
        ({"images": IMAGES, "masks": MASKS}, MASKS),
        ({"pixel_values": IMAGES, "labels": MASKS}, MASKS),
    ],
)
def test_unpack_understands_the_usual_batches(batch, masks):
    sample = quick().unpack(batch)
    assert sample.images is IMAGES
    assert sample.masks is masks


@pytest.mark.parametrize("batch", ["text", [], {"image": "text"}, {"x": IMAGES}, [["text"]], None])
def test_unpack_refuses_the_rest(batch):
    with pytest.raises(MisconfigurationException, match="unpack"):
        quick().unpack(batch)


class Scaling(LightningDataModule):
    """Prepares batches in the hooks around their way to the device."""

    def val_dataloader(self) -> Any:
        return odd_loader()

    def on_before_batch_transfer(self, batch, dataloader_idx):
        return batch | {"x": batch["x"] + 1}

    def on_after_batch_transfer(self, batch, dataloader_idx):
        return batch | {"x": batch["x"] * 2}


class Remembering(Unpacking):
    images: Any = ()

    def unpack(self, batch):
        sample = super().unpack(batch)
        self.images = [*self.images, *sample.images]
        return sample


def test_the_audit_sees_the_images_that_the_model_sees():
    model, audited = Odd(), quick(Remembering)
    trainer(audited).validate(model, datamodule=Scaling(), verbose=False)
    seen = {tuple(image.flatten().tolist()) for image in model.seen}
    assert len(seen) == 4
    assert {tuple(image.flatten().tolist()) for image in audited.images} == seen


def test_of_several_loaders_the_first_is_audited():
    audited = quick(Unpacking, max_images=9)
    trainer(audited).validate(Odd(), [odd_loader(3), odd_loader(4)], verbose=False)
    assert audited.values["images"] == 3


# What kind of model


def test_masked_forwards_are_in_the_trainers_precision():
    told, mixed = audit(intervention=small_intervention(precision="bf16-mixed")), audit()
    validate(told), validate(mixed, precision="bf16-mixed")
    assert figures(mixed.values) == figures(told.values)
    assert fit(audit(), precision="bf16-mixed").callback_metrics["audit/dea/deletion_auc"].isfinite()


def test_masked_forwards_are_in_the_precision_that_is_told():
    exact, mixed = audit(), audit(intervention=small_intervention(precision="32-true"))
    validate(exact), validate(mixed, precision="bf16-mixed")
    assert figures(mixed.values) == pytest.approx(figures(exact.values), abs=1e-6, nan_ok=True)


@pytest.mark.parametrize("precision", ["64-true", "bf16-true"])
def test_a_model_of_another_precision(precision):
    assert fit(audit(), precision=precision).callback_metrics["audit/dea/deletion_auc"].isfinite()


def test_a_network_with_one_channel():
    audited = audit()
    model = task(network=TinyNetwork(channels=1), class_names=["background", "object"])
    val = DataLoader(Squares(6, binary=True), batch_size=4)
    loop = trainer(audited)
    loop.fit(model, val, val)
    rows = audited.auditor.records()
    assert {row["class_index"] for row in rows} == {1}
    assert len(rows) == 4 * len(DEFAULT_EXPLAINERS)
    assert loop.callback_metrics["audit/dea/deletion_auc"].isfinite()


class Torchvision(nn.Module):
    """Returns what torchvision's networks return."""

    def __init__(self) -> None:
        super().__init__()
        self.network = TinyNetwork()

    def forward(self, x):
        logits = self.network(x)
        return {"out": logits, "aux": 0 * logits}


def test_a_network_with_a_dict_as_output_gets_the_figures_of_its_logits():
    plain, wrapped = audit(), audit()
    validate(plain), validate(wrapped, model=task(network=seeded(Torchvision)))
    assert figures(wrapped.values) == figures(plain.values)


def seeded(cls: Any) -> Any:
    torch.manual_seed(0)
    return cls()


# What goes wrong


class Broken(Explainer):
    """Fails inside a forward pass, the n-th time it is asked, with a hook of its own still in the model."""

    def __init__(self, when: int) -> None:
        self.when, self.calls = when, 0

    def attribute(self, probe):
        self.calls += 1
        if self.calls == self.when:
            probe.model.network.body[0].register_forward_pre_hook(lambda *_: None)
            probe.model.network.body[4].register_forward_hook(self.fail)
            torch.rand(5)
            probe.forward(probe.images)
        return torch.rand_like(probe.targets.region.float())

    def fail(self, *_: Any) -> None:
        raise ArithmeticError("the explainer broke")


class Witness(Callback):
    """Notes what a model carries besides its weights, before the audit and after it failed."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def note(self, model: LightningModule) -> None:
        modules = [(m.training, len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.modules()]
        parameters = [(p.requires_grad, p.tolist(), None if p.grad is None else p.grad.tolist()) for p in model.parameters()]
        buffers = [b.tolist() for b in model.buffers()]
        self.seen.append((modules, parameters, buffers, torch.get_rng_state().tolist()))

    def on_validation_start(self, trainer, pl_module):
        pl_module.network.body[3].train()

    def on_validation_epoch_end(self, trainer, pl_module):
        self.note(pl_module)

    def on_validation_end(self, trainer, pl_module):
        self.note(pl_module)

    def on_exception(self, trainer, pl_module, exception):
        self.note(pl_module)


@pytest.mark.parametrize(("verb", "on_error"), [("fit", "warn"), ("fit", "raise"), ("validate", "warn")])
def test_an_explainer_that_fails_leaves_the_model_as_it_was(verb, on_error):
    witness = Witness()
    broken = Broken(3 if verb == "fit" else 2)  # the second block; in fit an image was audited before training
    audited = quick(explainers=["saliency", broken], metrics=["off_target_leakage"], on_error=on_error)
    loop = trainer(witness, audited)
    model = task()
    model.network.body[0].bias.requires_grad_(False)
    if verb == "fit" and on_error == "warn":
        loop.fit(model, loader(8, train=True), loader(6))
        assert loop.callback_metrics["audit/lost"] == 0  # each of the block's images alone did not fail
        assert loop.callback_metrics["audit/images"] == 4
    else:
        with pytest.raises(ArithmeticError, match="the explainer broke"):
            loop.fit(model, loader(8, train=True), loader(6)) if verb == "fit" else loop.validate(model, loader(6))
    before, after = witness.seen
    for one, other in zip(before, after, strict=True):
        assert one == other
    assert {training for training, *_ in before[0]} == {True, False}


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"every_n_epochs": 0}, "every_n_epochs must be at least 1"),
        ({"max_images": 0}, "max_images must be at least 1"),
        ({"batch_size": -1}, "batch_size must be at least 1"),
        ({"time_budget": 0.0}, "time_budget is a share"),
        ({"explainers": ["grad_cam_9"]}, r"no Explainer 'grad_cam_9'\..* Known: .*saliency"),
        ({"metrics": ["iou"]}, r"no Metric 'iou'\..* Known: .*deletion_auc"),
    ],
)
def test_wrong_arguments_are_told_in_a_sentence(wrong, sentence):
    with pytest.raises(ValueError, match=sentence):
        AttributionAudit(**wrong)


def test_cues_that_a_metric_needs_and_the_data_lack():
    with pytest.raises(ValueError, match="needs planted cues"):
        validate(quick(metrics=["cue_mass"]))


# What is left


def test_two_audits_in_one_trainer(tmp_path):
    first, second = quick(), quick(prefix="second", max_images=3)
    assert first.state_key != second.state_key
    loop = fit(first, second, folder=tmp_path)
    assert loop.callback_metrics["audit/images"] == 4
    assert loop.callback_metrics["second/images"] == 3
    for prefix in ("audit", "second"):
        assert len(list((tmp_path / "version_0" / prefix).glob("*.parquet"))) == 1


def test_without_a_logger_the_files_are_in_the_root_folder(tmp_path, capsys):
    loop = fit(quick(panels=2), logger=False, default_root_dir=tmp_path)
    assert loop.callback_metrics[GAP].isfinite()
    assert sorted(path.suffix for path in tmp_path.glob("audit/*")) == [".csv", ".parquet", ".png"]
    assert "saliency: faithfulness_gap" in capsys.readouterr().out


def test_what_the_run_folder_holds(tmp_path, capsys):
    audited = audit(panels=3)
    loop = fit(audited, folder=tmp_path, max_epochs=2)
    folder = tmp_path / "version_0"
    names = ["epoch=000-step=000002", "epoch=001-step=000004"]
    assert sorted(path.name for path in (folder / "audit").iterdir()) == sorted(
        ["panel.csv", *(f"{name}.{suffix}" for name in names for suffix in ("parquet", "png"))]
    )

    table = pq.read_table(folder / "audit" / f"{names[1]}.parquet")
    assert set(table.column_names) == {
        "epoch", "step", "class", "sample_id", "group", "class_index", "area", "predicted_area", "confidence", "image_iou",
        "fill", "explainer", "reason", "protocol", *DEFAULT_METRICS,
    }  # fmt: skip
    rows = table.to_pylist()
    assert len(rows) == audited.values["targets"] * len(DEFAULT_EXPLAINERS)
    assert {(row["epoch"], row["step"]) for row in rows} == {(1, 4)}
    assert {row["explainer"] for row in rows} == set(DEFAULT_EXPLAINERS)
    assert all(row["class"] == CLASSES[row["class_index"]] for row in rows)
    assert {row["class"] for row in rows} > {"background"}
    mine = [row["faithfulness_gap"] for row in rows if row["explainer"] == "dea"]
    scored = [value for value in mine if not isnan(value)]
    assert sum(scored) / len(scored) == pytest.approx(float(loop.callback_metrics["audit/dea/faithfulness_gap"]), abs=1e-6)
    assert all((row["reason"] != "") == isnan(row["deletion_auc"]) for row in rows)

    with Image.open(folder / "audit" / f"{names[0]}.png") as picture:
        assert picture.width > picture.height > 100

    with open(folder / "metrics.csv", newline="") as file:
        lines = [line for line in csv.DictReader(file) if line[GAP]]
    assert [line["epoch"] for line in lines] == ["0", "1"]
    assert all(line["val/iou"] and line["audit/dea/deletion_auc"] for line in lines)
    assert float(lines[1][GAP]) == pytest.approx(float(loop.callback_metrics[GAP]), abs=1e-6)

    events = EventAccumulator(str(folder), size_guidance={"images": 0}).Reload()
    assert [event.step for event in events.Images("audit/panels")] == [2, 4]
    assert GAP in events.Tags()["scalars"]

    out = capsys.readouterr().out
    assert sum(line.startswith("audit: epoch") and " · dea: " in line for line in out.splitlines()) == 2
    assert "target_mask (control)" in out


def test_a_model_that_predicts_nothing_worth_a_target(tmp_path, recwarn):
    audited = quick(Empty, panels=2)
    loop = fit(audited, folder=tmp_path)
    assert loop.callback_metrics["audit/targets"] == 0
    assert loop.callback_metrics[GAP].isnan()
    assert not list(tmp_path.glob("version_0/audit/*"))  # nothing to tell
    assert not [str(warning.message) for warning in recwarn if "compute" in str(warning.message)]


class Empty(AttributionAudit):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.auditor.selector = TargetSelector(min_area=1.0)


def test_the_options_reach_the_auditor():
    intervention = small_intervention()
    audited = AttributionAudit({"mine": "saliency"}, ["seconds"], intervention=intervention, perturbations=[])
    assert list(audited.auditor.explainers) == ["mine"]
    assert list(audited.auditor.directions) == ["seconds"]
    assert audited.auditor.intervention is intervention
    assert audited.auditor.perturbations == []
