"""Rows of the table for scores of maps: localisation, complexity, stability, agreement with effects."""

import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
from _slow import NAN, Score, places, slow_cosine, slow_ranks, slow_share, slow_spearman, slow_without

import segaudit.functional as functional
import segaudit.metrics as metrics


def slow_says(a: np.ndarray, region: np.ndarray | None = None) -> bool:
    """Whether a map is finite and not constant, and its region, where there is one, not empty."""
    values = a.ravel().tolist()
    return all(math.isfinite(v) for v in values) and min(values) < max(values) and (region is None or bool(region.any()))


def slow_top(values: list[float], count: int) -> list[float]:
    """Chance of each value to be among the ``count`` largest where ties are broken at random."""
    chances = []
    for v in values:
        above, tied = sum(w > v for w in values), sum(w == v for w in values)
        chances.append(min(1.0, max(0.0, (count - above) / tied)))
    return chances


def slow_pointing(a: np.ndarray, region: np.ndarray, tolerance: int = 0) -> float:
    def near_it(p: tuple[int, ...]) -> bool:
        return any(region[r] and max(abs(x - y) for x, y in zip(p, r, strict=True)) <= tolerance for r in places(region))

    if not slow_says(a, region) or region.all():
        return NAN
    highest = max(float(a[p]) for p in places(a))
    near = [near_it(p) for p in places(a) if a[p] == highest]
    return sum(near) / len(near)


def slow_mass(a: np.ndarray, region: np.ndarray) -> float:
    return slow_share(a, region, region) if slow_says(a, region) and not region.all() else NAN


def slow_rank(a: np.ndarray, region: np.ndarray) -> float:
    if not slow_says(a, region) or region.all():
        return NAN
    inside = region.ravel().tolist()
    chances = slow_top(a.ravel().tolist(), sum(inside))
    return sum(c for c, i in zip(chances, inside, strict=True) if i) / sum(inside)


def slow_auc(a: np.ndarray, region: np.ndarray) -> float:
    if not slow_says(a, region) or region.all():
        return NAN
    inside = [float(a[p]) for p in places(a) if region[p]]
    outside = [float(a[p]) for p in places(a) if not region[p]]
    return sum((v > w) + (v == w) / 2 for v in inside for w in outside) / (len(inside) * len(outside))


def slow_sizes(a: np.ndarray) -> list[float]:
    values = [abs(v) for v in a.ravel().tolist()]
    return values if all(math.isfinite(v) for v in values) and sum(values) else []


def slow_gini(a: np.ndarray) -> float:
    """Mean absolute difference of two pixels over twice the mean."""
    v = slow_sizes(a)
    return sum(abs(x - y) for x in v for y in v) / (2 * len(v) * sum(v)) if v else NAN


def slow_entropy(a: np.ndarray) -> float:
    v = slow_sizes(a)
    return -sum(x / sum(v) * math.log(x / sum(v)) for x in v if x) / math.log(len(v)) if len(v) > 1 else NAN


def slow_pearson(a: list[float], b: list[float]) -> float:
    if not all(math.isfinite(v) for v in (*a, *b)) or min(a) == max(a) or min(b) == max(b):
        return NAN
    found = []
    for values in (a, b):
        largest = max(map(abs, values))
        mean = sum(v / largest for v in values) / len(values)
        found.append([v / largest - mean for v in values])
    return float(sum(v * w for v, w in zip(*found, strict=True)) / math.prod(math.hypot(*values) for values in found))


def slow_pairs(correlate: Callable[[list[float], list[float]], float]) -> Callable[..., float]:
    def score(a: np.ndarray, perturbed: np.ndarray, kept: np.ndarray) -> float:
        found = [correlate(a.ravel().tolist(), p.ravel().tolist()) for p, k in zip(perturbed, kept, strict=True) if k]
        return sum(found) / len(found) if found else NAN

    return score


def slow_sensitivity(a: np.ndarray, perturbed: np.ndarray, kept: np.ndarray) -> float:
    first, found = a.ravel().tolist(), []
    for p, k in zip(perturbed, kept, strict=True):
        if k:
            other = p.ravel().tolist()
            if not all(math.isfinite(v) for v in (*first, *other)) or not any(first):
                return NAN
            change = math.sqrt(sum((v - w) ** 2 for v, w in zip(first, other, strict=True)))
            found.append(change / math.sqrt(sum(v * v for v in first)))
    return max(found) if found and max(found) <= torch.finfo(torch.float32).max else NAN


def slow_overlap(a: np.ndarray, perturbed: np.ndarray, kept: np.ndarray, k: float = 0.1) -> float:
    pairs = [p for p, keep in zip(perturbed, kept, strict=True) if keep]
    if not pairs or not all(slow_says(m) for m in (a, *pairs)):
        return NAN
    count = max(1, round(k * a.size))
    one, total = slow_top(a.ravel().tolist(), count), 0.0
    for p in pairs:
        other = slow_top(p.ravel().tolist(), count)
        scale = math.sqrt(sum(v * v for v in one)) * math.sqrt(sum(v * v for v in other))
        total += sum(v * w for v, w in zip(one, other, strict=True)) / scale
    return total / len(pairs)


def slow_partitions(means: np.ndarray, effects: np.ndarray) -> Iterator[tuple[list[float], list[float]]]:
    for a, e in zip(means.tolist(), effects.tolist(), strict=True):
        has = [not math.isnan(v) for v in e]
        yield [v for v, h in zip(a, has, strict=True) if h], [v for v in e if not math.isnan(v)]


def slow_calibration(means: np.ndarray, effects: np.ndarray, areas: np.ndarray) -> float:
    found = []
    for a, e, p in zip(means, effects, areas, strict=True):
        rows = [(x, y, z) for x, y, z in zip(a.tolist(), e.tolist(), p.tolist(), strict=True) if not math.isnan(y)]
        if not all(math.isfinite(v) for row in rows for v in row):
            return NAN
        if rows:
            claimed, worth, area = ([r - (len(rows) + 1) / 2 for r in slow_ranks(list(v))] for v in zip(*rows, strict=True))
            found.append(slow_cosine(slow_without(claimed, area), slow_without(worth, area)))
    found = [v for v in found if not math.isnan(v)]
    return sum(found) / len(found) if found else NAN


def slow_calibration_error(means: np.ndarray, effects: np.ndarray) -> float:
    pairs = list(slow_partitions(means, effects))
    if not all(math.isfinite(v) for a, e in pairs for v in (*a, *e)):
        return NAN
    found = []
    for a, e in pairs:
        credit, worth = sum(v for v in a if v > 0), sum(v for v in e if v > 0)
        if credit and worth:  # what would have to move
            found.append(sum(max(0, max(0, v) / credit - max(0, w) / worth) for v, w in zip(a, e, strict=True)))
    return sum(found) / len(found) if found else NAN


F, M = functional, metrics
PLACE, PAIRS = ("attribution", "region"), ("attribution", "perturbed_attribution", "kept")
REGIONS = ("segment_attribution", "segment_effect")

ROWS: dict[str, Score] = {
    "pointing_game": Score(M.PointingGame, F.pointing_game, PLACE, slow_pointing, True),
    "pointing_game_1": Score(M.PointingGame, F.pointing_game, PLACE, slow_pointing, True, {"tolerance": 1}),
    "relevance_mass": Score(M.RelevanceMass, F.relevance_mass, PLACE, slow_mass, True),
    "relevance_rank": Score(M.RelevanceRank, F.relevance_rank, PLACE, slow_rank, True),
    "localisation_auc": Score(M.LocalisationAUC, F.localisation_auc, PLACE, slow_auc, True),
    "sparseness": Score(M.Sparseness, F.sparseness, PLACE[:1], slow_gini, True),
    "entropy": Score(M.Entropy, F.entropy, PLACE[:1], slow_entropy, False),
    "stability_raw": Score(M.StabilityRaw, F.stability_raw, PAIRS, slow_pairs(slow_spearman), True),
    "robustness_pearson": Score(M.RobustnessPearson, F.robustness_pearson, PAIRS, slow_pairs(slow_pearson), True),
    "max_sensitivity": Score(M.MaxSensitivity, F.max_sensitivity, PAIRS, slow_sensitivity, False),
    "topk_overlap": Score(M.TopkOverlap, F.topk_overlap, PAIRS, slow_overlap, True),
    "topk_overlap_1": Score(M.TopkOverlap, F.topk_overlap, PAIRS, slow_overlap, True, {"k": 0.4}),
    "effect_calibration": Score(
        M.EffectCalibration, F.effect_calibration, (*REGIONS, "segment_area"), slow_calibration, True
    ),
    "effect_calibration_error": Score(
        M.EffectCalibrationError, F.effect_calibration_error, REGIONS, slow_calibration_error, False
    ),
    "forwards": Score(M.Forwards, lambda f: f, ("forwards",), float, False),
}

#: See tests/_scores.py.
RANKED = {
    "stability_raw",
    "pointing_game",
    "pointing_game_1",
    "relevance_rank",
    "localisation_auc",
    "topk_overlap",
    "topk_overlap_1",
    "effect_calibration",
}

#: What can't be scored: (score, evidence that is changed, how), see tests/functional/test_every_score.py.
UNSCORABLE: list[tuple[str, str, str]] = [
    *[
        (n, "attribution", v)
        for n in (
            "pointing_game",
            "relevance_mass",
            "relevance_rank",
            "localisation_auc",
            "topk_overlap",
            "stability_raw",
            "robustness_pearson",
        )
        for v in ("nan", "inf", "-inf", "zero", "constant")
    ],
    ("relevance_mass", "attribution", "negative"),
    *[(n, "region", "empty") for n in ("pointing_game", "relevance_mass", "relevance_rank", "localisation_auc")],
    *[(n, "region", "whole") for n in ("pointing_game", "relevance_mass", "relevance_rank", "localisation_auc")],
    *[(n, "attribution", v) for n in ("sparseness", "entropy", "max_sensitivity") for v in ("nan", "inf", "-inf", "zero")],
    *[(n, "perturbed_attribution", v) for n in ("max_sensitivity", "topk_overlap") for v in ("nan", "inf", "-inf")],
    *[("topk_overlap", "perturbed_attribution", v) for v in ("zero", "constant")],
    *[(n, "kept", "empty") for n in ("max_sensitivity", "topk_overlap", "stability_raw", "robustness_pearson")],
    ("stability", "chance", "nan"),
    *[
        (n, which, v)
        for n in ("effect_calibration", "effect_calibration_error")
        for which, v in [
            *[("segment_attribution", v) for v in ("nan", "inf", "-inf", "zero")],
            *[("segment_effect", v) for v in ("inf", "-inf", "zero")],
        ]
    ],
    *[("effect_calibration", which, "constant") for which in REGIONS],
    *[("effect_calibration_error", which, "negative") for which in REGIONS],
]
