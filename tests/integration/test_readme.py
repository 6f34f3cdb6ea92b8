"""What README.md and CONTRIBUTING.md say can be done can be done."""

import re
import shlex
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

import segaudit.cli.commands
import segaudit.data
from segaudit.cli import main

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
TEXTS = {name: (ROOT / name).read_text() for name in ("README.md", "CONTRIBUTING.md")}
VERBS = ("fit", "validate", "test", "predict", "audit", "benchmark")

#: Verbs about finished runs, and what they print.
LOOKING_BACK = {
    "report": "report: ",
    "compare": "Differences from",
    "select": "no candidate's file is there; the best would be ",
    "workspace": "a workspace",
}


def blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def commands(start: str) -> Iterator[str]:
    """Commands that begin so, from blocks and from inline code."""
    for text in TEXTS.values():
        shell = "".join(blocks("(?:bash|console|sh)", text)).replace("\\\n", " ")
        prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
        inline = [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", prose)]
        for line in shell.splitlines() + inline:
            command = line.split(" #")[0].strip().removeprefix("$ ")
            if command.startswith(start):
                yield command


PYTHON = blocks("python")
PROGRAM = sorted({*commands("python -m src.cli"), *commands("segaudit ")})
MAKE = sorted(set(commands("make ")))
#: What the test does less than the README; test_third_party.py runs that module for as long as it says.
LESS = {"max_images=4, every_n_epochs=5": "max_images=1, every_n_epochs=20"}


def test_there_is_something_to_check():
    assert len(PYTHON) >= 2
    assert len(PROGRAM) >= 3
    assert {"make quickstart", "make test"} <= set(MAKE)


@pytest.mark.parametrize("code", PYTHON, ids=range(len(PYTHON)))
def test_python_runs(code):
    for piece, other in LESS.items():
        assert "".join(PYTHON).count(piece) == 1
        code = code.replace(piece, other)
    exec(compile(code, "README.md", "exec"), {"__name__": "__main__"})


@pytest.mark.parametrize("command", PROGRAM)
def test_the_program_understands(command, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(sys, "argv", ["segaudit"])
    monkeypatch.chdir(ROOT)
    words = shlex.split(command.replace("python -m src.cli", "segaudit", 1))[1:]
    verb, options = words[0], words[1:]
    if verb in ("explainers", "scores"):
        known = "dea" if verb == "explainers" else "road"
        assert main([known if word == "<name>" else word for word in words]) is None
        assert known in capsys.readouterr().out
        return
    if verb in LOOKING_BACK:
        monkeypatch.chdir(tmp_path)
        saved = SimpleNamespace(save=lambda: print("a workspace"))  # the real one needs an account
        monkeypatch.setattr(segaudit.cli.commands, "build_workspace", lambda *_: saved)
        for run in (word for word in options if word.startswith("runs/")):
            left_by_a_fit(Path(run))
        assert main(words) is None
        assert LOOKING_BACK[verb] in capsys.readouterr().out
        return
    assert verb in VERBS
    configs = [yaml.safe_load(path.read_text()) for path in ROOT.glob("configs/*.yaml")]
    folders = {config["trainer"]["default_root_dir"] for config in configs if "trainer" in config}
    made_up = []
    for i, word in enumerate(options):
        if not word.startswith("--") and "/" in word and not (ROOT / word).exists():
            # What does not exist is either what a run leaves or the reader's own.
            assert word.startswith(("path/to/", *(f"{folder}/version_0/" for folder in folders))), f"{word} does not exist"
            made_up += [i - 1, i]
            if word.startswith("runs/"):
                assert word.endswith("/config.yaml")
                name = next(path for path in ROOT.glob("configs/*.yaml") if word.split("/")[1] == path.stem)
                options = [*options, "--config", str(name)]
    known = [word for i, word in enumerate(options) if i not in made_up and word != "--print_config"]
    # jsonargparse checks every option and class before it prints.
    with pytest.raises(SystemExit) as info:
        main([verb, *known, "--print_config"])
    assert info.value.code == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed["networks"] if verb == "benchmark" else printed["trainer"]["max_epochs"] != 0


def left_by_a_fit(folder: Path) -> None:
    """What a report and a comparison need of a run."""
    (folder / "audit").mkdir(parents=True)
    (folder / "metrics.csv").write_text("epoch,step,val/iou,audit/region_effects/off_target_leakage\n0,1,0.5,0.3\n")
    rows = [{"sample_id": f"{k}", "class_index": 1, "explainer": "dea", "stability": k / 9, "reason": ""} for k in range(9)]
    pq.write_table(pa.Table.from_pylist(rows), folder / "audit" / "epoch=000-step=000001.parquet")


@pytest.mark.parametrize("command", MAKE)
def test_make_knows_the_target(command):
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(command.split()[1:]) <= set(targets)


@pytest.mark.parametrize("name", TEXTS)
def test_links_lead_somewhere(name):
    for target in re.findall(r"\]\(([^)#]+)\)", TEXTS[name]):
        assert "://" in target or (ROOT / target).exists(), f"{name} links to {target}"


def test_the_data_of_the_table_exist():
    table = README.split("| data | layout |")[1].split("\n\n")[0]
    for name in re.findall(r"`(\w+(?:Scenes|Module))`", table):
        assert name in segaudit.data.__all__


def test_the_python_that_is_asked_for():
    with open(ROOT / "pyproject.toml", "rb") as file:
        needed = tomllib.load(file)["project"]["requires-python"]
    assert f"Python {needed.removeprefix('>=')} or newer" in README
