"""Logits in whatever form a network gives them."""

import itertools
import math
from collections import OrderedDict
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from segaudit.forwards.output import class_logits, logits_of, predict, probabilities, resize

Z = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "output",
    [
        Z,
        {"out": Z, "aux": 2 * Z},
        OrderedDict(out=Z),
        {"logits": Z, "loss": torch.zeros(())},
        SimpleNamespace(logits=Z),
        {"out": None, "logits": Z},
        [Z],
    ],
    ids=["tensor", "dict", "ordered", "hugging face", "object", "empty out", "a list of one"],
)
def test_forms(output: object) -> None:
    assert logits_of(output, (4, 5)) is Z


@pytest.mark.parametrize(("size", "mode"), [((9,), "linear"), ((8, 10), "bilinear"), ((4, 6, 7), "trilinear")])
def test_low_resolution_is_interpolated(size: tuple[int, ...], mode: str) -> None:
    z = torch.randn(2, 3, *[(s + 1) // 2 for s in size])
    expected = F.interpolate(z, size=size, mode=mode, align_corners=False)
    assert torch.equal(logits_of(z, size), expected)
    assert torch.equal(resize(z, size), expected)


def test_interpolation_by_hand() -> None:
    assert resize(torch.tensor([[[0.0, 4.0]]]), (4,)).flatten().tolist() == [0.0, 1.0, 3.0, 4.0]


@pytest.mark.parametrize("output", [(Z, Z), [], {"aux": Z}, None, {"out": None}, SimpleNamespace(logits=None)], ids=str)
def test_no_logits(output: object) -> None:
    with pytest.raises(ValueError, match="the model's output holds no logits: expected a tensor") as found:
        logits_of(output, (4, 5))
    assert "\n" not in str(found.value)


def test_deep_supervision_is_named() -> None:
    with pytest.raises(ValueError, match="got 3 tensors, as deep supervision gives"):
        logits_of([Z, Z, Z], (4, 5))
    with pytest.raises(ValueError, match="does deep supervision add one"):
        logits_of(Z[:, None], (4, 5))


@pytest.mark.parametrize("form", [dict, lambda **fields: SimpleNamespace(**fields)], ids=["mapping", "object"])
def test_queries_with_masks_pixel_by_pixel(form: Any) -> None:
    g = torch.Generator().manual_seed(0)
    classes, masks = torch.randn(2, 5, 4, generator=g), 3 * torch.randn(2, 5, 2, 3, generator=g)  # three classes and none
    output = form(class_queries_logits=classes, masks_queries_logits=masks)
    found = probabilities(logits_of(output, (2, 3)))
    assert found.shape == (2, 3, 2, 3)
    for b, y, x in itertools.product(range(2), range(2), range(3)):
        scores = [0.0] * 3
        for q in range(5):
            z = [math.exp(float(v)) for v in classes[b, q]]
            for c in range(3):
                scores[c] += z[c] / sum(z) / (1 + math.exp(-float(masks[b, q, y, x])))
        assert found[b, :, y, x].tolist() == pytest.approx([s / sum(scores) for s in scores], abs=1e-6)
    large = logits_of(output, (4, 6))
    expected = F.interpolate(logits_of(output, (2, 3)).exp(), size=(4, 6), mode="bilinear")
    torch.testing.assert_close(large.exp(), expected)  # as transformers' post-processing does, scores are interpolated
    nowhere = logits_of(form(class_queries_logits=classes, masks_queries_logits=masks - 500), (2, 3))
    assert nowhere.isfinite().all()


@pytest.mark.parametrize("shape", [(2, 3), (2, 4, 5), (2, 3, 4, 5, 6)])
def test_no_dense_prediction(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="is this a classifier"):
        logits_of(torch.zeros(shape), (4, 5))


@pytest.mark.parametrize("scale", [1.0, 60.0])
def test_probabilities_and_prediction_pixel_by_pixel(scale: float) -> None:
    found, labels = probabilities(scale * Z), predict(scale * Z)
    for b in range(2):
        for y in range(4):
            for x in range(5):
                z = [scale * float(v) for v in Z[b, :, y, x]]
                top = max(z)
                weights = [math.exp(v - top) for v in z]
                assert found[b, :, y, x].tolist() == pytest.approx([w / sum(weights) for w in weights], abs=1e-6)
                assert int(labels[b, y, x]) == z.index(top)


def test_binary() -> None:
    z = torch.tensor([[[-2.0, 0.0, 3.0]]])
    foreground = [1 / (1 + math.exp(-v)) for v in (-2.0, 0.0, 3.0)]
    assert probabilities(z)[0, 1].tolist() == pytest.approx(foreground)
    assert probabilities(z)[0, 0].tolist() == pytest.approx([1 - p for p in foreground])
    assert predict(z).tolist() == [[0, 0, 1]]
    assert class_logits(z)[0].tolist() == [[2.0, -0.0, -3.0], [-2.0, 0.0, 3.0]]
    assert class_logits(Z) is Z


def test_half_precision_is_scored_in_single() -> None:
    assert probabilities(Z.bfloat16()).dtype == torch.float32
