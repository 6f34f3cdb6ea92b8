"""The documentation says of every explainer and score what the code says, and shows it."""

from pathlib import Path

import pytest

from segaudit.attribution.catalogue import catalogue
from segaudit.metrics.catalogue import catalogue as score_catalogue

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("entry", catalogue(), ids=lambda entry: entry.name)
def test_an_explainer_is_in_the_table_with_its_picture(entry):
    rows = [line for line in (DOCS / "explainers.md").read_text().splitlines() if f"| `{entry.name}` |" in line]
    assert len(rows) == 1
    picture, name, cost, summary, when = (cell.strip() for cell in rows[0].strip("|").split(" | "))
    assert (name, cost, summary) == (f"`{entry.name}`", entry.cost, entry.summary)
    assert len(when) > 20
    assert picture == f"![{entry.name}](explainers/{entry.name}.png)"
    assert (DOCS / "explainers" / f"{entry.name}.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("entry", score_catalogue(), ids=lambda entry: entry.name)
def test_a_score_is_in_the_table_with_its_direction_and_range(entry):
    rows = [line for line in (DOCS / "scores.md").read_text().splitlines() if line.startswith(f"| `{entry.name}` |")]
    assert len(rows) == 1
    _, better, reach, unit, forwards, source, pitfalls = (cell.strip() for cell in rows[0].strip("|").split(" | "))
    assert (better, reach) == (entry.better, entry.range)
    assert unit
    assert forwards
    assert len(source) > 10
    assert len(pitfalls) > 20


def test_the_readme_says_the_same_of_scores():
    readme = (DOCS.parent / "README.md").read_text().partition("## Scores")[2]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in readme.splitlines() if line.startswith("| `")]
    said = {}
    for names, _, better, reach in rows:
        names, betters, ranges = ([part.strip(" `") for part in cell.split(", ")] for cell in (names, better, reach))
        for place, name in enumerate(names):
            said[name] = (betters[min(place, len(betters) - 1)], ranges[min(place, len(ranges) - 1)])
    assert said.items() >= {entry.name: (entry.better, entry.range) for entry in score_catalogue()}.items()
