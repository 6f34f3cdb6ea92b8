"""The W&B sweep in configs/: a file that W&B takes, and a command that the program takes."""

import csv
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from integration.test_configs import ROOT, small
from wandb.sdk.launch.sweeps.utils import create_sweep_command_args

from segaudit.cli import main

SWEEP = ROOT / "configs" / "sweep.yaml"


@pytest.fixture
def sweep() -> dict[str, Any]:
    return yaml.safe_load(SWEEP.read_text())


def test_the_file_keeps_to_the_schema(sweep):
    sweeps = pytest.importorskip("sweeps")
    assert sweeps.schema_violations_from_proposed_config(sweep) == []
    assert sweep["metric"] == {"name": "select/objective", "goal": "maximize"}
    sweep["metric"]["goal"] = "large"
    assert sweeps.schema_violations_from_proposed_config(sweep) != []


def command(sweep: dict[str, Any], drawn: dict[str, Any]) -> list[str]:
    """What an agent would run: each macro is replaced by what it stands for."""
    known = create_sweep_command_args({"args": drawn})
    known |= {"env": ["/usr/bin/env"], "interpreter": ["python"], "program": [sweep["program"]]}
    found: list[str] = []
    for word in sweep["command"]:
        macro = re.fullmatch(r"\$\{(\w+)\}", word)
        found += known[macro[1]] if macro else [word]
    return found


def test_a_drawn_combination_runs(sweep, own_folder, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["segaudit"])
    sweeps = pytest.importorskip("sweeps")
    np.random.seed(0)  # noqa: NPY002 -- the global one is what it draws from
    drawn = sweeps.next_run(sweep, []).config
    assert set(drawn) == set(sweep["parameters"])
    words = command(sweep, drawn)
    assert words[:5] == ["/usr/bin/env", "python", "-m", "src.cli", "fit"]
    assert words.count("--config=configs/quickstart.yaml") == 1
    assert not any("$" in word for word in words)
    Path("small.yaml").write_text(yaml.safe_dump(small(ROOT / "configs" / "quickstart.yaml")))
    words[words.index("--config=configs/quickstart.yaml")] = "--config=small.yaml"
    main([*words[4:], "--trainer.max_epochs=2", "--trainer.logger.init_args.offline=true"])

    run = own_folder / "runs" / "sweep" / "version_0"
    saved = yaml.safe_load((run / "config.yaml").read_text())
    arguments = saved["model"]["init_args"]
    assert arguments["optimizer"]["init_args"]["lr"] == pytest.approx(drawn["model.optimizer.lr"]["value"])
    assert arguments["right_reasons"]["init_args"]["weight"] == drawn["model.right_reasons.weight"]["value"]
    with open(run / "metrics.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["select/objective"]]
    best = None
    for row, (iou, leakage) in zip(rows, measured(run), strict=True):
        value = iou if leakage <= 0.35 else 0.35 - leakage
        best = value if best is None else max(best, value)
        assert float(row["select/objective"]) == pytest.approx(best)
    assert len(rows) == 2


def measured(run: Path) -> list[tuple[float, float]]:
    with open(run / "metrics.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["val/iou"]]
    return [(float(row["val/iou"]), float(row["audit/dea/off_target_leakage"])) for row in rows]
