"""Random sets of regions, and regions in a map's order, against slow loops over images, sets and pixels."""

import math

import numpy as np
import pytest
import torch
from _models import Counting, Net, Threshold, images, logits_of, state_of, uneven_targets
from _models import differences as changes
from torch import Tensor, nn

from segaudit.attribution import attribution_context
from segaudit.evidence.subsets import random_subsets, subset_areas, subset_effects, subset_sums, trace_segment_deletion
from segaudit.forwards import Probe
from segaudit.forwards.removal_order import segment_ranks
from segaudit.forwards.target import Targets, TargetSelector
from segaudit.functional import irof
from segaudit.intervention import ConstantFill, GridRegions, Intervention, MeanFill, Regions, SuperpixelRegions
from segaudit.randomness import uniform


class Uneven(Regions):
    """Half as many regions in one image as in another, and labels that are not used."""

    def partition(self, images: Tensor, count: int) -> Tensor:
        labels = GridRegions([count]).partition(images, count)
        few = images.flatten(1).mean(dim=1) > 0
        return torch.where(few.view(-1, *[1] * (labels.ndim - 1)), labels // 2, 2 * labels + 1)


KINDS = pytest.mark.parametrize("kind", [GridRegions, SuperpixelRegions, Uneven])
SIZES = {1: (30,), 2: (8, 7), 3: (4, 5, 6)}


def slow_score(model: nn.Module, image: Tensor, class_index: int, region: Tensor) -> float:
    logits = logits_of(model, image[None])[0].double()
    both = torch.cat([-logits, logits]).sigmoid() if len(logits) == 1 else logits.softmax(dim=0)
    return sum(float(both[(class_index, *p)]) for p in np.ndindex(*region.shape) if region[p]) / int(region.sum())


def slow_relative(model: nn.Module, probe: Probe, n: int, removed: Tensor) -> float:
    """S with the pixels ``removed`` ``(*S)`` filled, over S(x)."""
    b, c, region = int(probe.targets.image_index[n]), int(probe.targets.class_index[n]), probe.targets.region[n]
    image, filled = probe.images[b].clone(), probe.intervention.fills[0](probe.images)[b]
    for p in np.ndindex(*region.shape):
        if removed[p]:
            image[(slice(None), *p)] = filled[(slice(None), *p)]
    return slow_score(model, image, c, region) / slow_score(model, probe.images[b], c, region)


def some_maps(targets: Targets) -> Tensor:
    return torch.randn(targets.region.shape, generator=torch.Generator().manual_seed(1))


def a_probe(dims: int = 2, classes: int = 3, kind: type[Regions] = GridRegions, **kwargs: object) -> Probe:
    model, x = Net(dims=dims, classes=classes), images(size=SIZES[dims])
    return Probe(model, x, uneven_targets(model, x), Intervention(MeanFill(), kind([2, 12, 20]), **kwargs))


@KINDS
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_sets_have_the_wanted_sizes_and_their_effects_and_sums_are_the_slow_loops(dims: int, kind: type[Regions]) -> None:
    probe = a_probe(dims, kind=kind)
    with attribution_context(probe.model):
        sets = random_subsets(probe, shares=(0.05, 0.25, 0.9), draws=3)
        effects = subset_effects(probe, sets)
    assert sets.size.tolist() == [1] * 3 + [3] * 3 + [11] * 3
    assert torch.equal(sets.labels, probe.partitions[1])  # the middle scale
    for b in range(len(probe.images)):
        used = set(sets.labels[b].flatten().tolist())
        for m in range(9):
            members = set(sets.member[b, m].nonzero()[:, 0].tolist())
            assert members <= used
            assert len(members) == min(int(sets.size[m]), len(used))
    maps = some_maps(probe.targets)
    sums, areas = subset_sums(maps, sets, probe.targets), subset_areas(sets)
    assert sums.shape == effects.shape == (len(probe.targets), 9)
    for n, b in enumerate(probe.targets.image_index.tolist()):
        for m in range(9):
            removed = torch.zeros_like(probe.targets.region[n])
            total = 0.0
            for p in np.ndindex(*removed.shape):
                if sets.member[b, m, sets.labels[(b, *p)]]:
                    removed[p] = True
                    total += float(maps[(n, *p)])
            assert float(areas[b, m]) == pytest.approx(float(removed.double().mean()))
            assert float(sums[n, m]) == pytest.approx(total, abs=1e-5)
            assert float(effects[n, m]) == pytest.approx(1 - slow_relative(probe.model, probe, n, removed), abs=1e-5)


def test_sets_are_many_and_even_and_follow_from_the_image_and_the_seed_alone() -> None:
    probe = a_probe()
    sets = random_subsets(probe, shares=(0.25,), draws=400)
    share = sets.member.double().mean(dim=1)  # how often each region is in a set: 3 of 12
    assert bool((share - 0.25).abs().max() < 0.1)
    assert len({tuple(row) for row in sets.member[0].tolist()}) > 150  # of 220
    assert not torch.equal(sets.member[0], sets.member[1])
    assert not torch.equal(random_subsets(probe, (0.25,), 400, seed=1).member, sets.member)
    assert random_subsets(probe, (0.25,), 400) is sets  # drawn once


@KINDS
def test_the_rest_of_the_batch_does_not_matter(kind: type[Regions]) -> None:
    probe = a_probe(kind=kind, max_batch=7)
    maps = some_maps(probe.targets)
    sets = random_subsets(probe)
    effects, sums = subset_effects(probe, sets), subset_sums(maps, sets, probe.targets)
    curve, shares = trace_segment_deletion(probe, maps)
    for b in probe.targets.image_index.unique().tolist():
        rows = probe.targets.image_index == b
        mine = probe.targets[rows]
        alone = Targets(torch.zeros_like(mine.image_index), mine.class_index, mine.region)
        one = Probe(probe.model, probe.images[b : b + 1], alone, probe.intervention)
        own = random_subsets(one)
        assert torch.equal(own.member[0], sets.member[b, :, : own.member.shape[2]])
        torch.testing.assert_close(subset_effects(one, own), effects[rows], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(subset_sums(maps[rows], own, alone), sums[rows])
        own_curve, own_shares = trace_segment_deletion(one, maps[rows])
        torch.testing.assert_close(own_curve, curve[rows], atol=1e-5, rtol=1e-5)
        assert torch.equal(own_shares, shares[rows])


def test_one_forward_of_a_set_serves_all_targets_of_an_image() -> None:
    probe = a_probe()
    with_targets = len(probe.targets.image_index.unique())
    probe.model = Counting(probe.model)
    assert probe.logits is not None
    before = probe.model.images
    subset_effects(probe, random_subsets(probe, draws=4))
    assert probe.model.images - before == with_targets * 3 * 4
    before = probe.model.images
    trace_segment_deletion(probe, some_maps(probe.targets), steps=5)
    assert probe.model.images - before == len(probe.targets) * 5 + with_targets  # once, everything filled


@KINDS
@pytest.mark.parametrize("steps", [None, 1, 4])
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_the_region_curve_is_the_slow_loop(dims: int, steps: int | None, kind: type[Regions]) -> None:
    probe = a_probe(dims, kind=kind)
    maps = some_maps(probe.targets)
    with attribution_context(probe.model):
        curve, shares = trace_segment_deletion(probe, maps, steps)
    points = (steps or 11) + 2  # 16 between the ends unless told, but no more than 12 regions have
    assert curve.shape == shares.shape == (len(probe.targets), points)
    for n, b in enumerate(probe.targets.image_index.tolist()):
        labels = probe.partitions[1][b]
        means: dict[int, list[float]] = {}
        for p in np.ndindex(*labels.shape):
            means.setdefault(int(labels[p]), []).append(float(maps[(n, *p)]))
        order = sorted(means, key=lambda label: (-sum(means[label]) / len(means[label]), label))
        for k in range(points):
            count = round(k / (points - 1) * len(order))
            removed = torch.tensor(np.isin(labels.numpy(), order[:count]))
            assert float(shares[n, k]) == pytest.approx(count / len(order))
            assert float(curve[n, k]) == pytest.approx(slow_relative(probe.model, probe, n, removed), abs=1e-5)


def test_the_region_curve_of_a_model_that_is_known() -> None:
    x = torch.zeros(1, 1, 4, 4)
    x[..., :2] = 1  # two of four regions are class 1; the target is one class, all of it
    model = Threshold()
    targets = TargetSelector(classes=[1])(model(x))
    probe = Probe(model, x, targets, Intervention(ConstantFill(0.0), GridRegions([4])))
    curve, shares = trace_segment_deletion(probe, x[:, 0])
    assert shares.tolist() == [[0, 0.25, 0.5, 0.75, 1]]
    assert curve.tolist() == [pytest.approx([1, 0.5, 0, 0, 0], abs=1e-5)]
    assert irof(curve, shares).tolist() == pytest.approx([0.75])
    assert irof(*trace_segment_deletion(probe, -x[:, 0])).tolist() == pytest.approx([0.25])


def test_equal_segments_go_in_a_random_order_of_the_image_and_units_do_not_matter() -> None:
    probe = a_probe()
    maps = some_maps(probe.targets)
    curve, _ = trace_segment_deletion(probe, maps)
    assert torch.equal(trace_segment_deletion(probe, 1e10 * maps)[0], curve)
    labels = probe.partitions[1][probe.targets.image_index]
    turns = uniform(probe.tie_keys, (int(labels.max()) + 1,))[probe.targets.image_index]
    by_turn = -turns.gather(1, labels.flatten(1)).view(labels.shape)
    constant = trace_segment_deletion(probe, torch.zeros_like(maps))[0]
    assert torch.equal(constant, trace_segment_deletion(probe, by_turn)[0])
    assert not torch.equal(constant, trace_segment_deletion(probe, -labels.double())[0])


@KINDS
def test_segments_that_tie_and_segments_that_an_image_lacks(kind: type[Regions]) -> None:
    probe = a_probe(kind=kind)
    labels = probe.partitions[1][probe.targets.image_index]
    maps = some_maps(probe.targets).round()
    maps[0] = -math.inf
    ranks, sizes = segment_ranks(maps, labels, probe.tie_keys[probe.targets.image_index])
    for n in range(len(maps)):
        used = labels[n].unique()
        assert sorted({int(r) for r in ranks[n].flatten()}) == list(range(len(used)))
        assert sizes[n, : len(used)].tolist() == [int((ranks[n] == r).sum()) for r in range(len(used))]
        assert not sizes[n, len(used) :].any()


def test_a_target_of_too_low_a_score_and_a_map_that_is_not_finite_give_nan() -> None:
    probe = a_probe()
    probe.targets = Targets(
        probe.targets.image_index, probe.targets.class_index, torch.zeros_like(probe.targets.region)
    )  # no region, no score
    sets = random_subsets(probe, draws=2)
    assert bool(subset_effects(probe, sets).isnan().all())
    assert bool(trace_segment_deletion(probe, some_maps(probe.targets), 2)[0].isnan().all())
    maps = some_maps(probe.targets)
    maps[1].flatten()[0] = math.inf
    sums = subset_sums(maps, sets, probe.targets)
    assert not bool(sums[1].isfinite().all())
    assert bool(sums[0].isfinite().all())


def test_no_targets_give_no_values() -> None:
    probe = a_probe()
    none = Probe(probe.model, probe.images, probe.targets[:0], probe.intervention)
    sets = random_subsets(none)
    assert subset_effects(none, sets).shape == (0, 48)
    assert subset_sums(some_maps(none.targets), sets, none.targets).shape == (0, 48)
    curve, shares = trace_segment_deletion(none, some_maps(none.targets))
    assert curve.shape == shares.shape == (0, 13)


def test_the_model_and_the_random_states_are_left_alone() -> None:
    probe = a_probe()
    before = state_of(probe.model)
    with attribution_context(probe.model):
        subset_effects(probe, random_subsets(probe, draws=2))
        trace_segment_deletion(probe, some_maps(probe.targets), 2)
    assert changes(before, state_of(probe.model)) == []


@pytest.mark.parametrize("shares", [(), (0.0,), (0.5, 1.0), (-0.1,)])
def test_bad_input_is_told(shares: tuple[float, ...]) -> None:
    probe = a_probe()
    with pytest.raises(ValueError, match="shares are sizes of sets between 0 and 1"):
        random_subsets(probe, shares)
    with pytest.raises(ValueError, match="draws must be at least 2"):
        random_subsets(probe, draws=1)
