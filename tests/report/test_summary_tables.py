"""Summaries, tables, plots, comparisons, charts and verdicts from records whose figures are known."""

import csv
import json
import re
from contextlib import suppress
from math import nan
from pathlib import Path
from unittest.mock import patch

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from segaudit.records.files import atomic_write
from segaudit.records.run import read_records, read_run, run_names
from segaudit.records.summary import part, read_summary, write_summary
from segaudit.report.chart import Line, line_chart
from segaudit.report.comparison import comparison
from segaudit.report.plots import draw_plots
from segaudit.report.tables import latex, markdown, ranks, write_tables
from segaudit.report.verdict import verdict

DIRECTIONS = {
    "deletion_auc": False, "faithfulness_gap": True, "stability": True, "cue_mass": None, "fill_residual": False,
    "forwards": False,
}  # fmt: skip
NAMES = ["sky", "road_1"]
RANGES = dict.fromkeys(DIRECTIONS, (0.0, 1.0)) | {"faithfulness_gap": (-1.0, 1.0), "forwards": None}


def records(shift=0.0):
    level = {"dea": 0.9, "saliency": 0.5, "lime": 0.7, "random": 0.1}
    return [
        {
            "sample_id": f"i{image}", "class_index": image % 2, "area": 0.1, "explainer": explainer,
            "deletion_auc": 1 - value, "faithfulness_gap": value + 0.01 * image + shift,
            "stability": nan if explainer == "lime" and image else 1 - value, "cue_mass": value, "fill_residual": 0.2,
            "forwards": 10 * value, "reason": "no positive mass" if explainer == "lime" and image else "",
        }
        for image in range(8)
        for explainer, value in level.items()
    ]  # fmt: skip


@pytest.fixture
def summary(tmp_path):
    found = part("data_1", "u-net", records(), NAMES, {"mean": 0.5, "sky": 0.75, "road_1": 0.25}, 8, ["random"], "", RANGES)
    return write_summary(tmp_path / "summary.json", "audit", [found], DIRECTIONS, ["fill_residual"], ["random"], {"seed": 0})


def test_a_summary_is_read_as_it_was_written(tmp_path, summary):
    assert read_summary(tmp_path / "summary.json") == json.loads(json.dumps(summary))


def test_means_counts_and_reasons(summary):
    (found,) = summary["parts"]
    rows = {(row["explainer"], row["score"]): row for row in found["scores"]}
    assert (found["images"], found["targets"]) == (8, 8)
    assert rows["dea", "faithfulness_gap"]["mean"] == pytest.approx(0.9 + 0.01 * 3.5)
    assert rows["dea", "faithfulness_gap"]["low"] < rows["dea", "faithfulness_gap"]["mean"]
    assert (rows["lime", "stability"]["targets"], rows["lime", "stability"]["unscored"]) == (1, 7)
    assert 0 < rows["lime", "stability"]["low"] < 0.1  # one image tells almost nothing
    assert rows["lime", "stability"]["high"] > 0.9
    assert {row["method"] for row in found["scores"] if row["score"] != "forwards"} == {"gaffke"}
    assert (rows["dea", "forwards"]["low"], rows["dea", "forwards"]["method"]) == (None, "")  # equal, and without a range
    assert rows["dea", "forwards"]["clipped"] == 0
    assert (found["units"], found["unit"]) == (8, "image")
    assert found["unscored"] == {"dea": {}, "saliency": {}, "lime": {"no positive mass": 7}, "random": {}}
    assert {row["class"] for row in found["by_class"]} == set(NAMES)


def test_best_and_second_best_are_no_controls_and_follow_the_direction(summary):
    (found,) = summary["parts"]
    assert ranks(summary, found, "faithfulness_gap") == {"dea": 0, "lime": 1, "saliency": 2}
    assert ranks(summary, found, "deletion_auc") == {"dea": 0, "lime": 1, "saliency": 2}
    assert ranks(summary, found, "cue_mass") == {}
    assert ranks(summary, found, "fill_residual") == {}


def test_markdown_latex_and_csv(tmp_path, summary):
    write_tables(tmp_path, summary)
    (found,) = summary["parts"]
    text = (tmp_path / "tables.md").read_text()
    assert text == markdown(summary, found) + "\n"
    (row,) = [line for line in text.splitlines() if line.startswith("| dea ")]
    assert "**0.935 [" in row
    assert "_0.735 [" in text
    assert "fill_residual 0.200 [0.1" in text
    assert "random (control)" in text.splitlines()[-1]
    tex = latex(summary, found)
    assert r"\textbf{0.935} {\scriptsize [" in tex
    assert r"\underline{0.735}" in tex
    assert r"data\_1" in tex
    assert tex.count(r"\midrule") == 2
    with open(tmp_path / "tables.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(found["scores"])
    assert {row["network"] for row in rows} == {"u-net"}
    assert float(rows[0]["mean"]) == found["scores"][0]["mean"]


def test_plots_are_drawn_where_their_scores_are(tmp_path, summary):
    drawn = draw_plots(tmp_path, summary)
    assert [path.name for path in drawn] == ["faithfulness_stability.png", "faithfulness_forwards.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in drawn)


def test_a_comparison_is_paired_and_says_which_way(summary):
    rows = comparison({"a": records(), "b": records(shift=-0.1)}, DIRECTIONS)
    found = {(row["explainer"], row["score"]): row for row in rows}
    gap = found["dea", "faithfulness_gap"]
    assert gap["difference"] == pytest.approx(-0.1)
    assert gap["other"] - gap["first"] == pytest.approx(-0.1)
    assert found["dea", "deletion_auc"]["difference"] == 0
    assert found["dea", "deletion_auc"]["verdict"] == ""
    assert [key for key in found if key[1] == "fill_residual"] == [("", "fill_residual")]
    backwards = comparison({"b": records(shift=-0.1), "a": records()}, DIRECTIONS)
    assert backwards[1]["difference"] == pytest.approx(-rows[1]["difference"])


def test_verdicts_need_more_than_a_few_images():
    def many(shift):
        return [row | {"sample_id": f"{row['sample_id']}-{k}"} for k in range(8) for row in records(shift)]

    directions = {"faithfulness_gap": True, "deletion_auc": False}
    keep = ("sample_id", "class_index", "area", "explainer", "faithfulness_gap", "reason")
    a, b = ([{key: row[key] for key in keep} for row in many(shift)] for shift in (-0.1, 0.0))
    assert {row["verdict"] for row in comparison({"a": a, "b": b}, directions)} == {"better"}
    assert {row["verdict"] for row in comparison({"b": b, "a": a}, directions)} == {"worse"}
    assert {row["verdict"] for row in comparison({"a": a, "b": b}, {})} == {"differs"}


@pytest.mark.parametrize(
    ("runs", "says"),
    [
        ({"a": records()}, "at least two runs"),
        ({"a": records(), "b": [row | {"explainer": "other"} for row in records()]}, "no explainer and score in common"),
        ({"a": records(), "b": [row | {"sample_id": "x" + row["sample_id"]} for row in records()]}, "no target in common"),
    ],
)
def test_what_cannot_be_compared(runs, says):
    with pytest.raises(ValueError, match=says):
        comparison(runs, DIRECTIONS)


def test_the_verdict_rests_on_the_figures(summary):
    (found,) = summary["parts"]
    said = {finding.about: finding for finding in verdict(summary, found)}
    assert "0.500 " not in said["accuracy"].text
    assert "Mean IoU over 8 images is 0.500; the weakest class is road_1 (0.250)" in said["accuracy"].text
    assert said["faithfulness"].kind == "plain"  # the random map alone is no bar
    assert said["faithfulness"].text.startswith("The faithfulness gap of dea is 0.935 [")
    assert "It is above every control: by +0.800 against random (p = 0.004), over 8 images." in said["faithfulness"].text
    assert said["coverage"].text == "All 8 targets could be scored."
    nothing = dict(found) | {"images": 0, "targets": 0, "scores": [], "unscored": {}, "iou": {"mean": None}}
    said = {finding.about: finding for finding in verdict(summary, nothing)}
    assert "accuracy is not known" in said["accuracy"].text
    assert said["coverage"].kind == "bad"


def judged(gaps, images=12, main="", **changes):
    """Findings about faithfulness; ``changes`` holds gaps of single images, by explainer and image."""
    rows = [
        {
            "sample_id": f"i{image}", "class_index": 1, "area": 0.1, "explainer": explainer,
            "faithfulness_gap": changes.get(explainer, {}).get(image, value) - 0.1 * (image % 5), "reason": "",
        }
        for image in range(images)
        for explainer, value in gaps.items()
    ]  # fmt: skip
    controls = ["random", "target_mask"]
    found = part("d", "n", rows, [], {"mean": 0.5}, images, controls, main, {"faithfulness_gap": (-1.0, 1.0)})
    summary = {"controls": controls, "directions": {"faithfulness_gap": True}, "shared": [], "main": main}
    return {finding.about: finding for finding in verdict(summary, found)}


def test_the_bar_is_every_control_and_paired():
    # the images differ by more than the maps, so that unpaired intervals overlap
    above = judged({"dea": 0.5, "random": 0.0, "target_mask": 0.4})["faithfulness"]
    assert above.kind == "good"
    assert "It is above every control: by +0.500 against random (p < 0.001), +0.100 against target_mask" in above.text
    below = judged({"dea": 0.5, "random": 0.0, "target_mask": 0.6})["faithfulness"]
    assert below.kind == "bad"
    assert "It is below target_mask: the difference is -0.100 against target_mask (p < 0.001), over 12 images." in below.text
    equal = judged({"dea": 0.5, "random": 0.5, "target_mask": 0.4})["faithfulness"]
    assert equal.kind == "plain"
    assert "Whether it is above random cannot be told from 12 images: the difference is +0.000" in equal.text
    assert "It is above target_mask by +0.100" in equal.text
    assert "do not read its maps" not in equal.text.lower()
    assert judged({"dea": 0.5, "random": 0.0})["faithfulness"].kind == "plain"  # the random map alone is no bar


def test_other_explainers_are_exploratory():
    ahead = judged({"dea": 0.5, "lime": 0.7, "random": 0.0, "target_mask": 0.4})
    assert ahead["faithfulness"].kind == "good"
    assert "The highest mean gap is that of lime" in ahead["other explainers"].text
    assert "lime is above every control too." in ahead["other explainers"].text
    assert "exploratory" in ahead["other explainers"].text
    assert ahead["other explainers"].kind == "plain"
    mine = judged({"dea": 0.5, "lime": 0.2, "random": 0.0, "target_mask": 0.4}, main="lime")
    assert "It is below target_mask" in mine["faithfulness"].text
    assert "other explainers" in mine


def test_six_images_can_say_something():
    assert judged({"dea": 0.5, "random": 0.0, "target_mask": 0.4}, images=6)["faithfulness"].kind == "good"
    noisy = {"dea": {0: 0.2, 1: 0.9, 2: 0.45, 3: 0.3}}
    found = judged({"dea": 0.5, "random": 0.0, "target_mask": 0.4}, images=6, **noisy)["faithfulness"]
    assert found.kind == "plain"
    needed = re.search(r"About (\d+) images would be enough if the difference stays as it looks", found.text)
    assert int(needed[1]) > 6
    assert "p = " in found.text


def test_images_that_lose_strongly_are_named_where_most_agree():
    lost = {"dea": {3: -0.4, 9: -0.3}}
    found = judged({"dea": 0.5, "random": 0.0, "target_mask": 0.4}, images=24, **lost)["faithfulness"]
    assert "Most images agree (22 of 24 are above target_mask), but i3 (-0.800) and i9 (-0.700) lose strongly" in found.text


def test_few_images_are_neither_good_nor_bad(summary):
    (found,) = summary["parts"]
    said = verdict(summary, dict(found) | {"units": 4})
    assert [finding.about for finding in said if finding.kind != "plain"] == ["few images"]
    assert [finding.about for finding in verdict(summary, dict(found) | {"units": 4, "unit": "group"})][-1] == "few groups"
    assert "few images" not in {finding.about for finding in verdict(summary, dict(found) | {"units": 5})}


def test_what_could_not_be_scored_is_said(summary):
    (found,) = summary["parts"]
    rows = [row | ({"mean": None} if row["score"] in ("faithfulness_gap", "stability") else {}) for row in found["scores"]]
    said = {finding.about: finding for finding in verdict(summary, dict(found) | {"scores": rows})}
    for about in ("faithfulness", "robustness"):
        assert said[about].kind == "bad"
        assert "could not be scored for any target" in said[about].text


def test_many_unscored_targets_are_a_warning(summary):
    (found,) = summary["parts"]
    said = {finding.about: finding for finding in verdict(dict(summary) | {"main": "lime"}, found)}
    assert said["coverage"].kind == "bad"
    assert said["coverage"].text == (
        "7 of 8 targets lack a score of lime, because the map has no positive mass. "
        "stability is missing for 7 of 8, so its mean describes the others only."
    )


def test_leakage_cue_and_missing_scores_in_words():
    means = {"off_target_leakage": 0.4, "unsupported_leakage": 0.1271, "cue_effect": 0.5, "cue_mass": 0.25}
    known = {"explainer": "dea", "low": None, "high": None, "unscored": 0}
    rows = [known | {"score": score, "mean": mean} for score, mean in means.items()]
    reasons = {"dea": {"confidence below 0.05": 2, "no cue": 1, "my reason": 1}}
    found = {"iou": {"mean": None}, "images": 7, "targets": 7, "scores": rows, "unscored": reasons, "above_controls": []}
    text = {finding.about: finding.text for finding in verdict({"controls": []}, found)}
    assert text["leakage"] == (
        "40.0 % of the credit of dea lies outside the target; 12.7 % falls on segments that the model does not use "
        "(removing them lowers its confidence by 1 % or less)."
    )
    assert text["planted cue"] == (
        "Without the planted cue the confidence falls by 50 % on average; dea puts 25 % of its credit on the cue. "
        "The model relies on the cue."
    )
    assert text["coverage"] == (
        "2 of 7 targets lack a score of dea, because the confidence is below 0.05; 1 because the image contains no cue; "
        "1 because of 'my reason'."
    )
    found["unscored"] = {"dea": {"no cue": 1}}
    text = {finding.about: finding.text for finding in verdict({"controls": []}, found)}
    assert text["coverage"] == "1 of 7 targets lacks a score of dea, because the image contains no cue."


def test_a_chart_has_its_lines_where_they_belong():
    svg = line_chart("t", [Line("a", [0, 1, 2, 3], [0.0, 1.0, nan, 0.5])], "x", "y")
    assert svg.count("<polyline") == 1
    assert svg.count("<circle") == 1
    points = svg.split('points="')[1].split('"')[0].split()
    (x0, y0), (x1, y1) = (map(float, point.split(",")) for point in points)
    assert x0 < x1
    assert y0 > y1  # higher values are drawn higher
    assert line_chart("t", [Line("a", [0.0], [nan])], "x", "y") == ""


def test_a_fit_is_read_with_its_epochs(tmp_path):
    rows = ["epoch,step,train/loss,val/iou,audit/dea/stability", "0,3,0.5,,", "0,4,,0.25,0.5", "1,8,,0.5,0.75"]
    (tmp_path / "metrics.csv").write_text("\n".join(rows))
    run = read_run(tmp_path)
    assert run.epochs == [
        {"epoch": 0.0, "train/loss": 0.5, "val/iou": 0.25, "audit/dea/stability": 0.5},
        {"epoch": 1.0, "val/iou": 0.5, "audit/dea/stability": 0.75},
    ]
    with pytest.raises(ValueError, match="holds no records of an audit"):
        read_records(tmp_path)


def test_records_that_a_kill_left_half_written_are_not_read(tmp_path):
    table = pa.Table.from_pylist([{"epoch": 1, "deletion_auc": 0.25}])
    with (
        suppress(KeyboardInterrupt),
        patch.object(Path, "unlink"),
        atomic_write(tmp_path / "audit" / "epoch=002.parquet") as draft,
    ):
        draft.write_bytes(b"half a table")
        raise KeyboardInterrupt
    assert draft.exists()
    with pytest.raises(ValueError, match="holds no records of an audit"):
        read_records(tmp_path)
    pq.write_table(table, tmp_path / "audit" / "epoch=001.parquet")
    assert read_records(tmp_path) == table.to_pylist()


def test_names_of_runs_tell_them_apart(tmp_path):
    assert run_names([tmp_path / "a" / "version_0", tmp_path / "b" / "version_0"]) == ["a/version_0", "b/version_0"]
    assert len(set(run_names([tmp_path, tmp_path]))) == 2
    deep = run_names([tmp_path / "a" / "v" / "v", tmp_path / "b" / "v" / "v"])
    assert deep == ["a/v/v", "b/v/v"]
