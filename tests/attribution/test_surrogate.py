"""KernelSHAP against Shapley's definition and captum, LIME against plain normal equations and captum."""

from itertools import permutations
from math import comb

import captum.attr as captum
import numpy as np
import pytest
import sklearn.linear_model  # noqa: F401 -- captum's KernelShap takes it; here, because its import changes the environment
import torch
from _models import Lambda, Net, images, logits_of, uneven_targets
from captum._utils.models.linear_model import SkLearnRidge
from torch import Tensor, nn

from segaudit import randomness
from segaudit.attribution import LIME, Explainer, KernelSHAP
from segaudit.attribution.surrogate import _kernel
from segaudit.forwards.target import Targets
from segaudit.intervention import ConstantFill, GridRegions, Intervention, MeanFill, Regions, SuperpixelRegions


class Quarters(Regions):
    """Labels with gaps, and another number of regions in each image: 4, 3, 2, 1, 4, ..."""

    def partition(self, images: Tensor, count: int) -> Tensor:
        quarters = GridRegions([4]).partition(images, 4)
        rows = [labels.clamp_max(3 - n % 4) for n, labels in enumerate(quarters)]
        return torch.stack(rows) * 3 + 2


def value(model: nn.Module, image: Tensor, filled: Tensor, shown: Tensor, targets: Targets, n: int) -> float:
    """S of one target where the pixels ``shown`` are the image's and the others filled."""
    logits = logits_of(model, torch.where(shown, image, filled)[None])[0].double()
    return float(logits.softmax(dim=0)[int(targets.class_index[n])][targets.region[n]].mean())


def game(model: nn.Module, x: Tensor, filled: Tensor, labels: Tensor, targets: Targets, n: int) -> tuple[list[int], object]:
    """The regions of a target's image, and S as a function of those shown, relative to S(x)."""
    b = int(targets.image_index[n])
    whole = value(model, x[b], filled[b], torch.ones_like(labels[b], dtype=torch.bool), targets, n)
    known: dict[frozenset[int], float] = {}

    def play(shown: frozenset[int]) -> float:
        if shown not in known:
            mask = torch.isin(labels[b], torch.tensor(sorted(shown), dtype=torch.long))
            known[shown] = value(model, x[b], filled[b], mask, targets, n) / whole
        return known[shown]

    return labels[b].unique().tolist(), play


def shapley(players: list[int], play: object) -> dict[int, float]:
    """By the definition: the mean gain over all orders in which players may come."""
    gains = dict.fromkeys(players, 0.0)
    orders = list(permutations(players))
    for order in orders:
        for k, player in enumerate(order):
            gains[player] += (play(frozenset(order[: k + 1])) - play(frozenset(order[:k]))) / len(orders)  # type: ignore[operator]
    return gains


def spread(labels: Tensor, values: dict[int, float]) -> Tensor:
    return torch.stack([values[label] * (labels == label) for label in values]).sum(dim=0).float()


def close(one: Tensor, other: Tensor, relative: float) -> None:
    scale = float(other.abs().max())
    assert scale > 0
    assert float((one - other).abs().max()) <= relative * scale


@pytest.mark.parametrize("regions", [GridRegions([2, 4]), Quarters([4]), SuperpixelRegions([5])])
@pytest.mark.parametrize("max_batch", [3, 64])
def test_kernel_shap_of_few_regions_gives_shapleys_values(regions: Regions, max_batch: int) -> None:
    model, x, fill = Net(), images(), MeanFill()
    targets = uneven_targets(model, x)
    maps = KernelSHAP(62)(model, x, targets, intervention=Intervention(fill, regions, max_batch=max_batch))
    scales = regions(x)
    for n in range(len(targets)):
        b = int(targets.image_index[n])
        exact = [spread(s[b], shapley(*game(model, x, fill(x), s, targets, n))) for s in scales]
        close(maps[n], torch.stack(exact).mean(dim=0), 1e-5)


def region_values(maps: Tensor, labels: Tensor, n: int) -> dict[int, float]:
    found = {}
    for label in labels.unique().tolist():
        of_region = maps[n][labels == label]
        assert float(of_region.max() - of_region.min()) == 0
        found[label] = float(of_region[0])
    return found


@pytest.mark.parametrize("samples", [14, 24, 40])
def test_kernel_shap_adds_up_to_the_whole_change(samples: int) -> None:
    model, x, fill = Net(), images(), MeanFill()
    regions = GridRegions([4 if samples == 14 else 12])
    targets = uneven_targets(model, x)
    maps = KernelSHAP(samples)(model, x, targets, intervention=Intervention(fill, regions))
    for n in range(len(targets)):
        labels = regions(x)[0][int(targets.image_index[n])]
        _, play = game(model, x, fill(x), regions(x)[0], targets, n)
        change = 1 - play(frozenset())  # type: ignore[operator]
        assert sum(region_values(maps, labels, n).values()) == pytest.approx(change, abs=2e-6)


def test_sampled_kernel_shap_is_constrained_least_squares_over_paired_coalitions() -> None:
    """Slow: the coalitions of the docstring, and Lagrange's multiplier by numpy."""
    model, x, fill, regions = Net(), images(), MeanFill(), GridRegions([9])
    targets, half = uneven_targets(model, x), 15
    maps = KernelSHAP(2 * half, seed=3)(model, x, targets, intervention=Intervention(fill, regions))
    labels = regions(x)[0]
    p = int(labels.max()) + 1
    mass = np.cumsum([1 / (s * (p - s)) for s in range(1, p)])
    for n in range(len(targets)):
        b = int(targets.image_index[n])
        key = randomness.combine(randomness.image_keys(x[b : b + 1], 3), 0)
        sizes = randomness.uniform(randomness.combine(key, 1), (half,))[0].numpy()
        order = randomness.uniform(randomness.combine(key, 2), (p, half))[0].numpy()
        design = np.zeros((2 * half, p))
        for k in range(half):
            size = 1 + int((mass < sizes[k] * mass[-1]).sum())
            design[k, np.argsort(order[:, k])[:size]] = 1
            design[half + k] = 1 - design[k]
        _, play = game(model, x, fill(x), labels, targets, n)
        nothing = play(frozenset())  # type: ignore[operator]
        y = [play(frozenset(np.flatnonzero(row).tolist())) - nothing for row in design]  # type: ignore[operator]
        system = np.block([[design.T @ design, np.ones((p, 1))], [np.ones((1, p)), np.zeros((1, 1))]])
        solved = np.linalg.solve(system, np.append(design.T @ y, 1 - nothing))[:p]
        close(maps[n], spread(labels[b], dict(enumerate(solved))), 2e-5)


def additive(regions: Regions, x: Tensor) -> tuple[nn.Module, Targets, Tensor]:
    """S is a sum over regions of a weight times the share of it that is shown (images of ones, filled with zeros)."""
    labels = regions(x)[0][0]
    weight = torch.linspace(-0.2, 1, int(labels.max()) + 1)
    weight = 0.9 * weight / weight.sum()
    area = torch.bincount(labels.flatten())

    def forward(images: Tensor) -> Tensor:
        p = 0.05 + (images[:, 0] * (weight / area)[labels]).flatten(1).sum(dim=1)
        z = p.logit()[:, None, None, None].expand(-1, 1, *labels.shape)
        return torch.cat([0 * z, z], dim=1)

    zero = torch.zeros(1, dtype=torch.long)
    targets = Targets(zero, zero + 1, torch.ones(1, *labels.shape, dtype=torch.bool))
    return Lambda(forward), targets, (weight / 0.95)[labels]


@pytest.mark.parametrize("explainer", [KernelSHAP(512), KernelSHAP(300), LIME(2000, ridge=1e-6)])
def test_an_additive_score_gives_each_region_its_own_weight(explainer: Explainer) -> None:
    x, regions = torch.ones(1, 1, 24, 20), GridRegions([100])
    model, targets, expected = additive(regions, x)
    maps = explainer(model, x, targets, intervention=Intervention(ConstantFill(), regions))
    torch.testing.assert_close(maps[0], expected, rtol=0, atol=2e-5 * float(expected.max()))


def test_more_samples_come_closer_to_shapleys_values() -> None:
    model, x, regions = Net(), images(2), GridRegions([12])
    targets = uneven_targets(model, images())[:2]
    intervention = Intervention(regions=regions)
    exact = KernelSHAP(2**12)(model, x, targets, intervention=intervention)
    errors = []
    for samples in (24, 120, 1000):
        seeds = [KernelSHAP(samples, seed)(model, x, targets, intervention=intervention) for seed in range(6)]
        assert not torch.equal(seeds[0], seeds[1])
        errors.append(float((torch.stack(seeds) - exact).square().mean().sqrt()))
    assert errors[0] > 2 * errors[1] > 4 * errors[2]
    assert errors[2] < 0.05 * float(exact.abs().max())


def test_kernel_weights_are_shapleys() -> None:
    for p in (3, 7, 20):
        for size in range(1, p):
            ours = float(_kernel(torch.tensor(float(size)).double(), torch.tensor(float(p)).double()))
            assert ours == pytest.approx((p - 1) / (comb(p, size) * size * (p - size)), rel=1e-10)


def test_kernel_shap_of_all_coalitions_is_captums_shapley_values() -> None:
    """Captum goes through all orders of the regions."""
    model, x, fill, regions = Net(), images(2), MeanFill(), GridRegions([4])
    targets = uneven_targets(model, images())[:2]
    maps = KernelSHAP(14)(model, x, targets, intervention=Intervention(fill, regions))
    labels = regions(x)[0]
    for n, b in enumerate(targets.image_index.tolist()):
        score = ScoreOf(model, targets, n)
        found = captum.ShapleyValues(score).attribute(
            x[b : b + 1].double(), fill(x[b : b + 1]).double(), feature_mask=labels[b][None, None]
        )
        close(maps[n], (found[0, 0] / score(x[b : b + 1])).float(), 1e-5)


class ScoreOf:
    """S of one target for rows of images, slowly and in double precision."""

    def __init__(self, model: nn.Module, targets: Targets, n: int) -> None:
        self.model, self.targets, self.n = model, targets, n

    def __call__(self, rows: Tensor) -> Tensor:
        everything = torch.ones(rows.shape[2:], dtype=torch.bool)
        found = [value(self.model, row, row, everything, self.targets, self.n) for row in rows.float()]
        return torch.tensor(found, dtype=torch.float64)


def test_lime_is_captums_from_the_same_samples() -> None:
    model, x, fill, regions, samples = Net(), images(2), MeanFill(), GridRegions([9]), 40
    targets = uneven_targets(model, images())[:2]
    maps = LIME(samples, width=0.5, ridge=0.3, seed=2)(model, x, targets, intervention=Intervention(fill, regions))
    labels = regions(x)[0]
    count = int(labels.max()) + 1
    for n, b in enumerate(targets.image_index.tolist()):
        score, filled = ScoreOf(model, targets, n), fill(x[b : b + 1])
        key = randomness.combine(randomness.image_keys(x[b : b + 1], 2), 0)
        design = (randomness.uniform(randomness.combine(key, 1), (count, samples))[0].T < 0.5).double()

        rows = iter(design[:, None].unbind())

        def image_of(shown: Tensor, _: Tensor, b: int = b, filled: Tensor = filled, **__: object) -> Tensor:
            return torch.where(shown[0].bool()[labels[b]], x[b : b + 1], filled)

        theirs = captum.LimeBase(
            score,
            SkLearnRidge(alpha=0.3),
            similarity_func=lambda _, __, shown, **___: float(torch.exp(-(((1 - shown.mean()) / 0.5) ** 2))),
            perturb_func=lambda _, rows=rows, **__: next(rows),
            perturb_interpretable_space=True,
            from_interp_rep_transform=image_of,
            to_interp_rep_transform=None,
        )
        found = theirs.attribute(x[b : b + 1], n_samples=samples)
        by_region = found.flatten().double() / score(x[b : b + 1])
        close(maps[n], by_region[labels[b]].float(), 1e-5)


def slow_lime(design: np.ndarray, y: np.ndarray, width: float, ridge: float) -> np.ndarray:
    """Normal equations with an unpenalised intercept."""
    weight = np.exp(-(((1 - design.mean(axis=1)) / width) ** 2))
    full = np.concatenate([design, np.ones((len(design), 1))], axis=1)
    penalty = ridge * np.diag([1.0] * design.shape[1] + [0.0])
    return np.linalg.solve(full.T @ (weight[:, None] * full) + penalty, full.T @ (weight * y))[:-1]


@pytest.mark.parametrize("regions", [GridRegions([3, 8]), Quarters([4]), SuperpixelRegions([7])])
@pytest.mark.parametrize(("width", "ridge"), [(0.5, 1.0), (0.25, 0.1)])
def test_lime_is_ridge_regression_by_normal_equations(regions: Regions, width: float, ridge: float) -> None:
    model, x, fill, samples = Net(), images(), MeanFill(), 20
    targets = uneven_targets(model, x)
    intervention = Intervention(fill, regions, max_batch=7)
    maps = LIME(samples, width, ridge, seed=1)(model, x, targets, intervention=intervention)
    for n in range(len(targets)):
        b, found = int(targets.image_index[n]), []
        for scale, labels in enumerate(regions(x)):
            players, play = game(model, x, fill(x), labels, targets, n)
            key = randomness.combine(randomness.image_keys(x[b : b + 1], 1), scale)
            draws = randomness.uniform(randomness.combine(key, 1), (len(players), samples))[0].numpy().T
            design = (draws < 0.5).astype(float)
            shown = [frozenset(player for player, is_in in zip(players, row, strict=True) if is_in) for row in design]
            y = np.array([play(s) for s in shown])  # type: ignore[operator]
            found.append(spread(labels[b], dict(zip(players, slow_lime(design, y, width, ridge), strict=True))))
        close(maps[n], torch.stack(found).mean(dim=0), 1e-5)


def test_too_few_samples_for_the_regions_are_told() -> None:
    x = images()
    targets = uneven_targets(Net(), x)
    with pytest.raises(ValueError, match=r"twice as many samples as segments, got 16 samples and 9 segments"):
        KernelSHAP(16)(Net(), x, targets, intervention=Intervention(regions=GridRegions([9])))
    KernelSHAP(14)(Net(), x, targets, intervention=Intervention(regions=GridRegions([2, 4])))  # all 14 coalitions fit


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: KernelSHAP(0), "even number, at least 2, got 0"),
        (lambda: KernelSHAP(7), "even number, at least 2, got 7"),
        (lambda: LIME(1), "samples must be at least 2, got 1"),
        (lambda: LIME(width=0), "width is a share of removed segments above 0, got 0"),
        (lambda: LIME(ridge=0), "ridge must be above 0, got 0"),
    ],
)
def test_arguments_are_checked(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()  # type: ignore[operator]
