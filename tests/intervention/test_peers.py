"""Curves against those of torch-cam and Quantus, one target at a time."""

from contextlib import nullcontext
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from _models import Net, images, uneven_targets
from quantus.helpers.model.pytorch_model import PyTorchModel
from quantus.metrics.faithfulness.pixel_flipping import PixelFlipping
from quantus.metrics.faithfulness.region_perturbation import RegionPerturbation
from torch import Tensor, nn
from torchcam.metrics import DeletionInsertionMetric

from segaudit.attribution import attribution_context
from segaudit.forwards import Probe
from segaudit.forwards.removal_order import pixel_ranks
from segaudit.forwards.target import Targets, target_confidence
from segaudit.functional import deletion_auc, insertion_auc
from segaudit.intervention import GridRegions, Intervention, MeanFill


class Given:
    """What torch-cam asks of an extractor of maps: here they are."""

    def __init__(self, model: nn.Module, maps: Tensor) -> None:
        self.model, self.maps = model, maps

    def __call__(self, *_: Any, **__: Any) -> list[Tensor]:
        return [self.maps]

    def fuse_cams(self, cams: list[Tensor]) -> Tensor:
        return cams[0]

    def _hooks_off(self) -> Any:
        return nullcontext()


class ScoreOf(nn.Module):
    """S of one target as the second of two outputs, for peers that know classification alone."""

    def __init__(self, model: nn.Module, target: Targets) -> None:
        super().__init__()
        self.model, self.target = model, target

    def forward(self, x: Tensor) -> Tensor:
        many = Targets(
            torch.arange(len(x)), self.target.class_index.expand(len(x)), self.target.region.expand(len(x), -1, -1)
        )
        return target_confidence(self.model(x), many)[:, None].repeat(1, 2)


def some_maps(targets: Targets) -> Tensor:
    return torch.randn(targets.region.shape, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("steps", [1, 7, 20])
def test_areas_are_those_of_torch_cam(steps: int) -> None:
    """At torch-cam's places; between 0 and S(x), where ours are between the floor and 1."""
    net, x = Net(), images(size=(8, 7))
    targets = uneven_targets(net, x)
    maps, pixels = some_maps(targets), 56
    counts = torch.tensor([*range(0, pixels, -(-pixels // steps)), pixels])
    with attribution_context(net):
        probe = Probe(net, x, targets, Intervention(MeanFill()))
        ranks = pixel_ranks(maps, probe.tie_order[targets.image_index])
        found = [
            torch.stack([probe.confidence_without(mask(c)) for c in counts], dim=1) / probe.confidence[:, None]
            for mask in (lambda c: ranks < c, lambda c: ranks >= c)
        ]
        floor = probe.filled_confidence / probe.confidence
        ours = [area(curve, counts / pixels) for area, curve in zip((deletion_auc, insertion_auc), found, strict=True)]
    scored = 0
    for n, b in enumerate(targets.image_index.tolist()):
        c, region = int(targets.class_index[n]), targets.region[n]
        theirs = DeletionInsertionMetric(
            Given(net, maps[n : n + 1]), partial(torch.softmax, dim=1), steps=steps, baseline=MeanFill()(x[b : b + 1])
        )
        theirs.update(x[b : b + 1], targets=lambda p, c=c, region=region: p[c][region].mean())
        for area, name in zip(ours, ("deletion_auc", "insertion_auc"), strict=True):
            if bool(area[n].isfinite()):
                above = float(floor[n] + (1 - floor[n]) * area[n]) * float(probe.confidence[n])
                assert theirs.summary()[name] == pytest.approx(above, abs=1e-5)
                scored += 1
    assert scored >= 6


def test_the_values_of_a_curve_are_those_of_pixel_flipping() -> None:
    """At each of our points that is a whole number of Quantus' steps."""
    net, x = Net(channels=1), images(channels=1, size=(8, 6))
    targets = uneven_targets(net, x)
    maps = some_maps(targets)
    with attribution_context(net):
        probe = Probe(net, x, targets, Intervention(MeanFill(), steps=12))
        curve, score = probe.deletion_curve(maps), probe.confidence
    for n in range(len(targets)):
        values = of_quantus(PixelFlipping, net, x, targets, maps, n, features_in_step=1)
        counts = (curve.fractions[n] * 48).round().long().tolist()
        expected = [float(values[count - 1]) / float(score[n]) for count in counts[1:]]
        assert curve.values[n, 1:].tolist() == pytest.approx(expected, abs=1e-5)


def test_patches_are_filled_in_the_order_of_region_perturbation() -> None:
    """Quantus sums a map over patches, of one size, where we take the mean: the order is the same."""
    net, x = Net(channels=1), images(channels=1, size=(8, 8))
    targets = uneven_targets(net, x)
    maps = some_maps(targets)
    with attribution_context(net):
        probe = Probe(net, x, targets, Intervention(MeanFill(), steps=15, units=GridRegions([16])))
        curve, score = probe.deletion_curve(maps), probe.confidence
    for n in range(len(targets)):
        values = of_quantus(RegionPerturbation, net, x, targets, maps, n, patch_size=2, regions_evaluation=16)
        counts = (curve.fractions[n] * 16).round().long().tolist()
        assert len(set(counts)) > 10
        # Quantus gives the falls, after each patch.
        falls = [0.0, *map(float, values)]
        expected = [1 - falls[count] / float(score[n]) for count in counts]
        assert curve.values[n].tolist() == pytest.approx(expected, abs=1e-5)


def of_quantus(metric: Any, net: nn.Module, x: Tensor, targets: Targets, maps: Tensor, n: int, **arguments: int) -> Any:
    """What one of Quantus' metrics gives for a target, with the mean colour as the fill."""
    b = int(targets.image_index[n])
    filled = MeanFill()(x[b : b + 1]).numpy().reshape(1, -1)
    fill = {"perturb_baseline": "black", "perturb_func": partial(_fill_in, filled)}
    (values,) = metric(**fill, disable_warnings=True, normalise=False, **arguments).evaluate_batch(
        model=PyTorchModel(ScoreOf(net, targets[torch.tensor([n])]).eval(), softmax=False, channel_first=True),
        x_batch=x[b : b + 1].numpy(),
        y_batch=np.array([1]),
        a_batch=maps[n][None, None].numpy(),
    )
    return values


def _fill_in(filled: Any, arr: Any, indices: Any, **_: Any) -> Any:
    arr = arr.copy()
    np.put_along_axis(arr, indices, np.take_along_axis(filled, indices, axis=1), axis=1)
    return arr
