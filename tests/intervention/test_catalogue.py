"""The table of fills that the documentation shows."""

import inspect

import pytest

import segaudit.intervention as package
from segaudit.intervention import Fill
from segaudit.intervention.catalogue import catalogue


def test_it_lists_what_the_package_exports() -> None:
    exported = {getattr(package, name) for name in package.__all__}
    fills = {c for c in exported if inspect.isclass(c) and issubclass(c, Fill) and c is not Fill}
    assert {entry.cls for entry in catalogue()} == fills


@pytest.mark.parametrize("entry", catalogue(), ids=lambda entry: entry.cls.__name__)
def test_every_entry_says_what_it_does(entry) -> None:
    assert entry.summary.endswith(".")
    for text, section in ((entry.removes, "Removes"), (entry.invents, "Keeps or invents")):
        assert text.endswith("."), f"the docstring of {entry.cls.__name__} needs a section '{section}:' with a sentence."
