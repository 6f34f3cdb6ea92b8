"""`segaudit select`: the same rules over finished runs."""

import csv
import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from segaudit.cli import main
from segaudit.selection import Tolerant, read_candidates

LEAKAGE = "audit/region_effects/off_target_leakage"


def write_run(folder: Path, iou: list[float], leakage: list[float | None], kept: list[int]) -> Path:
    """What `fit` leaves: a row of metrics a validation (training rows between), and some checkpoints."""
    (folder / "checkpoints").mkdir(parents=True)
    with open(folder / "metrics.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, ["epoch", "step", "train/loss", "val/iou", LEAKAGE])
        writer.writeheader()
        for epoch, (one, other) in enumerate(zip(iou, leakage, strict=True)):
            writer.writerow({"epoch": epoch, "step": 4 * epoch + 1, "train/loss": 0.5})
            writer.writerow({"epoch": epoch, "step": 4 * epoch + 3, "val/iou": one, LEAKAGE: other})
    for epoch in kept:
        torch.save({"epoch": epoch, "global_step": 4 * (epoch + 1)}, folder / "checkpoints" / f"mine-{epoch}.ckpt")
    torch.save({"epoch": len(iou) - 1, "global_step": 4 * len(iou)}, folder / "checkpoints" / "last.ckpt")
    (folder / "checkpoints" / "broken.ckpt").write_bytes(b"no checkpoint")
    return folder


@pytest.fixture
def runs(tmp_path: Path) -> list[str]:
    one = write_run(tmp_path / "one", [0.5, 0.80, 0.82], [0.1, None, 0.5], [0, 2])
    other = write_run(tmp_path / "other", [0.7, 0.815, 0.81], [0.4, 0.2, float("nan")], [0, 1])
    return [str(one), str(other)]


def test_candidates_are_all_epochs_of_all_runs(runs):
    found = read_candidates(runs)
    assert [one.name.rpartition("/")[2] for one in found] == [
        f"{run} epoch {k}" for run in ("one", "other") for k in range(3)
    ]
    assert [Path(one.path).name for one in found] == [
        "mine-0.ckpt",
        "",
        "mine-2.ckpt",
        "mine-0.ckpt",
        "mine-1.ckpt",
        "last.ckpt",
    ]
    assert [one.step for one in found] == [4, 0, 12, 4, 8, 12]
    assert found[2].values["val/iou"] == 0.82
    assert LEAKAGE not in found[1].values  # not audited
    assert [one.candidate.epoch for one in Tolerant().rank(found)][:2] == [1, 2]


def test_the_default_rule(runs, tmp_path, capsys):
    assert main(["select", *runs, "--out", str(tmp_path / "chosen")]) is None
    out = capsys.readouterr().out
    assert "left out: 1 of 6 epochs" in out
    assert "chosen of 5: " in out
    assert "other epoch 1 (val/iou 0.815 is within 0.01 of the best, 0.820" in out
    assert out.rstrip().endswith(f"table and picture: {tmp_path / 'chosen'}")
    told = json.loads((tmp_path / "chosen" / "selection.json").read_text())
    assert told["chosen"] == str(tmp_path / "other" / "checkpoints" / "mine-1.ckpt")
    assert told["candidates"][-1]["values"][LEAKAGE] is None  # NaN
    with Image.open(tmp_path / "chosen" / "selection.png") as picture:
        assert picture.width > picture.height > 300


def test_on_a_terminal_that_knows_ascii_alone(tmp_path, monkeypatch):
    run = write_run(tmp_path / "\u00fcbung", [0.5, 0.6], [0.1, 0.2], [0])
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    main(["select", str(run)])
    sys.stdout.flush()
    assert r"\xfcbung epoch 1" in sys.stdout.buffer.getvalue().decode("ascii")
    assert sys.stdout.errors == "strict"


@pytest.mark.parametrize(
    ("rule", "chosen"),
    [
        (["--rule", "Tolerant", "--rule.tolerance", "0.001"], "one epoch 2"),
        (["--rule", "Constrained", "--rule.subject_to", json.dumps({LEAKAGE: "<= 0.15"})], "one epoch 0"),
        (["--rule", "Weighted", "--rule.weights", json.dumps({"val/iou": 1.0})], "one epoch 2"),
        (["--rule", "Pareto"], "one epoch 2"),
    ],
)
def test_every_rule_can_be_named(runs, capsys, rule, chosen):
    main(["select", *runs, *rule])
    assert f"{chosen} (" in capsys.readouterr().out


def test_a_rule_from_a_file(runs, tmp_path, capsys):
    file = tmp_path / "rule.yaml"
    file.write_text(f"rule:\n  class_path: Constrained\n  init_args:\n    subject_to: {{{LEAKAGE}: '<= 0.3'}}\n")
    main(["select", *runs, "--config", str(file)])
    assert "other epoch 1 (" in capsys.readouterr().out


def test_what_cannot_be_chosen_is_said(tmp_path, capsys):
    run = write_run(tmp_path / "one", [0.5, 0.6], [0.2, 0.1], [])
    (run / "checkpoints" / "last.ckpt").unlink()
    main(["select", str(run)])
    assert "no checkpoint was chosen: no candidate's file is there; the best would be " in capsys.readouterr().out


def test_a_better_one_without_a_checkpoint_is_told_of(tmp_path, capsys):
    run = write_run(tmp_path / "one", [0.5, 0.9, 0.6], [0.2, 0.1, 0.3], [0])
    main(["select", str(run)])
    out = capsys.readouterr().out
    assert "one epoch 1 ranks higher, but its checkpoint is gone: " in out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["nowhere"], "there is no folder nowhere"),
        (
            ["RUN", "--rule", "Weighted", "--rule.weights", '{"val/f1": 1.0}'],
            "no epoch of these runs has logged val/f1; there are",
        ),
        (["RUN", "--rule", "Constrained"], "needs a bound"),
        (["RUN", "--rule", "Tolerant", "--rule.tolerance", "-1"], "tolerance must be at least 0"),
        (["EMPTY"], "neither summary.json"),
    ],
)
def test_errors_are_one_sentence(runs, tmp_path, capsys, words: list[Any], sentence: str):
    (tmp_path / "empty").mkdir()
    places = {"RUN": runs[0], "EMPTY": str(tmp_path / "empty")}
    with pytest.raises(SystemExit) as left:
        main(["select", *(places.get(word, word) for word in words)])
    assert left.value.code == 2
    assert sentence in capsys.readouterr().err
