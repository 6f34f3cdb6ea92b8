"""Controls are what they say."""

import torch
from _models import Counting, Net, images, uneven_targets

from segaudit.attribution import Random, TargetMask
from segaudit.target import Targets


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
