"""Single points and shapes of curves: values known without computation, and the limits of a reading."""

import pytest
import torch
from _scores import evidence

from segaudit.functional import comprehensiveness, deletion_auc, irof, monotonicity, sufficiency

Q = torch.tensor([0.0, 0.1, 0.4, 1.0], dtype=torch.float64)


@pytest.mark.parametrize(("k", "left"), [(0.05, 0.9), (0.1, 0.8), (0.25, 0.6), (0.4, 0.4), (0.7, 0.25)])
def test_points_of_a_curve_of_straight_lines(k: float, left: float) -> None:
    falling = torch.tensor([[1.0, 0.8, 0.4, 0.1]])
    assert comprehensiveness(falling, Q, k).tolist() == pytest.approx([1 - left])
    assert sufficiency(falling.flip(1), 1 - Q.flip(0), 1 - k).tolist() == pytest.approx([1 - left])
    assert comprehensiveness(falling, Q.expand(1, -1), k).tolist() == pytest.approx([1 - left])


def test_points_are_exact_wherever_the_nodes_lie() -> None:
    for seed in range(5):
        nodes = torch.rand(30, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).sort().values
        q = torch.cat([torch.zeros(1), nodes, torch.ones(1)]).double()
        for k in (0.01, 0.1, 0.5, 1.0):
            assert comprehensiveness((1 - q)[None], q, k).tolist() == pytest.approx([k])
            assert sufficiency(q[None], q, k).tolist() == pytest.approx([1 - k], abs=1e-6)


def test_a_place_that_comes_twice_is_no_harm() -> None:
    q = torch.tensor([0.0, 0.1, 0.1, 0.1, 1.0])
    falling = torch.tensor([[1.0, 0.5, 0.5, 0.5, 0.0]])
    for k, left in ((0.05, 0.75), (0.1, 0.5), (0.55, 0.25)):
        assert comprehensiveness(falling, q, k).tolist() == pytest.approx([1 - left])


@pytest.mark.parametrize("k", [0.0, -0.1, 1.1, float("nan")])
def test_k_is_a_share(k: float) -> None:
    for function in (comprehensiveness, sufficiency):
        with pytest.raises(ValueError, match=r"k is a share of the image's pixels in \(0, 1\]"):
            function(torch.tensor([[1.0, 0.5, 0.0, 0.0]]), Q, k)
        with pytest.raises(ValueError, match="3 points, but 4 fractions"):
            function(torch.tensor([[1.0, 0.5, 0.0]]), Q, 0.1)


def test_a_fill_that_is_too_weak_and_one_that_is_just_strong_enough() -> None:
    curve = torch.tensor([[1.0, 0.8, 0.7, 0.5], [1.0, 0.8, 0.7, 0.51]])
    for values in (
        comprehensiveness(curve, Q),
        sufficiency(curve.flip(1), Q),
        monotonicity(curve.flip(1)),
        irof(curve, Q),
    ):
        assert values.isnan().tolist() == [False, True]


def test_monotonicity_is_one_only_where_no_step_falls_and_does_not_count_points() -> None:
    rising = torch.linspace(0, 1, 7, dtype=torch.float64)[None] ** 2
    assert monotonicity(rising).tolist() == [1]
    for place in range(1, 6):
        falls = rising.clone()
        falls[:, place] = falls[:, place - 1] - 1e-3 if place > 1 else -1e-3
        assert float(monotonicity(falls)) < 1
    assert monotonicity(torch.tensor([[0.0, 1.0, 0.0]])).tolist() == [0.5]
    assert monotonicity(torch.tensor([[0.5, 0.3, 0.0]])).tolist() == [0]
    # A point on a line between two others changes nothing.
    coarse, fine = torch.tensor([[0.0, 0.8, 0.4, 1.0]]), torch.tensor([[0.0, 0.4, 0.8, 0.8, 0.4, 0.7, 1.0]])
    torch.testing.assert_close(monotonicity(coarse), monotonicity(fine))
    assert monotonicity(coarse).tolist() == pytest.approx([1.4 / 1.8])


def test_irof_is_the_other_side_of_the_deletion_area() -> None:
    found = evidence(8, awkward=False)
    curve, q = found["deletion_curve"], found["deletion_fractions"]
    torch.testing.assert_close(irof(curve, q), 1 - deletion_auc(curve, q))
    assert irof(torch.tensor([[1.0, 0.0, 0.0, 0.0]]), torch.tensor([0.0, 1e-6, 0.5, 1.0])).tolist() == pytest.approx([1])
