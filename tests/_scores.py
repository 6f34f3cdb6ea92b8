"""The table of scores: function, class, evidence and a slow reference for each.

A new score may have its reference here, or in a file under tests/functional that calls segaudit.testing.check_metric.
"""

import math

import _scores_faithfulness
import _scores_maps
import numpy as np
from _slow import NAN, Score, places, slow_share, slow_spearman
from torch import Tensor

import segaudit.functional as functional
import segaudit.metrics as metrics
from segaudit.testing.random_evidence import SHARED as COMMON
from segaudit.testing.random_evidence import pick
from segaudit.testing.random_evidence import random_evidence as evidence

__all__ = ["COMMON", "COSTS", "NAN", "PLACE_MATTERS", "RANKED", "SCORES", "Score", "evidence", "mean", "pick", "slow_values"]


def slow_area(curve: np.ndarray, q: np.ndarray, floor: float) -> float:
    if not all(math.isfinite(v) for v in curve) or floor > 0.5:
        return NAN
    area = 0.0
    for k in range(len(q) - 1):
        area += (q[k + 1] - q[k]) * (curve[k] + curve[k + 1]) / 2
    return (area - floor) / (1 - floor)


def slow_deletion(curve: np.ndarray, q: np.ndarray) -> float:
    return slow_area(curve, q, curve[-1])


def slow_insertion(curve: np.ndarray, q: np.ndarray) -> float:
    return slow_area(curve, q, curve[0])


def slow_gap(deletion: np.ndarray, q: np.ndarray, insertion: np.ndarray, p: np.ndarray) -> float:
    return slow_insertion(insertion, p) - slow_deletion(deletion, q)


def slow_curve_error(deletion: float, insertion: float, score: float, filled: float) -> float:
    left = slow_relative(score, filled)
    if not all(math.isfinite(v) for v in (deletion, insertion, left)) or left > 0.5:
        return NAN
    return max(deletion, insertion) / (1 - left)


def slow_dilate(region: np.ndarray, pixels: int) -> np.ndarray:
    grown = np.zeros_like(region)
    for p in places(region):
        for r in places(region):
            if region[r] and max(abs(a - b) for a, b in zip(p, r, strict=True)) <= pixels:
                grown[p] = True
                break
    return grown


def slow_leakage(a: np.ndarray, region: np.ndarray, tolerance: int = 0) -> float:
    grown = slow_dilate(region, tolerance)
    return NAN if grown.all() else slow_share(a, ~grown, region)


def slow_unsupported(
    a: np.ndarray, region: np.ndarray, effect: np.ndarray, tolerance: int = 0, epsilon: float = 0.01
) -> float:
    grown = slow_dilate(region, tolerance)
    if grown.all() or not all(math.isfinite(effect[p]) for p in places(effect)):
        return NAN
    where = np.zeros_like(region)
    for p in places(region):
        where[p] = not grown[p] and effect[p] <= epsilon
    return slow_share(a, where, region)


def slow_stability(a: np.ndarray, perturbed: np.ndarray, kept: np.ndarray, chance: float) -> float:
    found = [slow_spearman(a.ravel().tolist(), p.ravel().tolist()) for p, k in zip(perturbed, kept, strict=True) if k]
    return (sum(found) / len(found) - chance) / (1 - chance) if found and chance <= 0.99 else NAN


def slow_retention(kept: np.ndarray) -> float:
    return sum(bool(k) for k in kept) / len(kept)


def slow_relative(score: float, other: float) -> float:
    return float(other) / float(score) if score >= 0.05 else NAN


#: What is evidence and score at once, and no function's.
COSTS = {"seconds", "forwards"}
#: Rows that depend on the order of a map's values alone, and those for which it matters which pixels are neighbours.
RANKED = {"stability", "randomisation", "randomisation_full", *_scores_maps.RANKED}
PLACE_MATTERS = {"off_target_leakage_1", "unsupported_leakage_1", "pointing_game_1"}

F, M = functional, metrics
SCORES: dict[str, Score] = {
    "deletion_auc": Score(M.DeletionAUC, F.deletion_auc, ("deletion_curve", "deletion_fractions"), slow_deletion, False),
    "insertion_auc": Score(
        M.InsertionAUC, F.insertion_auc, ("insertion_curve", "insertion_fractions"), slow_insertion, True
    ),
    "faithfulness_gap": Score(
        M.FaithfulnessGap,
        F.faithfulness_gap,
        ("deletion_curve", "deletion_fractions", "insertion_curve", "insertion_fractions"),
        slow_gap,
        True,
    ),
    "second_fill_gap": Score(
        M.SecondFillGap,
        F.second_fill_gap,
        (
            "second_deletion_curve",
            "second_deletion_fractions",
            "second_insertion_curve",
            "second_insertion_fractions",
        ),
        slow_gap,
        True,
    ),
    "curve_error": Score(
        M.CurveError,
        F.curve_error,
        ("deletion_error", "insertion_error", "confidence", "filled_confidence"),
        slow_curve_error,
        False,
    ),
    "fill_residual": Score(M.FillResidual, F.fill_residual, ("confidence", "filled_confidence"), slow_relative, False),
    "off_target_leakage": Score(M.OffTargetLeakage, F.off_target_leakage, ("attribution", "region"), slow_leakage, False),
    "off_target_leakage_1": Score(
        M.OffTargetLeakage, F.off_target_leakage, ("attribution", "region"), slow_leakage, False, {"tolerance": 1}
    ),
    "unsupported_leakage": Score(
        M.UnsupportedLeakage, F.unsupported_leakage, ("attribution", "region", "effect_map"), slow_unsupported, False
    ),
    "unsupported_leakage_1": Score(
        M.UnsupportedLeakage,
        F.unsupported_leakage,
        ("attribution", "region", "effect_map"),
        slow_unsupported,
        False,
        {"tolerance": 1, "epsilon": 0.3},
    ),
    "stability": Score(
        M.Stability, F.stability, ("attribution", "perturbed_attribution", "kept", "chance"), slow_stability, True
    ),
    "stability_retention": Score(M.StabilityRetention, F.stability_retention, ("kept",), slow_retention, True),
    "cue_mass": Score(M.CueMass, F.cue_mass, ("attribution", "cue"), lambda a, c: slow_share(a, c, c), None),
    "cue_effect": Score(
        M.CueEffect, F.cue_effect, ("confidence", "confidence_without_cue"), lambda s, w: 1 - slow_relative(s, w), None
    ),
    "seconds": Score(M.Seconds, lambda s: s, ("seconds",), float, False),
    **_scores_faithfulness.ROWS,
    **_scores_maps.ROWS,
}


def slow_values(score: Score, found: dict[str, Tensor]) -> list[float]:
    n = max(len(found[name]) for name in score.evidence if name not in COMMON)
    # bfloat16 has no array.
    arrays = {k: (found[k].double() if found[k].is_floating_point() else found[k]).numpy() for k in score.evidence}
    return [
        score.slow(*(arrays[k] if k in COMMON else arrays[k][i] for k in score.evidence), **score.options) for i in range(n)
    ]


def mean(values: list[float]) -> float:
    scored = [v for v in values if not math.isnan(v)]
    return sum(scored) / len(scored) if scored else NAN
