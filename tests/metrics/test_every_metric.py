"""Each Metric class in the manner of torchmetrics' own tester, on one, two and three processes.

A new one needs no line here: it is found by its class.
"""

import inspect
from collections.abc import Callable
from functools import partial

import pytest
from _ranks import SHARES, WORLDS, ranks
from _scores import COSTS, SCORES, Score, evidence, mean, slow_values
from _scores import pick as pick_all
from torch import Tensor
from torchmetrics import MetricCollection

import segaudit.metrics as room
from segaudit.metrics import TargetMean
from segaudit.metrics.catalogue import catalogue
from segaudit.names import snake_case
from segaudit.testing import check_metric

every = pytest.mark.parametrize("score", SCORES.values(), ids=SCORES.keys())
#: A metric and its slow reference by name. A score that is not in the table has its reference under tests/functional.
METRICS: dict[str, tuple[Callable[[], TargetMean], Callable[..., float] | None]] = {
    **{entry.name: (entry.cls, None) for entry in catalogue()},
    **{name: (partial(s.metric, **s.options), partial(s.slow, **s.options)) for name, s in SCORES.items()},
}


def pick(found: dict[str, Tensor], names: tuple[str, ...], start: int, end: int) -> dict[str, Tensor]:
    chosen = pick_all(found, start, end)
    return {name: chosen[name] for name in names}


def test_the_package_exports_all_metrics() -> None:
    assert {getattr(room, name) for name in room.__all__} - {TargetMean} == {entry.cls for entry in catalogue()}


@every
def test_names_evidence_and_direction(score: Score) -> None:
    metric = score.metric(**score.options)
    assert tuple(inspect.signature(metric.update).parameters) == score.evidence
    assert metric.higher_is_better is score.higher_is_better
    assert metric.name == snake_case(score.metric.__name__)
    if metric.name not in COSTS:
        assert score.function.__name__ == metric.name


@pytest.mark.parametrize(("metric", "reference"), METRICS.values(), ids=METRICS.keys())
def test_metric(metric: Callable[[], TargetMean], reference: Callable[..., float] | None) -> None:
    check_metric(metric, reference=reference)


def test_a_collection_hands_out_evidence_by_name() -> None:
    found = evidence(9)
    scores = {name: score for name, score in SCORES.items() if name not in COSTS}
    collection = MetricCollection(
        {name: score.metric(**score.options) for name, score in scores.items()}, compute_groups=False
    )
    collection.update(**found)
    for name, value in collection.compute().items():
        assert float(value) == pytest.approx(mean(slow_values(scores[name], found)), rel=1e-5)


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("world", WORLDS)
def test_processes_give_the_pooled_value(world: int, share: str) -> None:
    found = evidence(9)
    for name, score in SCORES.items():
        expected = mean(slow_values(score, found))
        alone = score.metric(**score.options)
        alone.update(**pick(found, score.evidence, 0, 9))
        assert float(alone.compute()) == pytest.approx(expected, rel=1e-5)
        for rank in ranks(world):
            assert rank[share, name] == pytest.approx([float(alone.compute())] * 2, rel=1e-6, abs=1e-6), name
