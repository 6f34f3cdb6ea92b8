import csv

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.demos.boring_classes import BoringModel
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.loggers.logger import DummyLogger

from segaudit.training.trainer import Trainer

QUIET = {"accelerator": "cpu", "enable_progress_bar": False, "enable_model_summary": False}


class Model(BoringModel):
    def training_step(self, batch, batch_idx):
        out = super().training_step(batch, batch_idx)
        self.log("train/loss", out["loss"])
        return out


@pytest.mark.parametrize("logger", [None, True])
def test_one_folder_holds_the_run(tmp_path, monkeypatch, logger, recwarn):
    monkeypatch.chdir(tmp_path)
    for run in ("version_0", "version_1"):
        trainer = Trainer(logger=logger, max_steps=4, log_every_n_steps=1, **QUIET)
        trainer.fit(Model())
        folder = tmp_path / "runs" / run
        assert folder.samefile(trainer.log_dir)
        assert {"metrics.csv", "checkpoints"} <= {p.name for p in folder.iterdir()}
        assert list(folder.glob("events.out.tfevents.*"))
        assert list(folder.glob("checkpoints/*.ckpt"))
        with open(folder / "metrics.csv", newline="") as file:
            assert len(list(csv.DictReader(file))) == 4
    assert not [w for w in recwarn if "not empty" in str(w.message)]


def test_two_trainers_made_before_either_runs_do_not_share(tmp_path):
    first, second = Trainer(default_root_dir=tmp_path, **QUIET), Trainer(default_root_dir=tmp_path, **QUIET)
    assert first.log_dir != second.log_dir


class OwnLogger(DummyLogger):
    """Writes nowhere."""


def kinds(logger, folder):
    return [type(one) for one in Trainer(logger=logger, default_root_dir=folder, **QUIET).loggers]


def test_given_loggers_stand_beside_ours(tmp_path):
    ours, own = [CSVLogger, TensorBoardLogger], OwnLogger()
    assert kinds(None, tmp_path) == kinds(True, tmp_path) == kinds([], tmp_path) == ours
    assert kinds(own, tmp_path) == kinds([own], tmp_path) == kinds(iter([own]), tmp_path) == [*ours, OwnLogger]
    trainer = Trainer(logger=[own, TensorBoardLogger(tmp_path / "b")], default_root_dir=tmp_path / "a", **QUIET)
    assert trainer.loggers[2] is own
    assert len(trainer.loggers) == 4
    assert (tmp_path / "a" / "version_0").samefile(trainer.log_dir)  # the run's folder stays ours


def test_loggers_with_a_csv_logger_are_taken_as_they_are(tmp_path):
    csv_logger, own = CSVLogger(tmp_path / "mine", name="a"), OwnLogger()
    assert Trainer(logger=csv_logger, **QUIET).loggers == [csv_logger]
    assert Trainer(logger=[own, csv_logger], **QUIET).loggers == [own, csv_logger]
    assert not list(tmp_path.glob("**/version_*"))


def test_no_logger_is_no_logger(tmp_path):
    assert kinds(False, tmp_path) == []
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("how", [{"fast_dev_run": True}, {"barebones": True, "max_steps": 1}])
def test_a_trial_run_writes_nothing(tmp_path, monkeypatch, how):
    monkeypatch.chdir(tmp_path)
    quiet = {"accelerator": "cpu"} if "barebones" in how else QUIET
    Trainer(**how, **quiet).fit(BoringModel())
    assert not list(tmp_path.iterdir())


def test_resume(tmp_path):
    trainer = Trainer(default_root_dir=tmp_path, max_epochs=1, limit_train_batches=2, **QUIET)
    trainer.fit(BoringModel())
    (path,) = (tmp_path / "version_0" / "checkpoints").iterdir()
    assert torch.load(path, weights_only=True)["epoch"] == 0
    again = Trainer(
        default_root_dir=tmp_path, max_epochs=2, limit_train_batches=2, callbacks=[ModelCheckpoint(tmp_path)], **QUIET
    )
    again.fit(BoringModel(), ckpt_path=path, weights_only=True)
    assert again.global_step == 4
