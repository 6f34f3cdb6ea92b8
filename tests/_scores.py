"""The table of scores: function, class, evidence and a slow reference for each. A new score is tested by being listed."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

import segaudit.functional as functional
import segaudit.metrics as metrics

NAN = float("nan")


@dataclass
class Score:
    """One row.

    Attributes:
        metric: the class.
        function: takes the evidence in the order of ``evidence``.
        evidence: names, in the order of the function's parameters.
        slow: one target's value, by loops over Python numbers, written from the docstring.
        options: of both.
        higher_is_better: as in the design's table of scores.

    """

    metric: type[Any]
    function: Callable[..., Tensor]
    evidence: tuple[str, ...]
    slow: Callable[..., float]
    higher_is_better: bool | None
    options: dict[str, Any] = field(default_factory=dict)


def places(array: np.ndarray) -> list[tuple[int, ...]]:
    return list(np.ndindex(*array.shape))


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


def slow_gap(deletion: np.ndarray, insertion: np.ndarray, q: np.ndarray) -> float:
    return slow_insertion(insertion, q) - slow_deletion(deletion, q)


def slow_dilate(region: np.ndarray, pixels: int) -> np.ndarray:
    grown = np.zeros_like(region)
    for p in places(region):
        for r in places(region):
            if region[r] and max(abs(a - b) for a, b in zip(p, r, strict=True)) <= pixels:
                grown[p] = True
                break
    return grown


def slow_share(a: np.ndarray, where: np.ndarray, needed: np.ndarray) -> float:
    if not all(math.isfinite(a[p]) for p in places(a)) or not any(needed[p] for p in places(needed)):
        return NAN
    total = sum(max(0.0, float(a[p])) for p in places(a))
    inside = sum(max(0.0, float(a[p])) for p in places(a) if where[p])
    return inside / total if total > 0 else NAN


def slow_leakage(a: np.ndarray, region: np.ndarray, tolerance: int = 0) -> float:
    return slow_share(a, ~slow_dilate(region, tolerance), region)


def slow_unsupported(
    a: np.ndarray, region: np.ndarray, effect: np.ndarray, tolerance: int = 0, epsilon: float = 0.01
) -> float:
    if not all(math.isfinite(effect[p]) for p in places(effect)):
        return NAN
    grown = slow_dilate(region, tolerance)
    where = np.zeros_like(region)
    for p in places(region):
        where[p] = not grown[p] and effect[p] <= epsilon
    return slow_share(a, where, region)


def slow_ranks(values: list[float]) -> list[float]:
    return [sum(w < v for w in values) + (sum(w == v for w in values) + 1) / 2 for v in values]


def slow_spearman(a: list[float], b: list[float]) -> float:
    if not all(math.isfinite(v) for v in (*a, *b)):
        return NAN
    ra, rb = slow_ranks(a), slow_ranks(b)
    ma, mb = sum(ra) / len(ra), sum(rb) / len(rb)
    down = math.sqrt(sum((v - ma) ** 2 for v in ra) * sum((v - mb) ** 2 for v in rb))
    return sum((v - ma) * (w - mb) for v, w in zip(ra, rb, strict=True)) / down if down > 0 else NAN


def slow_stability(a: np.ndarray, perturbed: np.ndarray, kept: np.ndarray) -> float:
    found = [slow_spearman(a.ravel().tolist(), p.ravel().tolist()) for p, k in zip(perturbed, kept, strict=True) if k]
    return sum(found) / len(found) if found else NAN


def slow_retention(kept: np.ndarray) -> float:
    return sum(bool(k) for k in kept) / len(kept)


F, M = functional, metrics
SCORES: dict[str, Score] = {
    "deletion_auc": Score(M.DeletionAUC, F.deletion_auc, ("deletion_curve", "fractions"), slow_deletion, False),
    "insertion_auc": Score(M.InsertionAUC, F.insertion_auc, ("insertion_curve", "fractions"), slow_insertion, True),
    "faithfulness_gap": Score(
        M.FaithfulnessGap, F.faithfulness_gap, ("deletion_curve", "insertion_curve", "fractions"), slow_gap, True
    ),
    "fill_residual": Score(
        M.FillResidual, F.fill_residual, ("score", "filled_score"), lambda s, f: float(f) / float(s), False
    ),
    "off_target_leakage": Score(M.OffTargetLeakage, F.off_target_leakage, ("attribution", "region"), slow_leakage, False),
    "off_target_leakage_2": Score(
        M.OffTargetLeakage, F.off_target_leakage, ("attribution", "region"), slow_leakage, False, {"tolerance": 2}
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
    "stability": Score(M.Stability, F.stability, ("attribution", "perturbed_attribution", "kept"), slow_stability, True),
    "stability_retention": Score(M.StabilityRetention, F.stability_retention, ("kept",), slow_retention, True),
    "cue_mass": Score(M.CueMass, F.cue_mass, ("attribution", "cue"), lambda a, c: slow_share(a, c, c), None),
    "cue_effect": Score(
        M.CueEffect, F.cue_effect, ("score", "score_without_cue"), lambda s, w: 1 - float(w) / float(s), None
    ),
    "seconds": Score(M.Seconds, lambda s: s, ("seconds",), float, False),
}


def evidence(n: int, size: tuple[int, ...] = (5, 4), seed: int = 0, awkward: bool = True) -> dict[str, Tensor]:
    """Evidence for n targets; some of them can't be scored, each for a reason of its own."""
    g = torch.Generator().manual_seed(seed)

    def rand(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=g)

    points, pairs = 6, 3
    fall = rand(n, points).sort(dim=1, descending=True).values
    rise = rand(n, points).sort(dim=1).values
    fall[:, -1] *= 0.4
    rise[:, 0] = fall[:, -1]
    fall[:, 0] = rise[:, -1] = 1
    fractions = rand(points).sort().values
    fractions[0], fractions[-1] = 0, 1
    score = 0.2 + 0.8 * rand(n)
    flat = (n, *size)
    ties = (4 * torch.randn(n, *size, generator=g)).round() / 4
    found = {
        "deletion_curve": fall,
        "insertion_curve": rise,
        "fractions": fractions.double(),
        "score": score,
        "filled_score": score * rand(n),
        "score_without_cue": score * rand(n),
        "attribution": ties,
        "perturbed_attribution": ties[:, None] + 0.5 * torch.randn(n, pairs, *size, generator=g),
        "kept": rand(n, pairs) < 0.7,
        "region": rand(*flat) < 0.15,
        "effect_map": rand(*flat) - 0.4,
        "cue": rand(*flat) < 0.3,
        "seconds": rand(n),
    }
    found["region"].flatten(1)[:, 0] = True
    found["cue"].flatten(1)[:, 1] = True
    found["kept"][:, 0] = True
    if awkward and n >= 7:
        found["deletion_curve"][0] = NAN
        found["insertion_curve"][0, 2] = float("inf")
        found["deletion_curve"][1, -1] = found["insertion_curve"][1, 0] = 0.6  # fill too weak
        found["attribution"][2] = NAN
        found["region"][3] = False
        found["cue"][3] = False
        found["kept"][3] = False
        found["attribution"][4] = -found["attribution"][4].abs()  # no positive mass
        found["attribution"][5] = 1.0  # constant
        found["effect_map"][6].flatten()[0] = NAN
        found["score"][0] = NAN
        found["seconds"][1] = NAN
    return found


def slow_values(score: Score, found: dict[str, Tensor]) -> list[float]:
    n = max(len(found[name]) for name in score.evidence if name != "fractions")
    return [
        score.slow(*(found[k].numpy() if k == "fractions" else found[k][i].numpy() for k in score.evidence), **score.options)
        for i in range(n)
    ]


def mean(values: list[float]) -> float:
    scored = [v for v in values if not math.isnan(v)]
    return sum(scored) / len(scored) if scored else NAN
