"""Controls are what they say."""

import math

import pytest
import torch
from _models import Counting, Lambda, Net, images, uneven_targets

from segaudit.attribution import Random, TargetMask, attribution_context
from segaudit.attribution.control import Centre, Edges, Oracle
from segaudit.forwards import Probe
from segaudit.forwards.target import Targets
from segaudit.functional import cue_mass
from segaudit.intervention import Intervention


def test_target_mask_is_the_region_and_costs_nothing() -> None:
    model, x = Counting(Net()), images()
    targets = uneven_targets(model, x)
    model.batches.clear()
    assert torch.equal(TargetMask()(model, x, targets) > 0.5, targets.region)
    Random()(model, x, targets)
    assert model.images == 0


def test_random_follows_image_class_and_seed_only() -> None:
    model, x = Net(), images(3)
    index, classes = torch.tensor([0, 0, 1, 2]), torch.tensor([0, 1, 1, 1])
    targets = Targets(index, classes, torch.rand(4, 12, 10) > 0.5)
    maps = Random()(model, x, targets)
    assert float(maps.min()) > 0
    assert float(maps.max()) < 1
    assert len({float(m.sum()) for m in maps}) == 4
    other = Targets(index, classes, torch.rand(4, 12, 10) > 0.5)
    assert torch.equal(Random()(Net(seed=3), x, other), maps)
    assert not torch.equal(Random(seed=1)(model, x, targets), maps)
    twin = Random()(model, x[[0, 0]], Targets(torch.tensor([0, 1]), torch.tensor([1, 1]), targets.region[:2]))
    assert torch.equal(twin[0], maps[1])
    assert torch.equal(twin[1], maps[1])


def test_edges_are_the_images_own_slope() -> None:
    """A ramp has the slope that it was made with; two channels add up as squares."""
    y, z = torch.meshgrid(torch.arange(6.0), torch.arange(5.0), indexing="ij")
    x = torch.stack([torch.stack([3 * y + 4 * z, torch.zeros(6, 5)]), torch.stack([y, 2 * z])])
    targets = Targets(torch.tensor([0, 1, 1]), torch.tensor([0, 0, 1]), torch.ones(3, 6, 5, dtype=torch.bool))
    model = Counting(Lambda(lambda x: x))
    maps = Edges()(model, x, targets)
    torch.testing.assert_close(maps[0], torch.full((6, 5), 5.0))
    torch.testing.assert_close(maps[1], torch.full((6, 5), math.sqrt(5)))
    assert torch.equal(maps[2], maps[1])
    assert model.images == 0


def test_edges_of_a_step_lie_beside_it() -> None:
    x = torch.zeros(1, 1, 4, 8, 6)
    x[..., 5:, :] = 2
    maps = Edges()(Lambda(lambda x: x), x, Targets(torch.tensor([0]), torch.tensor([0]), torch.ones(1, 4, 8, 6) > 0))[0]
    assert torch.equal(maps[0, :, 0], torch.tensor([0.0, 0, 0, 0, 1, 1, 0, 0]))
    flat = Edges()(Lambda(lambda x: x), x[..., :1, :1, :1], Targets(*(torch.tensor([0]),) * 2, torch.ones(1, 1, 1, 1) > 0))
    assert torch.equal(flat, torch.zeros(1, 1, 1, 1))


@pytest.mark.parametrize("size", [(7,), (9, 6), (4, 5, 6)])
def test_centre_is_a_gaussian_about_the_middle(size: tuple[int, ...]) -> None:
    x = torch.zeros(1, 1, *size)
    maps = Centre(sigma=0.3)(Lambda(lambda x: x), x, Targets(torch.tensor([0]), torch.tensor([0]), torch.ones(1, *size) > 0))
    for place in torch.ones(size).nonzero().tolist():
        distance = sum(((p + 0.5) / s - 0.5) ** 2 for p, s in zip(place, size, strict=True))
        assert float(maps[0][tuple(place)]) == pytest.approx(math.exp(-distance / (2 * 0.3**2)), rel=1e-5)
    with pytest.raises(ValueError, match="sigma is a share of the image's size above 0, got 0"):
        Centre(sigma=0)


def test_the_oracle_is_the_region_and_the_cue_of_its_class() -> None:
    model, x = Net(), images(2)
    region = torch.zeros(3, 12, 10, dtype=torch.bool)
    region[:, 2:6, 2:6] = True
    cues = torch.zeros(2, 12, 10, dtype=torch.long)
    cues[0, 8:10, 4:8], cues[1, 5:7, 5:9] = 1, 2  # the second overlaps the region
    targets = Targets(torch.tensor([0, 0, 1]), torch.tensor([1, 2, 2]), region)
    with attribution_context(model):
        maps = Oracle().explain(Probe(model, x, targets, Intervention(), cues=cues))
    expected = region.clone()
    expected[0] |= cues[0] == 1
    expected[2] |= cues[1] == 2
    assert torch.equal(maps, expected.float())  # the second target's class has no cue
    share = cue_mass(maps, torch.stack([cues[0] == 1, cues[0] == 2, cues[1] == 2]))
    assert share.tolist()[0] == pytest.approx(8 / 24)
    assert bool(share[1].isnan())
    assert share.tolist()[2] == pytest.approx(8 / 23)
    with pytest.raises(ValueError, match="planted cues are asked for, but none were given"):
        Oracle()(model, x, targets)
