"""The table of scores that the program and the documentation show."""

import pytest

import segaudit.metrics as package
from segaudit.metrics.catalogue import FAMILIES, catalogue, describe, score_range


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


@pytest.mark.parametrize("entry", catalogue(), ids=lambda entry: entry.name)
def test_every_score_declares_a_range_for_intervals_within_what_it_can_give(entry) -> None:
    assert "score_range" in vars(entry.cls)
    assert score_range(entry.name) == entry.cls.score_range
    low, high = entry.cls.plot_lower_bound, entry.cls.plot_upper_bound
    if high is None:
        assert entry.cls.score_range is None
    else:
        assert entry.cls.score_range in {(0.0, 1.0), (0.5, 1.0), (-1.0, 1.0)}
        if low is not None and (low, high) != (0, 1):  # what the evidence can give is wider, or the same
            assert low <= entry.cls.score_range[0]


def test_the_range_of_a_score_that_is_not_known_is_none() -> None:
    assert score_range("nothing_of_the_kind") is None


def test_titles_are_of_families_that_exist() -> None:
    assert set(FAMILIES) <= {entry.family for entry in catalogue()}
