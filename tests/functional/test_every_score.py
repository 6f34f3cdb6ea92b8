"""Each function of a score is its Metric class, which test_every_metric.py compares with a slow reference; and NaN."""

import ast
import inspect
import math
from pathlib import Path

import _scores_faithfulness
import _scores_maps
import pytest
import torch
from _scores import COSTS, SCORES, Score, evidence
from torch import Tensor

import segaudit.functional as room
from segaudit.metrics.catalogue import catalogue

every = pytest.mark.parametrize("score", SCORES.values(), ids=SCORES.keys())


def value(score: Score, found: dict[str, Tensor]) -> Tensor:
    return score.function(*(found[name] for name in score.evidence), **score.options)


def checked_with_a_reference(folder: Path) -> set[str]:
    """Names of the classes that some file calls check_metric on, with a reference."""
    found = set()
    for path in sorted(folder.glob("test_*.py")):
        for call in (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)):
            reference = len(call.args) > 2 or any(keyword.arg == "reference" for keyword in call.keywords)
            if ast.unparse(call.func).endswith("check_metric") and reference:
                found |= {
                    name for node in ast.walk(call.args[0]) for name in (getattr(node, "id", getattr(node, "attr", "")),)
                }
    return found


def test_every_score_has_a_slow_reference() -> None:
    """In the table of tests/_scores.py, or where a file beside this one calls check_metric."""
    known = {score.metric.__name__ for score in SCORES.values()} | checked_with_a_reference(Path(__file__).parent)
    assert {entry.cls.__name__ for entry in catalogue()} <= known


def test_a_reference_beside_the_table_is_found(tmp_path: Path) -> None:
    Path(tmp_path, "test_new.py").write_text(
        "check_metric(New, reference=slow)\nsegaudit.testing.check_metric(lambda: room.Other(k=2), None, slow)\n"
        "check_metric(Third)\n"
    )
    assert {"New", "Other"} <= checked_with_a_reference(tmp_path)
    assert "Third" not in checked_with_a_reference(tmp_path)


def test_every_function_is_a_score_and_every_score_a_function() -> None:
    names = {entry.name for entry in catalogue()}
    assert set(room.__all__) == names - COSTS
    for entry in catalogue():
        if entry.name not in COSTS:
            asked = list(inspect.signature(entry.cls.update).parameters)[1:]
            assert list(inspect.signature(getattr(room, entry.name)).parameters)[: len(asked)] == asked


@every
def test_is_what_its_metric_adds(score: Score) -> None:
    found = evidence(12)
    metric = score.metric(**score.options)
    metric.update(**{name: found[name] for name in score.evidence})
    values = value(score, found)
    assert values.dtype == torch.float32
    torch.testing.assert_close(values, metric.per_target, rtol=0, atol=0, equal_nan=True)


#: What can't be scored, by the evidence that makes it so: (score, change of an evidence, how). That a score is NaN where all
#: of a target's evidence is, check_metric says.
UNSCORABLE = [
    *[(n, "deletion_curve", v) for n in ("deletion_auc", "faithfulness_gap") for v in ("nan", "inf", "-inf", "weak")],
    *[(n, "insertion_curve", v) for n in ("insertion_auc", "faithfulness_gap") for v in ("nan", "inf", "-inf", "weak")],
    *[("second_fill_gap", f"second_{which}_curve", v) for which in ("deletion", "insertion") for v in ("nan", "weak")],
    *[
        (n, "attribution", v)
        for n in ("off_target_leakage", "unsupported_leakage", "cue_mass")
        for v in ("nan", "inf", "-inf", "zero", "negative")
    ],
    *[(n, "region", how) for n in ("off_target_leakage", "unsupported_leakage") for how in ("empty", "whole")],
    ("cue_mass", "cue", "empty"),
    *[("unsupported_leakage", "effect_map", v) for v in ("nan", "inf")],
    *[("stability", "attribution", v) for v in ("nan", "inf", "-inf", "zero", "constant")],
    *[("stability", "perturbed_attribution", v) for v in ("nan", "inf", "constant")],
    ("stability", "kept", "empty"),
    *[("curve_error", which, v) for which in ("deletion_error", "insertion_error") for v in ("nan", "inf")],
    *_scores_faithfulness.UNSCORABLE,
    *_scores_maps.UNSCORABLE,
]


@pytest.mark.parametrize(("name", "which", "how"), UNSCORABLE)
def test_nan_for_what_cannot_be_scored_and_for_that_alone(name: str, which: str, how: str) -> None:
    found, score = evidence(5, awkward=False), SCORES[name]
    before = value(score, found)
    assert bool(before.isfinite().all())
    row = found[which][2]
    if how in ("nan", "inf", "-inf"):
        row.flatten()[min(2, row.numel() - 1)] = float(how)
    elif how == "weak":
        row[-1 if "deletion" in which else 0] = 0.51
    elif how == "negative":
        row.abs_().neg_().sub_(0.1)
    else:
        row.fill_({"zero": 0, "constant": 0.3, "empty": False, "whole": True}[how])
    after = value(score, found)
    assert math.isnan(float(after[2]))
    others = torch.tensor([0, 1, 3, 4])
    assert torch.equal(after[others], before[others])


def test_a_floor_of_exactly_one_half_is_still_scored() -> None:
    curve = torch.tensor([[1.0, 0.5, 0.5]])
    q = torch.tensor([0.0, 0.5, 1.0])
    assert room.deletion_auc(curve, q).tolist() == pytest.approx([0.25])
    assert room.insertion_auc(curve.flip(1), q).tolist() == pytest.approx([0.25])
