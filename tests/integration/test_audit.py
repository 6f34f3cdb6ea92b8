"""`segaudit audit`: what it leaves, what it refuses, and that several processes find what one does."""

import json
import os
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from _command_line import only
from _processes import run as run_apart
from integration.tiny import TinyNetwork, audit, loader, small_intervention, task, trainer
from lightning.pytorch import LightningDataModule

from segaudit import Auditor
from segaudit.callbacks import AttributionAudit
from segaudit.cli import main
from segaudit.data.error import DataError
from segaudit.report import AuditFailedError

TESTS = Path(__file__).parents[1]
FILES = {
    "targets.parquet",
    "curves.parquet",
    "summary.json",
    "tables.md",
    "tables.tex",
    "tables.csv",
    "report.html",
    "worst",
}


class SquareData(LightningDataModule):
    """Seven squares, which no number of processes divides; the folder `missing` stands for data that are not there."""

    class_names = ["background", "red", "green"]  # noqa: RUF012

    def __init__(self, root: str = "there") -> None:
        super().__init__()
        self.root = root

    def val_dataloader(self) -> Any:
        if self.root == "missing":
            raise DataError("Folder missing/val doesn't exist: create it with the folders images and masks in it.")
        return loader(7)

    test_dataloader = val_dataloader


#: The program finds this very module by its name.
HERE = "integration.test_audit"
CONFIG = {
    "trainer": {
        "accelerator": "cpu", "devices": 1, "enable_progress_bar": False, "enable_model_summary": False,
        "callbacks": [
            {"class_path": "AttributionAudit", "init_args": {
                "explainers": ["saliency", "dea", "random"], "batch_size": 2, "panels": 0,
                "metrics": ["deletion_auc", "faithfulness_gap", "off_target_leakage", "unsupported_leakage", "stability"],
                "intervention": {"class_path": "segaudit.Intervention", "init_args": {
                    "steps": 3, "regions": {"class_path": "SuperpixelRegions", "init_args": {"counts": [4]}}}},
            }},
        ],
    },
    "model": {"class_path": "SegmentationTask", "init_args": {"network": {"class_path": "integration.tiny.TinyNetwork"}}},
    "data": {"class_path": f"{HERE}.SquareData"},
}  # fmt: skip


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["segaudit"])
    monkeypatch.delenv("SEGAUDIT_TRACEBACK", raising=False)
    only(monkeypatch, "audit")
    Path("audit.yaml").write_text(yaml.safe_dump(CONFIG))
    torch.save(task().state_dict(), "weights.ckpt")
    return tmp_path


def run(*words):
    main(["audit", "--config=audit.yaml", *words])


def figures(path):
    return pq.read_table(path / "targets.parquet").to_pylist()


def same(a, b):
    assert len(a) == len(b) > 0
    for one, other in zip(a, b, strict=True):
        assert one == pytest.approx(other, abs=1e-6, nan_ok=True)


def test_a_checkpoint_is_audited_over_the_whole_split(folder):
    run("--ckpt_path=weights.ckpt")
    out = folder / "runs" / "version_0" / "audit"
    assert {entry.name for entry in out.iterdir()} == FILES
    summary = json.loads((out / "summary.json").read_text())
    (part,) = summary["parts"]
    assert part["images"] == 7
    assert summary["provenance"]["checkpoint"] == "weights.ckpt"
    assert len(summary["provenance"]["checkpoint_sha256"]) == 64
    assert "val/iou" in summary["logged"]
    assert part["iou"]["mean"] == pytest.approx(summary["logged"]["val/iou"])

    # the same figures as an auditor that walks the images itself
    auditor = Auditor(
        ["saliency", "dea", "random"], ["deletion_auc", "off_target_leakage"], intervention=small_intervention()
    )
    model = task().eval()
    for batch in loader(7, batch_size=3):
        auditor.update(model, batch["image"], batch["mask"], batch["id"])
    expected = {(r["sample_id"], r["class_index"], r["explainer"]): r for r in auditor.records()}
    found = figures(out)
    assert len(found) == len(expected)
    for row in found:
        other = expected[row["sample_id"], row["class_index"], row["explainer"]]
        for score in ("deletion_auc", "off_target_leakage"):
            assert row[score] == pytest.approx(other[score], abs=1e-5, nan_ok=True)


def test_fewer_images_and_the_test_split(folder):
    run("--ckpt_path=weights.ckpt", "--max_images=3", "--split=test")
    summary = json.loads((folder / "runs/version_0/audit/summary.json").read_text())
    assert summary["parts"][0]["images"] == 3
    assert summary["parts"][0]["data"] == "SquareData (test)"
    assert "test/iou" in summary["logged"]


@pytest.mark.parametrize("holds", [True, False])
def test_a_gate(folder, capsys, holds):
    rule = f"dea/off_target_leakage {'>=' if holds else '<'} 0"
    if not holds:
        run("--ckpt_path=weights.ckpt", "--max_images=1", f'--fail_if=["{rule}"]')
    else:
        with pytest.raises(SystemExit) as stopped:
            run("--ckpt_path=weights.ckpt", "--max_images=1", f'--fail_if=["{rule}"]')
        assert stopped.value.code == 3
        told = capsys.readouterr().err.strip().splitlines()[-1]
        assert told.startswith("segaudit: the audit fails. dea/off_target_leakage is 0.")
    summary = json.loads((folder / "runs/version_0/audit/summary.json").read_text())
    assert [bool(one["failed"]) for one in summary["gate"]] == [holds]


def test_from_python_a_gate_is_an_error(tmp_path):
    loop = trainer(audit(metrics=["off_target_leakage"], explainers=["random"]), folder=tmp_path)
    with pytest.raises(AuditFailedError, match="random/off_target_leakage is"):
        loop.audit(task(), SquareData(), fail_if=["random/off_target_leakage > 0"])


def test_a_trainer_without_an_audit_gets_the_default_one(tmp_path):
    loop = trainer(folder=tmp_path)
    (summary,) = loop.audit(task(), SquareData(), max_images=1)
    assert "dea" in {row["explainer"] for row in summary["parts"][0]["scores"]}
    assert [one.offline for one in loop.callbacks if isinstance(one, AttributionAudit)] == [None]


class Malicious:
    def __reduce__(self):
        return (Path.write_text, (Path("witness"), "owned"))


def with_code(path):
    torch.save({"state_dict": {}, "x": Malicious()}, path)


def bare_pickle(path):
    path.write_bytes(pickle.dumps(Malicious(), protocol=2))


def cut_short(path):
    torch.save(task().state_dict(), path)
    path.write_bytes(path.read_bytes()[:3000])


def of_another(path):
    torch.save(torch.nn.Linear(2, 2).state_dict(), path)


def nothing(path):
    pass


def absent_layer(config):
    config["trainer"]["callbacks"][0]["init_args"]["explainers"] = [
        "saliency", {"class_path": "SegGradCAM", "init_args": {"layer": "body.99"}},
    ]  # fmt: skip


def missing_split(config):
    config["data"]["init_args"] = {"root": "missing"}


@pytest.mark.parametrize(
    ("checkpoint", "change", "words", "says"),
    [
        (with_code, None, [], "holds more than weights"),
        (bare_pickle, None, [], "bad.ckpt"),
        (cut_short, None, [], "is broken or cut short"),
        (of_another, None, [], "is of another network: 16 of 16 weights"),
        (nothing, None, [], "there is no checkpoint bad.ckpt"),
        (None, absent_layer, [], "body.99"),
        (None, missing_split, [], "Folder missing/val doesn't exist"),
        (None, None, ["--max_images=0"], "max_images must be at least 1"),
        (None, None, ['--fail_if=["dea"]'], "is no rule"),
        (None, None, ['--fail_if=["lime/stability < 1"]'], "names an explainer that is not audited"),
    ],
)
def test_one_sentence_and_the_status_2_and_earlier_results_are_kept(folder, capsys, checkpoint, change, words, says):
    earlier = folder / "runs" / "version_0" / "audit" / "summary.json"
    earlier.parent.mkdir(parents=True)
    earlier.write_text("{}")
    path = Path("bad.ckpt" if checkpoint else "weights.ckpt")
    if checkpoint:
        checkpoint(path)
    if change:
        config = json.loads(json.dumps(CONFIG))
        change(config)
        Path("audit.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(SystemExit) as stopped:
        run(f"--ckpt_path={path}", *words)
    assert stopped.value.code == 2
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("segaudit:")]
    assert len(told) == 1
    assert says in told[0]
    assert earlier.read_text() == "{}"
    assert not Path("witness").exists()


def test_a_full_disk_is_one_sentence_and_what_was_written_is_whole(folder, capsys, monkeypatch):
    import errno

    import segaudit.records.blocks

    write, blocks = segaudit.records.blocks.pq.write_table, []

    def full(table, where, **options):
        if len(blocks) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(where))
        blocks.append(where)
        return write(table, where, **options)

    monkeypatch.setattr(segaudit.records.blocks.pq, "write_table", full)
    with pytest.raises(SystemExit) as stopped:
        run("--ckpt_path=weights.ckpt")
    assert stopped.value.code == 2
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("segaudit:")]
    assert len(told) == 1
    assert "there is no room for" in told[0]
    kept = sorted((folder / "runs/version_0/audit/blocks").iterdir())
    assert [path.name for path in kept] == ["00000.parquet", "00002.parquet"]
    assert all(segaudit.records.blocks.Block.read(path).records for path in kept)


def test_two_processes_give_the_same_files_as_one(folder):
    run("--ckpt_path=weights.ckpt", "--trainer.default_root_dir=one")
    words = ["audit", "--config=audit.yaml", "--ckpt_path=weights.ckpt", "--trainer.default_root_dir=two"]
    words += ["--trainer.devices=2", "--trainer.strategy=ddp"]
    # Lightning starts the second process, with this command line.
    argv, environment = [TESTS / "integration" / "audit_program.py", *words], {"PYTHONPATH": str(TESTS)}
    run_apart(main, words, log=folder / "two.log", argv=argv, environment=environment)
    one, two = (folder / name / "version_0" / "audit" for name in ("one", "two"))
    names = [sorted(str(path.relative_to(of)) for path in of.rglob("*")) for of in (one, two)]
    assert names[0] == names[1]
    same(figures(one), figures(two))
    summaries = [json.loads((of / "summary.json").read_text()) for of in (one, two)]
    assert summaries[0]["parts"][0]["iou"] == summaries[1]["parts"][0]["iou"]
    assert summaries[0]["worst"] == summaries[1]["worst"]
    for key in ("data_sha256", "weights_sha256", "checkpoint_sha256"):
        assert summaries[0]["provenance"][key] == summaries[1]["provenance"][key]
    curves = [pq.read_table(of / "curves.parquet").to_pandas() for of in (one, two)]
    np.testing.assert_allclose(*(c.sort_values(["explainer", "kind", "fraction"])["mean"] for c in curves), atol=1e-6)


def test_the_model_is_left_as_it_was_but_for_the_weights(tmp_path):
    model = task(network=TinyNetwork())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    trainer(audit(explainers=["saliency"]), folder=tmp_path).audit(model, SquareData(), max_images=2)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items() if name in before)
