"""The verdict says whether a second fill agrees, on the targets that both fills can score."""

import math
from typing import Any

import pytest

from segaudit.records.summary import part
from segaudit.report.verdict import verdict

NAN = math.nan
CONTROLS = ["random", "target_mask"]


def records(first: float, second: float, weak: int = 0, images: int = 12) -> list[dict[str, Any]]:
    """Gaps of dea above both controls by ``first`` and ``second``, with some noise; ``weak`` images have no second gap."""
    rows = []
    for image in range(images):
        wiggle = 0.01 * (image % 3 - 1)
        for explainer, own in (("dea", 1.0), ("random", 0.0), ("target_mask", 0.0)):
            missing = image < weak
            rows.append(
                {
                    "sample_id": str(image), "group": "", "class_index": 1, "area": 0.1, "fill": "range_fill(0)",
                    "explainer": explainer, "faithfulness_gap": 0.3 + own * (5.0 if missing else first + wiggle),
                    "second_fill_gap": NAN if missing else 0.2 + own * (second + wiggle),
                    "reason": "second fill too weak" if missing else "",
                }
            )  # fmt: skip
    return rows


def said(rows: list[dict[str, Any]]) -> dict[str, Any]:
    found = part("scenes", "net", rows, ["a", "b"], {"mean": 0.5}, 12, CONTROLS)
    summary = {"controls": CONTROLS, "directions": {"faithfulness_gap": True, "second_fill_gap": True}, "shared": []}
    return {finding.about: finding for finding in verdict(summary, found)}


@pytest.mark.parametrize(("first", "second", "kind", "text"), [
    (0.2, 0.1, "plain", "A second fill agrees that dea is above every control."),
    (-0.2, -0.1, "plain", "A second fill agrees that dea is below some control."),
    (0.2, -0.1, "bad", "A second fill does not agree: under it dea is below some control, under the first it is above"),
    (-0.2, 0.1, "bad", "A second fill does not agree: under it dea is above every control, under the first it is below"),
    (0.2, 0.0, "plain", "A second fill cannot tell whether dea is above every control."),
    (0.0, 0.1, "plain", "Under a second fill dea is above every control, and there the first fill cannot tell."),
    (0.0, 0.0, "plain", "A second fill cannot tell whether dea is above every control, and there neither can the first."),
])  # fmt: skip
def test_what_it_says(first: float, second: float, kind: str, text: str) -> None:
    finding = said(records(first, second))["second fill"]
    assert finding.text.startswith(text)
    assert finding.kind == kind
    assert "for 12 of 12 targets" in finding.text


def test_only_targets_that_both_fills_can_score_are_compared() -> None:
    rows = records(-0.2, -0.1, weak=3)
    found = said(rows)
    assert "for 9 of 12 targets" in found["second fill"].text
    assert "-0.100 against random, under the first fill -0.200" in found["second fill"].text
    assert found["coverage"].text == "All 12 targets could be scored."
    assert found["coverage"].kind == "plain"


def test_a_second_fill_that_is_too_weak_everywhere_cannot_tell() -> None:
    assert said(records(0.2, 0.1, weak=12))["second fill"].text.startswith("A second fill cannot tell: it is too weak")


def test_nothing_is_said_without_the_score() -> None:
    rows = [{name: value for name, value in row.items() if name != "second_fill_gap"} for row in records(0.2, 0.1)]
    assert "second fill" not in said(rows)
