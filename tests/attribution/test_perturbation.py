"""Occlusion and RISE against slow loops, closed forms and captum; what sweeps cost."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from _models import Counting, Lambda, Net, Threshold, images, logits_of, uneven_targets
from torch import Tensor, nn

from segaudit import randomness
from segaudit.attribution import LIME, RISE, Explainer, KernelSHAP, Occlusion, RegionEffects
from segaudit.forwards.target import Targets, TargetSelector
from segaudit.intervention import BlurFill, ConstantFill, GridRegions, Intervention, MeanFill


def score(model: nn.Module, image: Tensor, targets: Targets, n: int) -> float:
    """S of one target at one image ``(channels, *S)``: mean probability over its region."""
    logits = logits_of(model, image[None])[0].double()
    logits = torch.cat([-logits, logits]) / 2 if len(logits) == 1 else logits
    return float(logits.softmax(dim=0)[int(targets.class_index[n])][targets.region[n]].mean())


def close(maps: Tensor, expected: Tensor, relative: float = 1e-5) -> None:
    for one, other in zip(maps, expected, strict=True):
        scale = float(other.abs().max())
        assert scale > 0
        assert float((one - other).abs().max()) <= relative * scale


def starts(side: int, window: int, stride: int) -> list[int]:
    found = [0]
    while found[-1] + window < side:
        found.append(min(found[-1] + stride, side - window))
    return found


def slow_occlusion(model: nn.Module, x: Tensor, targets: Targets, window: int, stride: int, filled: Tensor) -> Tensor:
    maps = torch.zeros(targets.region.shape, dtype=torch.float64)
    sides = [min(window, side) for side in x.shape[2:]]
    corners = [starts(size, side, stride) for size, side in zip(x.shape[2:], sides, strict=True)]
    for n in range(len(targets)):
        b = int(targets.image_index[n])
        before, count = score(model, x[b], targets, n), torch.zeros(x.shape[2:])
        for corner in np.ndindex(*[len(c) for c in corners]):
            box = tuple(slice(c[i], c[i] + side) for c, i, side in zip(corners, corner, sides, strict=True))
            image = x[b].clone()
            image[(slice(None), *box)] = filled[b][(slice(None), *box)]
            maps[(n, *box)] += 1 - score(model, image, targets, n) / before
            count[box] += 1
        assert bool((count > 0).all())
        maps[n] /= count
    return maps.float()


@pytest.mark.parametrize(("window", "stride"), [(3, 2), (4, 4), (5, 1), (11, 3)])
@pytest.mark.parametrize("classes", [3, 1])
def test_occlusion_is_the_slow_loop(window: int, stride: int, classes: int) -> None:
    model, x, fill = Net(classes=classes), images(), BlurFill()
    targets = uneven_targets(model, x)
    maps = Occlusion(window, stride)(model, x, targets, intervention=Intervention(fill, max_batch=7))
    close(maps, slow_occlusion(model, x, targets, window, stride, fill(x)), 2e-5)
    assert bool((maps < 0).any())  # signed


@pytest.mark.parametrize(("dims", "size"), [(1, (40,)), (3, (6, 7, 8))])
def test_occlusion_of_signals_and_volumes_is_the_slow_loop(dims: int, size: tuple[int, ...]) -> None:
    model, x = Net(dims=dims), images(size=size)
    targets = uneven_targets(model, x)
    maps = Occlusion(4, 3)(model, x, targets, intervention=Intervention(ConstantFill()))
    close(maps, slow_occlusion(model, x, targets, 4, 3, torch.zeros_like(x)), 2e-5)


def test_occlusion_is_captums_where_windows_fit() -> None:
    """At the border captum cuts the last window, ours ends there: 12 and 10 take windows of 4 in steps of 2."""
    attr = pytest.importorskip("captum.attr")
    model, x, fill = Net(), images(), MeanFill()
    targets = uneven_targets(model, x)
    maps = Occlusion(4, 2)(model, x, targets, intervention=Intervention(fill))
    expected = torch.zeros_like(maps)
    for n in range(len(targets)):
        b = slice(int(targets.image_index[n]), int(targets.image_index[n]) + 1)

        def forward(rows: Tensor, n: int = n) -> Tensor:
            return torch.tensor([score(model, row, targets, n) for row in rows])

        peer = attr.Occlusion(forward)
        falls = peer.attribute(x[b], sliding_window_shapes=(3, 4, 4), strides=(3, 2, 2), baselines=fill(x)[b])
        expected[n] = falls[0, 0] / score(model, x[b][0], targets, n)
    close(maps, expected, 2e-5)


def test_occlusion_of_a_threshold_is_known() -> None:
    """Windows of two by two, side by side: the effect is the window's share of the bright region."""
    x = torch.zeros(1, 1, 8, 8)
    x[0, 0, 1:6, 2:7] = 1.0
    targets = TargetSelector(classes=[1])(Threshold()(x))
    maps = Occlusion(2, 2)(Threshold(), x, targets, intervention=Intervention(ConstantFill(0.0)))
    expected = F.avg_pool2d(x, 2).repeat_interleave(2, 2).repeat_interleave(2, 3)[0] * 4 / 25
    torch.testing.assert_close(maps, expected, atol=1e-6, rtol=0)


def test_a_window_larger_than_the_image_removes_all_of_it() -> None:
    model, x = Net(), images()
    targets = uneven_targets(model, x)
    maps = Occlusion(99, 99)(model, x, targets, intervention=Intervention(ConstantFill()))
    for n in range(len(targets)):
        b = int(targets.image_index[n])
        fall = 1 - score(model, torch.zeros_like(x[b]), targets, n) / score(model, x[b], targets, n)
        torch.testing.assert_close(maps[n], torch.full_like(maps[n], fall), rtol=1e-4, atol=1e-6)


def test_windows_that_do_not_matter_tie_exactly() -> None:
    model, x = Net(), images(4, size=(30, 30))
    labels = TargetSelector(min_area=0)(logits_of(model, x))
    corner = torch.zeros(labels.region.shape, dtype=torch.bool)
    corner[:, :4, :4] = True
    targets = Targets(labels.image_index, labels.class_index, corner)
    maps = Occlusion(6, 3)(model, x, targets, intervention=Intervention(max_batch=11)).nan_to_num()
    assert torch.equal(maps[:, 11:], torch.zeros_like(maps[:, 11:]))  # no window there meets the two convolutions' reach
    assert float(maps.abs().max()) > 1e-3


def slow_masks(image: Tensor, masks: int, cells: int, share: float, seed: int) -> Tensor:
    """The masks ``(masks, *S)`` of RISE's docstring: coarse grids, enlarged by torch and cropped at random."""
    size = image.shape[1:]
    key = randomness.image_keys(image[None], seed)
    shape = [min(cells, side) for side in size]
    grids = (randomness.uniform(randomness.combine(key, 0), (masks, *shape)) < share)[0].float()
    widths = [-(-side // count) for side, count in zip(size, shape, strict=True)]
    large = [(count + 1) * width for count, width in zip(shape, widths, strict=True)]
    mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[len(size)]
    fine = F.interpolate(grids[:, None], size=large, mode=mode, align_corners=False)[:, 0]
    found = []
    for m in range(masks):
        box = []
        for axis, side in enumerate(size):
            first = int(randomness.uniform(randomness.combine(key, axis + 1), (masks,))[0, m] * widths[axis])
            box.append(slice(first, first + side))
        found.append(fine[m][tuple(box)])
        assert found[-1].shape == size
    return torch.stack(found)


@pytest.mark.parametrize("case", [{}, {"dims": 1}, {"dims": 3}, {"classes": 1}])
@pytest.mark.parametrize("max_batch", [7, 64])
def test_rise_is_the_slow_loop(case: dict[str, int], max_batch: int) -> None:
    model, x = Net(**case), images(size={1: (40,), 2: (12, 10), 3: (6, 7, 8)}[case.get("dims", 2)])
    targets, fill = uneven_targets(model, x), MeanFill()
    maps = RISE(30, 4, 0.6, seed=2)(model, x, targets, intervention=Intervention(fill, max_batch=max_batch))
    expected = torch.zeros(maps.shape, dtype=torch.float64)
    for n in range(len(targets)):
        b = int(targets.image_index[n])
        masks = slow_masks(x[b], 30, 4, 0.6, 2)
        scores = [score(model, x[b] * mask + fill(x)[b] * (1 - mask), targets, n) for mask in masks]
        up, down = torch.zeros_like(masks[0]).double(), torch.zeros_like(masks[0]).double()
        for mask, s in zip(masks, scores, strict=True):
            up += s * mask
            down += mask
        expected[n] = (up / down - sum(scores) / 30) / score(model, x[b], targets, n)
    close(maps, expected.float(), 5e-5)  # differences of scores: float32's rounding beside their small mean
    assert bool((maps < 0).any())


def test_rises_masks_show_each_pixel_in_about_their_share() -> None:
    for share in (0.2, 0.5):
        masks = slow_masks(images(1, size=(28, 21))[0], 4000, 7, share, 0)
        assert float((masks.mean(dim=0) - share).abs().max()) < 0.05
        assert float(masks.min()) >= 0
        assert float(masks.max()) <= 1


def test_rise_finds_the_only_pixels_that_count() -> None:
    """S is the mean of the shown share of one patch: pixels there rank first, those far from it are near 0."""
    x = torch.zeros(1, 1, 28, 28)
    x[0, 0, 8:12, 16:20] = 1.0
    patch = x[0, 0] > 0

    def shown(images: Tensor) -> Tensor:
        mean = images[:, 0][:, patch].mean(dim=1).clamp(1e-3, 1 - 1e-3)
        z = mean.logit()[:, None, None, None].expand(-1, 1, 28, 28)
        return torch.cat([0 * z, z], dim=1)

    one = torch.zeros(1, dtype=torch.long)
    targets = Targets(one, one + 1, torch.ones(1, 28, 28, dtype=torch.bool))
    dark = Intervention(ConstantFill())
    first, other = (RISE(2000, seed=seed)(Lambda(shown), x, targets, intervention=dark)[0] for seed in (0, 1))
    assert bool(patch.flatten()[first.argmax()])
    assert float(first[patch].min()) > 5 * float(first[:, :8].abs().max())
    assert not torch.equal(first, other)
    assert float((first - other).abs().max()) < 0.1 * float(first.max())


def test_a_score_too_low_gives_no_map() -> None:
    x = torch.tensor([-9.0, 2.0]).view(2, 1, 1, 1) + 0.1 * images(2, 1)
    model = Lambda(lambda x: torch.cat([0 * x, x], dim=1))
    everywhere = torch.ones(2, 12, 10, dtype=torch.bool)
    targets = Targets(torch.arange(2), torch.ones(2, dtype=torch.long), everywhere)
    few = Intervention(regions=GridRegions([4]))
    for explainer in (Occlusion(4, 2), RISE(8), KernelSHAP(16), LIME(16)):
        maps = explainer(model, x, targets, intervention=few)
        assert bool(maps[0].isnan().all())
        assert bool(maps[1].isfinite().all())


EXPLAINERS: list[tuple[Explainer, int]] = [
    (RegionEffects(), 4 + 9),
    (Occlusion(4, 3), 4 * 3),
    (RISE(20), 20),
    (KernelSHAP(18), 14 + 18),  # all coalitions of 4 regions, a sample of those of 9
    (LIME(15), 2 * 15),
]


@pytest.mark.parametrize(("explainer", "forwards"), EXPLAINERS, ids=[e.name for e, _ in EXPLAINERS])
def test_a_sweep_of_many_classes_costs_the_forwards_of_one(explainer: Explainer, forwards: int) -> None:
    x, intervention = images(), Intervention(ConstantFill(), GridRegions([4, 9]), max_batch=5)
    every = TargetSelector(min_area=0, max_per_image=9)(logits_of(Net(), x))
    one, few = every[every.position == 0], uneven_targets(Net(), x)
    assert len(every) > len(one) == len(x)
    asks_filled = isinstance(explainer, KernelSHAP | LIME)
    for targets in (one, every, few):
        model = Counting(Net())
        explainer(model, x, targets, intervention=intervention)
        with_targets = len(targets.image_index.unique())
        assert model.images == with_targets * (forwards + asks_filled) + len(x)  # S(x), and S of the filled image
        assert max(model.batches) == 5


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Occlusion(4, 5), "stride must be from 1 to window.*got 5 and 4"),
        (lambda: Occlusion(4, 0), "stride must be from 1 to window"),
        (lambda: RISE(masks=1), "masks must be at least 2, got 1"),
        (lambda: RISE(cells=1), "cells must be at least 2, got 1"),
        (lambda: RISE(share=1.0), r"in \(0, 1\), got 1"),
    ],
)
def test_arguments_are_checked(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()  # type: ignore[operator]
