"""Scores of the model parameter randomisation test: known values, and Quantus' figures from the same maps."""

import warnings

import numpy as np
import pytest
import quantus
import torch
from torch import Tensor, nn

from segaudit.functional import randomisation, randomisation_full


def some_maps(n: int, *size: int) -> Tensor:
    return torch.randn(n, *size, generator=torch.Generator().manual_seed(0))


def test_order_alone_counts_and_its_sign() -> None:
    a = some_maps(4, 5, 4)
    same = torch.stack([3 * a - 2, a**3, a.atan()], dim=1)
    torch.testing.assert_close(randomisation(a, same), torch.ones(4))
    torch.testing.assert_close(randomisation(a, -same), -torch.ones(4))
    assert torch.equal(randomisation_full(a, same), randomisation(a, same[:, -1:]))
    mixed = torch.stack([a, -a, a, -a], dim=1)
    torch.testing.assert_close(randomisation(a, mixed), torch.zeros(4), atol=1e-6, rtol=0)
    torch.testing.assert_close(randomisation_full(a, mixed), -torch.ones(4))


def test_a_constant_level_is_left_out_and_one_that_is_not_finite_spoils_all() -> None:
    a = some_maps(1, 5, 4)
    levels = torch.stack([a, torch.ones_like(a), -a, a], dim=1)
    assert randomisation(a, levels).tolist() == pytest.approx([1 / 3])
    assert bool(randomisation_full(a, levels[:, :2]).isnan())
    levels[0, 0, 0, 0] = torch.inf
    assert bool(randomisation(a, levels).isnan())
    assert randomisation_full(a, levels).tolist() == pytest.approx([1])  # reads the last level alone


def test_quantus_gives_the_same_from_the_same_maps() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))
    x = some_maps(5, 1, 8, 8)
    seen: list[np.ndarray] = []

    def explain(model: nn.Module, inputs: np.ndarray, targets: np.ndarray, **_: object) -> np.ndarray:
        at = torch.as_tensor(inputs).float().requires_grad_()
        score = model(at)[torch.arange(len(at)), torch.as_tensor(targets)].sum()
        seen.append((torch.autograd.grad(score, at)[0] * at.detach()).numpy())
        return seen[-1]

    def ask(**options: bool) -> list[float]:
        seen.clear()
        with warnings.catch_warnings(), torch.random.fork_rng():
            warnings.simplefilter("ignore")
            peer = quantus.MPRT(abs=False, normalise=False, disable_warnings=True, **options)
            return peer(model, x.numpy(), np.array([0, 1, 2, 0, 1]), explain_func=explain)

    mean = ask(return_average_correlation=True)
    # The maps that it asked for: the first, the same again as a level of its own, and one a layer.
    a, randomised = torch.tensor(seen[0])[:, 0], torch.tensor(np.stack(seen[1:], axis=1))[:, :, 0]
    assert randomised.shape[1] == 1 + 3
    assert randomisation(a, randomised).tolist() == pytest.approx(mean, abs=1e-5)
    assert randomisation(a, randomised[:, 1:]).tolist() == pytest.approx([(4 * m - 1) / 3 for m in mean], abs=1e-5)
    last = ask(return_last_correlation=True)
    assert randomisation_full(a, randomised).tolist() == pytest.approx(last, abs=1e-5)
    assert max(abs(v) for v in last) < 0.95
