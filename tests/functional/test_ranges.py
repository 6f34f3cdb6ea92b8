"""The ranges that classes declare follow from what evidence can be, and are no wider than they must be."""

import pytest
import torch
from _scores import SCORES
from torch import Tensor

from segaudit.functional.faithfulness import MAX_RESIDUAL, MIN_CONFIDENCE

TOP = 1 / MIN_CONFIDENCE  # S is at most 1, S(x) at least this low
NEAR = 1e-9
Q = torch.tensor([0.0, NEAR, 1 - NEAR, 1.0], dtype=torch.float64)


def curve(start: float, between: float, end: float) -> Tensor:
    return torch.tensor([[start, between, between, end]], dtype=torch.float64)


#: Evidence that brings a score to an end of its range.
LOWEST = {
    "deletion_auc": (curve(1, 0, MAX_RESIDUAL), Q),
    "insertion_auc": (curve(MAX_RESIDUAL, 0, 1), Q),
    "faithfulness_gap": (curve(1, TOP, MAX_RESIDUAL), Q, curve(MAX_RESIDUAL, 0, 1), Q),
    "second_fill_gap": (curve(1, TOP, MAX_RESIDUAL), Q, curve(MAX_RESIDUAL, 0, 1), Q),
    "comprehensiveness": (curve(1, TOP, 0), Q),
    "sufficiency": (curve(0, TOP, 1), Q),
    "monotonicity": (torch.tensor([[MAX_RESIDUAL, *[TOP, 0.0] * 5000, 1.0]], dtype=torch.float64),),
    "irof": (curve(1, TOP, MAX_RESIDUAL), Q),
    "curve_error": (torch.zeros(1), torch.zeros(1), torch.ones(1), torch.zeros(1)),
    "fill_residual": (torch.tensor([0.5]), torch.tensor([0.0])),
    "cue_effect": (torch.tensor([MIN_CONFIDENCE]), torch.tensor([1.0])),
    "road": (torch.full((1, 4), TOP), torch.zeros(1, 4)),
}
HIGHEST = {
    "deletion_auc": (curve(1, TOP, MAX_RESIDUAL), Q),
    "insertion_auc": (curve(MAX_RESIDUAL, TOP, 1), Q),
    "faithfulness_gap": (curve(1, 0, MAX_RESIDUAL), Q, curve(MAX_RESIDUAL, TOP, 1), Q),
    "second_fill_gap": (curve(1, 0, MAX_RESIDUAL), Q, curve(MAX_RESIDUAL, TOP, 1), Q),
    "comprehensiveness": (curve(1, 0, 0), Q),
    "sufficiency": (curve(0, 0, 1), Q),
    "monotonicity": (curve(0, 1, 1),),
    "irof": (curve(1, 0, MAX_RESIDUAL), Q),
    "curve_error": (torch.tensor([TOP]), torch.zeros(1), torch.ones(1), torch.tensor([MAX_RESIDUAL])),
    "fill_residual": (torch.tensor([MIN_CONFIDENCE]), torch.tensor([1.0])),
    "cue_effect": (torch.tensor([0.5]), torch.tensor([0.0])),
    "road": (torch.zeros(1, 4), torch.full((1, 4), TOP)),
}


@pytest.mark.parametrize("name", LOWEST)
def test_both_ends_can_be_met(name: str) -> None:
    score = SCORES[name]
    assert score.function(*LOWEST[name]).tolist() == pytest.approx([score.metric.plot_lower_bound], abs=1e-3)
    assert score.function(*HIGHEST[name]).tolist() == pytest.approx([score.metric.plot_upper_bound], abs=1e-3)


@pytest.mark.parametrize("name", SCORES)
def test_a_range_is_one(name: str) -> None:
    low, high = SCORES[name].metric.plot_lower_bound, SCORES[name].metric.plot_upper_bound
    assert low is not None or high is not None
    assert low is None or high is None or low < high


def test_a_score_too_low_for_relative_values_is_not_scored() -> None:
    low = torch.tensor([0.0499, 0.0, float("nan")])
    for name in ("fill_residual", "cue_effect"):
        assert bool(SCORES[name].function(low, torch.ones(3)).isnan().all())


@pytest.mark.parametrize("name", ["deletion_auc", "insertion_auc", "irof"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_lost_by_the_evidence_alone(name: str, dtype: torch.dtype) -> None:
    """The height above the floor was once taken in half precision: errors of up to 0.003."""
    found = torch.tensor([[1.0, 0.73, 0.41, 0.2832]]).to(dtype)
    found = found.flip(1) if name == "insertion_auc" else found
    q = torch.tensor([0.0, 0.25, 0.5, 1.0])
    torch.testing.assert_close(SCORES[name].function(found, q), SCORES[name].function(found.double(), q))
