"""The documentation, the export lists and the pictures say what the code says."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from segaudit.attribution import Saliency, SmoothGrad

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def tables() -> ModuleType:
    """The program behind `make tables`."""
    spec = importlib.util.spec_from_file_location("make_tables", DOCS / "make_tables.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_nothing_is_stale(tables: ModuleType) -> None:
    assert not (names := tables.stale()), (
        f"Run `make tables` and commit what it writes: {', '.join(names)} is not up to date."
    )


def test_every_page_is_linked_from_another() -> None:
    pages = {path.name: path.read_text() for path in DOCS.glob("*.md")}
    texts = {"README.md": (DOCS.parent / "README.md").read_text(), **pages}
    lost = {name for name in pages if not any(f"{name})" in text for other, text in texts.items() if other != name)}
    assert not lost, f"no page links to {', '.join(sorted(lost))}"


def test_a_picture_is_stale_when_code_or_defaults_change_and_not_when_words_do(
    tables: ModuleType, tmp_path, monkeypatch
) -> None:
    def mark(code: str) -> str:
        path = tmp_path / "toy.py"
        path.write_text(code)
        spec = importlib.util.spec_from_file_location("segaudit.attribution.toy", path)
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(__import__("sys").modules, spec.name, module)
        __import__("linecache").clearcache()
        spec.loader.exec_module(module)
        return tables.fingerprint(module.Toy)

    first = mark('class Toy:\n    """Say this."""\n\n    def __init__(self, k=1): self.k = k  # so\n')
    assert (
        mark('class Toy:\n    """Say that."""\n\n    def __init__(self, k=1):\n        """Set k."""\n        self.k = k\n')
        == first
    )
    assert mark("class Toy:\n    def __init__(self, k=2): self.k = k\n") != first
    assert mark("class Toy:\n    def __init__(self, k=1): self.k = 2 * k\n") != first


def test_what_a_base_class_does_belongs_to_the_picture(tables: ModuleType) -> None:
    class Finer(SmoothGrad):
        def __init__(self) -> None:
            super().__init__(Saliency(), 2)

    assert tables.fingerprint(SmoothGrad) != tables.fingerprint(Finer)


def test_cells_of_a_table_are_markdown(tables: ModuleType) -> None:
    cell = tables._markdown("Take ``a|b`` of :func:`segaudit.functional.road`,\n see docs/dea.md.")
    assert cell == r"Take `a\|b` of `road`, see [dea.md](dea.md)."


def test_an_export_list_holds_what_the_modules_offer(tables: ModuleType) -> None:
    assert tables.public('import x\n__all__ = ["b", "A"]\n') == ["b", "A"]
    assert tables.public("import x\n") == []
