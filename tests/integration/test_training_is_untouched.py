"""The promise: training with the audit is, bit for bit, training without it."""

import random
from typing import Any

import numpy as np
import pytest
import torch
from integration.tiny import Squares, audit, loader, task, trainer
from lightning.pytorch import Callback
from torch.utils.data import DataLoader


def random_states() -> dict[str, Any]:
    name, keys, *rest = np.random.get_state()  # noqa: NPY002
    return {"torch": torch.get_rng_state(), "numpy": (name, keys.tolist(), *rest), "python": random.getstate()}


def same(a: Any, b: Any) -> bool:
    """Whether two nested structures hold the same bits."""
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


def copy(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.detach().clone()
    if isinstance(value, dict):
        return {key: copy(entry) for key, entry in value.items()}
    return [copy(entry) for entry in value] if isinstance(value, list) else value


class Diary(Callback):
    """Notes all that training rests on after each epoch."""

    def __init__(self) -> None:
        self.epochs: list[dict[str, Any]] = []
        self.losses: list[float] = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.losses.append(float(outputs["loss"]))

    def on_train_epoch_end(self, trainer, pl_module):
        noted = {
            "weights and buffers": dict(pl_module.network.state_dict()),
            "optimizer": trainer.optimizers[0].state_dict(),
            "scheduler": trainer.lr_scheduler_configs[0].scheduler.state_dict(),
            "validation": {k: v for k, v in trainer.callback_metrics.items() if k.startswith("val/")},
            **random_states(),
        }
        self.epochs.append(copy(noted))


class Neighbour(Callback):
    """Notes what a model carries besides its weights, at the hook in which the audit runs."""

    def __init__(self, tag: str) -> None:
        self.tag = tag
        self.seen: list[dict[str, Any]] = []

    @property
    def state_key(self) -> str:
        return self.tag

    def on_validation_start(self, trainer, pl_module):
        pl_module.network.body[3].train()  # some keep dropout on in validation: modes aren't all alike

    def on_validation_epoch_end(self, trainer, pl_module):
        modules, parameters = dict(pl_module.named_modules()), dict(pl_module.named_parameters())
        tables = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
        self.seen.append(
            {
                "grad": {name: None if p.grad is None else p.grad.clone() for name, p in parameters.items()},
                "requires_grad": {name: p.requires_grad for name, p in parameters.items()},
                "training": {name: module.training for name, module in modules.items()},
                "hooks": {name: [len(getattr(module, table)) for table in tables] for name, module in modules.items()},
                "weights and buffers": copy(dict(pl_module.network.state_dict())),
                "gradients on": torch.is_grad_enabled(),
                **random_states(),
            }
        )


def train(audited: bool, **options: Any) -> tuple[Diary, Neighbour, Neighbour, dict[str, float]]:
    torch.manual_seed(1), np.random.seed(2), random.seed(3)  # noqa: NPY002
    model = task(seed=4)
    model.network.body[0].weight.requires_grad_(False)  # a layer that is frozen stays frozen
    diary, before, after = Diary(), Neighbour("before"), Neighbour("after")
    audits = [audit(panels=1, max_images=2)] if audited else []
    fit = trainer(before, *audits, after, diary, enable_progress_bar=True, **options)
    # Validation images draw random numbers as well: each of them that the audit reads must not cost the training one.
    fit.fit(model, loader(22, train=True), DataLoader(Squares(6, augment=True), batch_size=4))
    return diary, before, after, dict(fit.callback_metrics)


@pytest.mark.parametrize(
    "options",
    [
        {"max_epochs": 3},
        {"max_epochs": 3, "accumulate_grad_batches": 4},  # six batches an epoch: its last step gathers two
        {"max_epochs": 2, "accumulate_grad_batches": 4, "val_check_interval": 0.5},  # validates with three gathered
        {"max_epochs": 2, "precision": "bf16-mixed"},
    ],
    ids=["plain", "accumulated", "mid-epoch", "bf16"],
)
def test_training_is_bit_identical_with_and_without_the_audit(options):
    with_audit, before, after, logged = train(True, **options)
    without, _, _, _ = train(False, **options)
    assert "audit/dea/deletion_auc" in logged  # it did run
    assert with_audit.losses == without.losses
    assert len(with_audit.epochs) == len(without.epochs) == options["max_epochs"]
    for one, other in zip(with_audit.epochs, without.epochs, strict=True):
        assert [name for name in one if not same(one[name], other[name])] == []
    for one, other in zip(before.seen, after.seen, strict=True):
        assert [name for name in one if not same(one[name], other[name])] == []
    # The rest makes sure that the test proves what it says.
    mid_epoch = "val_check_interval" in options
    assert len(before.seen) == options["max_epochs"] * (2 if mid_epoch else 1)
    for entry in before.seen:
        assert set(entry["training"].values()) == set(entry["requires_grad"].values()) == {True, False}
    gathered = [g.abs().sum() > 0 for entry in before.seen for g in entry["grad"].values() if g is not None]
    assert any(gathered) == mid_epoch
