"""Changes of maps: captum's and Quantus' figures from the same perturbations, known values, ties."""

import warnings
from typing import Any

import numpy as np
import pytest
import quantus
import torch
from _models import Net, images, logits_of
from captum.metrics import sensitivity_max
from torch import Tensor, nn

from segaudit.attribution import Saliency
from segaudit.forwards.target import TargetSelector
from segaudit.functional import max_sensitivity, topk_overlap
from segaudit.functional.tied_ranks import top_membership


def some(n: int = 4, pairs: int = 3, size: tuple[int, ...] = (6, 5)) -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(0)
    a = torch.randn(n, *size, generator=g)
    return a, a[:, None] + torch.randn(n, pairs, *size, generator=g), torch.ones(n, pairs, dtype=torch.bool)


def test_max_sensitivity_is_captums_of_the_same_noise() -> None:
    model, x = Net(), images()
    targets = TargetSelector(max_per_image=1)(logits_of(model, x))
    assert len(targets) == len(x)
    noise = 0.3 * torch.randn(3, *x.shape, generator=torch.Generator().manual_seed(1))
    maps = torch.stack([Saliency()(model, x + each, targets) for each in noise], dim=1)

    def explain(inputs: Tensor | tuple[Tensor, ...]) -> tuple[Tensor]:
        inputs = inputs[0] if isinstance(inputs, tuple) else inputs
        found = [Saliency()(model, part, targets) for part in inputs.view(len(x), -1, *x.shape[1:]).unbind(1)]
        return (torch.stack(found, dim=1).flatten(0, 1),)

    def perturb(inputs: Tensor) -> Tensor:  # captum repeats each image
        return inputs + noise.transpose(0, 1).flatten(0, 1)

    theirs = sensitivity_max(explain, x, perturb_func=perturb, n_perturb_samples=3)
    kept = torch.ones(len(x), 3, dtype=torch.bool)
    ours = max_sensitivity(Saliency()(model, x, targets), maps, kept)
    torch.testing.assert_close(ours, theirs)
    assert float(ours.min()) > 0.01


class Classifier(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        total = x.flatten(1).sum(dim=1, keepdim=True)
        return torch.cat([total, -total], dim=1)


def test_max_sensitivity_is_quantus() -> None:
    a, perturbed, kept = some()
    turn = iter(perturbed.unbind(dim=1))

    def explain(inputs: np.ndarray, **_: Any) -> np.ndarray:
        return next(turn)[:, None].numpy()

    def shift(arr: np.ndarray, **_: Any) -> np.ndarray:
        return arr + 0.1

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer = quantus.MaxSensitivity(
            nr_samples=3, perturb_func=shift, abs=False, normalise=False, disable_warnings=True, return_aggregate=False
        )
        theirs = peer(
            model=Classifier(),
            x_batch=np.ones((4, 1, 6, 5), np.float32),
            y_batch=np.zeros(4, int),
            a_batch=a[:, None].numpy().copy(),
            explain_func=lambda model, inputs, targets, **_: explain(inputs),
        )
    assert max_sensitivity(a, perturbed, kept).tolist() == pytest.approx(theirs, abs=1e-5)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_max_sensitivity_of_known_changes(scale: float) -> None:
    a = scale * torch.tensor([[3.0, 4.0, 0.0]])
    perturbed = torch.stack([1.5 * a, -a, 0 * a, torch.full_like(a, torch.nan)], dim=1)
    for kept, expected in (((1, 0, 0, 0), 0.5), ((0, 0, 1, 0), 1), ((1, 0, 1, 0), 1), ((1, 1, 1, 0), 2)):
        found = max_sensitivity(a, perturbed, torch.tensor([kept]).bool())
        assert found.tolist() == pytest.approx([expected])
    assert bool(max_sensitivity(a, perturbed, torch.tensor([[True, True, True, True]])).isnan())
    assert max_sensitivity(a, a[:, None], torch.tensor([[True]])).tolist() == [0]


def test_overlap_is_the_share_of_common_pixels_where_nothing_ties() -> None:
    a, perturbed, kept = some(5, 4, (10, 10))
    kept[0, 1:] = False
    for k, count in ((0.1, 10), (0.25, 25), (0.001, 1)):
        expected = []
        for n in range(5):
            top = set(a[n].flatten().topk(count).indices.tolist())
            shared = [len(top & set(p.flatten().topk(count).indices.tolist())) / count for p in perturbed[n][kept[n]]]
            expected.append(sum(shared) / len(shared))
        assert topk_overlap(a, perturbed, kept, k).tolist() == pytest.approx(expected, abs=1e-6)
    assert torch.allclose(topk_overlap(a, perturbed, kept, 1.0), torch.ones(5))
    for k in (0.0, 1.1, -0.1):
        with pytest.raises(ValueError, match=r"k is a share of the image's pixels in \(0, 1\], got"):
            topk_overlap(a, perturbed, kept, k)


def test_overlap_of_maps_that_are_mostly_zero() -> None:
    """Ten of a hundred places, but the maps name five: neither their zeros nor the zeros' places may count as agreement."""
    a, b, all_kept = torch.zeros(1, 100), torch.zeros(1, 100), torch.tensor([[True]])
    a[0, 50:55] = torch.arange(5.0) + 1
    b[0, 90:95] = 1
    assert topk_overlap(a, a[:, None], all_kept).tolist() == [1]  # the same map agrees with itself
    assert topk_overlap(b, b[:, None], all_kept).tolist() == [1]
    assert float(topk_overlap(a, b[:, None], all_kept)) < 0.2  # by place it would be one half
    region = (torch.arange(100) < 30).float()[None]
    assert topk_overlap(region, region[:, None], all_kept).tolist() == pytest.approx([1])


def test_overlap_of_maps_that_have_nothing_in_common_is_the_share_of_the_places() -> None:
    g = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 2000, 100, generator=g)
    found = topk_overlap(a, b[:, None], torch.ones(2000, 1, dtype=torch.bool))
    assert float(found.mean()) == pytest.approx(0.1, abs=0.01)


def test_membership_adds_up_to_the_places() -> None:
    values = torch.randn(9, 40, generator=torch.Generator().manual_seed(0)).round()
    count = torch.tensor([1, 2, 5, 10, 20, 30, 38, 39, 40])
    member = top_membership(values, count)
    assert member.sum(dim=1).tolist() == pytest.approx(count.tolist())
    assert float(member.min()) >= 0
    assert float(member.max()) <= 1
    assert torch.equal(member[-1], torch.ones(40, dtype=torch.float64))
