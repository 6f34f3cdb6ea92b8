"""What docs/extending.md shows works as it stands: classes in a file of the user's, named in YAML."""

import csv
import gc
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from segaudit.cli import main
from segaudit.evidence import find, registry

TEXT = (Path(__file__).parents[2] / "docs" / "extending.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)


@pytest.fixture
def mine(own_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The files of the document in the folder in which the program runs, and nothing of them afterwards."""
    (own_folder / "mine.py").write_text("\n\n".join(blocks("python")))
    (config,) = blocks("yaml")
    (own_folder / "mine.yaml").write_text(config)
    monkeypatch.setattr(sys, "argv", ["segaudit"])
    monkeypatch.syspath_prepend(str(own_folder))
    monkeypatch.setattr(registry, "_EVIDENCE", dict(registry._EVIDENCE))
    yield own_folder
    sys.modules.pop("mine", None)
    gc.collect()  # classes of a module that is gone are no subclasses any more


def test_each_piece_is_under_twenty_lines() -> None:
    pieces = blocks("python")
    assert len(pieces) == 4
    for piece in pieces:
        assert len([line for line in piece.splitlines() if line.strip()]) < 20, piece


def test_an_audit_with_classes_of_a_file_outside_the_package(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["fit", "--config", "mine.yaml", "--trainer.enable_progress_bar", "false", "--trainer.num_sanity_val_steps", "0"])
    (metrics,) = mine.glob("**/metrics.csv")
    with open(metrics, newline="") as file:
        last = [row for row in csv.DictReader(file) if row["val/iou"]][-1]
    assert 0 <= float(last["audit/tilt/off_target_leakage"]) <= 1
    assert float(last["audit/fill_residual"]) > 0
    assert -19 <= float(last["audit/context_reliance"]) <= 1
    records = pq.read_table(sorted(mine.glob("**/audit/*.parquet"))[-1]).to_pylist()
    assert {row["explainer"] for row in records} == {"saliency", "tilt"}
    assert not find("confidence_in_isolation").per_explainer
    (verdict,) = mine.glob("**/checkpoints/selection.md")
    assert "the product is" in verdict.read_text()
    assert list(mine.glob("**/checkpoints/*.ckpt"))


def test_short_names_work_once_the_file_is_imported(mine: Path) -> None:
    import importlib

    from segaudit.attribution import Explainer
    from segaudit.names import resolve

    module = importlib.import_module("mine")
    assert isinstance(resolve("tilt", Explainer), module.Tilt)
