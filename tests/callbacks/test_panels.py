"""Pictures and tables on dashboards."""

import json

import pytest
import torch
from integration.test_training_is_untouched import random_states, same
from integration.tiny import audit, loader, task, trainer
from lightning.pytorch import Callback
from lightning.pytorch.loggers import WandbLogger


class RandomStates(Callback):
    def __init__(self):
        self.seen = []

    def on_validation_epoch_end(self, trainer, pl_module):
        self.seen.append(random_states())


class Before(RandomStates):
    """The same, at another place."""


def test_wandb_offline_gets_pictures_a_table_and_scalars(tmp_path):
    pytest.importorskip("wandb")
    logger = WandbLogger(project="test", save_dir=tmp_path, offline=True)
    before, after = Before(), RandomStates()
    loop = trainer(before, audit(panels=2), after, logger=logger, folder=tmp_path, max_epochs=2)
    loop.fit(task(), loader(8, train=True), loader(6))
    # It doesn't only draw: it may not draw random numbers either.
    assert [same(one, other) for one, other in zip(before.seen, after.seen, strict=True)] == [True, True]
    summary = dict(logger.experiment.summary)
    media = tmp_path.glob("wandb/offline-run-*/files/media")
    names = sorted(path.name for folder in media for path in folder.rglob("*.*"))
    assert sum(name.endswith(".png") for name in names) == 2
    assert sum(name.endswith(".table.json") for name in names) == 2
    assert "audit/dea/deletion_auc" in summary
    (newest, *_) = sorted(tmp_path.glob("wandb/offline-run-*/files/media/**/*.table.json"))
    table = json.loads(newest.read_text())
    assert table["columns"][0] == "explainer"
    assert {row[0] for row in table["data"]} >= {"dea", "random", "target_mask"}
    assert torch.tensor([row[1:] for row in table["data"]]).shape == (7, 10)
