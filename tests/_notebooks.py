"""Run the notebooks; `python tests/_notebooks.py [NAME…]` stores what they put out."""

import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).parents[1] / "notebooks"
PATHS = sorted(FOLDER.glob("*.ipynb"))


def execute(path: Path, folder: Path, less: Mapping[str, str] = MappingProxyType({})) -> nbformat.NotebookNode:
    """Run every cell in a process of its own that starts in ``folder``; what is not the notebook's own is left out.

    Args:
        path: the notebook.
        folder: where it runs.
        less: pieces of the code, and others that do less work in their place; for tests, which store nothing.

    Raises:
        nbclient.exceptions.CellExecutionError: with the traceback of the first cell that fails.

    """
    notebook = nbformat.read(path, as_version=4)
    for piece, other in less.items():
        (cell,) = [cell for cell in notebook.cells if piece in cell.source]
        cell.source = cell.source.replace(piece, other)
    resources = {"metadata": {"path": str(folder)}}
    client = NotebookClient(
        notebook, timeout=550, kernel_name="python3", record_timing=False, coalesce_streams=True, resources=resources
    )
    client.execute()
    for cell in notebook.cells:
        cell.metadata = {}
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    return notebook


def main() -> None:
    os.environ |= {"NO_ALBUMENTATIONS_UPDATE": "1", "OMP_NUM_THREADS": "1"}
    for path in PATHS:
        if not sys.argv[1:] or path.stem in sys.argv[1:]:
            with tempfile.TemporaryDirectory() as home:
                os.environ["IPYTHONDIR"] = home
                nbformat.write(execute(path, FOLDER), path)
            print(f"{path.name}: {path.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
