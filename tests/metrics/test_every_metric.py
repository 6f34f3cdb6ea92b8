"""Each Metric class in the manner of torchmetrics' own tester: against the function and the slow reference, per batch and
pooled, pickled, cloned, moved, reset, on one, two and three processes."""

import inspect
import math
import pickle

import pytest
import torch
from _ranks import SHARES, WORLDS, ranks
from _scores import COSTS, SCORES, Score, evidence, mean, slow_values
from _scores import pick as pick_all
from torch import Tensor
from torchmetrics import Metric, MetricCollection

import segaudit.metrics as room
from segaudit.metrics import TargetMean
from segaudit.names import snake_case

every = pytest.mark.parametrize("score", SCORES.values(), ids=SCORES.keys())
BATCHES = [(0, 2), (2, 7), (7, 9)]


def pick(found: dict[str, Tensor], names: tuple[str, ...], start: int, end: int) -> dict[str, Tensor]:
    chosen = pick_all(found, start, end)
    return {name: chosen[name] for name in names}


def test_the_table_lists_all_metrics() -> None:
    classes = {getattr(room, name) for name in room.__all__} - {TargetMean}
    assert classes == {score.metric for score in SCORES.values()}
    assert all(issubclass(c, TargetMean) and issubclass(c, Metric) for c in classes)


@every
def test_names_evidence_and_direction(score: Score) -> None:
    metric = score.metric(**score.options)
    assert tuple(inspect.signature(metric.update).parameters) == score.evidence
    assert metric.higher_is_better is score.higher_is_better
    assert {"plot_lower_bound", "plot_upper_bound"} <= vars(score.metric).keys()  # each says its own range
    assert metric.name == snake_case(score.metric.__name__)
    if metric.name not in COSTS:
        assert score.function.__name__ == metric.name


@every
def test_pooled_over_uneven_batches(score: Score) -> None:
    found = evidence(9)
    expected = slow_values(score, found)
    metric = score.metric(**score.options)
    for start, end in BATCHES:
        metric.update(**pick(found, score.evidence, start, end))
    assert float(metric.compute()) == pytest.approx(mean(expected), rel=1e-5)
    assert metric.per_target.tolist() == pytest.approx(expected, rel=1e-5, abs=1e-6, nan_ok=True)
    assert metric.unscored == sum(math.isnan(v) for v in expected)
    # Not the mean of the batches' means.
    function = score.function(*(found[k] for k in score.evidence), **score.options)
    assert float(metric.compute()) == pytest.approx(float(function.double().nanmean()), rel=1e-6)


@every
def test_forward_gives_the_batch_and_keeps_all(score: Score) -> None:
    found = evidence(9)
    expected = slow_values(score, found)
    metric = score.metric(**score.options)
    for start, end in BATCHES:
        value = metric(**pick(found, score.evidence, start, end))
        assert float(value) == pytest.approx(mean(expected[start:end]), rel=1e-5, nan_ok=True)
    assert float(metric.compute()) == pytest.approx(mean(expected), rel=1e-5)
    metric.reset()
    assert len(metric.per_target) == 0
    metric.update(**pick(found, score.evidence, 7, 9))
    assert float(metric.compute()) == pytest.approx(mean(expected[7:]), rel=1e-5, nan_ok=True)


@every
def test_pickle_and_clone_go_on_by_themselves(score: Score) -> None:
    found = evidence(9)
    expected = slow_values(score, found)
    metric = score.metric(**score.options)
    metric.update(**pick(found, score.evidence, 0, 2))
    for copy in (pickle.loads(pickle.dumps(metric)), metric.clone()):
        copy.update(**pick(found, score.evidence, 2, 9))
        assert float(copy.compute()) == pytest.approx(mean(expected), rel=1e-5)
    assert len(metric.per_target) == 2


@pytest.mark.filterwarnings("ignore:.*compute.* method of metric:UserWarning")
@every
def test_nothing_to_score_is_nan_not_zero(score: Score) -> None:
    assert math.isnan(float(score.metric(**score.options).compute()))
    found = evidence(9)
    metric = score.metric(**score.options)
    metric.update(**pick(found, score.evidence, 0, 0))
    assert math.isnan(float(metric.compute()))
    bad = {k: torch.full_like(v, torch.nan) if v.is_floating_point() else v & False for k, v in found.items()}
    if score.evidence != ("kept",):  # a share of no kept pairs is 0
        metric.update(**pick(bad, score.evidence, 0, 9))
        assert metric.unscored == 9
        assert math.isnan(float(metric.compute()))


@every
def test_its_states_move_and_are_saved(score: Score) -> None:
    """To another device (meta holds shapes alone), and through a state_dict where that is asked for."""
    found = evidence(9)
    metric = score.metric(**score.options)
    metric.update(**pick(found, score.evidence, 0, 7))
    moved = metric.clone().to("meta")
    assert {v.device.type for v in moved.values} == {"meta"}
    assert moved.per_target.shape == metric.per_target.shape
    assert metric.state_dict() == {}  # a checkpoint of the model holds no scores of an audit
    metric.persistent(True)
    metric.update(**pick(found, score.evidence, 7, 9))
    again = score.metric(**score.options)
    again.persistent(True)
    again.load_state_dict(metric.state_dict())
    assert float(again.compute()) == pytest.approx(float(metric.compute()))


@every
def test_a_target_adds_the_same_whoever_is_beside_it(score: Score) -> None:
    found = evidence(9)
    together, apart = (score.metric(**score.options) for _ in range(2))
    together.update(**pick(found, score.evidence, 0, 9))
    for n in range(9):
        apart.update(**pick(found, score.evidence, n, n + 1))
    torch.testing.assert_close(apart.per_target, together.per_target, rtol=1e-6, atol=1e-6, equal_nan=True)


@every
def test_half_precision_and_gradients_do_not_pile_up(score: Score) -> None:
    found = {k: v.requires_grad_(True) if v.is_floating_point() else v for k, v in evidence(9, awkward=False).items()}
    metric = score.metric(**score.options)
    metric.update(**pick(found, score.evidence, 0, 9))
    assert not metric.per_target.requires_grad
    assert metric.per_target.dtype == torch.float32


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
