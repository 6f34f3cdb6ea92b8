"""ROAD's curves against a slow loop, and the score against pytorch-grad-cam's."""

import numpy as np
import pytest
import torch
from _models import Counting, Net, Threshold, differences, images, logits_of, state_of, uneven_targets
from pytorch_grad_cam.metrics import road as peer
from torch import Tensor, nn

from segaudit.attribution import attribution_context
from segaudit.evidence.imputation import road_curves
from segaudit.forwards import Probe
from segaudit.forwards.target import Targets, TargetSelector
from segaudit.functional import road
from segaudit.intervention import ConstantFill, Fill, Intervention, MeanFill, NoiseFill, NoisyLinearFill


def slow_score(model: nn.Module, image: Tensor, class_index: int, region: Tensor) -> float:
    logits = logits_of(model, image[None])[0].double().softmax(dim=0)
    return sum(float(logits[(class_index, *p)]) for p in np.ndindex(*region.shape) if region[p]) / int(region.sum())


def slow_relative(model: nn.Module, x: Tensor, targets: Targets, fill: Fill, n: int, removed: list[int]) -> float:
    """S with some of the pixels imputed, over S(x)."""
    b, c, region = int(targets.image_index[n]), int(targets.class_index[n]), targets.region[n]
    mask = torch.zeros(region.numel(), dtype=torch.bool)
    for p in removed:
        mask[p] = True
    imputed = fill.remove(x[b : b + 1], mask.view(1, *region.shape), fill(x[b : b + 1]))[0]
    return slow_score(model, imputed, c, region) / slow_score(model, x[b], c, region)


def some_maps(targets: Targets, ties: bool = False) -> Tensor:
    maps = torch.randn(targets.region.shape, generator=torch.Generator().manual_seed(1))
    return maps.round() if ties else maps


@pytest.mark.parametrize("fill", [None, NoiseFill(), ConstantFill(0.5)], ids=["linear", "noise", "constant"])
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_the_curves_are_the_slow_loop(dims: int, ties: bool, fill: Fill | None) -> None:
    model, x = Net(dims=dims), images(size={1: (30,), 2: (8, 7), 3: (4, 5, 6)}[dims])
    targets = uneven_targets(model, x)
    maps, shares = some_maps(targets, ties), (0.1, 0.5, 0.75)
    with attribution_context(model):
        probe = Probe(model, x, targets, Intervention(MeanFill(), max_batch=5))
        most, least = road_curves(probe, maps, shares, fill)
    assert most.shape == least.shape == (len(targets), 3)
    pixels = targets.region[0].numel()
    for n in range(len(targets)):
        values = maps[n].flatten().tolist()
        turn = {p: place for place, p in enumerate(probe.tie_order[targets.image_index[n]].tolist())}
        order = sorted(range(pixels), key=lambda p: (-values[p], turn[p]))
        for j, share in enumerate(shares):
            count = round(share * pixels)
            for found, removed in ((most, order[:count]), (least, order[pixels - count :])):
                expected = slow_relative(model, x, targets, fill or NoisyLinearFill(), n, removed)
                assert float(found[n, j]) == pytest.approx(expected, abs=1e-4)


class Noiseless(peer.NoisyLinearImputer):
    def __init__(self) -> None:
        super().__init__(noise=0)


class Theirs(Fill):
    """Pytorch-grad-cam's imputer: a scipy solve an image."""

    def __call__(self, filled: Tensor) -> Tensor:
        return torch.zeros_like(filled)

    def remove(self, filled: Tensor, removed: Tensor, _: Tensor) -> Tensor:
        return torch.stack([Noiseless()(i, 1 - r.float()) for i, r in zip(filled, removed, strict=True)])


@pytest.mark.parametrize(("fill", "tolerance"), [(Theirs(), 1e-6), (NoisyLinearFill(noise=0), 2e-3)], ids=["same", "ours"])
def test_the_score_is_pytorch_grad_cams_relative_to_the_score(
    fill: Fill, tolerance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, x = Net(), images(3, size=(10, 10))
    first = TargetSelector(max_per_image=1)(logits_of(model, x))  # theirs have one target an image
    maps = some_maps(first)
    monkeypatch.setattr(peer, "NoisyLinearImputer", Noiseless)

    def score_of(n: int) -> object:
        return lambda logits: logits.softmax(dim=0)[first.class_index[n]][first.region[n]].mean()

    theirs = peer.ROADCombined()(x, maps.numpy(), [score_of(n) for n in range(3)], model)
    with attribution_context(model):
        probe = Probe(model, x, first, Intervention())
        ours = road(*road_curves(probe, maps, [q / 10 for q in range(1, 10)], fill))
    torch.testing.assert_close(ours * probe.confidence, torch.tensor(theirs), atol=tolerance, rtol=0)
    assert float(ours.abs().min()) > 5 * tolerance  # there is something to agree on


def test_the_pixels_that_a_known_model_uses() -> None:
    x = 0.1 * torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    x[..., :4] += 0.9  # the left half is class 1
    model = Threshold()
    targets = TargetSelector(classes=[1])(model(x))
    with attribution_context(model):
        probe = Probe(model, x, targets, Intervention())
        most, least = road_curves(probe, x[:, 0], (0.5,))
        assert most.tolist() == [pytest.approx([0], abs=1e-4)]  # nothing but the right half is left to guess from
        assert least.tolist() == [pytest.approx([1], abs=1e-4)]
        assert road(most, least).tolist() == pytest.approx([0.5], abs=1e-4)
        assert road(*road_curves(probe, -x[:, 0], (0.5,))).tolist() == pytest.approx([-0.5], abs=1e-4)
        random = road(*road_curves(probe, some_maps(targets)))
        assert abs(float(random)) < 0.2


def test_costs_leaves_no_trace_and_does_not_see_the_rest_of_the_batch() -> None:
    net, x = Net(), images()
    targets = uneven_targets(net, x)
    maps, model = some_maps(targets), Counting(net)
    before = state_of(net)
    with attribution_context(model):
        probe = Probe(model, x, targets, Intervention(), logits_of(net, x))
        most, least = road_curves(probe, maps)
        assert model.images == 2 * 4 * len(targets)
        for b in targets.image_index.unique().tolist():
            rows = targets.image_index == b
            alone = Targets(torch.zeros(int(rows.sum()), dtype=torch.long), targets.class_index[rows], targets.region[rows])
            own = road_curves(Probe(net, x[b : b + 1], alone, Intervention()), maps[rows])
            torch.testing.assert_close(own[0], most[rows], atol=1e-4, rtol=0)
            torch.testing.assert_close(own[1], least[rows], atol=1e-4, rtol=0)
        none = road_curves(Probe(net, x, targets[:0], Intervention()), maps[:0])
        assert none[0].shape == none[1].shape == (0, 4)
    assert differences(before, state_of(net)) == []


@pytest.mark.parametrize("shares", [(), (0.0,), (0.5, 1.0)])
def test_bad_shares_are_told(shares: tuple[float, ...]) -> None:
    net, x = Net(), images()
    targets = uneven_targets(net, x)
    with pytest.raises(ValueError, match="shares are parts of the image's pixels between 0 and 1"):
        road_curves(Probe(net, x, targets, Intervention()), some_maps(targets), shares)
