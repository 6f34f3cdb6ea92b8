"""A run that is killed anywhere and goes on ends as one that was not: same weights, same scores, same choice."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("resume_program.py")


@pytest.mark.parametrize(("data", "deaths"), [("squares", 7), ("scenes", 2)])
def test_killed_and_resumed_chooses_the_same(data, deaths, tmp_path):
    environment = os.environ | {"PYTHONPATH": str(PROGRAM.parents[1]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, PROGRAM, tmp_path, data], env=environment, capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stderr[-3000:]
    outcomes = json.loads((tmp_path / "outcomes.json").read_text())
    whole = outcomes.pop("whole")
    assert len(whole["candidates"]) == 3  # every second epoch, and the last
    assert len(outcomes) == deaths
    for death, outcome in outcomes.items():
        assert outcome == whole, death
