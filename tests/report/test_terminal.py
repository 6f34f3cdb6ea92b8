"""What is printed."""

import pytest
from rich.table import Table

from segaudit.report.terminal import say


def test_a_line_is_printed_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    line = f"ä [bold]folder[/bold] [/a] {'x' * 200}"
    say(line)
    assert capsys.readouterr().out == f"{line}\n"


def test_a_table_keeps_its_columns(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    table = Table("one", "other")
    table.add_row("x" * 60, "y" * 60)
    say(table)
    assert "x" * 60 in capsys.readouterr().out
