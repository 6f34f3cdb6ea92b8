import math
import random
from itertools import combinations, permutations, product
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from segaudit import Auditor
from segaudit.statistics import (
    Association,
    Estimate,
    auroc,
    compare,
    difference,
    holm,
    interval,
    relative,
    spearman,
    summary,
)

NAN = float("nan")


def row(image: Any, explainer: str, *, class_index: int = 0, area: float = 0.1, **scores: Any) -> dict[str, Any]:
    place = {"sample_id": image, "class_index": class_index, "area": area, "explainer": explainer}
    return {**place, **scores, "reason": ""}


def audit(seed: int = 0, images: int = 9) -> list[dict[str, Any]]:
    """Records of three explainers with scores 'up' and 'down'; some targets are unscored."""
    rng = random.Random(seed)
    rows = []
    for image in range(images):
        of_image = rng.gauss(0, 1)
        for class_index in rng.sample(range(4), rng.randint(1, 3)):
            for explainer, level in (("random", 0.0), ("mine", 0.6), ("target_mask", 1.0)):
                up = level + 0.3 * of_image + rng.gauss(0, 0.2)
                down = NAN if rng.random() < 0.2 else 1 - up
                rows.append(row(f"image {image}", explainer, class_index=class_index, up=up, down=down))
    return rows


def scored(records: list[dict[str, Any]], score: str, *explainers: str) -> list[tuple[str, list[float]]]:
    """Image and values of every target that all explainers have scored, by a slow search."""
    found = []
    for first in records:
        if first["explainer"] != explainers[0]:
            continue
        values = [
            other[score]
            for explainer in explainers
            for other in records
            if (other["sample_id"], other["class_index"], other["explainer"])
            == (first["sample_id"], first["class_index"], explainer)
        ]
        if not any(math.isnan(v) for v in values):
            found.append((first["sample_id"], values))
    return found


def clusters(pairs: list[tuple[Any, float]]) -> list[list[float]]:
    names = dict.fromkeys(image for image, _ in pairs)
    return [[value for image, value in pairs if image == name] for name in names]


def tail(count: int, level: float) -> float:
    return float(stats.norm.cdf(-math.sqrt(count / (count - 1)) * stats.t.ppf((1 + level) / 2, count - 1)))


def expanded(draws: list[float], count: int, level: float = 0.95) -> tuple[float, float]:
    """Ends of the interval from the bootstrap distribution."""
    low, high = np.quantile(draws, [tail(count, level), 1 - tail(count, level)])
    return float(low), float(high)


def clustered(rng: np.random.Generator, images: int) -> tuple[np.ndarray, np.ndarray]:
    """Values around 0 with one to four targets an image, which go together."""
    names = np.repeat(np.arange(images), rng.integers(1, 5, size=images))
    return rng.normal(size=images)[names] + 0.5 * rng.normal(size=len(names)), names


# interval


def test_interval_without_a_range_is_a_t_interval_over_the_images_means():
    values, images = clustered(np.random.default_rng(1), 40)
    means = [sum(group) / len(group) for group in clusters(list(zip(images.tolist(), values.tolist(), strict=True)))]
    theirs = stats.ttest_1samp(means, 0).confidence_interval(0.9)

    found = interval(values, images, level=0.9)

    assert found.mean == pytest.approx(sum(means) / 40, abs=1e-12)
    assert found[1:3] == pytest.approx(tuple(theirs), abs=1e-12)
    assert (found.images, found.targets, found.units, found.clipped, found.method) == (40, len(values), 40, 0, "t")


@pytest.mark.parametrize("images", [8, 30])
def test_interval_holds_the_truth_as_often_as_it_says_and_targets_drawn_alone_do_not(images):
    rng, trials = np.random.default_rng(3), 600
    held = {"by image": 0, "by target": 0}
    for trial in range(trials):
        values, names = clustered(rng, images)
        for how, groups in (("by image", names), ("by target", np.arange(len(names)))):
            found = interval(values, groups, draws=600, seed=trial)
            held[how] += found.low <= 0 <= found.high
    # The standard error is 0.009 at 0.95.
    assert 0.92 <= held["by image"] / trials <= 0.98
    assert held["by target"] / trials <= 0.87


@pytest.mark.parametrize("bounded", [True, False])
def test_interval_depends_on_neither_the_order_nor_the_names_and_not_on_the_global_state(bounded):
    values, images = clustered(np.random.default_rng(4), 25)
    values, images = np.r_[values, values**3 / 7], np.r_[images, images]  # sums whose last bits depend on the order
    values = np.tanh(values) ** 2 if bounded else values
    values[3] = NAN
    first = interval(values, images)
    np.random.seed(5)  # noqa: NPY002
    order = np.random.default_rng(6).permutation(len(values))
    names = np.array([f"image {(17 * i) % 101}" for i in range(25)])

    assert first.method == ("gaffke" if bounded else "t")
    assert interval(values[order], images[order]) == first
    assert interval(values, names[images]) == first
    assert interval(torch.tensor(values), torch.tensor(images)) == first
    assert (interval(values, images, seed=1) != first) == bounded  # a t interval draws nothing


def test_interval_moves_and_scales_with_the_values():
    values, images = clustered(np.random.default_rng(7), 12)
    mean, low, high, *_ = interval(values, images)
    assert interval(-2 * values, images)[:3] == pytest.approx((-2 * mean, -2 * high, -2 * low), abs=1e-12)
    assert interval(30 + values, images)[:3] == pytest.approx((30 + mean, 30 + low, 30 + high), abs=1e-9)
    assert interval(values, images, level=0.5).low > low


def test_unscored_targets_are_left_out_and_counted():
    values, images = [0.2, NAN, 0.4, NAN, 0.9, 0.1], ["a", "a", "b", "c", "d", "d"]
    kept = [0, 2, 4, 5]
    bare = interval([values[i] for i in kept], [images[i] for i in kept])
    assert interval(values, images) == bare._replace(unscored=2)
    assert bare.images == 3


def test_what_cannot_be_told_is_nan():
    assert repr(interval([], [])) == repr(Estimate(NAN, NAN, NAN, 0, 0, 0))
    assert repr(interval([NAN], ["a"])) == repr(Estimate(NAN, NAN, NAN, 0, 0, 1))
    assert repr(interval([1.0, 2.0, NAN], ["a", "a", "b"])) == repr(Estimate(1.5, NAN, NAN, 1, 2, 1, 1))
    assert repr(interval([3.0, 3.0], ["a", "b"])) == repr(Estimate(3.0, NAN, NAN, 2, 2, 0, 2))
    assert repr(interval([1.0, math.inf], ["a", "b"])) == repr(Estimate(math.inf, NAN, NAN, 2, 2, 0, 2))
    assert summary([]) == {}
    assert compare([], []) == {}
    assert difference([], "one", "other", "score").targets == 0
    assert math.isnan(difference([], "one", "other", "score").p_value)
    assert relative([], "score", "one", ceiling="target_mask").targets == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: interval([1.0], ["a", "b"]), "1 entries and the other 2"),
        (lambda: interval([[1.0]], ["a"]), "values must have one dimension"),
        (lambda: interval([1.0], ["a"], level=95), "level is"),
        (lambda: interval([1.0], ["a"], draws=0), "draws must be at least 1"),
        (lambda: difference(audit(), "mine", "nobody", "up"), "'nobody'; there are some of random, mine, target_mask"),
        (lambda: difference(audit(), "mine", "random", "left"), "no score 'left'; they have up, down"),
        (lambda: relative(audit(), "area", "mine"), "no score 'area'"),
        (lambda: holm([0.1, 1.1]), r"in \[0, 1\]"),
        (lambda: auroc([0.1, 0.2], [0, 2]), "labels must be 0 or 1"),
        (lambda: auroc([0.1, 0.2], [0, NAN]), "labels must be 0 or 1"),
        (lambda: spearman([0.1, 0.2], [0.1]), "2 entries and the other 1"),
    ],
)
def test_bad_input_gets_one_sentence(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# summary


def test_summary_has_every_explainer_and_score():
    records = audit()
    found = summary(records)
    assert list(found) == [(e, s) for e in ("random", "mine", "target_mask") for s in ("up", "down")]
    for (explainer, score), estimate in found.items():
        rows = [r for r in records if r["explainer"] == explainer]
        assert estimate == interval([r[score] for r in rows], [r["sample_id"] for r in rows])
    assert found["mine", "down"].unscored > 0


def test_summary_by_class():
    records = audit()
    found = summary(records, by_class=True, draws=100, seed=3)
    assert {key[2] for key in found} == {r["class_index"] for r in records}
    for (explainer, score, class_index), estimate in found.items():
        rows = [r for r in records if (r["explainer"], r["class_index"]) == (explainer, class_index)]
        expected = interval([r[score] for r in rows], [r["sample_id"] for r in rows], draws=100, seed=3)
        assert repr(estimate) == repr(expected)


def test_summary_of_records_read_from_a_file():
    # A file may hold empty cells, and the callback's columns beside the records' own.
    records = [{"epoch": 3, "step": 40, "class": "car", **row(i, "mine", up=u)} for i, u in enumerate([0.1, None, 0.4])]
    assert list(summary(records)) == [("mine", "up")]
    assert summary(records)["mine", "up"][3:] == (2, 2, 1, 2, 0.0, "gaffke")


def test_summary_has_the_means_of_the_auditor():
    torch.manual_seed(0)
    model = nn.Conv2d(3, 3, 3, padding=1)
    auditor = Auditor(explainers=["saliency", "random"], metrics=["off_target_leakage", "deletion_auc", "fill_residual"])
    for _ in range(2):
        auditor.update(model, torch.rand(2, 3, 16, 16))
    computed, found = auditor.compute(), summary(auditor.records())
    assert len(found) == 6
    for (explainer, score), estimate in found.items():
        name = f"{explainer}/{score}" if f"{explainer}/{score}" in computed else score
        assert estimate.mean == pytest.approx(float(computed[name]), abs=1e-6, nan_ok=True)
        assert estimate.targets + estimate.unscored == int(computed["targets"])


# difference and its test


def slow_flips(means: list[float]) -> float:
    seen = abs(sum(means))
    signs = list(product((-1, 1), repeat=len(means)))
    return sum(abs(sum(s * v for s, v in zip(sign, means, strict=True))) >= seen - 1e-9 for sign in signs) / len(signs)


def check_paired(found: Any, changes: list[tuple[Any, float]]) -> None:
    """Compare a difference with the mean, SciPy's t interval and all flips of the images' mean changes."""
    known = [(image, change) for image, change in changes if not math.isnan(change)]
    means = [sum(group) / len(group) for group in clusters(known)]
    theirs = stats.ttest_1samp(means, 0).confidence_interval()
    assert found.mean == pytest.approx(sum(means) / len(means), abs=1e-12)
    assert found[1:3] == pytest.approx(tuple(theirs), abs=1e-12)
    assert (found.images, found.targets, found.unscored, found.units) == (
        len(means), len(known), len(changes) - len(known), len(means),
    )  # fmt: skip
    assert found.p_value == pytest.approx(slow_flips(means), abs=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_difference_is_paired_and_its_p_value_counts_all_flips(seed):
    records = audit(seed)
    found = difference(records, "mine", "target_mask", "down")
    changes = [(image, one - other) for image, (one, other) in scored(records, "down", "mine", "target_mask")]
    check_paired(found._replace(unscored=0), changes)
    assert found.targets + found.unscored == sum(r["explainer"] == "mine" for r in records)
    assert found.unmatched == 0


def test_p_value_with_more_images_than_can_be_counted():
    rng = random.Random(1)
    changes = [rng.gauss(0.25, 1) for _ in range(16)]
    records = [row(i, e, up=v) for i, change in enumerate(changes) for e, v in (("a", change), ("b", 0.0))]
    found = difference(records, "a", "b", "up")
    exact = slow_flips(changes)
    assert 0.02 < exact < 0.9
    assert found.p_value != exact
    assert found.p_value == pytest.approx(exact, abs=0.012)  # standard error 0.0035 at most
    theirs = stats.permutation_test(
        (np.array(changes),),
        lambda x, axis: x.mean(axis),
        permutation_type="samples",
        n_resamples=2**16,
        vectorized=True,
        batch=2**12,
    )
    assert exact == pytest.approx(theirs.pvalue, abs=1e-12)
    assert difference(records, "a", "b", "up") == found
    assert difference(records, "a", "b", "up", seed=1).p_value != found.p_value


def test_p_values_are_uniform_when_there_is_no_difference():
    rng, p_values = np.random.default_rng(2), []
    for _ in range(400):
        values, images = clustered(rng, 10)
        records = [row(int(i), e, class_index=n, up=float(v)) for n, (i, x) in enumerate(zip(images, values, strict=True))
                   for e, v in (("a", x), ("b", 0.0))]  # fmt: skip
        p_values.append(difference(records, "a", "b", "up", draws=1).p_value)
    shares = [sum(p <= level for p in p_values) / 400 for level in (0.05, 0.2, 0.5)]
    assert shares == pytest.approx([0.05, 0.2, 0.5], abs=0.06)


def test_difference_of_an_explainer_from_itself_is_nothing():
    found = difference(audit(), "mine", "mine", "up")
    assert repr(found[:3]) == repr((0.0, NAN, NAN))  # [0, 0] would claim certainty
    assert found.p_value == 1
    few = difference([row("a", "x", up=1.0), row("a", "y", up=3.0)], "x", "y", "up")
    assert (few.mean, few.p_value, few.images) == (-2, 1, 1)


def test_difference_turns_with_its_sides_and_not_with_order_or_names():
    records = audit(2)
    found, turned = (difference(records, *pair, "down") for pair in (("mine", "random"), ("random", "mine")))
    assert turned[:3] == pytest.approx((-found.mean, -found.high, -found.low), abs=1e-12)
    assert turned.p_value == found.p_value
    assert difference(random.Random(0).sample(records, len(records)), "mine", "random", "down") == found
    renamed = [r | {"sample_id": r["sample_id"][::-1]} for r in records]
    assert difference(renamed, "mine", "random", "down") == found


def test_targets_that_one_explainer_lacks_are_unmatched():
    records = audit()
    lost = next(r for r in records if r["explainer"] == "random")
    found = difference([r for r in records if r is not lost], "mine", "random", "up")
    whole = difference(records, "mine", "random", "up")
    assert (found.unmatched, found.targets) == (1, whole.targets - 1)


def test_targets_of_images_that_share_a_name_pair_up_in_their_order():
    values = {"a": [0.1, 0.5, 0.9], "b": [0.0, 0.3, 0.6]}
    records = [row("scan", e, up=v) for e in values for v in values[e]] + [row("other", e, up=1.0) for e in values]
    found = difference(records, "a", "b", "up")
    assert found.mean == pytest.approx(((0.1 + 0.2 + 0.3) / 3 + 0) / 2)  # every image has equal weight
    assert (found.images, found.targets, found.unmatched) == (2, 4, 0)


# compare


def test_compare_pairs_targets_of_two_audits():
    records_a, records_b = audit(3), audit(4)  # other classes are found in some images
    found = compare(records_a, records_b)
    assert set(found) == {(e, s) for e in ("random", "mine", "target_mask") for s in ("up", "down")}
    for (explainer, score), change in found.items():
        sides = [
            {(r["sample_id"], r["class_index"]): r[score] for r in records if r["explainer"] == explainer}
            for records in (records_a, records_b)
        ]
        both = [(key[0], sides[0][key] - sides[1][key]) for key in sides[0] if key in sides[1]]
        check_paired(change, both)
        assert change.unmatched == len(set(sides[0]) ^ set(sides[1])) > 0


def test_compare_does_not_mind_the_area_the_order_or_what_only_one_side_has():
    records = audit()
    other = [r | {"area": 0.3, "new": 1.0} for r in reversed(records)] + [row("image 0", "lime", up=1.0)]
    found = compare(records, other)
    assert set(found) == {(e, s) for e in ("random", "mine", "target_mask") for s in ("up", "down")}
    assert all(change.mean == 0 and change.p_value == 1 and change.unmatched == 0 for change in found.values())


def test_compare_of_other_images_finds_nothing_and_says_how_much_it_left_out():
    records = audit()
    found = compare(records, [r | {"sample_id": "b" + r["sample_id"]} for r in records])["mine", "up"]
    assert math.isnan(found.mean)
    assert (found.targets, found.unmatched) == (0, 2 * sum(r["explainer"] == "mine" for r in records))


def test_only_targets_with_equal_fills_are_compared():
    records = [r | {"fill": "dark" if r["sample_id"] < "image 4" else "bright"} for r in audit()]
    other = [r | {"fill": "dark", "up": r["up"] - 0.5} for r in records]
    found, alike = compare(records, other)["mine", "up"], compare(records, records)["mine", "up"]
    dark = sum(r["explainer"] == "mine" and r["fill"] == "dark" for r in records)
    assert (found.targets, found.unmatched, found.images) == (dark, alike.targets - dark, 4)
    assert found.mean == pytest.approx(0.5)
    assert alike.unmatched == 0
    unsaid = compare([{k: v for k, v in r.items() if k != "fill"} for r in records], records)["mine", "up"]
    assert (unsaid.targets, unsaid.unmatched) == (0, alike.targets)  # nobody knows whether the fills are equal
    mixed = [r | {"fill": r["explainer"]} for r in records]
    assert difference(mixed, "mine", "random", "up").targets == 0
    assert relative(mixed, "up", "mine", ceiling="target_mask").targets == 0


def test_differences_are_clipped_and_averaged_by_group():
    values = {"a": (1.4, 0.2), "b": (0.6, 0.1), "c": (0.9, -3.0)}
    group = {"a": "p", "b": "p", "c": ""}
    records = [
        row(image, e, up=v) | {"group": group[image]}
        for image, pair in values.items()
        for e, v in zip(("one", "other"), pair, strict=True)
    ]
    found = difference(records, "one", "other", "up", ranges={"up": (0.0, 1.0)})
    assert found.mean == pytest.approx(((0.8 + 0.5) / 2 + 0.9) / 2)
    assert (found.images, found.targets, found.units, found.clipped) == (3, 3, 2, pytest.approx(2 / 6))
    assert found.p_value == 0.5
    assert difference(records, "one", "other", "up").clipped == 0


def test_compare_refuses_targets_that_it_cannot_tell_apart():
    records = audit()
    with pytest.raises(ValueError, match="image 'image 0' twice"):
        compare(records, [*records, records[0]])


# relative


def test_relative_to_one_control_is_the_difference():
    records = audit()
    found = relative(records, "up", "mine")
    assert found[:6] == difference(records, "mine", "random", "up")[:6]
    assert (found.units, found.method) == (9, "t")
    assert relative(records, "up", "mine", control="target_mask").mean < 0


@pytest.mark.parametrize("score", ["up", "down"])
def test_relative_to_two_controls_against_a_slow_loop(score):
    records = audit(5, images=20)
    targets = scored(records, score, "mine", "random", "target_mask")
    groups = clusters([(image, (mine - rand, mask - rand)) for image, (mine, rand, mask) in targets])
    rng, ratios = random.Random(0), []
    for _ in range(4000):
        drawn = [pair for _ in groups for pair in rng.choice(groups)]
        ratios.append(sum(top for top, _ in drawn) / sum(bottom for _, bottom in drawn))
    everything = [pair for group in groups for pair in group]

    found = relative(records, score, "mine", ceiling="target_mask", draws=10_000)

    assert found.mean == pytest.approx(sum(top for top, _ in everything) / sum(bottom for _, bottom in everything))
    assert found[1:3] == pytest.approx(expanded(ratios, len(groups)), abs=0.1 * (found.high - found.low))
    assert 0.4 < found.low < found.mean < found.high < 0.8
    assert found[3:5] == (len(groups), len(targets))


def test_relative_is_0_at_the_control_and_1_at_the_ceiling_whatever_the_unit():
    records = audit(6)
    assert relative(records, "up", "random", ceiling="target_mask")[:3] == (0, 0, 0)
    assert relative(records, "up", "target_mask", ceiling="target_mask")[:3] == (1, 1, 1)
    found = relative(records, "up", "mine", ceiling="target_mask")
    other = [r | {"up": 5 - 3 * r["up"]} for r in records]
    assert relative(other, "up", "mine", ceiling="target_mask")[:3] == pytest.approx(found[:3], abs=1e-12)
    assert relative(random.Random(0).sample(records, len(records)), "up", "mine", ceiling="target_mask") == found


def test_relative_has_no_ends_where_the_controls_cannot_be_told_apart():
    levels = {"random": [0.0] * 10, "mine": [0.3] * 10, "target_mask": [1.0, -0.8] * 5}
    records = [row(i, e, up=levels[e][i]) for i in range(10) for e in levels]
    found = relative(records, "up", "mine", ceiling="target_mask")
    assert found.mean == pytest.approx(3)
    assert math.isnan(found.low)
    assert math.isnan(found.high)
    assert math.isnan(relative(records, "up", "mine", ceiling="random").mean)


# holm


def slow_holm(p_values: list[float]) -> list[float]:
    known = [p for p in p_values if not math.isnan(p)]

    def adjusted(p: float) -> float:
        # The smallest level at which this and all smaller ones are rejected, step by step.
        return min(1.0, max((len(known) - sum(o < q for o in known)) * q for q in known if q <= p))

    return [p if math.isnan(p) else adjusted(p) for p in p_values]


def test_holm():
    rng = random.Random(0)
    for size in (1, 2, 5, 12):
        p_values = [rng.random() ** 3 for _ in range(size)]
        assert holm(p_values).tolist() == pytest.approx(slow_holm(p_values), abs=1e-12)
        assert holm(p_values[::-1]).tolist() == holm(p_values).tolist()[::-1]
    with_gaps = [0.01, NAN, 0.01, 0.5, NAN]
    assert holm(with_gaps).tolist() == pytest.approx(slow_holm(with_gaps), nan_ok=True)
    assert holm(with_gaps)[0] == pytest.approx(0.03)
    assert holm([]).tolist() == []
    p_values = np.array([0.04, 0.01])
    holm(p_values)
    assert p_values.tolist() == [0.04, 0.01]


# auroc and spearman


def slow_auroc(scores: list[float], labels: list[int]) -> float:
    pairs = [(a, b) for a, x in zip(scores, labels, strict=True) for b, y in zip(scores, labels, strict=True) if x > y]
    return sum(1.0 if a > b else 0.5 if a == b else 0.0 for a, b in pairs) / len(pairs)


@pytest.mark.parametrize("positives", [1, 3, 6])
def test_auroc_and_its_p_value_against_all_ways_to_deal_the_labels(positives):
    rng = random.Random(positives)
    for levels in (3, 100):  # with many ties and with few
        scores = [rng.randint(0, levels) / 7 for _ in range(9)]
        labels = [int(i < positives) for i in range(9)]
        dealt = [slow_auroc(scores, [int(i in chosen) for i in range(9)]) for chosen in combinations(range(9), positives)]
        seen = slow_auroc(scores, labels)
        found = auroc(scores, labels)
        assert found.value == pytest.approx(seen, abs=1e-12)
        extreme = sum(abs(value - 0.5) >= abs(seen - 0.5) - 1e-9 for value in dealt)
        assert found.p_value == pytest.approx(extreme / len(dealt), abs=1e-12)
        assert found.low <= found.value <= found.high


def test_auroc_against_scipy():
    rng = np.random.default_rng(0)
    for size, method in ((18, "exact"), (80, "exact"), (120, "asymptotic")):
        scores, labels = rng.normal(size=size), np.arange(size) % 3 == 0
        theirs = stats.mannwhitneyu(scores[labels], scores[~labels], method=method)
        found = auroc(scores, labels)
        assert found.value == pytest.approx(theirs.statistic / (labels.sum() * (~labels).sum()), abs=1e-12)
        assert found.p_value == pytest.approx(theirs.pvalue, abs=1e-9)


def test_the_interval_of_an_auroc_solves_its_equation():
    scores, labels = [0.1, 0.4, 0.35, 0.8, 0.7, 0.2, 0.4], [0, 0, 1, 1, 1, 0, 1]
    found = auroc(scores, labels, level=0.9)
    z = stats.norm.ppf(0.95)
    for true in (found.low, found.high):  # Hanley and McNeil's variance with both sizes replaced by 7 / 2 - 1
        q1, q2 = true / (2 - true), 2 * true**2 / (1 + true)
        variance = (true * (1 - true) + 2.5 * (q1 - true**2 + q2 - true**2)) / (4 * 3)
        assert abs(found.value - true) == pytest.approx(z * math.sqrt(variance), abs=1e-9)


@pytest.mark.parametrize("shift", [0.5, 2.0, 3.0])
def test_the_interval_of_an_auroc_holds_the_truth_as_often_as_it_says(shift):
    rng, trials, held = np.random.default_rng(1), 600, 0
    true = stats.norm.cdf(shift / math.sqrt(2))
    labels = np.repeat([1, 0], 8)
    for _ in range(trials):
        found = auroc(rng.normal(size=16) + shift * labels, labels)
        held += found.low <= true <= found.high
    assert 0.92 <= held / trials <= 0.985


def test_auroc_of_perfect_separation_does_not_claim_certainty():
    found = auroc([1, 2, 3, 4, 5, 6], [0, 0, 0, 1, 1, 1])
    assert found.value == found.high == 1
    assert 0.3 < found.low < 0.7
    assert found.p_value == pytest.approx(2 / 20)
    turned = auroc([1, 2, 3, 4, 5, 6], [1, 1, 1, 0, 0, 0])
    assert turned[:3] == pytest.approx((0, 0, 1 - found.low))


def test_auroc_of_what_cannot_be_ranked():
    assert auroc([1.0, 1.0, 1.0, 1.0], [0, 1, 0, 1]).value == 0.5
    assert auroc([1.0, 1.0, 1.0, 1.0], [0, 1, 0, 1]).p_value == 1
    assert repr(auroc([0.3, NAN], [1, 0])) == repr(Association(NAN, NAN, NAN, 1, 1, NAN))
    assert repr(auroc([], [])) == repr(Association(NAN, NAN, NAN, 0, 0, NAN))
    scores, labels = [0.1, NAN, 0.5, 0.2], [0, 1, 1, 0]
    assert auroc(scores, labels) == auroc([0.1, 0.5, 0.2], [0, 1, 0])._replace(unscored=1)


def test_spearman_and_its_p_value_against_all_pairings():
    rng = random.Random(0)
    for levels in (3, 100):
        a, b = ([float(rng.randint(0, levels)) for _ in range(6)] for _ in range(2))
        seen = stats.spearmanr(a, b).statistic
        others = [stats.spearmanr(a, list(p)).statistic for p in permutations(b)]
        found = spearman(a, b)
        assert found.value == pytest.approx(seen, abs=1e-12)
        above, below = (sum(sign * o >= sign * seen - 1e-9 for o in others) / len(others) for sign in (1, -1))
        assert found.p_value == pytest.approx(min(1, 2 * min(above, below)), abs=1e-12)


def test_the_interval_of_spearman_against_scipy():
    rng = np.random.default_rng(0)
    a = rng.normal(size=20)
    b = a + rng.normal(size=20)
    theirs = stats.bootstrap(
        (a, b),
        lambda x, y: stats.spearmanr(x, y).statistic,
        paired=True,
        vectorized=False,
        method="percentile",
        n_resamples=3000,
        random_state=np.random.default_rng(1),
    ).confidence_interval
    found = spearman(a, b, draws=20_000)
    assert found[1:3] == pytest.approx(tuple(theirs), abs=0.04)
    assert found.p_value == pytest.approx(stats.spearmanr(a, b).pvalue, abs=0.01)


def test_spearman_depends_on_ranks_alone_and_not_on_the_order():
    rng = np.random.default_rng(2)
    a, b = rng.normal(size=(2, 12))
    found = spearman(a, b)
    order = rng.permutation(12)
    assert spearman(a[order], b[order]) == found
    assert spearman(np.exp(a), b**3) == found
    assert spearman(np.r_[a, NAN, 1.0], np.r_[b, 1.0, NAN]) == found._replace(unscored=2)
    assert spearman(a, -b).value == pytest.approx(-found.value)


def test_spearman_of_what_cannot_be_told():
    perfect = spearman([1, 2, 3, 4, 5], [2, 4, 6, 8, 9])
    assert (perfect.value, perfect.p_value) == pytest.approx((1, 2 / 120))
    assert math.isnan(perfect.low)
    assert math.isnan(perfect.high)
    assert repr(spearman([1, 1, 1], [1, 2, 3])) == repr(Association(NAN, NAN, NAN, 3, 0, NAN))
    assert repr(spearman([], [])) == repr(Association(NAN, NAN, NAN, 0, 0, NAN))
