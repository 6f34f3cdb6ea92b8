"""Properties of every score under random evidence, the same for all; see tests/_random_evidence.py."""

import math

import pytest
import torch
from _random_evidence import PLACED, UNITS, Case, cases, every_time
from _scores import COMMON, PLACE_MATTERS, RANKED, SCORES, Score, pick, slow_values
from hypothesis import given, note, settings
from torch import Tensor


def value(score: Score, found: dict[str, Tensor]) -> Tensor:
    values = score.function(*(found[k] for k in score.evidence), **score.options).float()
    # Only what a score's documentation says is NaN, and an infinite value never.
    assert not bool(values.isinf().any())
    return values


def close(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6, equal_nan=True)


def exact(found: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: v.double() if v.is_floating_point() else v for name, v in found.items()}


@given(case=cases())
@settings(every_time, max_examples=40)
def test_any_evidence(case: Case) -> None:
    for name in SCORES:
        note(name)
        survives(name, case)
        does_not_depend_on_what_it_must_not(name, case)


def survives(name: str, case: Case) -> None:
    """No exception, NaN exactly where the slow reference says so, within the range, a target alone as among others."""
    score, n = SCORES[name], len(case.real)
    values = value(score, case.found)
    assert values.shape == (n,)
    assert values.tolist() == pytest.approx(slow_values(score, case.found), rel=1e-4, abs=1e-5, nan_ok=True)

    low, high = score.metric.plot_lower_bound, score.metric.plot_upper_bound
    scored = values[case.real & ~values.isnan()].tolist()
    assert all((low is None or low <= v) and (high is None or v <= high) for v in scored), (low, scored, high)

    for start, end in ((0, 1), (1, n)):  # one alone, and the others without it
        if start < end:
            close(value(score, pick(case.found, start, end)), values[start:end])

    metric = score.metric(**score.options)
    metric.update(**{k: case.found[k] for k in score.evidence})
    close(metric.per_target, values)
    missing = int(values.isnan().sum())
    assert metric.unscored == missing
    assert math.isnan(float(metric.compute())) == (missing == n)


def does_not_depend_on_what_it_must_not(name: str, case: Case) -> None:
    """The unit of the maps, the pixels' places, the order of the targets; of the values all but their order if ranked."""
    score, found = SCORES[name], exact(case.found)
    values = value(score, found)
    close(value(score, {k: v * 64 if k in UNITS else v for k, v in found.items()}), values)
    g = torch.Generator().manual_seed(len(case.real))
    if score.evidence and name not in PLACE_MATTERS:
        order = torch.randperm(math.prod(case.size), generator=g)
        dims = len(case.size)
        moved = {
            k: v.flatten(-dims)[..., order].reshape(v.shape) if k in PLACED and k in score.evidence else v
            for k, v in found.items()
        }
        close(value(score, moved), values)
    if name in RANKED:
        close(value(score, {k: ordinal(v) if k in UNITS else v for k, v in found.items()}), values)
    turned = torch.randperm(len(case.real), generator=g)
    close(value(score, {k: v if k in COMMON else v[turned] for k, v in found.items()}), values[turned])


def ordinal(values: Tensor) -> Tensor:
    """A strictly increasing function of the finite values: their places among those that occur."""
    finite = values.isfinite()
    places = values.where(finite, 0).unique(return_inverse=True)[1].to(values)
    return torch.where(finite, places, values)
