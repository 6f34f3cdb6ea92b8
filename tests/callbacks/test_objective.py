"""SweepObjective in a real Trainer."""

from math import nan

import pytest
from integration.tiny import loader, quick, task, trainer
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.loggers import Logger

from segaudit.callbacks import SweepObjective

LEAKAGE = "audit/saliency/off_target_leakage"


class Noted(Logger):
    name = version = "noted"

    def __init__(self):
        super().__init__()
        self.seen = []

    def log_metrics(self, metrics, step=None):
        self.seen += [(metrics["epoch"], metrics["select/objective"])] if "select/objective" in metrics else []

    def log_hyperparams(self, params): ...


def fit(objective, epochs, every=1, **options):
    log, audited = Noted(), quick(every_n_epochs=every)
    loop = trainer(audited, objective, logger=log, max_epochs=epochs, **options)
    loop.fit(task(), loader(8, train=True), loader(6))
    return log.seen, audited.epochs


@pytest.mark.parametrize(("bound", "sign"), [("<= 1", 1), ("<= 0.001", -1)])
def test_the_best_so_far_of_what_was_measured(bound, sign):
    seen, epochs = fit(SweepObjective({LEAKAGE: bound}), 3)
    values = [row["val/iou"] if sign > 0 else 0.001 - row[LEAKAGE] for row in epochs]
    assert len(values) == 3
    assert seen == [(i, pytest.approx(max(values[: i + 1]))) for i in range(3)]
    assert all(sign * value > 0 for value in values)


def test_epochs_without_an_audit_do_not_count():
    seen, _ = fit(SweepObjective({LEAKAGE: "<= 1"}), 3, every=2, num_sanity_val_steps=1)
    assert [epoch for epoch, _ in seen] == [1, 2]


def test_every_model_within_the_bounds_is_above_every_other():
    objective = SweepObjective({LEAKAGE: "<= 0.3", "audit/dea/stability": ">= 0.5"})
    runs = [(0.0, 0.3, 0.5), (0.9, 0.31, 0.5), (0.9, 0.3, 0.4), (0.9, 0.4, 0.2)]
    values = [objective.value({"val/iou": a, LEAKAGE: b, "audit/dea/stability": c}) for a, b, c in runs]
    assert values == pytest.approx([0.0, -0.01, -0.1, -0.4])


def test_what_could_not_be_scored_is_no_objective():
    objective = SweepObjective({LEAKAGE: "<= 0.3"})
    assert objective.value({"val/iou": 0.5, LEAKAGE: nan}) is None
    assert objective.value({"val/iou": 0.5}) is None


def test_the_best_survives_a_resume():
    first, second = SweepObjective({LEAKAGE: "<= 1"}), SweepObjective({LEAKAGE: "<= 1"})
    first.best = 2.0
    second.load_state_dict(first.state_dict())
    seen, _ = fit(second, 1)
    assert seen == [(0, 2.0)]


def test_what_nobody_logs_is_told():
    with pytest.raises(MisconfigurationException, match="looks at 'val/dice', which nothing has logged; there are audit/"):
        fit(SweepObjective({LEAKAGE: "<= 1"}, maximize="val/dice"), 1)
