"""Blocks are read as they were written, or refused."""

import pytest

from segaudit.records.blocks import Block


def test_a_block_is_read_as_it_was_written(tmp_path):
    rows = [{"sample_id": "a", "explainer": "dea", "road": 0.5, "reason": ""}, {"sample_id": "b", "road": None}]
    block = Block([dict.fromkeys(rows[0]) | row for row in rows], [[1, 0], [2, 3]], {"a": "x", "b": "y"})
    block.write(tmp_path / "blocks" / "0.parquet")
    assert Block.read(tmp_path / "blocks" / "0.parquet") == block


def test_a_block_without_targets(tmp_path):
    block = Block([], [[4, 0], [0, 0]], {"a": "x"})
    block.write(tmp_path / "0.parquet")
    assert Block.read(tmp_path / "0.parquet") == block


def test_what_is_no_block_is_refused(tmp_path):
    (tmp_path / "0.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(ValueError, match="is not a block of a benchmark: delete it"):
        Block.read(tmp_path / "0.parquet")
