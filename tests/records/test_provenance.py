"""Hashes tell what is the same."""

import torch

from segaudit.records.provenance import data_hash, provenance, sample_hash, weights_hash


def test_weights_are_the_same_wherever_they_lie_and_others_otherwise():
    a = {"w": torch.randn(2, 3, 4), "b": torch.zeros(3)}
    turned = {"b": a["b"].clone(), "w": a["w"].permute(2, 1, 0).contiguous().permute(2, 1, 0)}
    assert weights_hash(a) == weights_hash(turned)
    assert weights_hash(a) != weights_hash(a | {"b": torch.tensor([0.0, 0.0, 1e-30])})
    assert weights_hash(a) != weights_hash({"w": a["w"], "c": a["b"]})
    assert weights_hash(a) != weights_hash(a | {"b": torch.zeros(1, 3)})


def test_samples():
    image, mask = torch.rand(3, 4, 4), torch.zeros(4, 4, dtype=torch.long)
    one = sample_hash(image, mask)
    assert one == sample_hash(image.clone(), mask.clone())
    assert len({one, sample_hash(image, None), sample_hash(image, mask + 1), sample_hash(image + 1e-3, mask)}) == 4
    assert data_hash({"a": "1", "b": "2"}) == data_hash({"b": "2", "a": "1"})
    assert data_hash({"a": "1", "b": "2"}) != data_hash({"a": "2", "b": "1"})


def test_it_says_what_it_was_told_and_which_versions_ran():
    found = provenance(seed=3)
    assert found["seed"] == 3
    assert found["versions"]["torch"] == torch.__version__.split("+")[0]
    assert {"made", "command", "python", "platform", "device"} <= set(found)
