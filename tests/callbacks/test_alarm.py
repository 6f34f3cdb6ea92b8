"""AuditAlarm in a real Trainer: when it goes off, and when not."""

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


def test_it_goes_off_once_when_iou_rises_and_leakage_too():
    [text] = alarms([0.5, 0.6, 0.7, 0.7], [noisy(0.2, 0), noisy(0.21, 1), noisy(0.4, 2), noisy(0.4, 3)])
    assert "val/iou has risen from 0.500 (epoch 0) to 0.700 (epoch 2)" in text
    assert "saliency/off_target_leakage has gone from 0.195 to 0.401" in text
    assert "over 12 images" in text


def test_it_goes_off_again_after_it_had_ceased():
    assert len(alarms([0.5, 0.7, 0.7, 0.7], [noisy(0.2, 0), noisy(0.4, 1), noisy(0.2, 2), noisy(0.4, 3)])) == 2


@pytest.mark.parametrize(
    ("iou", "leakage"),
    [
        ([0.5, 0.5], [noisy(0.2, 0), noisy(0.4, 1)]),  # the accuracy has not risen
        ([0.5, 0.7], [noisy(0.4, 0), noisy(0.2, 1)]),  # the leakage has fallen
        ([0.5, 0.7], [noisy(0.2, 0), noisy(0.23, 1)]),  # too little to matter
        ([0.5, 0.7], [[0.2] * 12, [0.1] * 7 + [0.7] * 5]),  # too few images to be sure
        ([0.5, 0.7], [[float("nan")] * 12, noisy(0.4, 1)]),  # nothing to compare with
    ],
)
def test_it_stays_silent(iou, leakage):
    assert not alarms(iou, leakage)


def test_slow_drift_is_seen():
    steps = [0.2 + 0.02 * k for k in range(6)]
    assert len(alarms([0.5 + 0.01 * k for k in range(6)], [noisy(mean, k) for k, mean in enumerate(steps)])) == 1


def test_maps_that_do_not_depend_on_the_weights():
    [text] = alarms([0.5] * 3, [noisy(0.2, k) for k in range(3)], randomisation=[0.3, 0.95, 0.96])
    assert "correlate by 0.95 with those of an untrained model" in text


def test_it_can_stop_the_training(tmp_path):
    alarm = AuditAlarm("saliency", ["off_target_leakage"], stop=True)
    audit = Scripted([noisy(0.2, 0), noisy(0.4, 1), noisy(0.4, 2)])
    loop = trainer(audit, alarm, max_epochs=3)
    with pytest.warns(UserWarning, match="Training stops here"):
        loop.fit(known([0.5, 0.6, 0.7]), loader(4, train=True), loader(4))
    assert loop.current_epoch == 2


def test_epochs_without_an_audit_are_not_looked_at():
    leakage = [noisy(0.2, 0), noisy(0.2, 1), noisy(9.0, 2), noisy(0.2, 3)]
    assert not alarms([0.5, 0.6, 0.7, 0.8], leakage, every_n_epochs=2)


def test_its_memory_survives_a_resume(tmp_path):
    iou, leakage = [0.5, 0.7], [noisy(0.2, 0), noisy(0.4, 1)]
    keep = AuditCheckpoint(Weighted({"val/iou": 1.0}))
    loop = trainer(
        Scripted(leakage), keep, AuditAlarm("saliency", ["off_target_leakage"]), folder=tmp_path, enable_checkpointing=True
    )
    loop.fit(known(iou), loader(4, train=True), loader(4))
    loop = trainer(Scripted(leakage), AuditAlarm("saliency", ["off_target_leakage"]), max_epochs=2)
    with pytest.warns(UserWarning, match="AuditAlarm: val/iou has risen from 0.500"):
        loop.fit(known(iou), loader(4, train=True), loader(4), ckpt_path=keep.last_model_path, weights_only=True)


def test_wandb_gets_an_alert(tmp_path, monkeypatch):
    told = []
    logger = WandbLogger(offline=True, save_dir=tmp_path, project="alarm")
    monkeypatch.setattr(logger.experiment, "alert", lambda title, text: told.append((title, text)))
    with pytest.warns(UserWarning, match="AuditAlarm"):
        trainer(
            Scripted([noisy(0.2, 0), noisy(0.4, 1)]),
            AuditAlarm("saliency", ["off_target_leakage"]),
            max_epochs=2,
            logger=logger,
        ).fit(known([0.5, 0.7]), loader(4, train=True), loader(4))
    logger.experiment.finish()
    assert [title for title, _ in told] == ["AuditAlarm"]


def test_a_real_audit_is_watched():
    alarm = AuditAlarm("saliency", ["off_target_leakage"])
    loop = trainer(quick(), alarm, max_epochs=2)
    loop.fit(task(), loader(8, train=True), loader(4))
    best = alarm.state_dict()["best"]["off_target_leakage"]
    assert len(best["records"]) == 8
    assert best["accuracy"] > 0


def test_what_it_refuses():
    with pytest.raises(ValueError, match=r"level must be in \(0, 1\)"):
        AuditAlarm(level=1.0)
    with pytest.raises(ValueError, match="segaudit does not know which way 'drift' is better"):
        AuditAlarm(scores=["drift"])
    for callbacks, sentence in (
        ([AuditAlarm()], "there is none: add it"),
        ([quick(), AuditAlarm()], "of dea, which 'audit' does not audit"),
        ([quick(), AuditAlarm("saliency", ["off_target_leakage"], accuracy="val/f1")], "'val/f1', which nothing has logged"),
    ):
        with pytest.raises(MisconfigurationException, match=sentence):
            trainer(*callbacks).fit(task(), loader(4), loader(4))
