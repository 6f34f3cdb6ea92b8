"""Benchmarks: the same figures as an auditor's, block by block, killed and resumed, on one process or two."""

import json
import random
import signal
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from _processes import Job, run_ranks
from integration.small_benchmark import CONFIG, SquareData, run, small
from integration.tiny import Squares, TinyNetwork, small_intervention
from torch.utils.data import default_collate

from segaudit import Auditor
from segaudit.benchmark import BenchmarkNetwork
from segaudit.records.blocks import Block, rows_of

RESULTS = (
    "results.parquet",
    "summary.json",
    "tables.md",
    "tables.tex",
    "tables.csv",
    "report.html",
    "faithfulness_stability.png",
)
CLOCK = ("seconds",)


def start(folder):
    return Job(run, folder, 1, log=folder.with_suffix(".log"))


def rows(folder):
    """Long-form results without what a clock gives."""
    return [row for row in pq.read_table(folder / "results.parquet").to_pylist() if row["score"] not in CLOCK]


def same(a, b):
    assert len(a) == len(b)
    for one, other in zip(a, b, strict=True):
        x, y = one.pop("value"), other.pop("value")
        assert one == other
        assert x == y or (np.isnan(x) and np.isnan(y)), one


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    torch.set_num_threads(1)  # as every test; a fixture of a module comes first
    folder = tmp_path_factory.mktemp("benchmark") / "whole"
    small(folder).run(CONFIG)
    return folder


def test_every_file_is_there(whole):
    assert set(RESULTS) <= {entry.name for entry in whole.iterdir()}
    assert len(list(whole.glob("blocks/squares/*/*.parquet"))) == 8
    assert {path.name for path in whole.glob("panels/*")} == {"squares_as_built.png", "squares_trained.png"}


def test_figures_are_those_of_an_auditor(whole):
    metrics = ["deletion_auc", "faithfulness_gap", "stability", "off_target_leakage", "fill_residual", "forwards"]
    auditor = Auditor(CONFIG["explainers"], metrics, intervention=small_intervention())
    order = torch.randperm(9, generator=torch.Generator().manual_seed(0))[:7].tolist()
    model = TinyNetwork().eval()
    model.load_state_dict(torch.load(whole / "networks" / "squares_as_built.pt", weights_only=True))
    model = model.to(memory_format=torch.channels_last)
    for place in range(0, 7, 2):
        batch = default_collate([Squares(9)[i] for i in order[place : place + 2]])
        auditor.update(model, batch["image"], batch["mask"], batch["id"])
    expected = auditor.records()
    blocks = [Block.read(path) for path in sorted(whole.glob("blocks/squares/as_built/*.parquet"))]
    found = rows_of(blocks, auditor.provisional)
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        one.pop("seconds")
        assert one.pop("stability") == pytest.approx(other.pop("stability"), abs=5e-3, nan_ok=True)  # by half precision
        assert one == pytest.approx(other, nan_ok=True)


def test_a_trained_network_is_another_than_it_was(whole):
    built, trained = (torch.load(whole / "networks" / f"squares_{n}.pt", weights_only=True) for n in ("as_built", "trained"))
    assert list(built) == list(trained)
    assert not torch.equal(built["head.weight"], trained["head.weight"])


def test_nothing_is_done_twice_and_what_is_missing_is_done(whole):
    before = rows(whole)
    times = {path: path.stat().st_mtime_ns for path in whole.glob("blocks/*/*/*")}
    missing = sorted(times)[3]
    missing.unlink()
    small(whole).run(CONFIG)
    after = {path: path.stat().st_mtime_ns for path in whole.glob("blocks/*/*/*")}
    assert {path for path in times if after[path] != times[path]} == {missing}
    same(rows(whole), before)


def test_another_configuration_is_refused_and_harms_nothing(whole):
    before = (whole / "results.parquet").read_bytes()
    with pytest.raises(ValueError, match=r"holds a benchmark of another configuration \(max_images differs\)"):
        small(whole).run(CONFIG | {"max_images": 3})
    assert (whole / "results.parquet").read_bytes() == before
    small(whole).run(CONFIG | {"folder": "elsewhere", "devices": 4})  # only says where


def test_a_checkpoint_is_loaded(tmp_path):
    torch.manual_seed(7)
    theirs = TinyNetwork().state_dict()
    torch.save({"state_dict": {f"network.{name}": value for name, value in theirs.items()}}, tmp_path / "a.ckpt")
    entry = BenchmarkNetwork(TinyNetwork(), checkpoint=tmp_path / "a.ckpt")
    small(tmp_path / "out", networks={"mine": entry}, explainers=["random"], max_images=1).run()
    found = torch.load(tmp_path / "out" / "networks" / "squares_mine.pt", weights_only=True)
    assert all(torch.equal(found[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"networks": {}}, "at least one network"),
        ({"data": {}}, "at least one network and one data set"),
        ({"max_images": 0}, "max_images must be at least 1, got 0"),
        ({"devices": 0}, "devices must be at least 1"),
        ({"data": {"a/b": SquareData()}}, "'a/b' names files"),
    ],
)
def test_what_makes_no_sense(tmp_path, changes, says):
    with pytest.raises(ValueError, match=says):
        small(tmp_path, **changes)


def test_a_network_is_either_loaded_or_trained():
    with pytest.raises(ValueError, match="either a checkpoint or epochs"):
        BenchmarkNetwork(TinyNetwork(), checkpoint=Path("a"), epochs=2)
    with pytest.raises(ValueError, match="learning_rate above 0"):
        BenchmarkNetwork(TinyNetwork(), learning_rate=0)


def test_killed_and_resumed_gives_the_same(whole, tmp_path):
    folder, draw = tmp_path / "killed", random.Random(0)
    for blocks in (0, 2, 5):  # dies while a network is trained, or between blocks, or in one
        job = start(folder)
        deadline = time.monotonic() + 200
        while len(list(folder.glob("blocks/*/*/*"))) < blocks and job.running and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(draw.uniform(0, 0.5))
        job.kill()
        assert job.wait() == -signal.SIGKILL
    job = start(folder)
    assert job.wait() == 0, job.printed()
    same(rows(folder), rows(whole))

    told = [json.loads((one / "summary.json").read_text()) for one in (folder, whole)]
    assert told[0]["provenance"]["weights"] == told[1]["provenance"]["weights"]
    assert told[0]["provenance"]["data"] == told[1]["provenance"]["data"]


def test_two_processes_give_the_same_files_as_one(whole, tmp_path):
    folder = tmp_path / "two"
    run_ranks(2, run, folder, 2, log=tmp_path / "ranks.log")
    same(rows(folder), rows(whole))
    names = lambda of: sorted(str(path.relative_to(of)) for path in of.rglob("*"))  # noqa: E731
    assert names(folder) == names(whole)
