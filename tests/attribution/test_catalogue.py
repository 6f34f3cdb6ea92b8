"""The table of explainers that the program and the documentation show."""

import inspect

import pytest

import segaudit.attribution as package
from segaudit.attribution import Explainer
from segaudit.attribution.catalogue import FAMILIES, catalogue, describe


def test_it_lists_what_the_package_exports() -> None:
    exported = {getattr(package, name) for name in package.__all__}
    explainers = {c for c in exported if inspect.isclass(c) and issubclass(c, Explainer) and not inspect.isabstract(c)}
    assert {entry.cls for entry in catalogue()} == explainers
    assert len({entry.name for entry in catalogue()}) == len(explainers) > 20


@pytest.mark.parametrize("entry", catalogue(), ids=lambda entry: entry.name)
def test_every_entry_says_what_it_is_and_costs(entry) -> None:
    assert entry.cost
    assert 20 < len(entry.summary) < 200
    assert entry.summary.endswith(".")
    assert not {"`", "|"} & set(entry.summary)
    assert len(entry.when) > 20, f"the docstring of {entry.cls.__name__} needs a section 'When to use:' with a sentence."
    assert entry.when.endswith(".")
    assert (entry.family == "control") == entry.cls.control
    text = describe(entry.name)
    assert text.startswith(f"{entry.name}({entry.arguments})\n")
    for name in inspect.signature(entry.cls).parameters:
        assert f"{name}:" in text  # each argument is explained


def test_titles_are_of_families_that_exist() -> None:
    assert set(FAMILIES) <= {entry.family for entry in catalogue()}


def test_an_unknown_name_is_told_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"there is no explainer 'nix'. Known: .*dea.*saliency"):
        describe("nix")
