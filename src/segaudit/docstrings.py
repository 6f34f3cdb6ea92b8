"""Reads what docstrings say, for the program's tables and for those of the documentation."""

import inspect
import re
from typing import Any


def summary(documented: Any) -> str:
    """Return the first sentence of a docstring on one line, without markup."""
    return _plain(_doc(documented).split("\n\n")[0])


def section(documented: Any, title: str) -> str:
    """Return the text of a docstring's section on one line; empty where there is none.

    Example:
        >>> class Map:
        ...     '''Draw a map.
        ...
        ...     When to use:
        ...         At night.
        ...     '''
        >>> section(Map, "When to use")
        'At night.'

    """
    found = re.search(rf"^{re.escape(title)}:\n((?:[ ]+.*\n|\n)+)", _doc(documented) + "\n", re.MULTILINE)
    return " ".join(found[1].split()) if found else ""


def _doc(documented: Any) -> str:
    return inspect.getdoc(documented) or ""


def _plain(text: str) -> str:
    return re.sub(r":\w+:`~?(?:[\w.]*\.)?(\w+)`", r"\1", " ".join(text.split())).replace("``", "")
