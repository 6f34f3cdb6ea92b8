"""AuditCheckpoint in a real Trainer: what it keeps, what it says, what it refuses."""

import json
from math import nan
from pathlib import Path
from typing import Any

import pytest
import torch
from integration.scripted import Scripted, known
from integration.tiny import loader, quick, task, trainer
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import seed_everything
from lightning.pytorch.loggers import WandbLogger

from segaudit.callbacks import AuditCheckpoint
from segaudit.selection import Constrained, Pareto, SelectionRule, Tolerant, Weighted

LEAKAGE = "audit/saliency/off_target_leakage"
GAP = "audit/saliency/faithfulness_gap"


def run(
    folder: Path, rule: SelectionRule, iou: list[float], leakage: list[float], every_n_epochs: int = 1, **options: Any
) -> tuple[AuditCheckpoint, Any]:
    keep = AuditCheckpoint(rule, **{"save_last": False} | options.pop("keep", {}))
    callbacks = [Scripted(leakage, every_n_epochs=every_n_epochs), keep]
    loop = trainer(*callbacks, folder=folder, enable_checkpointing=True, max_epochs=len(iou), **options)
    seed_everything(0, verbose=False)
    loop.fit(known(iou), loader(8, train=True), loader(4))
    return keep, loop


def files(keep: AuditCheckpoint) -> list[int]:
    """Epochs whose checkpoints lie there."""
    return sorted(int(path.name[6:9]) for path in Path(str(keep.dirpath)).glob("epoch=*.ckpt"))


def best(keep: AuditCheckpoint) -> int:
    return int(Path(keep.best_model_path).name[6:9])


IOU, LEAK = [0.5, 0.8, 0.9, 0.895, 0.7], [0.1, 0.2, 0.6, 0.3, 0.05]


@pytest.mark.parametrize(
    ("rule", "chosen", "kept"),
    [
        (Tolerant(LEAKAGE, tolerance=0.01), 3, [2, 3]),  # the best IoU may yet be what a better one leaves over
        (Constrained(subject_to={LEAKAGE: "<= 0.25"}), 1, [1]),
        (Weighted({"val/iou": 1.0, LEAKAGE: -1.0}), 4, [4]),
        (Pareto(["val/iou", LEAKAGE]), 2, [1, 2, 3, 4]),
    ],
)
def test_each_rule_keeps_its_choice(tmp_path, capsys, rule, chosen, kept):
    keep, loop = run(tmp_path, rule, IOU, LEAK)
    assert best(keep) == chosen
    assert files(keep) == kept
    assert f"chosen of 5: epoch {chosen}" in capsys.readouterr().out
    weights = torch.load(keep.best_model_path, weights_only=True)  # nothing but plain types
    assert weights["epoch"] == chosen
    told = json.loads((Path(str(keep.dirpath)) / "selection.json").read_text())
    assert told["chosen"] == keep.best_model_path
    assert [one["name"] for one in told["candidates"] if one["kept"]] == [
        name for name in (one["name"] for one in told["candidates"]) if int(name.split()[1]) in kept
    ]
    assert len(told["candidates"]) == 5
    assert all(one["why"] for one in told["candidates"])
    listed = (Path(str(keep.dirpath)) / "selection.md").read_text()
    assert listed.count("deleted") == 5 - len(kept)
    loop.predict(dataloaders=loader(4), ckpt_path="best", return_predictions=False)
    assert loop.ckpt_path == keep.best_model_path


def test_top_k_and_all(tmp_path):
    rule = Weighted({"val/iou": 1.0})
    assert files(run(tmp_path / "2", rule, IOU, LEAK, keep={"save_top_k": 2})[0]) == [2, 3]
    assert files(run(tmp_path / "all", rule, IOU, LEAK, keep={"save_top_k": -1})[0]) == [0, 1, 2, 3, 4]


def test_a_skipped_epoch_is_no_candidate(tmp_path):
    keep, _ = run(tmp_path, Tolerant(LEAKAGE, tolerance=0.01), [0.9, 0.5, 0.6, 0.99, 0.7], LEAK, every_n_epochs=2)
    assert [one.epoch for one in keep.candidates] == [1, 3, 4]  # the last epoch is always audited
    assert best(keep) == 3


def test_nan_never_wins(tmp_path, capsys):
    keep, _ = run(tmp_path, Tolerant(LEAKAGE, tolerance=0.5), [0.9, 0.8, 0.7], [nan, 0.4, 0.5])
    assert best(keep) == 1
    assert files(keep) == [1]
    keep, loop = run(tmp_path, Tolerant(LEAKAGE), [0.9, 0.8], [nan, nan])
    assert (keep.best_model_path, files(keep)) == ("", [])
    assert f"no checkpoint was chosen: {LEAKAGE} could not be scored." in capsys.readouterr().out
    with pytest.raises(ValueError, match="best"):
        loop.test(dataloaders=loader(4), ckpt_path="best")


def test_without_a_feasible_one_the_nearest_is_kept_and_that_is_said(tmp_path, capsys):
    keep, _ = run(tmp_path, Constrained(subject_to={LEAKAGE: "<= 0.01"}), IOU, LEAK)
    assert best(keep) == 4
    assert "no candidate of 5 satisfies the rule; the nearest is epoch 4" in capsys.readouterr().out


def test_a_lower_choice_comes_back_when_a_better_one_is_shut_out(tmp_path):
    # epoch 0 wins over epoch 1 until epoch 2 raises what counts as near: then epoch 1, which was kept, wins.
    keep, _ = run(tmp_path, Tolerant(LEAKAGE, tolerance=0.05), [0.80, 0.82, 0.86], [0.1, 0.2, 0.9])
    assert best(keep) == 1


@pytest.mark.parametrize("options", [{"check_val_every_n_epoch": 2}, {"val_check_interval": 0.5}])
def test_other_rhythms_of_validation(tmp_path, options):
    keep, _ = run(tmp_path, Tolerant(LEAKAGE, tolerance=0.01), [0.5, 0.7, 0.9, 0.8], [0.1, 0.1, 0.1, 0.1], **options)
    steps = [one.step for one in keep.candidates]
    assert steps == ([4, 8] if "check_val_every_n_epoch" in options else [1, 2, 3, 4, 5, 6, 7, 8])
    assert best(keep) == (3 if "check_val_every_n_epoch" in options else 2)


def test_trial_runs_and_validation_alone_keep_nothing(tmp_path):
    keep = AuditCheckpoint(Tolerant(LEAKAGE))
    loop = trainer(quick(), keep, folder=tmp_path, enable_checkpointing=True, fast_dev_run=True)
    loop.fit(task(), loader(8), loader(4))
    loop = trainer(quick(), keep, folder=tmp_path, enable_checkpointing=True)
    loop.validate(task(), loader(4), verbose=False)
    assert not keep.candidates
    assert not list(tmp_path.rglob("*.ckpt"))


def test_what_a_resumed_run_takes_up(tmp_path):
    rule = Tolerant(LEAKAGE, tolerance=0.05)
    iou, leakage = [0.80, 0.82, 0.86], [0.1, 0.2, 0.9]
    whole, _ = run(tmp_path / "whole", rule, iou, leakage, keep={"save_last": True})
    first = AuditCheckpoint(rule)
    loop = trainer(Scripted(leakage), first, folder=tmp_path / "a", enable_checkpointing=True, max_epochs=2)
    seed_everything(0, verbose=False)
    loop.fit(known(iou), loader(8, train=True), loader(4))
    last = first.last_model_path
    again = AuditCheckpoint(rule)
    loop = trainer(Scripted(leakage), again, folder=tmp_path / "b", enable_checkpointing=True, max_epochs=3)
    seed_everything(5, verbose=False)  # what is drawn comes from the checkpoint
    loop.fit(known(iou), loader(8, train=True), loader(4), ckpt_path=last, weights_only=True)
    assert [one.epoch for one in again.candidates] == [0, 1, 2]
    assert best(again) == best(whole) == 1
    assert again.best_model_path.startswith(str(tmp_path / "a"))
    ends = [torch.load(path, weights_only=True)["state_dict"] for path in (whole.last_model_path, again.last_model_path)]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])
    Path(again.best_model_path).unlink()  # a file that is gone can no longer be chosen
    third = AuditCheckpoint(rule)
    loop = trainer(Scripted([*leakage, 0.5]), third, folder=tmp_path / "c", enable_checkpointing=True, max_epochs=4)
    loop.fit(known([*iou, 0.5]), loader(8, train=True), loader(4), ckpt_path=again.last_model_path, weights_only=True)
    assert best(third) == 2


@pytest.mark.parametrize(
    ("callbacks", "sentence"),
    [
        ([AuditCheckpoint(Tolerant(LEAKAGE))], "no AttributionAudit is among the callbacks"),
        ([quick(), AuditCheckpoint(Tolerant("audit/dea/faithfulness_gap"))], "not audited; there are audit/saliency/"),
        (
            [quick(), AuditCheckpoint(Weighted({"val/accuracy": 1.0}))],
            "'?val/accuracy'?, which nothing has logged; there are",
        ),
    ],
)
def test_a_rule_on_what_is_not_there_is_refused(tmp_path, callbacks, sentence):
    loop = trainer(*callbacks, folder=tmp_path, enable_checkpointing=True)
    with pytest.raises(MisconfigurationException, match=sentence):
        loop.fit(task(), loader(8), loader(4))


def test_wrong_arguments():
    with pytest.raises(ValueError, match="save_top_k must be at least 1"):
        AuditCheckpoint(save_top_k=0)


def test_two_rules_in_one_trainer(tmp_path):
    one, other = AuditCheckpoint(Tolerant(LEAKAGE), dirpath=tmp_path / "one"), AuditCheckpoint(Tolerant(GAP))
    assert one.state_key != other.state_key
    loop = trainer(quick(), one, other, folder=tmp_path, enable_checkpointing=True)
    loop.fit(task(), loader(8), loader(4))
    assert files(one) == files(other) == [0]


@pytest.mark.parametrize("log_model", ["all", True, False])
def test_a_logger_that_asks_for_checkpoints_gets_the_scores_with_them(tmp_path, monkeypatch, log_model):
    logger = WandbLogger(offline=True, save_dir=tmp_path, project="checkpoints")
    logger._log_model = log_model  # which an offline logger refuses; nothing is uploaded here
    logged: list[tuple[str, dict[str, Any], list[str]]] = []
    monkeypatch.setattr(
        logger.experiment, "log_artifact", lambda one, aliases: logged.append((one.type, dict(one.metadata), aliases))
    )
    keep, _ = run(tmp_path, Tolerant(LEAKAGE, tolerance=0.01), IOU, LEAK, logger=logger)
    logger.experiment.finish()
    scored = {metadata["epoch"]: metadata for _, metadata, _ in logged if LEAKAGE in metadata}
    assert len(logged) == len(scored)  # none without scores, none twice
    assert sorted(scored) == {"all": [0, 1, 2, 3], True: [2, 3], False: []}[log_model]
    for epoch, metadata in scored.items():
        assert metadata[LEAKAGE] == pytest.approx(LEAK[epoch])
        assert metadata["val/iou"] == pytest.approx(IOU[epoch])
    if log_model is True:
        assert {metadata["epoch"] for _, metadata, aliases in logged if "best" in aliases} == {3} == {best(keep)}
