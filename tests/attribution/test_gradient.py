"""Gradients against finite differences, closed forms and captum."""

import numpy as np
import pytest
import torch
from _models import Counting, Lambda, Net, images, uneven_targets
from torch import Tensor, nn

from segaudit.attribution import DEA, Explainer, IntegratedGradients, Saliency, SegGradCAM
from segaudit.intervention import Intervention
from segaudit.target import Targets, TargetSelector


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
    maps = IntegratedGradients(steps=1, start=start)(model, x, targets)
    for n in range(len(targets)):
        b, c, region = int(targets.image_index[n]), int(targets.class_index[n]), targets.region[n]
        credit = sum(model.weight[c, k, 0, 0] * (x[b, k] - start) for k in range(3)) * region / region.sum()
        torch.testing.assert_close(maps[n], credit.detach())


def test_integrated_gradients_add_up_to_the_change_of_the_mean_logit() -> None:
    model, x = Smooth(), images(3).double()
    targets = TargetSelector(min_area=0)(model(x).detach())
    maps = IntegratedGradients(steps=24, start=0.3)(model, x, targets)
    assert bool((maps < 0).any())  # signed
    for n in range(len(targets)):
        b, c = int(targets.image_index[n]), int(targets.class_index[n])
        start = torch.full_like(x[b], 0.3)
        change = mean_logit(model, x[b], c, targets.region[n]) - mean_logit(model, start, c, targets.region[n])
        assert float(maps[n].sum()) == pytest.approx(change, rel=1e-4, abs=1e-5)


def region_mean(model: nn.Module, class_index: int, region: Tensor) -> Lambda:
    """The wrapper that captum needs: one number an image."""

    def forward(x: Tensor) -> Tensor:
        return (model(x)[:, class_index] * region).flatten(1).sum(dim=1) / region.sum()

    return Lambda(forward)


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
        peer = attr.Saliency(region_mean(model, int(targets.class_index[n]), targets.region[n]))
        same_as(maps, n, peer.attribute(x[b : b + 1].clone(), abs=True)[0].amax(dim=0))


@pytest.mark.parametrize("max_batch", [1, 9, 64])
def test_integrated_gradients_are_captums(max_batch: int) -> None:
    attr = pytest.importorskip("captum.attr")
    model, x = Net(), images()
    targets = uneven_targets(model, x)
    maps = IntegratedGradients(steps=7)(model, x, targets, intervention=Intervention(max_batch=max_batch))
    for n in range(len(targets)):
        b = int(targets.image_index[n])
        peer = attr.IntegratedGradients(region_mean(model, int(targets.class_index[n]), targets.region[n]))
        expected = peer.attribute(x[b : b + 1].clone(), baselines=0.0, n_steps=7, method="gausslegendre")
        same_as(maps, n, expected[0].sum(dim=0).float())


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
    IntegratedGradients(steps=6)(model, x, targets, intervention=Intervention(max_batch=9))
    assert model.batches == [8, 8, 8]  # two steps of four images fit


def test_steps_are_checked() -> None:
    with pytest.raises(ValueError, match="steps must be at least 1, got 0"):
        IntegratedGradients(steps=0)


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
