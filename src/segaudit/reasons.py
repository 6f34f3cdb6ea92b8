"""Why a score of a target is missing."""

import torch
from torch import Tensor

from segaudit.functional.faithfulness import MAX_RESIDUAL, MIN_SCORE
from segaudit.intervention import Probe


def reasons(probe: Probe, attribution: Tensor) -> tuple[list[str], Tensor]:
    """Why no score of a target can be had, empty where some can, and ``(N,)`` bool: whether its map means anything."""
    flat = attribution.flatten(1)
    checks = {
        "empty region": ~probe.targets.region.flatten(1).any(dim=1),
        "score not finite": ~probe.score.isfinite(),
        f"score below {MIN_SCORE}": probe.score < MIN_SCORE,
        "map not finite": ~flat.isfinite().all(dim=1),
        "constant map": flat.amax(dim=1) == flat.amin(dim=1),
    }
    codes = torch.zeros(len(flat), dtype=torch.long, device=flat.device)
    for code, failed in enumerate(checks.values(), start=1):
        codes = codes.where((codes > 0) | ~failed, code)
    names = ["", *checks]
    return [names[code] for code in codes.tolist()], codes == 0


def partial_reasons(probe: Probe, attribution: Tensor, evidence: dict[str, Tensor], scores: dict[str, Tensor]) -> list[str]:
    """Why some score of a target is NaN though its map means something; empty where none is."""
    checks = {"no positive mass": attribution.flatten(1).amax(dim=1) <= 0}
    if {"deletion_curve", "insertion_curve", "deletion_error", "region_deletion_curve"} & set(evidence):
        checks["fill too weak"] = probe.filled_score / probe.score > MAX_RESIDUAL
    if "perturbed_attribution" in evidence:
        checks["prediction not kept"] = ~evidence["kept"].any(dim=1)
        maps = evidence["perturbed_attribution"].flatten(2)
        differs = maps.isfinite().all(dim=2) & (maps.amax(dim=2) > maps.amin(dim=2))
        checks["perturbed map constant or not finite"] = (evidence["kept"] & ~differs).any(dim=1)
    if "localisation_auc" in scores:
        checks["region is the whole image"] = evidence["region"].flatten(1).all(dim=1)
    if "region_effect" in evidence:
        checks["no region has an effect"] = (evidence["region_effect"].nan_to_num(0) <= 0).flatten(1).all(dim=1)
        checks["no difference of effect between regions"] = _alike(evidence["region_effect"])
    if "region_attribution" in evidence:
        checks["no region has credit"] = (evidence["region_attribution"].nan_to_num(0) <= 0).flatten(1).all(dim=1)
        checks["no difference of credit between regions"] = _alike(evidence["region_attribution"])
    if "cue" in evidence:
        checks["no cue"] = ~evidence["cue"].flatten(1).any(dim=1)
    found = torch.stack(list(checks.values()), dim=1).tolist()
    nan = torch.stack(list(scores.values())).isnan().any(dim=0).tolist() if scores else [False] * len(found)
    return [
        ("; ".join(name for name, holds in zip(checks, row, strict=True) if holds) or "score undefined") if missing else ""
        for row, missing in zip(found, nan, strict=True)
    ]


def _alike(values: Tensor) -> Tensor:
    """Whether those of ``(N, K, R)`` that are not NaN are the same in each of the K partitions, ``(N,)`` bool."""
    has = ~values.isnan()
    low, high = values.where(has, torch.inf).amin(dim=2), values.where(has, -torch.inf).amax(dim=2)
    return (low >= high).all(dim=1)
