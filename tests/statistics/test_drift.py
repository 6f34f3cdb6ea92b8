"""The alarm: against a slow reading of its rule, and its error rates."""

import json
from itertools import pairwise
from statistics import fmean

import numpy as np
import pytest

from segaudit.statistics import DriftAlarm

NAN = float("nan")


def alarms(series, **settings):
    """Return for every series the place of the first alarm, or infinity."""
    found = []
    for means in series:
        alarm = DriftAlarm(**settings)
        found.append(next((place for place, mean in enumerate(means) if alarm.update(mean)), np.inf))
    return np.array(found)


def noise(rng, runs, audits=50, targets=12, common=0.03, target=0.1):
    return 0.4 + common * rng.normal(size=(runs, audits)) + target * rng.normal(size=(runs, audits, targets)).mean(2)


def slow(means, min_change, threshold):
    """Return the references, the sums and the alarms, read off the docstring with lists."""
    total, rows = 0.0, []
    for t in range(5, len(means)):
        earlier = means[: max(5, t - 4)]
        half = earlier[min(len(earlier) // 2, len(earlier) - 5) :]
        reference = min(fmean(earlier), fmean(half))
        changes = [(b - a) ** 2 / 2 for a, b in pairwise(means[:t])]
        scale = ((sum(changes) + 8 * (0.7 * min_change) ** 2) / (len(changes) + 8)) ** 0.5
        total = max(0.0, total + min((means[t] - reference) / scale, 4.0) - 0.5)
        rows.append((reference, total, total > threshold and fmean(means[t - 2 : t + 1]) - reference >= min_change))
    return rows


@pytest.mark.parametrize("seed", range(4))
def test_against_a_slow_reading_of_the_rule(seed):
    rng = np.random.default_rng(seed)
    means = (noise(rng, 1, 30)[0] + 0.1 * (np.arange(30) > 12)).tolist()
    alarm, rows = DriftAlarm(min_change=0.04, scores=2), []
    for mean in means:
        on = alarm.update(mean)
        assert on == alarm.raised
        rows.append((alarm.reference, alarm.cusum, on))
    assert rows[5:] == [pytest.approx(row, abs=1e-9) for row in slow(means, 0.04, alarm.threshold)]
    assert all(np.isnan(reference) and not total and not on for reference, total, on in rows[:5])
    assert any(on for _, _, on in rows)


@pytest.mark.parametrize("scores", [1, 2, 4])
def test_stationary_series_raise_few_false_alarms_together(scores):
    rng, runs = np.random.default_rng(scores), 400
    watched = [alarms(noise(rng, runs, targets=8), scores=scores) for _ in range(scores)]
    assert (np.min(watched, axis=0) < np.inf).mean() <= 0.05


def test_a_step_is_found_and_smaller_than_min_change_it_is_not():
    rng = np.random.default_rng(5)
    step = 0.1 * (np.arange(25) >= 10)
    found = alarms(noise(rng, 200, 25) + step)
    assert ((found >= 10) & (found < 25)).mean() >= 0.9
    assert (alarms(noise(rng, 100, 40, common=0.0, target=0.05) + 0.3 * step.repeat(2)[:40]) < np.inf).mean() <= 0.05


def test_scores_that_improve_or_are_learnt_raise_nothing():
    rng = np.random.default_rng(6)
    learnt = 0.3 * np.exp(-np.arange(50) / 8)
    assert (alarms(noise(rng, 150) + learnt) < np.inf).mean() <= 0.05


def test_more_scores_need_more_and_a_larger_change_more_still():
    thresholds = [DriftAlarm(scores=scores).threshold for scores in (1, 2, 4, 8)]
    assert thresholds == pytest.approx([10.0, 11.8, 13.6, 15.4])
    jump = [0.3] * 8 + [0.38] * 12
    assert alarms([jump])[0] < np.inf
    assert alarms([jump], min_change=0.1)[0] == np.inf


def test_the_unit_of_the_score_does_not_matter():
    means = (noise(np.random.default_rng(7), 1)[0] + 0.1 * (np.arange(50) > 20)).tolist()
    assert alarms([means]) == alarms([[100 * mean - 7 for mean in means]], min_change=5.0)
    assert alarms(np.float32([means])) == alarms(np.float32([means]).astype(float))


def test_nan_is_no_audit():
    means = noise(np.random.default_rng(8), 1)[0].tolist()
    plain, holed = DriftAlarm(), DriftAlarm()
    for mean in means:
        plain.update(mean)
        assert holed.update(NAN) is False
        holed.update(mean)
    assert holed.state_dict() == plain.state_dict()
    assert (holed.count, holed.cusum, holed.reference) == (50, plain.cusum, plain.reference)


def test_an_alarm_goes_on_where_it_stopped():
    means = (noise(np.random.default_rng(9), 1)[0] + 0.1 * (np.arange(50) > 20)).tolist()
    whole, part = DriftAlarm(), DriftAlarm()
    for mean in means[:23]:
        whole.update(mean), part.update(mean)
    resumed = DriftAlarm()
    resumed.load_state_dict(json.loads(json.dumps(part.state_dict())))
    assert (resumed.count, resumed.cusum, resumed.raised) == (part.count, part.cusum, part.raised)
    assert [resumed.update(mean) for mean in means[23:]] == [whole.update(mean) for mean in means[23:]]
    for name in ("reference", "cusum", "threshold", "count"):
        with pytest.raises(AttributeError):
            setattr(resumed, name, 1)


def test_constant_scores_raise_nothing_and_bad_settings_get_one_sentence():
    assert alarms([[0.0] * 50, [0.7] * 50]).tolist() == [np.inf, np.inf]
    assert alarms([[0.7] * 50], min_change=0.0) == np.inf
    assert alarms([[0.7] * 20 + [0.8] * 5], min_change=0.0) < 25
    assert np.isnan(DriftAlarm().reference)
    for settings in ({"min_change": -0.1}, {"min_change": NAN}):
        with pytest.raises(ValueError, match="min_change must be at least 0"):
            DriftAlarm(**settings)
    with pytest.raises(ValueError, match="at least 1; got 0"):
        DriftAlarm(scores=0)
