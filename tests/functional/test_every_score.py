"""Each score against its slow reference, in one, two and three dimensions."""

import inspect
import math

import _scores_faithfulness
import _scores_maps
import pytest
import torch
from _scores import COSTS, NAN, SCORES, Score, evidence, pick, slow_values
from torch import Tensor

import segaudit.functional as room

every = pytest.mark.parametrize("score", SCORES.values(), ids=SCORES.keys())


def value(score: Score, found: dict[str, Tensor]) -> Tensor:
    return score.function(*(found[name] for name in score.evidence), **score.options)


def test_the_table_lists_all_functions() -> None:
    assert {getattr(room, name) for name in room.__all__} == {s.function for n, s in SCORES.items() if n not in COSTS}
    for name, score in SCORES.items():
        if name not in COSTS:
            assert tuple(inspect.signature(score.function).parameters)[: len(score.evidence)] == score.evidence


@pytest.mark.parametrize("size", [(9,), (5, 4), (4, 3, 6)], ids=["1d", "2d", "3d"])
@pytest.mark.parametrize("seed", [0, 1, 2])
@every
def test_is_the_slow_reference(score: Score, seed: int, size: tuple[int, ...]) -> None:
    found = evidence(12, size, seed)
    values, expected = value(score, found), slow_values(score, found)
    assert values.shape == (12,)
    assert values.dtype == torch.float32
    assert values.tolist() == pytest.approx(expected, rel=1e-5, abs=1e-6, nan_ok=True)
    assert sum(math.isnan(v) for v in expected) < 8  # most of them can be scored
    assert len({v for v in expected if not math.isnan(v)}) > 1


@every
def test_a_target_alone_is_scored_alike(score: Score) -> None:
    found = evidence(9)
    together = value(score, found)
    for n in range(9):
        one = pick(found, n, n + 1)
        torch.testing.assert_close(value(score, one), together[n : n + 1], equal_nan=True)


@every
def test_evidence_is_left_alone_and_no_targets_give_no_values(score: Score) -> None:
    found = evidence(9)
    before = {name: v.clone() for name, v in found.items()}
    value(score, found)
    assert all(torch.equal(found[k].nan_to_num(7), before[k].nan_to_num(7)) for k in found)
    none = pick(found, 0, 0)
    assert value(score, none).shape == (0,)


#: What can't be scored, by the evidence that makes it so: (score, change of an evidence, how).
UNSCORABLE = [
    *[
        (n, "deletion_curve", v)
        for n in ("deletion_auc", "faithfulness_gap")
        for v in ("nan", "inf", "-inf", "weak", "all nan")
    ],
    *[
        (n, "insertion_curve", v)
        for n in ("insertion_auc", "faithfulness_gap")
        for v in ("nan", "inf", "-inf", "weak", "all nan")
    ],
    *[
        (n, "attribution", v)
        for n in ("off_target_leakage", "unsupported_leakage", "cue_mass")
        for v in ("nan", "inf", "-inf", "all nan", "zero", "negative")
    ],
    ("off_target_leakage", "region", "empty"),
    ("unsupported_leakage", "region", "empty"),
    ("cue_mass", "cue", "empty"),
    *[("unsupported_leakage", "effect_map", v) for v in ("nan", "inf", "all nan")],
    *[("stability", "attribution", v) for v in ("nan", "inf", "-inf", "all nan", "zero", "constant")],
    *[("stability", "perturbed_attribution", v) for v in ("nan", "inf", "all nan", "constant")],
    ("stability", "kept", "empty"),
    *[("curve_error", which, v) for which in ("deletion_error", "insertion_error") for v in ("nan", "inf", "all nan")],
    *[("curve_error", which, "all nan") for which in ("confidence", "filled_confidence")],
    ("fill_residual", "confidence", "all nan"),
    ("fill_residual", "filled_confidence", "all nan"),
    ("cue_effect", "confidence", "all nan"),
    ("cue_effect", "confidence_without_cue", "all nan"),
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
        row[-1 if which == "deletion_curve" else 0] = 0.51
    elif how == "negative":
        row.abs_().neg_().sub_(0.1)
    else:
        row.fill_({"all nan": NAN, "zero": 0, "constant": 0.3, "empty": False, "whole": True}[how])
    after = value(score, found)
    assert math.isnan(float(after[2]))
    others = torch.tensor([0, 1, 3, 4])
    assert torch.equal(after[others], before[others])


def test_a_floor_of_exactly_one_half_is_still_scored() -> None:
    curve = torch.tensor([[1.0, 0.5, 0.5]])
    q = torch.tensor([0.0, 0.5, 1.0])
    assert room.deletion_auc(curve, q).tolist() == pytest.approx([0.25])
    assert room.insertion_auc(curve.flip(1), q).tolist() == pytest.approx([0.25])
