"""Dashboards may not draw from the random states that training draws from; test_dashboard.py has what they show."""

from integration.test_training_is_untouched import random_states, same
from integration.tiny import audit, loader, task, trainer
from lightning.pytorch import Callback
from lightning.pytorch.loggers import WandbLogger


class RandomStates(Callback):
    def __init__(self):
        self.seen = []

    def note(self, *_, **__):
        self.seen.append(random_states())

    setup = on_validation_epoch_end = on_validation_end = note


class Before(RandomStates):
    """The same, at another place."""


def test_dashboards_draw_no_random_numbers(tmp_path):
    logger = WandbLogger(project="test", save_dir=tmp_path, offline=True)
    before, after = Before(), RandomStates()
    audited = audit(panels=2, explainers=["dea", "random"])
    loop = trainer(before, audited, after, logger=logger, folder=tmp_path, max_epochs=2)
    loop.fit(task(), loader(8, train=True), loader(6))
    assert [same(one, other) for one, other in zip(before.seen, after.seen, strict=True)] == [True] * 5
    assert "audit/dea/deletion_auc" in dict(logger.experiment.summary)
