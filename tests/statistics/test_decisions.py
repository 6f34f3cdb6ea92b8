"""The study of error rates keeps its bounds, with few trials."""

import importlib.util
import sys
from pathlib import Path

STUDY = Path(__file__).parents[2] / "benchmarks" / "decisions.py"


def test_the_study_of_error_rates_runs_and_breaks_no_bound(capsys, monkeypatch):
    spec = importlib.util.spec_from_file_location("decisions", STUDY)
    study = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "decisions", study)
    spec.loader.exec_module(study)
    assert study.main(["--quick"]) == 0
    said = capsys.readouterr()
    assert said.out.count("\n### ") == 6
    assert "**" not in said.out
    assert said.err == ""
    # The bounds can be broken: a level that is not held is marked.
    table = study.Table("t", ["a"], 1000)
    assert (table.at_least(0.9, 0.93), table.at_most(0.1, 0.06), table.at_most(0.05, 0.06)) == (
        "**0.900**",
        "**0.100**",
        "0.050",
    )
    assert len(table.broken) == 2
