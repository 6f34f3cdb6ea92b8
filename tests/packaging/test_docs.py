"""The documentation says of every explainer what the code says, and shows it."""

from pathlib import Path

import pytest

from segaudit.attribution.catalogue import catalogue

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
