"""Gathers the fault table: faults, and what happens then. Each row is a test; `make tables` writes docs/faults.md."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

FOLDER = Path(__file__).parent


class Fault(NamedTuple):
    what: str
    expected: str
    test: str


FAULTS: dict[str, list[Fault]] = {}


def fault(what: str, expected: str) -> Callable[[Any], Any]:
    """Enter a test in the table, under the name of its file."""

    def enter(test: Any) -> Any:
        FAULTS.setdefault(Path(test.__code__.co_filename).stem, []).append(Fault(what, expected, test.__name__))
        return test

    return enter


def rows() -> dict[str, list[Fault]]:
    """Return the rows of all files."""
    for path in sorted(FOLDER.glob("test_*.py")):
        if path.stem != "test_table":
            FAULTS.pop(path.stem, None)
            spec = importlib.util.spec_from_file_location(f"_{path.stem}", path)
            assert spec is not None
            assert spec.loader is not None
            spec.loader.exec_module(importlib.util.module_from_spec(spec))
    return dict(sorted(FAULTS.items()))
