"""Scores of random subsets: known values, invariances, and captum's and Quantus' figures from the same sets."""

import warnings

import numpy as np
import pytest
import quantus
import torch
from _models import Net, images, logits_of
from captum.metrics import infidelity as captum_infidelity
from torch import Tensor, nn

from segaudit.attribution import attribution_context
from segaudit.evidence.subsets import Subsets, random_subsets, subset_effects, subset_sums, trace_segment_deletion
from segaudit.forwards import Probe
from segaudit.forwards.target import TargetSelector, target_confidence
from segaudit.functional import faithfulness_correlation, infidelity, irof, sensitivity_n
from segaudit.intervention import ConstantFill, GridRegions, Intervention

SIZE = torch.tensor([1, 1, 1, 2, 2, 2, 5, 5, 5])


def some(n: int = 4, seed: int = 0) -> tuple[Tensor, Tensor]:
    draws = torch.randn(2, n, len(SIZE), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return draws[0] + SIZE, draws[0] + draws[1] + SIZE


def test_infidelity_is_the_rest_of_a_least_squares_fit() -> None:
    sums, effects = some()
    for n in range(4):
        _, rest, *_ = np.linalg.lstsq(sums[n][:, None].numpy(), effects[n].numpy(), rcond=None)
        assert float(infidelity(sums, effects)[n]) == pytest.approx(float(rest[0] / effects[n].square().sum()))
    assert infidelity(effects, effects).tolist() == pytest.approx([0] * 4, abs=1e-7)
    assert infidelity(-effects, effects).tolist() == [1] * 4
    assert infidelity(0 * sums, effects).tolist() == [1] * 4
    assert infidelity(torch.tensor([[1.0, 1.0]]), torch.tensor([[1.0, -1.0]])).tolist() == [1]


def test_scale_does_not_matter_and_offsets_only_where_they_should() -> None:
    sums, effects = some()
    for function, rest in ((infidelity, ()), (faithfulness_correlation, (SIZE,)), (sensitivity_n, (SIZE,))):
        expected = function(sums, effects, *rest)
        for scale in (1e-30, 7.0, 1e200):
            torch.testing.assert_close(function(scale * sums, effects, *rest), expected)
        torch.testing.assert_close(function(sums, 1e-3 * effects, *rest), expected)
        order = torch.randperm(len(SIZE), generator=torch.Generator().manual_seed(0))
        shuffled = [SIZE[order]] if rest else []
        torch.testing.assert_close(function(sums[:, order], effects[:, order], *shuffled), expected)
        if rest:  # a constant that every region has, or that every set of one size has
            torch.testing.assert_close(function(sums + 3 * SIZE, effects, *rest), expected)
            torch.testing.assert_close(function(sums, effects - SIZE**2, *rest), expected)
            torch.testing.assert_close(function(-sums, effects, *rest), -expected)


def test_the_number_of_regions_is_no_evidence() -> None:
    _, effects = some(400)
    random = SIZE + torch.randn(400, len(SIZE), generator=torch.Generator().manual_seed(5))
    assert abs(float(faithfulness_correlation(random, effects, SIZE).mean())) < 0.1
    assert abs(float(sensitivity_n(random, effects, SIZE).mean())) < 0.1
    assert float(infidelity(random, effects).mean()) < 0.7  # as its docstring warns


def test_correlations_are_numpys() -> None:
    sums, effects = some()
    for n in range(4):
        a, e = sums[n].view(3, 3), effects[n].view(3, 3)
        each = [np.corrcoef(a[k].numpy(), e[k].numpy())[0, 1] for k in range(3)]
        assert float(sensitivity_n(sums, effects, SIZE)[n]) == pytest.approx(np.mean(each))
        apart = [(v - v.mean(dim=1, keepdim=True)).flatten().numpy() for v in (a, e)]
        assert float(faithfulness_correlation(sums, effects, SIZE)[n]) == pytest.approx(np.corrcoef(*apart)[0, 1])


def test_what_the_area_explains_is_taken_off() -> None:
    """The partial correlation, of least squares with one constant a size and the area."""
    sums, effects = some()
    area = SIZE * (0.1 + 0.05 * torch.rand(4, len(SIZE), generator=torch.Generator().manual_seed(2), dtype=torch.float64))
    for n in range(4):
        rest = {}
        for name, rows in {"all": slice(None), 1: slice(0, 3), 2: slice(3, 6), 5: slice(6, 9)}.items():
            design = np.stack([(SIZE[rows] == k).double().numpy() for k in SIZE[rows].unique()] + [area[n, rows].numpy()], 1)
            left = [
                v - design @ np.linalg.lstsq(design, v, rcond=None)[0]
                for v in (sums[n, rows].numpy(), effects[n, rows].numpy())
            ]
            rest[name] = left[0] @ left[1] / np.linalg.norm(left[0]) / np.linalg.norm(left[1])
        found = [float(f(sums, effects, SIZE, area)[n]) for f in (faithfulness_correlation, sensitivity_n)]
        assert found == pytest.approx([rest["all"], np.mean([rest[k] for k in (1, 2, 5)])])
    for function in (faithfulness_correlation, sensitivity_n):
        expected = function(sums, effects, SIZE, area)
        torch.testing.assert_close(function(sums + 3 * area, effects - 2 * area, SIZE, 7 * area), expected)
        assert bool(function(5 * area, effects, SIZE, area).isnan().all())  # a map that is the same everywhere
        equal = (SIZE / 9).expand(4, -1)
        torch.testing.assert_close(function(sums, effects, SIZE, equal), function(sums, effects, SIZE))


@pytest.mark.parametrize("bend", [lambda a: a, lambda a: a**3, lambda a: 1 - (-9 * a).exp()])
@pytest.mark.parametrize("noise", [lambda u: u, lambda u: u - 0.5, lambda u: (u > 0.7).double()])
def test_a_random_map_has_a_mean_of_zero_however_the_effects_follow_from_the_area(noise, bend) -> None:
    """40 segments of very unequal areas in 600 images; without the areas, the means are above 0.2 for maps of one sign."""
    g = torch.Generator().manual_seed(0)
    sizes = torch.randint(1, 60, (600, 40), generator=g)
    size = torch.tensor([4, 10, 20]).repeat_interleave(16)
    place = torch.rand(600, 48, 40, generator=g).argsort(dim=2).argsort(dim=2)
    member = (place < size[:, None]).double()
    pixels = noise(torch.rand(600, 40, 60, generator=g, dtype=torch.float64))
    credit = (pixels * (torch.arange(60) < sizes[:, :, None])).sum(dim=2)
    sums, area = ((member @ v.double()[:, :, None])[:, :, 0] for v in (credit, sizes))
    area = area / sizes.sum(dim=1, keepdim=True)
    effects = bend(area) + 0.02 * torch.rand(600, 48, generator=g)
    for function in (faithfulness_correlation, sensitivity_n):
        values = function(sums, effects, size, area)
        assert abs(float(values.mean())) < 3 * float(values.std()) / 600**0.5
        assert float(values.std()) < 0.3
        if float(noise(torch.tensor(0.4))) >= 0 and float(noise(torch.tensor(0.9))) > 0.5:
            assert float(function(sums, effects, size).mean()) > 0.2


def test_a_size_at_which_nothing_varies_is_left_out_of_the_mean() -> None:
    sums, effects = some(1)
    expected = np.mean([np.corrcoef(sums[0, k : k + 3], effects[0, k : k + 3])[0, 1] for k in (0, 6)])
    sums[:, 3:6] = 0.1 + 1e-9 * torch.tensor([0.0, 1, 2], dtype=torch.float64)  # rounding errors are no variation
    assert sensitivity_n(sums, effects, SIZE).tolist() == pytest.approx([expected])


def test_sizes_must_be_those_of_the_subsets() -> None:
    sums, effects = some()
    for function in (faithfulness_correlation, sensitivity_n):
        with pytest.raises(ValueError, match="there are 9 subsets, but 8 sizes were given"):
            function(sums, effects, SIZE[:8])


class Scores(nn.Module):
    """S of one target for images: what the peers explain, two classes, of which class 1 is the score."""

    def __init__(self, probe: Probe) -> None:
        super().__init__()
        self.model, self.targets = probe.model, probe.targets
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        repeated = self.targets[torch.zeros(len(x), dtype=torch.long)]
        score = target_confidence(logits_of(self.model, x), repeated)
        return torch.stack([1 - score, score], dim=1)


def one_target(regions: int) -> tuple[Probe, Tensor]:
    model, x = Net(channels=1), images(1, channels=1, size=(6, 6))
    targets = TargetSelector(max_per_image=1)(logits_of(model, x))
    maps = torch.randn(1, 6, 6, generator=torch.Generator().manual_seed(3))
    return Probe(model, x, targets, Intervention(ConstantFill(), GridRegions([regions]))), maps


def test_infidelity_is_captums_over_the_square_of_the_effects() -> None:
    probe, maps = one_target(9)
    with attribution_context(probe.model):
        sets = random_subsets(probe, draws=5)
        effects, sums = subset_effects(probe, sets), subset_sums(maps, sets, probe.targets)
    turn = iter(range(len(sets.size)))

    def perturb(x: Tensor) -> tuple[Tensor, Tensor]:
        chosen = torch.stack([sets.member[0, next(turn)][sets.labels[0]] for _ in x])[:, None]
        return chosen.float(), x.masked_fill(chosen, 0)

    theirs = {}
    for sign in (1, -1):
        turn = iter(range(len(sets.size)))
        theirs[sign] = captum_infidelity(
            Scores(probe), perturb, probe.images, sign * maps[:, None], target=1, n_perturb_samples=15, normalize=True
        )
    square = effects.square().mean(dim=1) * probe.confidence.square()  # theirs is in units of S
    best = min(infidelity(sums, effects), infidelity(-sums, effects))  # theirs does not mind the sign
    for sign in (1, -1):
        torch.testing.assert_close(best * square, theirs[sign], rtol=1e-4, atol=1e-9)
    assert float(best) < 0.99


def test_faithfulness_correlation_is_quantus() -> None:
    probe, maps = one_target(36)  # every pixel is a region of its own, as in theirs
    seen: list[np.ndarray] = []

    def perturb(arr: np.ndarray, indices: np.ndarray, **_: object) -> np.ndarray:
        seen.append(indices[0])
        changed = arr.copy()
        changed[0, indices[0]] = 0
        return changed

    state = np.random.get_state()  # noqa: NPY002
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer = quantus.FaithfulnessCorrelation(
            nr_runs=20, subset_size=5, perturb_func=perturb, abs=False, normalise=False, disable_warnings=True
        )
        theirs = peer(Scores(probe), probe.images.numpy(), np.array([1]), a_batch=maps[:, None].numpy(), softmax=False)
    np.random.set_state(state)  # noqa: NPY002
    member = torch.zeros(1, 20, 36, dtype=torch.bool)
    for m, indices in enumerate(seen):
        member[0, m, indices] = True
    sets = Subsets(torch.arange(36).view(1, 6, 6), member, torch.full((20,), 5))
    assert torch.equal(sets.labels, probe.partitions[0])
    with attribution_context(probe.model):
        effects, sums = subset_effects(probe, sets), subset_sums(maps, sets, probe.targets)
    assert faithfulness_correlation(sums, effects, sets.size).tolist() == pytest.approx(theirs, abs=1e-5)
    assert sensitivity_n(sums, effects, sets.size).tolist() == pytest.approx(theirs, abs=1e-5)  # one size: the same


def test_irof_is_quantus_but_for_the_point_that_it_leaves_out(monkeypatch: pytest.MonkeyPatch) -> None:
    probe, maps = one_target(9)
    monkeypatch.setattr(np, "trapz", np.trapezoid, raising=False)  # its name before NumPy 2
    monkeypatch.setattr(
        "quantus.metrics.faithfulness.irof.utils.get_superpixel_segments", lambda **_: probe.partitions[0][0].numpy()
    )

    def perturb(arr: np.ndarray, mask: np.ndarray, **_: object) -> np.ndarray:
        return np.where(mask, 0, arr).astype(arr.dtype)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer = quantus.IROF(perturb_func=perturb, return_aggregate=False, abs=False, normalise=False, disable_warnings=True)
        (theirs,) = peer(Scores(probe), probe.images.numpy(), np.array([1]), a_batch=maps[:, None].numpy(), softmax=False)
    with attribution_context(probe.model):
        curve, shares = trace_segment_deletion(probe, maps, steps=8)
    assert shares[0].tolist() == pytest.approx([k / 9 for k in range(10)])
    # Theirs begins after the first region, is an area under nine points over eight steps, and knows no floor.
    first, floor = float(curve[0, 1]), float(curve[0, -1])
    under = (9 - float(theirs) + (1 + first) / 2) / 9
    assert float(irof(curve, shares)[0]) == pytest.approx(1 - (under - floor) / (1 - floor), abs=1e-5)
