"""Means over a panel: least squares, whatever is missing; and classes that join when they have been learnt."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segaudit.statistics import TargetSeries, panel_filled, panel_means

NAN = float("nan")


def slow_means(table):
    """Dummy variables for audits and targets, one least-squares problem; for tables that are linked throughout."""
    audits, targets = table.shape
    rows, right = [], []
    for e in range(audits):
        for t in range(targets):
            if np.isfinite(table[e, t]):
                row = np.zeros(audits + targets)
                row[e] = row[audits + t] = 1
                rows.append(row)
                right.append(table[e, t])
    found = np.linalg.lstsq(np.array(rows), np.array(right), rcond=None)[0]
    had = np.isfinite(table).any(axis=0)
    return found[:audits] + found[audits:][had].mean()


@given(st.integers(1, 6), st.integers(2, 8), st.integers(0, 10**6))
@settings(max_examples=60, deadline=None)
def test_is_the_slow_reference(audits, targets, seed):
    rng = np.random.default_rng(seed)
    table = rng.normal(size=(audits, targets))
    table[:, 1:][rng.random((audits, targets - 1)) < 0.4] = NAN  # the first target links all audits
    means, share = panel_means(table)
    np.testing.assert_allclose(means, slow_means(table), atol=1e-8)
    np.testing.assert_allclose(share, np.isfinite(table).mean(axis=1))
    order = rng.permutation(targets)
    np.testing.assert_allclose(panel_means(table[:, order])[0], means, atol=1e-8)
    np.testing.assert_allclose(np.nanmean(panel_filled(table)[:, np.isfinite(table).any(axis=0)], axis=1), means, atol=1e-8)


def test_of_a_full_table_it_is_the_plain_mean():
    table = np.random.default_rng(0).random((5, 7))
    np.testing.assert_allclose(panel_means(table)[0], table.mean(axis=1))


def test_a_hard_target_that_drops_out_does_not_make_the_audit_better():
    """Simpson's case: all targets that both audits have got worse, and the plain mean fell."""
    table = np.array([[0.1, 0.2, 0.9], [0.2, 0.3, NAN]])
    means, share = panel_means(table)
    assert np.nanmean(table[1]) < table[0].mean()
    assert means[1] - means[0] == pytest.approx(0.1)
    assert share.tolist() == [1, pytest.approx(2 / 3)]


def test_audits_that_nothing_links_to_the_last_are_not_compared():
    table = [[0.1, NAN, NAN], [0.2, 0.4, NAN], [NAN, NAN, 0.5], [NAN, NAN, NAN]]
    means, share = panel_means(table)
    assert np.isnan(means).tolist() == [True, True, False, True]
    assert means[2] == 0.5
    assert share[3] == 0
    assert np.isnan(panel_means([[NAN, NAN]])[0]).all()
    assert np.isnan(panel_means(np.zeros((2, 0)))[0]).all()


def test_tables_have_two_dimensions():
    with pytest.raises(ValueError, match=r"\(audits, targets\)"):
        panel_means([0.1, 0.2])


def rows(values, confidence, **more):
    """One row per (image, class): ``values`` and ``confidence`` by class, one entry an image."""
    return [
        {"sample_id": f"i{image}", "class_index": one, "explainer": "dea", "leakage": value, "area": 0.1,
         "confidence": confidence[one][image]} | more
        for one in values
        for image, value in enumerate(values[one])
    ]  # fmt: skip


def test_a_class_joins_when_most_of_its_targets_are_confident():
    series = TargetSeries()
    low, high = [0.01, 0.01, 0.9], [0.01, 0.9, 0.9]
    series.add(0, rows({1: [0.1, 0.1, 0.1], 2: [0.8, 0.8, 0.8]}, {1: high, 2: low}))
    assert series.not_learnt == [2]
    means, share = series.means("dea/leakage")
    assert means[-1] == pytest.approx(0.1)
    assert share[-1] == 1
    assert series.scored("dea/leakage") == 3
    series.add(1, rows({1: [0.2, 0.2, 0.2], 2: [0.8, 0.8, 0.8]}, {1: high, 2: high}))
    assert series.not_learnt == []
    means, share = series.means("dea/leakage")
    assert means[1] == pytest.approx(0.5)
    assert means[1] - means[0] == pytest.approx(0.1)  # the class that has joined makes no step
    series.add(2, rows({1: [0.2, 0.2, 0.2], 2: [0.8, NAN, NAN]}, {1: high, 2: low}))
    assert series.not_learnt == []  # once it has joined, it stays
    means, share = series.means("dea/leakage")
    assert share[-1] == pytest.approx(4 / 6)
    assert np.isnan(means[-1])


def test_a_model_that_calls_everything_one_class_has_not_learnt_it():
    series = TargetSeries()
    series.add(0, rows({0: [0.0, 0.0]}, {0: [1.0, 1.0]}, predicted_area=1.0))
    assert series.not_learnt == [0]
    assert np.isnan(series.means("dea/leakage")[0]).all()


def test_targets_that_cannot_have_a_score_do_not_count_as_missing():
    series = TargetSeries()
    found = rows({1: [0.5, NAN, NAN]}, {1: [0.9] * 3})
    for row in found:
        row["cue_effect"] = row["leakage"]
    for row in found[1:]:
        row["reason"] = "no cue"
    series.add(0, found)
    assert series.means("dea/cue_effect")[1].tolist() == [1.0]
    assert series.means("dea/cue_effect")[0].tolist() == [0.5]
    assert series.of_audit("dea/cue_effect", 0) == {"i0|1|0": 0.5}
    assert series.means("dea/leakage")[1].tolist() == pytest.approx([1 / 3])  # this one could be had


def test_an_audit_that_is_repeated_replaces_itself_and_what_came_after():
    series = TargetSeries()
    for epoch in range(3):
        series.add(epoch, rows({1: [epoch / 10] * 2}, {1: [0.9, 0.9]}))
    series.add(1, rows({1: [0.7, 0.7]}, {1: [0.9, 0.9]}))
    assert series.audits == [0, 1]
    np.testing.assert_allclose(series.means("dea/leakage")[0], [0.0, 0.7])


def test_the_state_is_whole():
    series, again = TargetSeries(), TargetSeries()
    series.add(3, rows({1: [0.1, NAN], 2: [0.3, 0.4]}, {1: [0.9, 0.9], 2: [0.0, 0.0]}))
    again.load_state_dict(series.state_dict())
    for one in (series, again):
        one.add(5, rows({1: [0.2, 0.1], 2: [0.3, 0.4], 4: [0.5, 0.5]}, {1: [0.9] * 2, 2: [0.9] * 2, 4: [0.9] * 2}))
    assert again.state_dict().__repr__() == series.state_dict().__repr__()
    np.testing.assert_array_equal(again.table("dea/leakage"), series.table("dea/leakage"))
