"""A run that is killed anywhere and goes on ends as one that was not: same weights, same records, same choice."""

import json
import random
import signal
import time

import pyarrow.parquet as pq
import pytest
from _processes import Job
from _processes import run as apart
from integration.resume_program import DEATHS, Dying, train


@pytest.mark.parametrize("data", DEATHS)
def test_killed_and_resumed_chooses_the_same(data, tmp_path):
    assert run(tmp_path / "whole", data) == 0
    whole = outcome(tmp_path / "whole")
    assert len(whole["candidates"]) == 3  # every second epoch, and the last
    for epoch, moment in DEATHS[data]:
        root = tmp_path / f"{epoch} {moment}"
        assert run(root, data, Dying(epoch, moment)) == -signal.SIGKILL
        last = root / "version_0" / "checkpoints" / "last.ckpt"
        assert last.exists() == (epoch > 0)
        assert run(root, data, last=last if last.exists() else None) == 0
        assert outcome(root) == whole, root.name


def test_killed_ten_times_at_random_moments(tmp_path):
    apart(print, log=tmp_path / "warm")  # the server's start would count as a part of a run, and most kills come too late
    started = time.perf_counter()
    assert run(tmp_path / "whole", "squares") == 0
    seconds = time.perf_counter() - started
    whole = outcome(tmp_path / "whole")
    assert "'deletion_auc': " in whole["records"]
    draw, runs, died = random.Random(0), 0, 0
    while died < 10:
        root = tmp_path / f"run {runs}"
        for life in range(4):
            found = sorted(root.glob("version_*/checkpoints/last.ckpt"), key=lambda path: path.stat().st_mtime)
            last = found[-1] if found else None
            status = run(root, "squares", last=last, seconds=None if life == 3 else draw.uniform(0, seconds))
            assert status in (0, -signal.SIGKILL), root.with_suffix(".log").read_text()[-3000:]
            died += status != 0
            if not status:
                break
        assert outcome(root) == whole, f"{root.name}, killed {life} times"
        runs += 1


def run(folder, data, dying=None, last=None, seconds=None):
    """Train in a process of its own, killed after some seconds, and return its exit status."""
    job = Job(train, folder, data, dying, last, log=folder.with_suffix(".log"))
    if seconds is not None:
        job.process.join(seconds)
        job.kill()
    return job.wait()


def outcome(root):
    """Return what came out of a run; of the records of an epoch that was run again, those of the last time."""
    records = {}
    versions = sorted(root.glob("version_*"), key=lambda path: int(path.name.removeprefix("version_")))
    for path in (path for version in versions for path in version.glob("audit/*.parquet")):
        records[path.stem] = pq.read_table(path).to_pylist()
    return json.loads((root / "outcome.json").read_text()) | {"records": repr(sorted(records.items()))}
