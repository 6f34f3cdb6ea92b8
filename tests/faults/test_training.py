"""Options of the Trainer, and what goes wrong around an audit: disks, loggers, other callbacks."""

import errno
import io
import os
import pickle
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from faults.given import GAP, LEAKAGE, ORDER, Changed, Failing, feeding, fit, logged, unreadable
from faults.table import fault
from integration.tiny import CLASSES, Squares, TinyNetwork, adam, loader, quick, task, trainer
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningDataModule, LightningModule, seed_everything
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint, Timer
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.strategies import FSDPStrategy, ModelParallelStrategy, SingleDeviceStrategy
from lightning.pytorch.tuner import Tuner
from torch import Tensor, nn
from torch.utils.data import DataLoader

from segaudit.callbacks import AttributionAudit, AuditAlarm, AuditCheckpoint
from segaudit.selection import Candidate, Tolerant, chosen
from segaudit.training.task import SegmentationTask


def same_with_and_without(**options: Any) -> Any:
    """Train with and without an audit; the trainer of the first. The weights must be the same, bit for bit."""
    loops, weights = [], []
    for audits in ([quick()], []):
        seed_everything(0, verbose=False)
        model = task()
        loop = trainer(*audits, **options)
        loop.fit(model, loader(8, train=True), loader(6))
        loops.append(loop)
        weights.append([value.clone() for value in model.state_dict().values()])
    assert all(torch.equal(one, other) for one, other in zip(*weights, strict=True))
    assert loops[0].global_step == loops[1].global_step > 0
    return loops[0]


@fault("accumulate_grad_batches", "audited; training is as without, bit for bit")
def test_gradient_accumulation() -> None:
    assert GAP in same_with_and_without(accumulate_grad_batches=2, max_epochs=2).callback_metrics


@fault("precision: bf16-mixed", "masked forwards are in it, gradients in single precision; training is as without")
def test_mixed_precision() -> None:
    assert same_with_and_without(precision="bf16-mixed").callback_metrics[GAP].isfinite()


@fault("precision: 64-true", "audited in double precision; training is as without")
def test_double_precision_of_the_trainer() -> None:
    assert same_with_and_without(precision="64-true").callback_metrics[GAP].isfinite()


@fault("limit_val_batches", "the audit has its own images, which do not change with it")
def test_fewer_validation_batches() -> None:
    loop = same_with_and_without(limit_val_batches=1)
    assert logged(loop, "images") == [4]
    assert loop.callback_metrics[GAP] == same_with_and_without().callback_metrics[GAP]


@fault("val_check_interval: 0.5", "audited at each validation")
def test_validations_within_an_epoch() -> None:
    audited = quick()
    fit(audited, val_check_interval=0.5)
    assert len(audited.epochs) == 2


@fault("validation by steps: check_val_every_n_epoch=None", "audited at each validation")
def test_validations_by_steps() -> None:
    audited = quick()
    fit(audited, val_check_interval=2, check_val_every_n_epoch=None, max_epochs=3)
    assert len(audited.epochs) == 3


@fault("overfit_batches", "audited; training is as without")
def test_overfitting() -> None:
    assert GAP in same_with_and_without(overfit_batches=1).callback_metrics


@fault("fast_dev_run", "one block, nothing written")
def test_a_trial_run(tmp_path: Path) -> None:
    loop = fit(quick(), folder=tmp_path, fast_dev_run=True)
    assert logged(loop, "images") == [2]
    assert not list(tmp_path.rglob("*.parquet"))


@fault("max_steps ends the training", "the last validation is audited")
def test_training_that_ends_by_steps() -> None:
    audited = quick(every_n_epochs=10)
    fit(audited, max_steps=2, max_epochs=-1)
    assert audited.audited_at == 2


@fault("max_time ends the training", "what was audited is there")
def test_training_that_ends_by_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    audited = quick()
    monkeypatch.setattr(Timer, "time_elapsed", lambda *_: 1e9 if audited.epochs else 0.0)
    loop = fit(audited, max_time={"hours": 1}, max_epochs=50)
    assert loop.current_epoch < 50
    assert audited.epochs


@fault(
    "check_val_every_n_epoch: 3", "audited at validations alone, and the training that begins without a loader is no error"
)
def test_validations_every_third_epoch() -> None:
    audited = quick()
    fit(audited, check_val_every_n_epoch=3, max_epochs=3)
    assert [epoch["epoch"] for epoch in audited.epochs] == [2]


@fault("num_sanity_val_steps", "the sanity check is not audited, and nothing of it is logged")
def test_the_sanity_check() -> None:
    audited = quick()
    fit(audited, num_sanity_val_steps=2)
    assert len(audited.epochs) == 1


@fault("barebones=True", "one sentence, from Lightning: no callbacks there")
def test_a_bare_trainer() -> None:
    with pytest.raises(ValueError, match="barebones=True"):
        trainer(quick(), barebones=True)


@fault("inference_mode=False", "the same figures")
def test_without_inference_mode() -> None:
    one, other = fit(quick(), inference_mode=False), fit(quick())
    assert one.callback_metrics[GAP] == other.callback_metrics[GAP]


@fault("detect_anomaly=True", "audited; training is as without")
def test_anomaly_detection() -> None:
    assert GAP in same_with_and_without(detect_anomaly=True).callback_metrics


@fault("gradient_clip_val", "training is as without, bit for bit")
def test_gradient_clipping() -> None:
    same_with_and_without(gradient_clip_val=0.01, max_epochs=2)


@fault("reload_dataloaders_every_n_epochs", "audited at each epoch")
def test_loaders_that_are_built_anew() -> None:
    audited = quick()
    fit(audited, reload_dataloaders_every_n_epochs=1, max_epochs=2)
    assert len(audited.epochs) == 2


class Rated(LightningModule):
    """Has what the tuner looks for."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.network, self.lr, self.batch_size = TinyNetwork(), 1e-3, 2

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return nn.functional.cross_entropy(nn.functional.interpolate(self(batch["image"]), (16, 16)), batch["mask"])

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        pass

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=self.lr)


class Data(LightningDataModule):
    def __init__(self) -> None:
        super().__init__()
        self.batch_size = 2

    def train_dataloader(self) -> Any:
        return DataLoader(Squares(8), batch_size=self.batch_size)

    def val_dataloader(self) -> Any:
        return DataLoader(Squares(4), batch_size=self.batch_size)


@fault("Tuner.lr_find", "finds what it finds without an audit")
def test_the_search_for_a_learning_rate(tmp_path: Path) -> None:
    found = []
    for audits in ([quick()], []):
        seed_everything(0, verbose=False)
        loop = trainer(*audits, default_root_dir=tmp_path)
        found.append(Tuner(loop).lr_find(Rated(), datamodule=Data(), num_training=8).suggestion(skip_begin=1, skip_end=1))
    assert found[0] == found[1]


@fault("Tuner.scale_batch_size", "finds what it finds without an audit")
def test_the_search_for_a_batch_size(tmp_path: Path) -> None:
    found = []
    for audits in ([quick()], []):
        loop = trainer(*audits, default_root_dir=tmp_path)
        found.append(Tuner(loop).scale_batch_size(Rated(), datamodule=Data(), max_trials=2, steps_per_trial=1))
    assert found[0] == found[1]


class Manual(Rated):
    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> None:
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(super().training_step(batch, batch_idx))
        optimizer.step()


@fault("optimisation by hand", "audited")
def test_optimisation_by_hand() -> None:
    loop = fit(quick(), model=Manual())
    assert loop.callback_metrics[GAP].isfinite()
    assert loop.global_step == 2


class Stop(Callback):
    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        trainer.should_stop = True


@fault("the training is stopped in mid-epoch", "the last validation is audited, whatever every_n_epochs says")
def test_a_training_that_is_stopped() -> None:
    audited = quick(every_n_epochs=10)
    fit(audited, Stop(), max_epochs=50)
    assert audited.audited_at is not None


class Pressed(Failing):
    """As if somebody pressed Ctrl-C in an audit."""

    def attribute(self, probe: Any) -> Tensor:
        self.calls += 1
        if self.calls == 2:
            raise KeyboardInterrupt
        return torch.rand(probe.targets.region.shape)


@fault("Ctrl-C in an audit", "ends the run, as everywhere in Lightning; it is never taken for a fault of the audit")
def test_control_c_in_an_audit() -> None:
    loop = trainer(quick(explainers=["saliency", Pressed(2)]), max_epochs=5)
    with pytest.raises((SystemExit, KeyboardInterrupt)):
        loop.fit(task(), loader(8, train=True), loader(6))
    assert loop.interrupted
    assert loop.current_epoch == 0


@fault("fit called twice", "audited again, from the beginning")
def test_fit_twice() -> None:
    audited = quick()
    fit(audited)
    first = len(audited.epochs)
    loop = fit(audited)
    assert len(audited.epochs) == 2 * first
    assert logged(loop, "images", "lost") == [4, 0]


@fault("a logger that raises when it is given pictures", "told of; training goes on, and the scores are logged")
def test_a_logger_that_raises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise ConnectionError("no route to the host")

    monkeypatch.setattr("segaudit.callbacks.audit.log_audit", fail)
    with pytest.warns(
        UserWarning, match="could not be written, and training goes on. ConnectionError: no route to the host"
    ):
        loop = fit(quick(), folder=tmp_path)
    assert loop.callback_metrics[GAP].isfinite()
    assert list(tmp_path.rglob("*.parquet"))  # what was written before is there


@fault("no logger at all", "scores are there for other callbacks")
def test_no_logger() -> None:
    assert fit(quick()).callback_metrics[GAP].isfinite()


@fault(
    "a disk that is full when records are written", "told of; training goes on, the scores are logged, no half file is left"
)
def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(table: Any, where: Any, **_: Any) -> None:
        Path(where).write_bytes(b"PAR1")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pq, "write_table", full)
    with pytest.warns(UserWarning, match="could not be written, and training goes on. OSError: .*No space left on device"):
        loop = fit(quick(), folder=tmp_path)
    assert loop.callback_metrics[GAP].isfinite()
    assert not list(tmp_path.rglob("*.parquet"))


@fault("a file where the audit's folder should be", "told of; training goes on, and the scores are logged")
def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "version_0").mkdir()
    (tmp_path / "version_0" / "audit").write_text("in the way")
    loop_options = {"folder": tmp_path, "logger": CSVLogger(tmp_path, name="", version=0)}
    with pytest.warns(UserWarning, match="could not be written, and training goes on"):
        loop = fit(quick(), **loop_options)
    assert loop.callback_metrics[GAP].isfinite()


class DeepSpeedStrategy(SingleDeviceStrategy):
    """Stands in for Lightning's, which wants the deepspeed package."""

    def __init__(self, stage: int) -> None:
        super().__init__()
        self.zero_stage_3 = stage == 3


@pytest.mark.parametrize(
    "strategy", [FSDPStrategy(), ModelParallelStrategy(), DeepSpeedStrategy(3)], ids=lambda one: type(one).__name__
)
@fault(
    "parameters in parts on several devices (FSDP, ModelParallel, DeepSpeed stage 3)",
    "one sentence at the start: what it is, and what to use",
)
def test_sharded_parameters_are_refused(strategy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    loop = trainer(quick())
    monkeypatch.setattr(type(loop), "strategy", property(lambda _: strategy))
    with pytest.raises(MisconfigurationException, match=rf"{type(strategy).__name__}.*DDP.*`segaudit audit`"):
        quick().setup(loop, task(), "fit")


@fault("DeepSpeed stage 2, which keeps all weights on each device", "not refused")
def test_whole_parameters_are_not_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    loop, audited = trainer(quick()), quick()
    monkeypatch.setattr(type(loop), "strategy", property(lambda _: DeepSpeedStrategy(2)))
    audited.setup(loop, task(), "fit")


@fault("two audits under one prefix", "refused when the Trainer is made")
def test_two_audits_under_one_prefix() -> None:
    with pytest.raises(RuntimeError, match="more than one stateful callback of type `AttributionAudit`"):
        trainer(quick(), quick(max_images=2))


@fault("a monitor of a score that is not audited", "one sentence with the nearest name, before training begins")
def test_a_monitor_of_what_is_not_audited() -> None:
    loop = trainer(quick(), EarlyStopping("audit/saliency/faithfulnes_gap"))
    with pytest.raises(MisconfigurationException, match=f"Did you mean '{GAP}'"):
        loop.fit(task(), loader(8, train=True), loader(6))


def lost(last: int) -> AttributionAudit:
    """An audit that loses everything once training has begun."""
    return quick(explainers=["saliency", Failing(2, last=last)])


ALL = 10**9


@fault("a checkpoint by a score that is NaN in every epoch", "nothing is chosen, and that is said; training goes on")
def test_nothing_to_choose_from(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keep = AuditCheckpoint(Tolerant(prefer=LEAKAGE))
    with pytest.warns(UserWarning, match="could not be audited"):
        fit(lost(ALL), keep, folder=tmp_path, enable_checkpointing=True, max_epochs=2)
    assert not keep.best_model_path
    assert "no checkpoint was chosen" in capsys.readouterr().out


@fault("a checkpoint by a score that is NaN in the first epoch", "the second epoch is chosen")
def test_an_epoch_without_scores_is_never_chosen(tmp_path: Path) -> None:
    keep = AuditCheckpoint(Tolerant(prefer=LEAKAGE, tolerance=1.0))
    with pytest.warns(UserWarning, match="4 of 4 images could not be audited"):
        fit(lost(7), keep, folder=tmp_path, enable_checkpointing=True, max_epochs=2)  # two blocks, and their images
    assert "epoch=001" in keep.best_model_path


@fault("Lightning's ModelCheckpoint by a score that is NaN", "training goes on; an epoch with a score wins")
def test_lightnings_checkpoint_by_a_score_that_is_missing(tmp_path: Path) -> None:
    keep = ModelCheckpoint(tmp_path, monitor=GAP, mode="max", filename="{epoch}")
    with pytest.warns(UserWarning, match="could not be audited"):
        fit(lost(7), keep, enable_checkpointing=True, max_epochs=2)
    assert "epoch=1" in keep.best_model_path


@pytest.mark.parametrize(("check_finite", "epochs"), [(True, 1), (False, 2)])
@fault("EarlyStopping by a score that is NaN", "stops, as Lightning does unless check_finite=False; no crash")
def test_early_stopping_by_a_score_that_is_missing(check_finite: bool, epochs: int) -> None:
    with pytest.warns(UserWarning, match="could not be audited"):
        loop = fit(lost(ALL), EarlyStopping(GAP, check_finite=check_finite, patience=5), max_epochs=2)
    assert loop.current_epoch == epochs


@fault("an alarm over epochs that were lost", "no alarm, no crash")
def test_an_alarm_over_lost_epochs() -> None:
    alarm = AuditAlarm("saliency", ["off_target_leakage"])
    with pytest.warns(UserWarning, match="could not be audited") as said:
        loop = fit(lost(ALL), alarm, max_epochs=2)
    assert loop.current_epoch == 2
    assert not alarm.raised
    assert not [one for one in said if "AuditAlarm" in str(one.message)]


@fault("candidates of which none has a score", "nothing is chosen")
def test_candidates_without_scores() -> None:
    nan = float("nan")
    pool = [Candidate(f"run, epoch {k}", {"val/iou": 0.5, LEAKAGE: nan}, k) for k in range(3)]
    assert chosen(Tolerant(prefer=LEAKAGE).rank(pool)) is None


@fault("fewer class names than output channels", "one sentence with both numbers")
def test_fewer_names_than_classes() -> None:
    with pytest.raises(ValueError, match=r"3 channel\(s\), but there are 2 class names \(background, red\)"):
        fit(quick(), model=SegmentationTask(TinyNetwork(), class_names=CLASSES[:2], optimizer=adam))


@fault("precision: bf16-true", "audited; training is as without")
def test_half_precision_of_the_trainer() -> None:
    assert same_with_and_without(precision="bf16-true").callback_metrics[GAP].isfinite()


@fault("a validation while gradients are gathered", "the gathered gradients stay; training is as without, bit for bit")
def test_a_validation_between_gathered_gradients() -> None:
    loop = same_with_and_without(accumulate_grad_batches=4, val_check_interval=0.5, max_epochs=3)
    assert GAP in loop.callback_metrics


@fault("deterministic=True", "audited; training is as without")
def test_deterministic_algorithms() -> None:
    try:
        assert same_with_and_without(deterministic=True).callback_metrics[GAP].isfinite()
    finally:
        torch.use_deterministic_algorithms(False)


class Unreachable(TensorBoardLogger):
    """Takes numbers, but no pictures."""

    @property
    def experiment(self) -> Any:
        def fail(*_: Any, **__: Any) -> None:
            raise ConnectionError("no route to the host")

        writer = super().experiment
        writer.add_image = fail
        return writer


@fault("a TensorBoard that takes no pictures or charts", "told of, each; training goes on, and the scores are logged")
def test_a_tensorboard_without_pictures(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="and training goes on. ConnectionError: no route to the host") as said:
        loop = fit(quick(panels=1), folder=tmp_path, logger=Unreachable(tmp_path), max_epochs=2)
    assert loop.current_epoch == 2
    for what in ("records and pictures of the audit could not be written", "the charts of the audit could not be logged"):
        assert any(what in str(one.message) for one in said)
    assert loop.callback_metrics[GAP].isfinite()


@fault("a terminal that knows ASCII alone", "codes for what it lacks; training goes on")
def test_a_terminal_that_knows_ascii_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    keep = AuditCheckpoint(Tolerant(prefer=LEAKAGE))
    loop = fit(quick(), keep, folder=tmp_path / "\u00fc [/b]", enable_checkpointing=True, max_epochs=2)
    sys.stdout.flush()
    shown = sys.stdout.buffer.getvalue().decode("ascii")
    assert r"faithfulness gap \u2191" in shown
    assert r"\xfc [/b]" in shown
    assert sys.stdout.errors == "strict"
    assert not [one for one in recwarn if "could not be printed" in str(one.message)]
    assert loop.callback_metrics[GAP].isfinite()


@fault("a terminal that is gone", "told of; training goes on, and the scores are logged")
def test_a_terminal_that_is_gone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    stream = os.fdopen(writing, "w", encoding="utf-8")
    monkeypatch.setattr(sys, "stdout", stream)
    with pytest.warns(UserWarning, match="the scores could not be printed, and training goes on. BrokenPipeError"):
        loop = fit(
            quick(), AuditCheckpoint(Tolerant(prefer=LEAKAGE)), folder=tmp_path, enable_checkpointing=True, max_epochs=2
        )
    with pytest.raises(BrokenPipeError):
        stream.close()
    assert loop.current_epoch == 2
    assert loop.callback_metrics[GAP].isfinite()


@pytest.mark.parametrize("options", [{"max_epochs": 0}, {"limit_train_batches": 0}], ids=str)
@fault("no training: max_epochs=0, limit_train_batches=0", "no audit, no crash")
def test_no_training(options: dict[str, Any]) -> None:
    audited = quick()
    loop = trainer(audited, **options)
    loop.fit(task(), loader(8, train=True), loader(6))
    assert loop.state.finished
    assert not audited.records


@fault("`predict` with an audit among the callbacks", "no audit, no crash")
def test_predict() -> None:
    audited = quick()
    assert len(trainer(audited).predict(task(), loader(6))) == 2
    assert not audited.records


@fault("an image cannot be read in `test`", "an error: there is no training to save")
def test_in_test_an_error_is_an_error() -> None:
    data = Changed(unreadable, [max(ORDER)])
    data.begun = True
    with pytest.raises(OSError, match="truncated"):
        trainer(quick(), limit_test_batches=1).test(task(), feeding(data, batch_size=1), verbose=False)


@fault("the callback is pickled, as a strategy that starts processes does", "it goes on as it was")
def test_the_callback_is_pickled() -> None:
    audited = quick()
    fit(audited)
    copied = pickle.loads(pickle.dumps(audited))
    assert copied.epochs == audited.epochs
    assert fit(copied).callback_metrics[GAP].isfinite()


class Seen(EarlyStopping):
    """Notes what it looked at."""

    def __init__(self) -> None:
        super().__init__(GAP, patience=9)
        self.seen: list[float] = []

    def _evaluate_stopping_criteria(self, current: Any) -> Any:
        self.seen.append(float(current))
        return super()._evaluate_stopping_criteria(current)


@fault("EarlyStopping among the callbacks before the audit", "it sees the score of its epoch all the same")
def test_early_stopping_before_the_audit() -> None:
    audited, stopping = quick(), Seen()
    loop = trainer(stopping, audited, max_epochs=2)
    loop.fit(task(), loader(8, train=True), loader(6))
    assert stopping.seen == [epoch[GAP] for epoch in audited.epochs]
    assert len(stopping.seen) == 2


@fault("the same Trainer goes on for more epochs", "its epochs are audited too, and added")
def test_the_same_trainer_goes_on() -> None:
    audited, model = quick(), task()
    loop = trainer(audited)
    for epochs in (1, 3):
        loop.fit_loop.max_epochs = epochs
        loop.fit(model, loader(8, train=True), loader(6))
    assert [epoch["epoch"] for epoch in audited.epochs] == [0, 1, 2]
