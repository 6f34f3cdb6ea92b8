"""Writes what follows from docstrings: the tables of the documentation, the export lists and the explainers' pictures.

    python docs/make_tables.py [--check]

`make tables` calls it. With `--check` it writes nothing, and ends with the status 1 where something is stale. Functions
import segaudit where they need it: the export lists are written before, so that a new class is found at once.
"""

import argparse
import ast
import hashlib
import inspect
import itertools
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PICTURES = DOCS / "explainers"
#: Raise it when all pictures are to be drawn again: after a change of docs/pictures.py.
DRAWING = 1
#: The text chunk of a PNG file that holds the fingerprint of what it shows.
CHUNK = "segaudit"
#: The picture of the scene itself, without a map.
SCENE = "scene"
#: Packages whose __init__.py is written from the `__all__` of their modules.
PACKAGES = ("attribution", "functional", "metrics")


def explainer_tables() -> str:
    """Return a table of explainers for each family."""
    import segaudit.attribution.catalogue as explainers

    head = ("", "explainer", "passes an image", "what it does", "when to use it")
    rows = (
        (one.family, (f"![{one.name}](explainers/{one.name}.png)", f"`{one.name}`", one.cost, one.summary, one.when))
        for one in explainers.catalogue()
    )
    return _families(head, rows, explainers.FAMILIES)


def score_tables() -> str:
    """Return a table of scores for each family."""
    import segaudit.metrics.catalogue as scores

    head = ("score", "what it is", "better", "range", "unit", "forwards", "definition", "pitfalls")
    rows = (
        (
            one.family,
            (f"`{one.name}`", one.summary, one.better, one.range, one.unit, one.cost, one.definition, one.pitfalls),
        )
        for one in scores.catalogue()
    )
    return _families(head, rows, scores.FAMILIES)


def fill_table() -> str:
    """Return the table of fills."""
    import segaudit.intervention.catalogue as fills

    rows = [(f"`{one.call}`", one.summary, one.removes, one.invents) for one in fills.catalogue()]
    return _table(("fill", "what it does", "removes", "keeps or invents"), rows)


def fault_tables() -> str:
    """Return a table of faults for each file of tests/faults."""
    if str(ROOT / "tests") not in sys.path:
        sys.path.insert(0, str(ROOT / "tests"))
    from faults import table  # the decorators of the tests write into the module of this name

    parts = []
    for name, faults in table.rows().items():
        title = name.removeprefix("test_").capitalize()
        rows = [(one.what, one.expected, f"`{one.test}`") for one in faults]
        parts.append(f"## {title}\n\n{_table(('fault', 'what happens', 'test'), rows)}")
    return "\n\n".join(parts)


def moved_table() -> str:
    """Return the table of modules that have another path now."""
    from segaudit._moved import MOVED

    return _table(("was", "is"), [(f"`{old}`", f"`{new}`") for old, new in MOVED.items()])


TABLES: dict[str, Callable[[], str]] = {
    "explainers": explainer_tables,
    "scores": score_tables,
    "fills": fill_table,
    "faults": fault_tables,
    "upgrading": moved_table,
}


def document(name: str) -> str:
    """Return docs/<name>.md with a new table between its marks."""
    text = (DOCS / f"{name}.md").read_text()
    start, end = f"<!-- table: {name} -->\n", "<!-- end -->"
    before, found, rest = text.partition(start)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise SystemExit(f"docs/{name}.md needs the lines {start.strip()!r} and {end!r}, between which its table goes.")
    return f"{before}{start}\n{TABLES[name]()}\n\n{end}{after}"


def exports(package: str) -> str:
    """Return the __init__.py of a package: explicit imports of what its modules list in `__all__`, and its own list."""
    folder = ROOT / "src" / "segaudit" / package
    modules = sorted(path for path in folder.glob("*.py") if path.stem != "__init__")
    names = {path.stem: listed for path in modules if (listed := public(path.read_text()))}
    head = ast.get_docstring(ast.parse((folder / "__init__.py").read_text()), clean=False)
    lines = [f'"""{head}"""', "", "# Written by `make tables` from the lists `__all__` of the modules.", ""]
    lines += [f"from segaudit.{package}.{module} import {', '.join(listed)}" for module, listed in names.items()]
    lines += ["", f"__all__ = {sorted(itertools.chain.from_iterable(names.values()))!r}"]
    return _formatted("\n".join(lines) + "\n", folder / "__init__.py")


def public(code: str) -> list[str]:
    """Return the list `__all__` of a module; empty where it has none.

    Example:
        >>> public("__all__ = ['Tilt']")
        ['Tilt']

    """
    for node in ast.parse(code).body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets):
            return list(ast.literal_eval(node.value))
    return []


def export_lists() -> dict[Path, str]:
    """Return the text of every export list, by its file."""
    return {ROOT / "src" / "segaudit" / package / "__init__.py": exports(package) for package in PACKAGES}


def documents() -> dict[Path, str]:
    """Return the text of every document with a table, by its file."""
    return {DOCS / f"{name}.md": document(name) for name in TABLES}


def fingerprint(cls: type) -> str:
    """Return a hash of what a picture shows: the explainer's code without docstrings, and its default arguments."""
    classes = [base for base in cls.__mro__ if base.__module__.startswith("segaudit.") and base.__name__ != "Explainer"]
    parts = [str(DRAWING), str(inspect.signature(cls)), *(_code(base) for base in classes)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def explainer_classes() -> dict[str, type]:
    """Return the class of every explainer, by its short name."""
    import segaudit.attribution.catalogue as explainers

    return {one.name: one.cls for one in explainers.catalogue()}


def fingerprints() -> dict[str, str]:
    """Return the fingerprint of every picture, by its name."""
    return {SCENE: str(DRAWING)} | {name: fingerprint(cls) for name, cls in explainer_classes().items()}


def stale_pictures() -> list[str]:
    """Name the pictures that are missing or show code that has changed, and those that nobody needs."""
    marks = fingerprints()
    return sorted(
        {name for name, mark in marks.items() if _mark(PICTURES / f"{name}.png") != mark}
        | {path.stem for path in PICTURES.glob("*.png") if path.stem not in marks}
    )


def stale() -> list[str]:
    """Name the files that are not what they would be now."""
    changed = [path for path, text in (export_lists() | documents()).items() if path.read_text() != text]
    changed += [PICTURES / f"{name}.png" for name in stale_pictures()]
    return [str(path.relative_to(ROOT)) for path in changed]


def write() -> list[str]:
    """Write what is stale, and name it."""
    written = _write(export_lists())
    written += _write(documents())
    pictures = stale_pictures()
    draw_pictures(pictures)
    return [str(path.relative_to(ROOT)) for path in written] + [f"docs/explainers/{name}.png" for name in pictures]


def draw_pictures(names: Iterable[str]) -> None:
    """Draw pictures, which trains a network, and remove those that nobody needs."""
    marks, classes = fingerprints(), explainer_classes()
    PICTURES.mkdir(exist_ok=True)
    for name in names:
        path = PICTURES / f"{name}.png"
        if name in marks:
            import pictures

            pictures.draw(classes[name]() if name in classes else None, path, {CHUNK: marks[name]})
        else:
            path.unlink()


def _write(texts: dict[Path, str]) -> list[Path]:
    """Write the texts that are not in their files already, and return these files."""
    changed = [path for path, text in texts.items() if path.read_text() != text]
    for path in changed:
        path.write_text(texts[path])
    return changed


def _families(head: tuple[str, ...], rows: Iterable[tuple[str, tuple[str, ...]]], titles: dict[str, str]) -> str:
    """Return a table with a heading for each title, in the order of the titles."""
    by_title: dict[str, list[tuple[str, ...]]] = {title: [] for title in titles.values()}
    for family, row in rows:
        by_title.setdefault(titles.get(family, family.replace("_", " ").capitalize()), []).append(row)
    return "\n\n".join(f"## {title}\n\n{_table(head, members)}" for title, members in by_title.items() if members)


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *(tuple(map(_markdown, row)) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _markdown(text: str) -> str:
    """Return a docstring's text as the cell of a table."""
    text = re.sub(r":\w+:`~?(?:[\w.]*\.)?(\w+)`", r"`\1`", " ".join(text.split())).replace("``", "`")
    text = re.sub(r"\bdocs/(\w+\.md)\b", r"[\1](\1)", text)
    return re.sub(r"(?<!\\)\|", r"\\|", text)


def _formatted(code: str, path: Path) -> str:
    for arguments in (("check", "--quiet", "--fix", "--select", "I,RUF022"), ("format", "--quiet")):
        command = [sys.executable, "-m", "ruff", *arguments, "--stdin-filename", str(path), "-"]
        code = subprocess.run(command, input=code, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    return code


def _mark(path: Path) -> str | None:
    """Return the fingerprint that a picture holds; None where there is none."""
    from PIL import Image

    if not path.is_file():
        return None
    with Image.open(path) as image:
        found: str | None = image.info.get(CHUNK)
    return found


def _code(cls: type) -> str:
    """Return a class's code in a form that does not depend on layout, comments, docstrings and Python's version."""

    def parts(node: Any) -> Iterator[str]:
        if not isinstance(node, ast.AST):
            yield repr(node)
            return
        yield type(node).__name__
        for name, value in ast.iter_fields(node):
            if name in ("type_params", "type_comment", "kind") or value is None or value == []:
                continue
            values = value if isinstance(value, list) else [value]
            for one in values[1:] if name == "body" and _is_docstring(values[0]) else values:
                yield name
                yield from parts(one)

    return " ".join(parts(ast.parse(textwrap.dedent(inspect.getsource(cls)))))


def _is_docstring(node: Any) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def main() -> None:
    """Write what is stale, or with `--check` name it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; end with the status 1 if something is stale")
    if parser.parse_args().check:
        if names := stale():
            raise SystemExit(f"stale: {', '.join(names)}. Run `make tables` and commit what it writes.")
        return
    print("\n".join(write()) or "nothing is stale")


if __name__ == "__main__":
    main()
