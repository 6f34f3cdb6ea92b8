"""The notebooks run from top to bottom, write nothing beside themselves, and are stored with what they put out."""

import re
import shutil
from multiprocessing.forkserver import ensure_running
from pathlib import Path

import _notebooks
import jupyter_client.provisioning.local_provisioner
import nbformat
import pytest
from _processes import Kernel
from nbformat import NotebookNode

ROOT = _notebooks.FOLDER.parent
#: Folders from the root of a file system or of a Windows drive; closing tags and quotients have another character before.
ABSOLUTE = re.compile(r"(?<![\w.<:/*])(?:/[\w.~-]+){2,}|\b[A-Z]:\\|file://")

#: What a test does less than the notebook as stored; not where the notebook checks what came out.
LESS = {
    "quickstart": {
        "train_images=320, val_images=48,": "train_images=8, val_images=4,",
        "steps=6, regions=SuperpixelRegions([16, 49])": "steps=2, regions=SuperpixelRegions([9])",
        "max_images=4,": "max_images=2,",
    }
}


@pytest.fixture(autouse=True)
def warm_kernels(monkeypatch):
    """Start kernels warm: each would import torch, Lightning and segaudit anew."""
    ensure_running()  # before a test gives the server a folder for temporary files that should stay empty
    start = lambda command, env, cwd, **_: Kernel(command, env, cwd)  # noqa: E731
    monkeypatch.setattr(jupyter_client.provisioning.local_provisioner, "launch_kernel", start)


def outputs(notebook: NotebookNode) -> list[list[NotebookNode]]:
    return [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]


def texts(notebook: NotebookNode) -> list[str]:
    """Whatever is put out as text."""
    found = []
    for output in (one for cell in outputs(notebook) for one in cell):
        found += [output.text] if output.output_type == "stream" else []
        found += [text for kind, text in output.get("data", {}).items() if not kind.startswith("image/")]
    return found


def kinds(notebook: NotebookNode) -> list[list[tuple[str, list[str]]]]:
    return [[(one.output_type, sorted(one.get("data", {}))) for one in cell] for cell in outputs(notebook)]


def check(notebook: NotebookNode) -> None:
    """No error, no warning, no place on somebody's machine."""
    flat = [one for cell in outputs(notebook) for one in cell]
    assert flat
    assert not [one for one in flat if one.output_type == "error" or one.get("name") == "stderr"]
    for text in texts(notebook):
        assert not ABSOLUTE.search(text), ABSOLUTE.search(text)[0]


@pytest.mark.parametrize(
    ("text", "absolute"),
    [
        ("/home/me/runs", True),
        ("in '/tmp/x/y.png'", True),
        ("file:///etc", True),
        (r"C:\Users", True),
        ("runs/plain/version_0/audit", False),
        ("val/iou and audit/dea/deletion_auc", False),
        ("<b>x</b></span>", False),
        ("https://example.org/a/b", False),
    ],
)
def test_an_absolute_path_is_told_from_others(text, absolute):
    assert bool(ABSOLUTE.search(text)) == absolute


def test_the_readme_links_to_all():
    linked = re.findall(r"\]\(notebooks/(\w+)\.ipynb\)", (ROOT / "README.md").read_text())
    assert sorted(linked) == [path.stem for path in _notebooks.PATHS]
    assert len(linked) == 4


@pytest.mark.parametrize("path", _notebooks.PATHS, ids=lambda path: path.stem)
def test_it_is_stored_small_and_clean(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert path.stat().st_size < 400 * 1024
    assert [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"] == [
        n + 1 for n in range(len(outputs(notebook)))
    ]
    assert not any(cell.metadata for cell in notebook.cells)
    check(notebook)
    for target in re.findall(r"\]\((\.\./[^)#]+|\w+\.ipynb)\)", path.read_text()):
        assert (path.parent / target).exists(), f"{path.name} links to {target}"


@pytest.mark.parametrize("path", _notebooks.PATHS, ids=lambda path: path.stem)
def test_it_runs(path, tmp_path, monkeypatch):
    for variable in ("TMPDIR", "IPYTHONDIR", "JUPYTER_RUNTIME_DIR"):
        (tmp_path / variable).mkdir()
        monkeypatch.setenv(variable, str(tmp_path / variable))
    copy = tmp_path / "copy"
    for name in (path.relative_to(ROOT), Path("docs/benchmark/tables.csv")):
        (copy / name).parent.mkdir(parents=True)
        shutil.copy(ROOT / name, copy / name)
    before = sorted(copy.rglob("*"))
    notebook = _notebooks.execute(copy / path.relative_to(ROOT), copy / "notebooks", LESS.get(path.stem, {}))
    check(notebook)
    assert kinds(notebook) == kinds(nbformat.read(path, as_version=4)), "run `make notebooks` to store what it puts out now"
    assert sorted(copy.rglob("*")) == before
    assert not list((tmp_path / "TMPDIR").glob("tmp*"))  # its own folder is gone; torch has one for its cache


def test_the_benchmark_is_found_from_the_root_too(tmp_path, monkeypatch):
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    check(_notebooks.execute(_notebooks.FOLDER / "reading_the_benchmark.ipynb", ROOT))
