"""The command line, with less to do before a verb begins."""

from functools import cache

import jsonargparse._typehints
import pytest

from segaudit.callbacks.lightning_internals import CommandLine

#: Half of the time of parsing goes into the search for all classes that a short name may mean.
SUBCLASSES = cache(jsonargparse._typehints.get_all_subclass_paths)


def only(monkeypatch: pytest.MonkeyPatch, verb: str) -> None:
    """Build the parser of one verb alone, and search for the classes once."""
    verbs = {verb: CommandLine.subcommands()[verb]}
    monkeypatch.setattr(CommandLine, "subcommands", staticmethod(lambda: verbs))
    monkeypatch.setattr(jsonargparse._typehints, "get_all_subclass_paths", SUBCLASSES)
