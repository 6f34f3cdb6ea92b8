"""The command line with less to build."""

import pytest

from segaudit.callbacks.lightning_internals import CommandLine


def only(monkeypatch: pytest.MonkeyPatch, verb: str) -> None:
    """Build the parser of one verb alone; all five take half of the time that a command takes to parse."""
    verbs = {verb: CommandLine.subcommands()[verb]}
    monkeypatch.setattr(CommandLine, "subcommands", staticmethod(lambda: verbs))
