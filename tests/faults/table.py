"""The fault table: what goes wrong, and what is to happen then. Each row is a test; docs/faults.md shows them.

    python tests/faults/table.py

writes the rows of the tests into the document.
"""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

FOLDER = Path(__file__).parent
DOCUMENT = FOLDER.parents[1] / "docs" / "faults.md"
START = "<!-- rows: python tests/faults/table.py -->\n"


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
    """Of all files."""
    for path in sorted(FOLDER.glob("test_*.py")):
        if path.stem != "test_table":
            FAULTS.pop(path.stem, None)
            spec = importlib.util.spec_from_file_location(f"_{path.stem}", path)
            assert spec is not None
            assert spec.loader is not None
            spec.loader.exec_module(importlib.util.module_from_spec(spec))
    return dict(sorted(FAULTS.items()))


def document() -> str:
    """The document's part that follows from the tests."""
    parts = []
    for name, faults in rows().items():
        title = name.removeprefix("test_").capitalize()
        lines = [f"| {one.what} | {one.expected} | `{one.test}` |" for one in faults]
        parts.append("\n".join([f"## {title}\n", "| fault | what happens | test |", "| --- | --- | --- |", *lines]))
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    sys.path.insert(0, str(FOLDER.parent))
    from faults import table  # the decorators write into the module of this name

    DOCUMENT.write_text(DOCUMENT.read_text().partition(START)[0] + START + "\n" + table.document())
