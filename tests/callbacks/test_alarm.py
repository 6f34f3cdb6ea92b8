"""AuditAlarm in a real Trainer: when it goes off, and when not."""

import json
import warnings
from typing import Any

import pytest
import torch
from integration.scripted import Scripted, known
from integration.tiny import loader, quick, task, trainer
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.loggers import WandbLogger

from segaudit.callbacks import AuditAlarm, AuditCheckpoint
from segaudit.selection import Weighted

#: Differences between images, which are the same in each epoch.
IMAGES = torch.linspace(-0.1, 0.1, 12)


def noisy(mean: float, seed: int) -> list[float]:
    return (mean + IMAGES + 0.02 * torch.randn(12, generator=torch.Generator().manual_seed(seed))).tolist()


def alarms(iou: list[float], leakage: list[Any], *, alarm: AuditAlarm | None = None, **options: Any) -> list[str]:
    """What was warned of."""
    alarm = alarm or AuditAlarm("saliency", ["off_target_leakage"])
    audit = Scripted(leakage, options.pop("randomisation", None), every_n_epochs=options.pop("every_n_epochs", 1))
    loop = trainer(alarm, audit, max_epochs=len(iou), **options)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        loop.fit(known(iou), loader(4, train=True), loader(4))
    return [str(one.message) for one in caught if str(one.message).startswith("AuditAlarm")]


def steps(*parts: tuple[int, float]) -> list[list[float]]:
    """Audits at one level after another: numbers of audits, and levels."""
    levels = [level for count, level in parts for _ in range(count)]
    return [noisy(level, seed) for seed, level in enumerate(levels)]


def rising(count: int) -> list[float]:
    return [0.5 + 0.01 * k for k in range(count)]


def test_it_goes_off_once_when_leakage_rises_and_iou_too():
    [text] = alarms(rising(12), steps((7, 0.2), (5, 0.4)))
    assert "saliency/off_target_leakage has gone from 0.20" in text
    assert "over the same 12 targets, while val/iou has not fallen (0.5" in text


def test_it_goes_off_again_after_it_had_ceased():
    assert len(alarms(rising(30), steps((8, 0.2), (4, 0.4), (10, 0.1), (8, 0.5)))) == 2


@pytest.mark.parametrize(
    ("iou", "leakage"),
    [
        ([0.9 - 0.01 * k for k in range(14)], steps((8, 0.2), (6, 0.4))),  # the accuracy has fallen
        (rising(14), steps((8, 0.4), (6, 0.2))),  # the leakage has fallen
        (rising(14), steps((8, 0.2), (6, 0.23))),  # too little to matter
        (rising(5), steps((1, 0.2), (4, 0.6))),  # too few audits
        (rising(14), [*steps((8, 0.2)), *[[float("nan")] * 12] * 6]),  # nothing to compare with
        (rising(14), [*steps((8, 0.2)), *[[*noisy(0.4, 0)[:9], *[float("nan")] * 3]] * 6]),  # too few targets scored
    ],
)
def test_it_stays_silent(iou, leakage):
    assert not alarms(iou, leakage)


def test_a_hard_target_that_comes_and_goes_is_no_change():
    """The plain mean jumps by 0.07 when the target is scored; the targets that all audits share stay as they are."""
    easy = [noisy(0.2, 0)[:11]] * 14
    hard = [float("nan")] * 8 + [1.0] * 6
    assert not alarms(rising(14), [[*rest, one] for rest, one in zip(easy, hard, strict=True)])


def test_slow_drift_is_seen():
    drift = [noisy(0.2 + 0.02 * k, k) for k in range(12)]
    assert len(alarms(rising(12), drift)) == 1


def test_the_state_is_written_for_the_report(tmp_path):
    alarm = AuditAlarm("saliency", ["off_target_leakage"])
    loop = trainer(quick(), alarm, folder=tmp_path, max_epochs=2)
    loop.fit(task(), loader(8, train=True), loader(4))
    found = json.loads((tmp_path / "version_0/audit/alarm.json").read_text())
    state = found["scores"]["off_target_leakage"]
    assert state["audits"] == 2
    assert state["mean"] == pytest.approx(float(loop.callback_metrics["audit/saliency/off_target_leakage"]), abs=1e-6)
    assert not state["raised"]
    assert found["raised"] == {}


def test_maps_that_do_not_depend_on_the_weights():
    [text] = alarms([0.5] * 3, [noisy(0.2, k) for k in range(3)], randomisation=[0.3, 0.95, 0.96])
    assert "correlate by 0.95 with those of an untrained model" in text


def test_it_can_stop_the_training(tmp_path):
    alarm = AuditAlarm("saliency", ["off_target_leakage"], stop=True)
    loop = trainer(Scripted(steps((7, 0.2), (8, 0.6))), alarm, max_epochs=15)
    with pytest.warns(UserWarning, match="Training stops here"):
        loop.fit(known(rising(15)), loader(4, train=True), loader(4))
    assert 8 < loop.current_epoch < 15


def test_epochs_without_an_audit_are_not_looked_at():
    leakage = [noisy(0.2, 0), noisy(0.2, 1), noisy(9.0, 2), noisy(0.2, 3)]
    assert not alarms([0.5, 0.6, 0.7, 0.8], leakage, every_n_epochs=2)


def test_its_memory_survives_a_resume(tmp_path):
    iou, leakage = rising(12), steps((7, 0.2), (5, 0.5))
    keep = AuditCheckpoint(Weighted({"val/iou": 1.0}))
    watch = AuditAlarm("saliency", ["off_target_leakage"])
    loop = trainer(Scripted(leakage), keep, watch, folder=tmp_path, enable_checkpointing=True, max_epochs=7)
    loop.fit(known(iou), loader(4, train=True), loader(4))
    loop = trainer(Scripted(leakage), AuditAlarm("saliency", ["off_target_leakage"]), max_epochs=12)
    with pytest.warns(UserWarning, match="AuditAlarm: saliency/off_target_leakage has gone from 0.20"):
        loop.fit(known(iou), loader(4, train=True), loader(4), ckpt_path=keep.last_model_path, weights_only=True)


def test_wandb_gets_an_alert(tmp_path, monkeypatch):
    told = []
    logger = WandbLogger(offline=True, save_dir=tmp_path, project="alarm")
    monkeypatch.setattr(logger.experiment, "alert", lambda title, text: told.append((title, text)))
    with pytest.warns(UserWarning, match="AuditAlarm"):
        trainer(
            Scripted(steps((7, 0.2), (5, 0.5))), AuditAlarm("saliency", ["off_target_leakage"]), max_epochs=12, logger=logger
        ).fit(known(rising(12)), loader(4, train=True), loader(4))
    logger.experiment.finish()
    assert [title for title, _ in told] == ["AuditAlarm"]


def test_what_it_refuses():
    with pytest.raises(ValueError, match=r"AuditAlarm has no level any more: .* use min_change"):
        AuditAlarm(level=0.99)
    with pytest.raises(ValueError, match="segaudit does not know which way 'drift' is better"):
        AuditAlarm(scores=["drift"])
    for callbacks, sentence in (
        ([AuditAlarm()], "there is none: add it"),
        ([quick(), AuditAlarm()], "of dea, which 'audit' does not audit"),
        ([quick(), AuditAlarm("saliency", ["off_target_leakage"], accuracy="val/f1")], "'val/f1', which nothing has logged"),
    ):
        with pytest.raises(MisconfigurationException, match=sentence):
            trainer(*callbacks).fit(task(), loader(4), loader(4))
