"""Agreement between audits and between scores, against scipy in a loop."""

import math
import random
from itertools import combinations

import pytest
from scipy import stats

from segaudit.validity import explainer_agreement, score_agreement

NAN = float("nan")
EXPLAINERS, SCORES = ("dea", "saliency", "random", "target_mask"), ("road", "irof")


def random_audit(seed: int, targets: int = 3) -> list[dict]:
    draw = random.Random(seed)
    return [
        {"sample_id": str(k), "explainer": explainer, "area": draw.random(), **{score: draw.random() for score in SCORES}}
        for explainer in EXPLAINERS
        for k in range(targets)
    ]


def slow_mean(audit: list[dict], explainer: str, score: str) -> float:
    values = [row[score] for row in audit if row["explainer"] == explainer and not math.isnan(row[score])]
    return sum(values) / len(values) if values else NAN


def test_explainers_are_ranked_alike_or_not() -> None:
    audits = [random_audit(seed) for seed in range(3)]
    found = explainer_agreement(audits)
    assert set(found) == set(SCORES)
    for score in SCORES:
        columns = [[slow_mean(audit, explainer, score) for explainer in EXPLAINERS] for audit in audits]
        expected = [stats.spearmanr(a, b).statistic for a, b in combinations(columns, 2)]
        assert found[score] == pytest.approx(sum(expected) / 3)
    assert explainer_agreement([audits[0], audits[0]]) == {score: pytest.approx(1) for score in SCORES}
    against = [{**row, **{score: -row[score] for score in SCORES}} for row in audits[0]]
    assert explainer_agreement([audits[0], against]) == {score: pytest.approx(-1) for score in SCORES}


def test_what_cannot_be_compared_is_nan() -> None:
    audit = random_audit(0)
    two = [row for row in audit if row["explainer"] in ("dea", "random")]
    assert all(math.isnan(v) for v in explainer_agreement([audit, two]).values())
    flat = [{**row, "road": 0.5} for row in audit]
    found = explainer_agreement([audit, flat])
    assert math.isnan(found["road"])
    assert found["irof"] == pytest.approx(1)
    with pytest.raises(ValueError, match="agreement needs at least two audits, got 1"):
        explainer_agreement([audit])


def test_an_explainer_that_has_no_value_is_left_out() -> None:
    audits = [random_audit(seed) for seed in (4, 5)]
    for row in audits[1]:
        if row["explainer"] == "random":
            row["road"] = NAN
    rest = [explainer for explainer in EXPLAINERS if explainer != "random"]
    columns = [[slow_mean(audit, explainer, "road") for explainer in rest] for audit in audits]
    assert explainer_agreement(audits)["road"] == pytest.approx(stats.spearmanr(*columns).statistic)


def test_scores_order_models_alike_or_not() -> None:
    audits = {f"m{seed}": random_audit(seed) for seed in range(6)}
    for rows in audits.values():
        for row in rows:
            row["double"], row["against"] = 2 * row["road"], -row["road"]
    found = score_agreement(audits, ["dea", "random"])
    assert list(found) == list(combinations((*SCORES, "double", "against"), 2))
    assert found["road", "double"] == pytest.approx(1)
    assert found["road", "against"] == pytest.approx(-1)
    each = [
        stats.spearmanr(*([slow_mean(audit, explainer, score) for audit in audits.values()] for score in SCORES)).statistic
        for explainer in ("dea", "random")
    ]
    assert found["road", "irof"] == pytest.approx(sum(each) / 2)
    few = {model: audits[model] for model in ("m0", "m1")}
    assert all(math.isnan(v) for v in score_agreement(few, ["dea"]).values())
