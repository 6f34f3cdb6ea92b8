"""Targets and their scores against slow loops."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from segaudit.forwards.target import Targets, TargetSelector, target_confidence, target_logit

SIZES = [(20,), (6, 7), (3, 4, 5)]


def make_logits(classes: int, size: tuple[int, ...], batch: int = 4, seed: int = 0) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    bias = torch.randn(batch, classes, *[1] * len(size), generator=g)  # classes of unequal size
    return torch.randn(batch, classes, *size, generator=g) + bias


def make_masks(classes: int, size: tuple[int, ...], batch: int = 4) -> Tensor:
    g = torch.Generator().manual_seed(9)
    masks = torch.randint(0, max(2, classes), (batch, *size), generator=g)
    masks[torch.rand(batch, *size, generator=g) < 0.2] = 255
    masks[0] = 255  # an image of which nothing is labelled
    return masks


def slow_select(
    logits: np.ndarray,
    masks: np.ndarray | None,
    region: str,
    min_area: float,
    max_per_image: int,
    classes: list[int] | None,
) -> list[tuple[int, int, frozenset[tuple[int, ...]]]]:
    """Pixel by pixel, image by image, class by class."""
    binary = logits.shape[1] == 1
    found = []
    for b in range(len(logits)):
        regions: dict[int, set[tuple[int, ...]]] = {}
        for p in np.ndindex(*logits.shape[2:]):
            z = logits[(b, slice(None), *p)].tolist()
            predicted = int(z[0] > 0) if binary else z.index(max(z))
            truth = None if masks is None else int(masks[(b, *p)])
            if region == "predicted":
                label = predicted
            elif region == "ground_truth":
                label = truth
            else:
                label = predicted if predicted == truth else None
            if label is not None and 0 <= label < max(2, logits.shape[1]):
                regions.setdefault(label, set()).add(p)
        allowed = classes if classes is not None else [1] if binary else list(range(logits.shape[1]))
        pixels = math.prod(logits.shape[2:])
        sizes = sorted((-len(r), c) for c, r in regions.items() if c in allowed and len(r) >= min_area * pixels)
        found += [(b, c, frozenset(regions[c])) for c in sorted(c for _, c in sizes[:max_per_image])]
    return found


def as_sets(targets: Targets) -> list[tuple[int, int, frozenset[tuple[int, ...]]]]:
    return [
        (int(b), int(c), frozenset(map(tuple, region.nonzero().tolist())))
        for b, c, region in zip(targets.image_index, targets.class_index, targets.region, strict=True)
    ]


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("region", ["predicted", "ground_truth", "correct"])
@pytest.mark.parametrize("channels", [1, 2, 5])
def test_selector_is_the_slow_loop(channels: int, region: str, size: tuple[int, ...]) -> None:
    logits, masks = make_logits(channels, size), make_masks(channels, size)
    seen = set()
    for min_area, most, classes in itertools.product((0.0, 0.15, 0.3, 1.0), (1, 2, 9), (None, [1], [1, 0])):
        targets = TargetSelector(region, min_area, most, classes)(logits, masks)
        expected = slow_select(logits.numpy(), masks.numpy(), region, min_area, most, classes)
        assert as_sets(targets) == expected
        seen.add(len(expected))
    assert len(seen) > 2


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32])
@pytest.mark.parametrize("region", ["ground_truth", "correct"])
def test_masks_of_any_integer_type(region: str, dtype: torch.dtype) -> None:
    logits, masks = make_logits(3, (6, 7)), make_masks(3, (6, 7))
    selector = TargetSelector(region, min_area=0)
    assert as_sets(selector(logits, masks.to(dtype))) == as_sets(selector(logits, masks))


@pytest.mark.parametrize("ignored", [255, -1, -100, 7])
def test_ignored_pixels_belong_to_nobody(ignored: int) -> None:
    logits, masks = make_logits(3, (6, 7)), make_masks(3, (6, 7))
    masks = torch.where(masks == 255, ignored, masks)
    for region in ("ground_truth", "correct"):
        targets = TargetSelector(region, min_area=0)(logits, masks)
        assert set(targets.class_index.tolist()) <= {0, 1, 2}
        assert not bool(targets.region[masks[targets.image_index] == ignored].any())
        assert not bool((targets.image_index == 0).any())


def test_ties_go_to_the_lower_class_and_the_largest_are_taken() -> None:
    labels = torch.tensor([[3, 3, 3, 1, 1, 2, 2, 0], [2, 2, 2, 2, 1, 1, 0, 0]])
    logits = torch.nn.functional.one_hot(labels, 4).movedim(-1, 1).float()
    select = lambda most: TargetSelector(min_area=0, max_per_image=most)(logits)  # noqa: E731
    assert list(zip(select(2).image_index.tolist(), select(2).class_index.tolist(), strict=True)) == [
        (0, 1),
        (0, 3),
        (1, 0),
        (1, 2),
    ]
    assert select(1).class_index.tolist() == [3, 2]
    assert torch.equal(
        TargetSelector(min_area=0.25)(logits).class_index, torch.tensor([1, 2, 3, 0, 1, 2])
    )  # two of eight are enough
    assert torch.equal(TargetSelector(min_area=0.26)(logits).class_index, torch.tensor([3, 2]))


def test_a_region_is_never_empty_even_without_a_smallest_area() -> None:
    logits = torch.zeros(2, 5, 4)
    logits[:, 2] = 1
    targets = TargetSelector(min_area=0, max_per_image=5)(logits)
    assert targets.class_index.tolist() == [2, 2]
    assert bool(targets.region.all())
    assert len(TargetSelector(classes=[0])(logits)) == 0


def test_binary_foreground_unless_told() -> None:
    logits = torch.tensor([[[-1.0, 2.0, 0.0, 3.0]]])
    assert as_sets(TargetSelector()(logits)) == [(0, 1, frozenset({(1,), (3,)}))]
    assert [c for _, c, _ in as_sets(TargetSelector(classes=[0, 1])(logits))] == [0, 1]


@pytest.mark.parametrize(
    ("kwargs", "sentence"),
    [
        ({"region": "wrong"}, "region must be one of predicted, ground_truth, correct, got 'wrong'"),
        ({"min_area": 1.1}, r"min_area is a share of the image in \[0, 1\], got 1.1"),
        ({"min_area": -0.1}, "min_area is a share"),
        ({"max_per_image": 0}, "max_per_image must be at least 1, got 0"),
    ],
)
def test_wrong_arguments(kwargs: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        TargetSelector(**kwargs)


def test_wrong_calls() -> None:
    logits = make_logits(3, (6, 7))
    with pytest.raises(ValueError, match="region='correct' needs the masks"):
        TargetSelector("correct")(logits)
    with pytest.raises(ValueError, match=r"masks have the shape \(4, 6, 6\), the prediction \(4, 6, 7\)"):
        TargetSelector("ground_truth")(logits, torch.zeros(4, 6, 6, dtype=torch.long))
    with pytest.raises(ValueError, match=r"classes \[3, -1\] do not exist: the model has the classes 0 to 2"):
        TargetSelector(classes=[0, 3, -1])(logits)


def some_targets(logits: Tensor, seed: int = 0) -> Targets:
    g = torch.Generator().manual_seed(seed)
    n, size = 7, logits.shape[2:]
    image = torch.randint(0, len(logits), (n,), generator=g).sort().values
    classes = torch.randint(0, max(2, logits.shape[1]), (n,), generator=g)
    region = torch.rand(n, *size, generator=g) < 0.3
    region[-1] = False
    return Targets(image, classes, region)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("channels", [1, 2, 5])
@pytest.mark.parametrize("scale", [1.0, 50.0])
def test_score_and_logit_are_region_means(channels: int, size: tuple[int, ...], scale: float) -> None:
    logits = scale * make_logits(channels, size)
    targets = some_targets(logits)
    scores, means = (f(logits[targets.image_index], targets) for f in (target_confidence, target_logit))
    for n in range(len(targets)):
        probabilities, values = [], []
        for p in np.ndindex(*size):
            if targets.region[(n, *p)]:
                z = logits[(int(targets.image_index[n]), slice(None), *p)].double().tolist()
                z = [-z[0], z[0]] if channels == 1 else z
                c = int(targets.class_index[n])
                values.append(z[c])
                if channels == 1:
                    probabilities.append(1 / (1 + math.exp(-z[c])))
                else:
                    probabilities.append(1 / sum(math.exp(min(700, v - z[c])) for v in z))
        if not values:
            assert math.isnan(float(scores[n]))
            assert math.isnan(float(means[n]))
            continue
        assert float(scores[n]) == pytest.approx(sum(probabilities) / len(values), abs=1e-6)
        assert float(means[n]) == pytest.approx(sum(values) / len(values), rel=1e-5, abs=1e-5)


def test_the_score_in_half_precision_is_taken_in_single() -> None:
    logits = make_logits(3, (6, 7)).bfloat16()
    targets = some_targets(logits)
    rows = logits[targets.image_index]
    torch.testing.assert_close(target_confidence(rows, targets), target_confidence(rows.float(), targets), equal_nan=True)


@pytest.mark.parametrize("image", [[], [0], [0, 0, 0], [0, 1, 1, 3, 3, 3], [2, 5, 5]])
def test_position_rounds_and_area(image: list[int]) -> None:
    g = torch.Generator().manual_seed(0)
    region = torch.rand(len(image), 4, 5, generator=g) < 0.4
    targets = Targets(torch.tensor(image, dtype=torch.long), torch.arange(len(image)), region)
    position = [image[:n].count(b) for n, b in enumerate(image)]
    assert targets.position.tolist() == position
    rounds = [r.tolist() for r in targets.rounds()]
    assert rounds == [[n for n, p in enumerate(position) if p == k] for k in range(max(position, default=-1) + 1)]
    for chosen in rounds:
        assert len({image[n] for n in chosen}) == len(chosen)
    assert targets.area.tolist() == pytest.approx([int(r.sum()) / 20 for r in region])
    assert len(targets) == len(image)


def test_indexing() -> None:
    targets = some_targets(make_logits(3, (6, 7)))
    for index in (slice(1, 4), torch.tensor([1, 2, 3]), torch.arange(7).ge(1) & torch.arange(7).lt(4)):
        assert as_sets(targets[index]) == as_sets(targets)[1:4]


def test_malformed_targets() -> None:
    index, region = torch.tensor([0, 1]), torch.zeros(2, 3, dtype=torch.bool)
    with pytest.raises(ValueError, match="got 2 images, 1 classes and 2 regions"):
        Targets(index, index[:1], region)
    with pytest.raises(ValueError, match=r"must be boolean, got torch.int64"):
        Targets(index, index, region.long())
    with pytest.raises(ValueError, match="ordered by image"):
        Targets(index.flip(0), index, region)
