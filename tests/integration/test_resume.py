"""A run that is killed anywhere and goes on ends as one that was not: same weights, same records, same choice."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("resume_program.py")


@pytest.mark.parametrize(("data", "deaths"), [("squares", 7), ("scenes", 2)])
def test_killed_and_resumed_chooses_the_same(data, deaths, tmp_path):
    outcomes = run(tmp_path, data)
    whole = outcomes.pop("whole")
    assert len(whole["candidates"]) == 3  # every second epoch, and the last
    assert len(outcomes) == deaths
    for death, outcome in outcomes.items():
        assert outcome == whole, death


def test_killed_twenty_times_at_random_moments(tmp_path):
    outcomes = run(tmp_path, "squares", 20)
    whole = outcomes.pop("whole")
    assert "'deletion_auc': " in whole["records"]
    assert sum(int(name.split()[-2]) for name in outcomes) >= 20
    for name, outcome in outcomes.items():
        assert outcome == whole, name


def run(folder, data, deaths=0):
    environment = os.environ | {"PYTHONPATH": str(PROGRAM.parents[1]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, PROGRAM, folder, data, str(deaths)], env=environment, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((folder / "outcomes.json").read_text())
