"""Scores beside the truth: closed forms, and a loop over models."""

import math
import random

import pytest
import torch
from _models import Net, images, logits_of
from scipy import stats
from torch import Tensor, nn

from segaudit.forwards.target import TargetSelector, target_confidence
from segaudit.validity import reliance, validity
from segaudit.validity.means import means

NAN = float("nan")


def audits_of(values: dict[str, list[float]], explainer: str = "dea", score: str = "cue_mass") -> dict[str, list[dict]]:
    return {
        model: [{"sample_id": str(k), "explainer": explainer, "area": 0.5, score: v} for k, v in enumerate(of)]
        for model, of in values.items()
    }


def test_a_score_that_follows_the_truth_one_against_it_and_one_that_is_constant() -> None:
    truth = {f"m{k}": k / 10 for k in range(10)}
    audits = {
        m: [
            {"sample_id": "0", "explainer": "dea", "cue_mass": t**2, "leakage": 1 - t, "flat": 0.3, "area": t},
            {"sample_id": "0", "explainer": "dea", "cue_mass": t**2 + 0.01, "leakage": NAN, "flat": 0.3, "area": t},
        ]
        for m, t in truth.items()
    }
    rows = {row.score: row for row in validity(audits, truth, ["m7", "m8", "m9"])}
    assert set(rows) == {"cue_mass", "leakage", "flat"}  # the area is no score
    assert rows["cue_mass"].correlation.value == pytest.approx(1)
    assert rows["cue_mass"].separation.value == 1
    assert rows["leakage"].correlation.value == pytest.approx(-1)
    assert rows["leakage"].separation.value == 0
    assert math.isnan(rows["flat"].correlation.value)
    assert rows["flat"].separation.value == 0.5
    assert list(rows)[-1] == "flat"


def test_is_scipy_on_the_means_whatever_the_order_of_models_and_records() -> None:
    draw = random.Random(0)
    truth = {f"m{k}": draw.random() for k in range(12)}
    values = {m: [t + 0.3 * draw.random() for _ in range(5)] for m, t in truth.items()}
    values["m3"][2] = NAN
    cheats = [m for m, t in truth.items() if t > 0.5]
    (row,) = validity(audits_of(values), truth, cheats)
    average = {m: sum(v for v in of if v == v) / sum(v == v for v in of) for m, of in values.items()}
    expected = stats.spearmanr([average[m] for m in truth], list(truth.values())).statistic
    assert row.correlation.value == pytest.approx(expected)
    pairs = [(average[c] > average[h]) for c in cheats for h in truth if h not in cheats]
    assert row.separation.value == pytest.approx(sum(pairs) / len(pairs))
    turned = {m: list(reversed(of)) for m, of in reversed(audits_of(values).items())}
    assert validity(turned, truth, reversed(cheats))[0] == row


def test_a_model_without_a_score_is_counted_and_not_a_zero() -> None:
    values = {"a": [0.1], "b": [0.2], "c": [NAN], "d": [0.4]}
    (row,) = validity(audits_of(values), {"a": 0, "b": 1, "c": 2, "d": 3}, ["d"])
    assert (row.correlation.models, row.correlation.unscored) == (3, 1)
    assert row.correlation.value == pytest.approx(1)
    assert math.isnan(means(audits_of(values)["c"])["dea", "cue_mass"])


def test_models_that_do_not_fit_together() -> None:
    audits = audits_of({"a": [0.1], "b": [0.2]})
    with pytest.raises(ValueError, match="there is no truth for b: give one number for each audited model"):
        validity(audits, {"a": 0.0}, [])
    with pytest.raises(ValueError, match="c should be a cheat, but was not audited"):
        validity(audits, {"a": 0.0, "b": 1.0}, ["c"])


def test_reliance_is_a_slow_loop() -> None:
    model, x = Net(), images()
    changed = x.clone()
    changed[:, :, :4, :4] = images(seed=5)[:, :, :4, :4]
    selector = TargetSelector(min_area=0.05)
    targets = selector(logits_of(model, x))
    expected = []
    for n in range(len(targets)):
        one = targets[torch.tensor([n])]
        b = int(one.image_index)
        scores = [float(target_confidence(logits_of(model, of[b : b + 1]), one)) for of in (x, changed)]
        expected.append(1 - scores[1] / scores[0])
    found = reliance(model, x, changed, selector, max_batch=3)
    assert found.tolist() == pytest.approx(expected, abs=1e-5)
    assert len(expected) > 4
    assert float(found.abs().max()) > 0.01


class TagReader(nn.Module):
    """Class 1 where the image is bright, as sure as the pixel at the corner is."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([0 * x, torch.where(x > 0.5, 4 * x[..., :1, :1], -9.0)], dim=1)


def test_a_model_that_reads_the_cue_alone_and_one_that_does_not() -> None:
    x = torch.zeros(2, 1, 6, 6)
    x[:, :, :1, :1] = 1
    x[:, :, 3:, 3:] = 1
    changed = x.clone()
    changed[:, :, :1, :1] = 0
    targets = TargetSelector(classes=[1], min_area=0.0)
    before = float(torch.tensor(4.0).sigmoid())
    bright = 9 / 10 * 0.5 + 1 / 10 * float(torch.tensor(-9.0).sigmoid())  # one of the ten pixels was the cue itself
    assert reliance(TagReader(), x, changed, targets).tolist() == pytest.approx([1 - bright / before] * 2, abs=1e-5)
    assert reliance(TagReader(), x, x, targets).tolist() == [0, 0]
    with pytest.raises(ValueError, match=r"images \(2, 1, 6, 6\) and changed \(2, 1, 5, 6\) must have the same shape"):
        reliance(TagReader(), x, x[:, :, :5])
