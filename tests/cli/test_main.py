"""The program answers help, versions and wrong verbs before anything heavy is imported."""

import subprocess
import sys
from pathlib import Path

import pytest

import segaudit
from segaudit.cli import LIGHTNING, VERBS, main
from segaudit.cli.commands import COMMANDS

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "lightning", "torchmetrics", "numpy")


def test_the_table_of_verbs_is_the_programs() -> None:
    assert set(VERBS) == {*LIGHTNING, *COMMANDS}


@pytest.mark.parametrize("words", [["--help"], ["-h"], ["help"]])
def test_help_lists_every_verb(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as info:
        main(words)
    assert info.value.code == 0
    shown = capsys.readouterr().out
    for verb, text in VERBS.items():
        assert f"  {verb} " in shown
        assert text in shown


def test_without_a_verb_the_help_is_shown_with_the_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as info:
        main([])
    assert info.value.code == 2
    assert "usage: segaudit VERB" in capsys.readouterr().out


@pytest.mark.parametrize(("word", "meant"), [("fitt", "fit"), ("reprot", "report")])
def test_a_wrong_verb_is_told_in_one_sentence(word: str, meant: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as info:
        main([word])
    assert info.value.code == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith(f"segaudit: there is no verb {word!r}. Did you mean {meant!r}? There are fit, ")


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--version"])
    assert capsys.readouterr().out == f"segaudit {segaudit.__version__}\n"


@pytest.mark.parametrize("module", ["segaudit", "segaudit.cli", "src.cli"])
def test_every_module_that_runs_the_program_answers_at_once(module: str) -> None:
    code = f"import runpy, sys; sys.argv = ['x', '--help']\ntry: runpy.run_module({module!r}, run_name='__main__')\n"
    code += f"except SystemExit as end: print(end.code, sorted(set(sys.modules) & set({HEAVY!r})))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert "benchmark" in done.stdout
    assert done.stdout.splitlines()[-1] == "0 []"


def test_importing_the_package_imports_nothing_heavy_and_leaks_nothing() -> None:
    code = f"import sys, segaudit; print(sorted(set(sys.modules) & set({HEAVY!r}))); print(dir(segaudit))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    heavy, shown = done.stdout.splitlines()
    assert heavy == "[]"
    assert shown == str(sorted(segaudit.__all__))
    for name in segaudit.__all__:
        assert getattr(segaudit, name).__name__.rpartition(".")[2] == name


def test_what_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="No segaudit attribute Explainers"):
        _ = segaudit.Explainers
