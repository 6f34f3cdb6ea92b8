"""Rows of the table for scores of subsets, curves and imputation."""

import math
from itertools import pairwise

import numpy as np
from _slow import NAN, Score, slow_cosine, slow_spearman, slow_without

import segaudit.functional as functional
import segaudit.metrics as metrics


def slow_infidelity(sums: np.ndarray, effects: np.ndarray) -> float:
    a, e = sums.tolist(), effects.tolist()
    if not all(math.isfinite(v) for v in (*a, *e)) or not any(e):
        return NAN
    square = sum(v * v for v in a)
    scale = max(0.0, sum(v * w for v, w in zip(a, e, strict=True)) / square) if square else 0.0
    return sum((scale * v - w) ** 2 for v, w in zip(a, e, strict=True)) / sum(w * w for w in e)


def slow_deviations(values: np.ndarray, sizes: np.ndarray) -> dict[int, list[float]]:
    """Values less the mean of their size, in units of the largest, by size; zeros where the rest is rounding."""
    largest = max(abs(v) for v in values.tolist()) or 1.0
    values = values / largest
    found = {}
    for size in sorted(set(sizes.tolist())):
        of_size = [v for v, s in zip(values.tolist(), sizes.tolist(), strict=True) if s == size]
        mean = sum(of_size) / len(of_size)
        apart = [v - mean for v in of_size]
        found[size] = apart if max(abs(v) for v in apart) > 1e-6 else [0.0] * len(apart)
    return found


def slow_correlations(sums: np.ndarray, effects: np.ndarray, sizes: np.ndarray, area: np.ndarray, pooled: bool) -> float:
    if not all(math.isfinite(v) for v in (*sums.tolist(), *effects.tolist(), *area.tolist())):
        return NAN
    a, e, p = (slow_deviations(v, sizes) for v in (sums, effects, area))
    rows = [([v for size in a for v in a[size]], [v for size in a for v in e[size]], [v for size in a for v in p[size]])]
    rows = rows if pooled else [(a[size], e[size], p[size]) for size in a]
    found = [slow_cosine(slow_without(x, z), slow_without(y, z)) for x, y, z in rows]
    found = [v for v in found if not math.isnan(v)]
    return sum(found) / len(found) if found else NAN


def slow_at(k: float, curve: np.ndarray, q: np.ndarray, floor: float) -> float:
    if not all(math.isfinite(v) for v in curve) or floor > 0.5:
        return NAN
    for (low, start), (high, end) in pairwise(zip(q.tolist(), curve.tolist(), strict=True)):
        if low < k <= high:
            return start + (end - start) * (k - low) / (high - low)
    raise AssertionError("the curve does not reach k")


def slow_comprehensiveness(curve: np.ndarray, q: np.ndarray, k: float = 0.1) -> float:
    return 1 - slow_at(k, curve, q, curve[-1])


def slow_sufficiency(curve: np.ndarray, q: np.ndarray, k: float = 0.1) -> float:
    return 1 - slow_at(k, curve, q, curve[0])


def slow_monotonicity(curve: np.ndarray) -> float:
    if not all(math.isfinite(v) for v in curve) or curve[0] > 0.5:
        return NAN
    steps = [float(b) - float(a) for a, b in pairwise(curve)]
    ups, downs = sum(s for s in steps if s > 0), sum(-s for s in steps if s < 0)
    return ups / (ups + downs) if ups + downs else NAN


def slow_irof(curve: np.ndarray, q: np.ndarray) -> float:
    floor = float(curve[-1])
    if not all(math.isfinite(v) for v in curve) or floor > 0.5:
        return NAN
    over = 0.0
    for (low, start), (high, end) in pairwise(zip(q.tolist(), curve.tolist(), strict=True)):
        over += (high - low) * (1 - (start + end) / 2)
    return over / (1 - floor)


def slow_road(deletion: np.ndarray, retention: np.ndarray) -> float:
    gains = [(float(least) - float(most)) / 2 for most, least in zip(deletion, retention, strict=True)]
    return sum(gains) / len(gains) if all(math.isfinite(v) for v in gains) else NAN


def slow_randomisation(a: np.ndarray, randomised: np.ndarray) -> float:
    if not np.isfinite(randomised).all():
        return NAN
    found = [v for v in (slow_spearman(a.ravel().tolist(), r.ravel().tolist()) for r in randomised) if not math.isnan(v)]
    return sum(found) / len(found) if found else NAN


def slow_randomisation_full(a: np.ndarray, randomised: np.ndarray) -> float:
    return slow_spearman(a.ravel().tolist(), randomised[-1].ravel().tolist())


F, M = functional, metrics
DELETION, INSERTION = ("deletion_curve", "deletion_fractions"), ("insertion_curve", "insertion_fractions")
SUBSETS = ("subset_attribution", "subset_effect", "subset_size", "subset_area")
RANDOMISED = ("attribution", "randomised_attribution")

ROWS: dict[str, Score] = {
    "infidelity": Score(M.Infidelity, F.infidelity, SUBSETS[:2], slow_infidelity, False),
    "faithfulness_correlation": Score(
        M.FaithfulnessCorrelation, F.faithfulness_correlation, SUBSETS, lambda *e: slow_correlations(*e, True), True
    ),
    "sensitivity_n": Score(M.SensitivityN, F.sensitivity_n, SUBSETS, lambda *e: slow_correlations(*e, False), True),
    "comprehensiveness": Score(M.Comprehensiveness, F.comprehensiveness, DELETION, slow_comprehensiveness, True),
    "comprehensiveness_1": Score(
        M.Comprehensiveness, F.comprehensiveness, DELETION, slow_comprehensiveness, True, {"k": 0.6}
    ),
    "sufficiency": Score(M.Sufficiency, F.sufficiency, INSERTION, slow_sufficiency, False),
    "sufficiency_1": Score(M.Sufficiency, F.sufficiency, INSERTION, slow_sufficiency, False, {"k": 0.6}),
    "monotonicity": Score(M.Monotonicity, F.monotonicity, INSERTION[:1], slow_monotonicity, True),
    "irof": Score(M.IROF, F.irof, ("segment_deletion_curve", "segment_deletion_fractions"), slow_irof, True),
    "road": Score(M.ROAD, F.road, ("road_deletion", "road_retention"), slow_road, True),
    "randomisation": Score(M.Randomisation, F.randomisation, RANDOMISED, slow_randomisation, False),
    "randomisation_full": Score(M.RandomisationFull, F.randomisation_full, RANDOMISED, slow_randomisation_full, False),
}

#: What can't be scored: (score, evidence that is changed, how), see tests/functional/test_every_score.py.
UNSCORABLE: list[tuple[str, str, str]] = [
    *[
        (n, which, v)
        for n in ("infidelity", "faithfulness_correlation", "sensitivity_n")
        for which in SUBSETS[:2]
        for v in ("nan", "inf", "-inf")
    ],
    ("infidelity", "subset_effect", "zero"),  # a map of zeros has 1
    *[
        (n, which, v)
        for n in ("faithfulness_correlation", "sensitivity_n")
        for which in SUBSETS[:2]
        for v in ("zero", "constant")
    ],
    *[("comprehensiveness", "deletion_curve", v) for v in ("nan", "inf", "-inf", "weak")],
    *[(n, "insertion_curve", v) for n in ("sufficiency", "monotonicity") for v in ("nan", "inf", "-inf", "weak")],
    *[("monotonicity", "insertion_curve", v) for v in ("zero", "constant")],
    *[("irof", "segment_deletion_curve", v) for v in ("nan", "inf", "-inf")],
    *[("road", which, v) for which in ("road_deletion", "road_retention") for v in ("nan", "inf", "-inf")],
    *[
        (n, "attribution", v)
        for n in ("randomisation", "randomisation_full")
        for v in ("nan", "inf", "-inf", "zero", "constant")
    ],
    *[("randomisation", "randomised_attribution", v) for v in ("nan", "inf", "-inf")],  # in one level
    *[(n, "randomised_attribution", v) for n in ("randomisation", "randomisation_full") for v in ("zero", "constant")],
]
