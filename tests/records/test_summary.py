"""summary.json: what the verdict compares, groups and ranges, and files of format 1."""

import json

import pytest

from segaudit.records.summary import part, read_summary, score_ranges, write_summary
from segaudit.report.verdict import verdict

CONTROLS = ["random", "target_mask", "oracle"]


def records(images=8, **levels):
    return [
        {
            "sample_id": f"i{image}", "group": "" if image < 4 else "p", "class_index": image % 2, "area": 0.1,
            "explainer": explainer, "faithfulness_gap": level + 0.01 * image * (explainer == "dea"), "seconds": 0.5 + image,
            "reason": "",
        }
        for image in range(images)
        for explainer, level in levels.items()
    ]  # fmt: skip


def made(rows, **settings):
    return part("d", "n", rows, ["a", "b"], {"mean": 0.5}, 8, CONTROLS, **settings)


def test_the_main_explainer_is_compared_with_every_control_but_the_oracle():
    found = made(records(dea=0.5, lime=0.3, random=0.0, target_mask=0.2, oracle=0.9))["verdict"]
    assert (found["explainer"], found["outcome"], found["units_needed"]) == ("dea", "above", None)
    assert [row["control"] for row in found["controls"]] == ["random", "target_mask"]
    row = found["controls"][0]
    assert row["p_value"] == 1 / 32  # four images and one group
    assert row["p_below"] == 1
    assert row["mean"] == pytest.approx((0.5 + 0.51 + 0.52 + 0.53 + 0.555) / 5)
    assert (row["units"], row["wins"], row["losses"]) == (5, 5, [])


def test_main_may_be_named_and_others_are_exploratory():
    rows = records(dea=0.5, lime=0.3, random=0.0, target_mask=0.2)
    found = made(rows, main="lime")
    assert found["verdict"]["explainer"] == "lime"
    assert {row["explainer"] for row in found["above_controls"]} == {"dea"}
    assert [row["p_value"] for row in found["above_controls"]] == [2 * 2 / 32] * 2  # two-sided, adjusted for two tests
    assert made(records(lime=0.3, random=0.0))["verdict"]["explainer"] == "lime"
    assert made(records(dea=0.5))["verdict"] is None
    assert made([row | {"faithfulness_gap": None} for row in rows])["verdict"] is None


def test_units_are_groups_and_scores_are_clipped():
    found = made(records(dea=0.99, random=0.0), ranges={"faithfulness_gap": (-1.0, 1.0), "seconds": None})
    assert (found["images"], found["units"], found["unit"]) == (8, 5, "group")
    rows = {(row["explainer"], row["score"]): row for row in found["scores"]}
    gap, seconds = rows["dea", "faithfulness_gap"], rows["dea", "seconds"]
    assert (gap["units"], gap["images"], gap["method"]) == (5, 8, "gaffke")
    assert gap["clipped"] == pytest.approx(6 / 8)
    assert seconds["method"] == "t"
    assert gap["high"] <= 1 < seconds["high"]


def test_ranges_are_those_that_classes_declare():
    assert {"faithfulness_gap", "off_target_leakage"} <= set(score_ranges())
    assert all(found is None or found[0] < found[1] for found in score_ranges().values())


@pytest.mark.parametrize(
    ("p_values", "mean", "outcome"),
    [((0.01, 0.04), 0.3, "above"), ((0.01, 0.3), 0.3, "cannot tell"), ((0.01, 0.02), -0.3, "below")],
)
def test_a_summary_of_format_1_can_still_be_read_and_judged(tmp_path, p_values, mean, outcome):
    score = {"explainer": "dea", "score": "faithfulness_gap", "mean": 0.5, "low": 0.4, "high": 0.6}
    row = score | {"images": 12, "targets": 12, "unscored": 0}
    old = {
        "format": 1, "kind": "audit", "directions": {"faithfulness_gap": True}, "shared": [], "controls": CONTROLS,
        "main": "dea", "provenance": {},
        "parts": [
            {
                "data": "d", "network": "n", "iou": {"mean": 0.5}, "images": 12, "targets": 12, "scores": [row],
                "by_class": [row | {"class": "a"}], "unscored": {"dea": {}},
                "above_controls": [
                    {"explainer": name, "control": control, "mean": mean, "low": 0.1, "high": 0.5, "p_value": p}
                    for name in ("dea", "lime")
                    for control, p in zip(CONTROLS, p_values, strict=False)
                ],
            }
        ],
    }  # fmt: skip
    (tmp_path / "summary.json").write_text(json.dumps(old))
    found = read_summary(tmp_path / "summary.json")
    (only,) = found["parts"]
    assert (found["format"], only["verdict"]["outcome"]) == (2, outcome)
    assert {row["explainer"] for row in only["above_controls"]} == {"lime"}
    said = {finding.about: finding.text for finding in verdict(found, only)}["faithfulness"]
    assert {"above": "above every control", "below": "below random", "cannot tell": "cannot be told"}[outcome] in said
    assert "would" not in said  # the old file does not tell how many images would do
    new = made(records(dea=0.5, random=0.0))
    written = write_summary(tmp_path / "summary.json", "audit", [new], {}, [], CONTROLS, {})
    assert set(only) == set(new)
    assert set(only["scores"][0]) == set(new["scores"][0])
    assert set(only["verdict"]["controls"][0]) == set(new["verdict"]["controls"][0])
    assert read_summary(tmp_path / "summary.json") == json.loads(json.dumps(written))


def test_a_summary_of_a_later_format_is_refused(tmp_path):
    (tmp_path / "summary.json").write_text(json.dumps({"format": 9}))
    with pytest.raises(ValueError, match="format 9, not 2"):
        read_summary(tmp_path / "summary.json")
