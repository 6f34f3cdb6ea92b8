"""Gradients against finite differences, closed forms and captum."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from _models import Counting, Lambda, Net, images, uneven_targets
from torch import Tensor, nn

from segaudit import randomness
from segaudit.attribution import (
    DEA,
    ExpectedGradients,
    Explainer,
    GuidedBackprop,
    InputXGradient,
    IntegratedGradients,
    Saliency,
    SegGradCAM,
    SmoothGrad,
    VarGrad,
)
from segaudit.attribution.context import attribution_context
from segaudit.forwards import Probe
from segaudit.forwards.target import Targets, TargetSelector
from segaudit.intervention import BlurFill, ConstantFill, Fill, Intervention, MeanFill, NoiseFill


class Smooth(nn.Module):
    """A network without kinks, in double precision."""

    def __init__(self, channels: int = 3, classes: int = 3) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.net = nn.Sequential(
            nn.Conv2d(channels, 4, 3, padding=1), nn.Tanh(), nn.Conv2d(4, classes, 3, padding=1)
        ).double()

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


def mean_logit(model: nn.Module, image: Tensor, class_index: int, region: Tensor) -> float:
    """Slow: pixel by pixel."""
    with torch.no_grad():
        logits = model(image[None])[0]
    values = []
    for y in range(region.shape[0]):
        for x in range(region.shape[1]):
            if region[y, x]:
                z = logits[class_index, y, x] if len(logits) > 1 else logits[0, y, x] * (1 if class_index else -1)
                values.append(float(z))
    return sum(values) / len(values)


def numeric_gradient(model: nn.Module, image: Tensor, class_index: int, region: Tensor) -> Tensor:
    gradient = torch.zeros_like(image)
    step = 1e-5
    for place in np.ndindex(*image.shape):
        up, down = image.clone(), image.clone()
        up[place] += step
        down[place] -= step
        rise = mean_logit(model, up, class_index, region) - mean_logit(model, down, class_index, region)
        gradient[place] = rise / (2 * step)
    return gradient


@pytest.mark.parametrize("classes", [3, 1])
def test_saliency_is_the_largest_absolute_finite_difference(classes: int) -> None:
    model, x = Smooth(classes=classes), images(2, size=(4, 5)).double()
    targets = TargetSelector(min_area=0, classes=range(max(2, classes)))(model(x).detach())
    assert len(targets) > len(x)
    maps = Saliency()(model, x, targets)
    for n in range(len(targets)):
        b, c = int(targets.image_index[n]), int(targets.class_index[n])
        expected = numeric_gradient(model, x[b], c, targets.region[n]).abs().amax(dim=0)
        torch.testing.assert_close(maps[n], expected.float(), rtol=1e-4, atol=1e-7)


def test_integrated_gradients_of_a_linear_model_is_input_times_weight() -> None:
    torch.manual_seed(0)
    model, x = nn.Conv2d(3, 2, 1), images(2)
    targets = TargetSelector(min_area=0)(model(x).detach())
    start = 0.4
    maps = IntegratedGradients(steps=1, starts=[ConstantFill(start)])(model, x, targets)
    for n in range(len(targets)):
        b, c, region = int(targets.image_index[n]), int(targets.class_index[n]), targets.region[n]
        credit = sum(model.weight[c, k, 0, 0] * (x[b, k] - start) for k in range(3)) * region / region.sum()
        torch.testing.assert_close(maps[n], credit.detach())


def test_integrated_gradients_add_up_to_the_change_of_the_mean_logit() -> None:
    model, x = Smooth(), images(3).double()
    targets = TargetSelector(min_area=0)(model(x).detach())
    maps = IntegratedGradients(steps=24, starts=[ConstantFill(0.3), BlurFill()])(model, x, targets)
    assert bool((maps < 0).any())  # signed
    starts = [torch.full_like(x, 0.3), BlurFill()(x)]
    for n in range(len(targets)):
        b, c = int(targets.image_index[n]), int(targets.class_index[n])
        before = sum(mean_logit(model, start[b], c, targets.region[n]) for start in starts) / 2
        change = mean_logit(model, x[b], c, targets.region[n]) - before
        assert float(maps[n].sum()) == pytest.approx(change, rel=1e-4, abs=1e-5)


class RegionMean(nn.Module):
    """The wrapper that captum needs: one number an image."""

    def __init__(self, model: nn.Module, targets: Targets, n: int) -> None:
        super().__init__()
        self.model, self.class_index, self.region = model, int(targets.class_index[n]), targets.region[n]

    def forward(self, x: Tensor) -> Tensor:
        return (self.model(x)[:, self.class_index] * self.region).flatten(1).sum(dim=1) / self.region.sum()


def same_as(maps: Tensor, n: int, expected: Tensor) -> None:
    scale = float(expected.abs().max())
    assert scale > 0
    assert float((maps[n] - expected).abs().max()) <= 1e-5 * scale


def test_saliency_is_captums() -> None:
    attr = pytest.importorskip("captum.attr")
    model, x = Net(), images()
    targets = uneven_targets(model, x)
    maps = Saliency()(model, x, targets)
    for n in range(len(targets)):
        b = int(targets.image_index[n])
        peer = attr.Saliency(RegionMean(model, targets, n))
        same_as(maps, n, peer.attribute(x[b : b + 1].clone(), abs=True)[0].amax(dim=0))


@pytest.mark.parametrize("starts", [None, [ConstantFill(0.4), MeanFill(), NoiseFill()]], ids=["zero", "three"])
@pytest.mark.parametrize("max_batch", [1, 9, 64])
def test_integrated_gradients_are_captums(max_batch: int, starts: list[Fill] | None) -> None:
    attr = pytest.importorskip("captum.attr")
    model, x = Net(), images()
    targets = uneven_targets(model, x)
    maps = IntegratedGradients(7, starts)(model, x, targets, intervention=Intervention(max_batch=max_batch))
    for n in range(len(targets)):
        b = int(targets.image_index[n])
        peer = attr.IntegratedGradients(RegionMean(model, targets, n))
        expected = [
            peer.attribute(x[b : b + 1].clone(), baselines=start[b : b + 1], n_steps=7, method="gausslegendre")
            for start in [fill(x) for fill in starts or [ConstantFill()]]
        ]
        same_as(maps, n, torch.stack(expected).mean(dim=0)[0].sum(dim=0).float())


def test_input_x_gradient_is_captums() -> None:
    attr = pytest.importorskip("captum.attr")
    model, x = Net(), images()
    targets = uneven_targets(model, x)
    maps = InputXGradient()(model, x, targets)
    assert bool((maps < 0).any())  # signed
    for n in range(len(targets)):
        b = int(targets.image_index[n])
        peer = attr.InputXGradient(RegionMean(model, targets, n))
        same_as(maps, n, peer.attribute(x[b : b + 1].clone())[0].sum(dim=0).detach())


@pytest.mark.parametrize("inplace", [False, True])
def test_guided_backprop_is_captums(inplace: bool) -> None:
    attr = pytest.importorskip("captum.attr")
    model, x = Net(), images()
    targets = uneven_targets(model, x)
    maps = GuidedBackprop()(Net(inplace=inplace), x, targets)
    assert not torch.allclose(maps, Saliency()(model, x, targets))
    assert int(maps.flatten(1).any(dim=1).sum()) > 2  # nothing is left of a class whose weights are all negative
    for n in range(len(targets)):
        b = int(targets.image_index[n])
        with pytest.warns(UserWarning, match="backward hooks"):
            guided = attr.GuidedBackprop(RegionMean(model, targets, n)).attribute(x[b : b + 1].clone())
        expected = guided[0].abs().amax(dim=0)
        torch.testing.assert_close(maps[n], expected, rtol=0, atol=1e-5 * float(expected.max()))


def test_guided_backprop_through_relu6_is_the_chain_rule_by_hand() -> None:
    torch.manual_seed(0)
    first, last = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 2, 3, padding=1)
    model, x = nn.Sequential(first, nn.ReLU6(inplace=True), last), 9 * images(2)
    targets = TargetSelector(min_area=0)(model(x).detach())
    maps = GuidedBackprop()(model, x, targets)
    for n in range(len(targets)):
        b, c, region = int(targets.image_index[n]), int(targets.class_index[n]), targets.region[n]
        before = first(x[b : b + 1]).detach()
        assert bool((before > 6).any())
        at_logits = torch.zeros(1, 2, *region.shape)
        at_logits[0, c] = region / region.sum()
        after = nn.functional.conv_transpose2d(at_logits, last.weight, padding=1)
        passed = after.clamp_min(0) * ((before > 0) & (before < 6))
        expected = nn.functional.conv_transpose2d(passed, first.weight, padding=1)
        same_as(maps, n, expected[0].abs().amax(dim=0).detach())


def test_guided_backprop_leaves_the_next_explainers_relus_alone() -> None:
    model, x = Net(), images()
    targets = uneven_targets(model, x)
    with attribution_context(model):
        probe = Probe(model, x, targets, Intervention())
        before = Saliency().explain(probe)
        GuidedBackprop().explain(probe)
        assert torch.equal(Saliency().explain(probe), before)
        broken = Probe(model, x[:, :2], targets, Intervention())
        with pytest.raises(RuntimeError, match="channels"):
            GuidedBackprop().explain(broken)
        assert torch.equal(Saliency().explain(probe), before)


def test_guided_backprop_of_a_model_without_relu_modules_is_told() -> None:
    x = images()
    model = Lambda(lambda x: torch.cat([x, -x], dim=1).relu())
    with pytest.raises(ValueError, match="this model has none"):
        GuidedBackprop()(model, x, uneven_targets(Net(), x))


def noisy(x: Tensor, level: float, draw: int) -> Tensor:
    """What SmoothGrad's docstring promises, image by image."""
    copies = []
    for image in x:
        key = randomness.combine(randomness.image_keys(image[None]), draw)
        copies.append(image + level * image.flatten().std(correction=0) * randomness.normal(key, image.shape)[0])
    return torch.stack(copies)


@pytest.mark.parametrize("kind", ["smoothgrad", "vargrad"])
@pytest.mark.parametrize("signed", [False, True])
def test_smooth_grad_and_var_grad_are_captums(kind: str, signed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """One channel, so that the order of the channels' reduction and the statistic does not matter.

    Double precision, since captum takes the variance as a difference of squares.
    """
    attr = pytest.importorskip("captum.attr")
    model, x = Net(channels=1).double(), images(channels=1).double()
    targets = uneven_targets(model, x)
    ours = {"smoothgrad": SmoothGrad, "vargrad": VarGrad}[kind]
    maps = ours(InputXGradient() if signed else Saliency(), draws=4, level=0.3)(model, x, targets)
    for n in range(len(targets)):
        b = slice(int(targets.image_index[n]), int(targets.image_index[n]) + 1)
        draws = torch.cat([noisy(x[b], 0.3, draw) - x[b] for draw in range(4)])
        monkeypatch.setattr(torch, "normal", lambda *_, draws=draws: draws)
        net = RegionMean(model, targets, n)
        peer = attr.NoiseTunnel(attr.InputXGradient(net) if signed else attr.Saliency(net))
        same_as(maps, n, peer.attribute(x[b].clone(), nt_type=kind, nt_samples=4)[0, 0])


@pytest.mark.parametrize("source", [None, IntegratedGradients(steps=2), SegGradCAM("features")])
def test_smooth_grad_and_var_grad_are_the_slow_loop(source: Explainer | None) -> None:
    model, x = Net(), images()
    targets = uneven_targets(model, x)
    maps = torch.stack([(source or Saliency())(model, noisy(x, 0.15, draw), targets) for draw in range(8)]).double()
    torch.testing.assert_close(SmoothGrad(source)(model, x, targets), maps.mean(dim=0).float())
    spread = (maps - maps.mean(dim=0)).square().mean(dim=0)
    torch.testing.assert_close(VarGrad(source)(model, x, targets), spread.float(), rtol=1e-4, atol=1e-6)


def test_var_grad_of_a_linear_models_gradient_is_zero() -> None:
    model, x = nn.Conv2d(3, 2, 1), images(2)
    targets = TargetSelector(min_area=0)(model(x).detach())
    assert float(VarGrad()(model, x, targets).max()) < 1e-12


def drawn(x: Tensor, draws: int, seed: int, count: int) -> tuple[Tensor, Tensor]:
    """What ExpectedGradients' docstring promises: which start and which place, ``(B, draws)`` each."""
    keys = randomness.image_keys(x, seed)
    place = (torch.arange(draws) + randomness.uniform(randomness.combine(keys, 1), (draws,))) / draws
    return (randomness.uniform(randomness.combine(keys, 2), (draws,)) * count).long(), place


@pytest.mark.parametrize("references", [False, True])
@pytest.mark.parametrize("max_batch", [1, 9, 64])
def test_expected_gradients_are_captums(references: bool, max_batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    attr = pytest.importorskip("captum.attr")
    model, x = Net(), images()
    targets = uneven_targets(model, x)
    fills = [ConstantFill(), MeanFill(), NoiseFill()]
    pool = images(5, seed=7) if references else None
    explainer = ExpectedGradients(draws=6, background=pool, seed=2)
    maps = explainer(model, x, targets, intervention=Intervention(max_batch=max_batch))
    choice, place = drawn(x, 6, 2, 5 if references else 3)
    assert len(choice.unique()) > 2
    for n in range(len(targets)):
        b = int(targets.image_index[n])
        peer = attr.GradientShap(RegionMean(model, targets, n))
        total = torch.zeros_like(x[0])
        for draw in range(6):
            k = int(choice[b, draw])
            start = pool[k] if pool is not None else fills[k](x)[b]
            monkeypatch.setattr(np.random, "uniform", lambda *_, b=b, draw=draw: place[b, draw : draw + 1].numpy())
            total += peer.attribute(x[b : b + 1].clone(), baselines=start[None], n_samples=1, stdevs=0.0)[0]
        same_as(maps, n, (total / 6).sum(dim=0))


def test_expected_gradients_of_a_linear_model_add_up_to_the_mean_change() -> None:
    torch.manual_seed(0)
    model, x, pool = nn.Conv2d(3, 2, 3, padding=1), images(2), images(4, seed=3)
    targets = TargetSelector(min_area=0)(model(x).detach())
    maps = ExpectedGradients(draws=5, background=pool)(model, x, targets)
    choice, _ = drawn(x, 5, 0, 4)
    for n in range(len(targets)):
        b, c, region = int(targets.image_index[n]), int(targets.class_index[n]), targets.region[n]
        before = sum(mean_logit(model, pool[int(k)], c, region) for k in choice[b]) / 5
        assert float(maps[n].sum()) == pytest.approx(mean_logit(model, x[b], c, region) - before, rel=1e-4)


def test_expected_gradients_approach_integrated_gradients() -> None:
    """One starting image: only the places are random, and stratified."""
    model, x = Smooth(), images(2).double()
    targets = TargetSelector(min_area=0)(model(x).detach())
    integral = IntegratedGradients(32, [MeanFill()])(model, x, targets)
    maps = ExpectedGradients(256, [MeanFill()])(model, x, targets)
    torch.testing.assert_close(maps, integral, rtol=0, atol=1e-3 * float(integral.abs().max()))
    assert not torch.equal(ExpectedGradients(4, seed=1)(model, x, targets), ExpectedGradients(4)(model, x, targets))


@pytest.mark.parametrize("explainer", [Saliency(), IntegratedGradients(steps=2), SegGradCAM("net.features"), DEA()])
def test_a_model_that_cuts_the_gradient_is_told(explainer: Explainer) -> None:
    class Cut(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = Net()

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x).detach()

    x = images()
    with pytest.raises(ValueError, match="no gradient reaches the image"):
        explainer(Cut(), x, uneven_targets(Net(), x))


def test_one_forward_serves_all_targets() -> None:
    model, x = Counting(Net()), images()
    targets = uneven_targets(model, x)
    model.batches.clear()
    Saliency()(model, x, targets)
    assert model.batches == [4]
    model.batches.clear()
    IntegratedGradients(steps=6)(model, x, targets, intervention=Intervention(max_batch=36))
    assert model.batches == [8, 8, 8]  # two steps of four images fit: with gradients, each counts as four
    model.batches.clear()
    ExpectedGradients(draws=5)(model, x, targets, intervention=Intervention(max_batch=36))
    assert model.batches == [8, 8, 4]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: IntegratedGradients(steps=0), "steps must be at least 1, got 0"),
        (lambda: IntegratedGradients(starts=[]), "starts is empty"),
        (lambda: ExpectedGradients(draws=0), "draws must be at least 1, got 0"),
        (lambda: ExpectedGradients(background=[]), "background is empty"),
        (lambda: ExpectedGradients(background=torch.zeros(0, 3, 4, 4)), "background is empty"),
        (lambda: SmoothGrad(draws=0), "draws must be at least 1, got 0"),
        (lambda: VarGrad(draws=1), "draws must be at least 2, got 1"),
        (lambda: SmoothGrad(level=0), "level is the noise.*above 0, got 0"),
    ],
)
def test_arguments_are_checked(make: Callable[[], Explainer], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_a_background_of_another_size_is_told() -> None:
    x = images()
    with pytest.raises(ValueError, match=r"shape \(3, 9, 9\), but those to explain have \(3, 12, 10\)"):
        ExpectedGradients(background=images(2, size=(9, 9)))(Net(), x, uneven_targets(Net(), x))


def test_targets_of_one_class_with_different_regions_are_told_apart() -> None:
    """A user's own regions: two objects of one class in one image."""
    model, x = Net(), images(1)
    left, right = torch.zeros(2, 12, 10, dtype=torch.bool).unbind()
    left[:, :2] = True
    right[:, -2:] = True
    zero = torch.zeros(2, dtype=torch.long)
    maps = Saliency()(model, x, Targets(zero, zero, torch.stack([left, right])))
    assert float(maps[0][:, -3:].sum()) == 0  # out of reach of two 3x3 convolutions
    assert float(maps[1][:, :3].sum()) == 0
    assert float(maps[0].sum()) > 0
    assert float(maps[1].sum()) > 0
