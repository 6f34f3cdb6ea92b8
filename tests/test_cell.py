"""Cells are read as they were written, or refused."""

import pytest
import torch

from segaudit.cell import Cell, confusion, ious


def test_a_cell_is_read_as_it_was_written(tmp_path):
    rows = [{"sample_id": "a", "explainer": "dea", "road": 0.5, "reason": ""}, {"sample_id": "b", "road": None}]
    cell = Cell([dict.fromkeys(rows[0]) | row for row in rows], [[1, 0], [2, 3]], {"a": "x", "b": "y"})
    cell.write(tmp_path / "cells" / "0.parquet")
    assert Cell.read(tmp_path / "cells" / "0.parquet") == cell


def test_a_cell_without_targets(tmp_path):
    cell = Cell([], [[4, 0], [0, 0]], {"a": "x"})
    cell.write(tmp_path / "0.parquet")
    assert Cell.read(tmp_path / "0.parquet") == cell


def test_what_is_no_cell_is_refused(tmp_path):
    (tmp_path / "0.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(ValueError, match="is not a cell of a benchmark: delete it"):
        Cell.read(tmp_path / "0.parquet")


def test_confusion_and_iou_against_loops():
    draw = torch.Generator().manual_seed(0)
    truth = torch.randint(0, 4, (3, 8, 8), generator=draw)
    truth[0, 0] = 255
    found = torch.randint(0, 4, (3, 8, 8), generator=draw)
    counts = confusion(found, truth, 4)
    for t in range(4):
        for p in range(4):
            assert counts[t][p] == int(((truth == t) & (found == p)).sum())
    mean, each = ious([counts, counts])
    known = truth != 255
    expected = [float(((truth == c) & (found == c)).sum() / (((truth == c) | (found == c)) & known).sum()) for c in range(4)]
    assert each == pytest.approx(expected)
    assert mean == pytest.approx(sum(expected) / 4)
    assert ious([[]])[1] == []
