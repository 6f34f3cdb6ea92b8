"""The table of scores that the program and the documentation show."""

import pytest

import segaudit.metrics as package
from segaudit.metrics.catalogue import FAMILIES, catalogue, describe


def test_it_lists_what_the_package_exports() -> None:
    assert {entry.cls for entry in catalogue()} == {getattr(package, name) for name in package.__all__} - {
        package.TargetMean
    }


@pytest.mark.parametrize("entry", catalogue(), ids=lambda entry: entry.name)
def test_every_entry_says_what_it_is(entry) -> None:
    assert 20 < len(entry.summary) < 200
    assert entry.summary.endswith(".")
    for section in ("unit", "cost", "definition", "pitfalls"):
        assert getattr(entry, section), f"the docstring of {entry.name} needs a section '{section.capitalize()}:'."
    assert len(entry.pitfalls) > 20
    text = describe(entry.name)
    assert text.startswith(f"{entry.name}\nclass_path: {entry.cls.__name__}\n")
    assert "Pitfalls:\n    " in text


def test_titles_are_of_families_that_exist() -> None:
    assert set(FAMILIES) <= {entry.family for entry in catalogue()}
