"""Checkpoints are data: ours, others', and those that must be refused."""

import pickle
from pathlib import Path

import pytest
import torch
from integration.tiny import TinyNetwork, loader, task, trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn

from segaudit.training.weights import load_weights


class Malicious:
    """Runs code when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.write_text, (self.path, "owned"))


def equal(a, b):
    return all(torch.equal(a[name], b[name]) for name in a) and list(a) == list(b)


@pytest.mark.parametrize("prefix", ["", "network.", "model.", "module.", "_orig_mod.", "net."])
@pytest.mark.parametrize("key", [None, "state_dict", "model_state_dict", "model"])
def test_any_prefix_and_any_wrapping(tmp_path, prefix, key):
    torch.manual_seed(1)
    theirs = TinyNetwork().state_dict()
    named = {prefix + name: value for name, value in theirs.items()}
    torch.save(named if key is None else {key: named, "epoch": 3}, tmp_path / "a.pt")
    model = TinyNetwork()
    load_weights(model, tmp_path / "a.pt")
    assert equal(model.state_dict(), theirs)


def test_a_checkpoint_of_the_trainer_fits_its_task_and_its_network(tmp_path):
    keep = ModelCheckpoint(tmp_path, save_last=True)
    module = task()
    trainer(keep, enable_checkpointing=True).fit(module, loader(8, train=True), loader(4))
    for model in (task(seed=5), task(seed=6).network):
        load_weights(model, keep.last_model_path)
        found = getattr(model, "network", model).state_dict()
        assert equal(found, module.network.state_dict())


def test_a_prefix_is_added_where_the_model_has_it(tmp_path):
    theirs = TinyNetwork().state_dict()
    torch.save(theirs, tmp_path / "a.pt")
    model = nn.ModuleDict({"network": TinyNetwork()})
    load_weights(model, tmp_path / "a.pt")
    assert equal(model["network"].state_dict(), theirs)


def test_code_in_a_checkpoint_is_not_run(tmp_path):
    witness = tmp_path / "witness"
    torch.save({"state_dict": {}, "hello": Malicious(witness)}, tmp_path / "a.pt")
    with pytest.raises(ValueError, match=r"holds more than weights .*was not loaded.*Save model.state_dict"):
        load_weights(TinyNetwork(), tmp_path / "a.pt")
    (tmp_path / "b.pt").write_bytes(pickle.dumps(Malicious(witness)))
    with pytest.raises(ValueError, match=r"b\.pt"):
        load_weights(TinyNetwork(), tmp_path / "b.pt")
    assert not witness.exists()


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.99])
def test_a_checkpoint_cut_short(tmp_path, share):
    torch.save(TinyNetwork().state_dict(), tmp_path / "a.pt")
    content = (tmp_path / "a.pt").read_bytes()
    (tmp_path / "a.pt").write_bytes(content[: int(share * len(content))])
    model = TinyNetwork()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ValueError, match=r"the checkpoint .*a\.pt (is broken|holds more)"):
        load_weights(model, tmp_path / "a.pt")
    assert equal(model.state_dict(), before)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (TinyNetwork(channels=5).state_dict(), r"'head\.weight' has the shape \(5, 8, 1, 1\) there and \(3, 8, 1, 1\)"),
        (nn.Linear(2, 2).state_dict(), "weights are not in it, 'body.0.weight' first"),
        ({"epoch": 3}, "holds no weights"),
        ([1, 2], "holds no weights"),
    ],
)
def test_another_network_is_named_and_changes_nothing(tmp_path, content, says):
    torch.save(content, tmp_path / "a.pt")
    model = TinyNetwork()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ValueError, match=says):
        load_weights(model, tmp_path / "a.pt")
    assert equal(model.state_dict(), before)


def test_no_such_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no checkpoint"):
        load_weights(TinyNetwork(), tmp_path / "a.pt")
