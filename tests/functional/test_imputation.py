"""ROAD's score: values known without computation."""

import pytest
import torch

from segaudit.functional import road


def test_both_orders_count_alike() -> None:
    most, least = torch.tensor([[0.5, 0.1]]), torch.tensor([[0.9, 0.7]])
    assert road(most, least).tolist() == pytest.approx([0.25])
    assert road(least, most).tolist() == pytest.approx([-0.25])  # the map of the opposite sign
    assert road(most, most).tolist() == [0]
    assert road(torch.zeros(1, 3), torch.ones(1, 3)).tolist() == [0.5]


def test_the_shares_must_be_the_same() -> None:
    with pytest.raises(ValueError, match=r"the same shares of pixels, got the shapes \(2, 3\) and \(2, 4\)"):
        road(torch.zeros(2, 3), torch.zeros(2, 4))
