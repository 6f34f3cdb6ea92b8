"""Tells why a score of a target is missing."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from segaudit.evidence.ask import Ask
from segaudit.evidence.registry import Evidence
from segaudit.functional.faithfulness import MAX_RESIDUAL, MIN_CONFIDENCE


def unscorable(ask: Ask) -> list[str]:
    """Tell of each target why no score of its map can be had; empty where some can."""
    return ask.once("unscorable", lambda: _unscorable(ask))


def partly_missing(
    ask: Ask,
    scores: Mapping[str, Tensor],
    asked: Mapping[str, Sequence[Evidence]],
    own: Mapping[str, Mapping[str, Tensor]] | None = None,
) -> list[str]:
    """Tell of each target why some score is NaN though its map means something; empty where none is.

    Args:
        ask: of one explainer.
        scores: values ``(N,)`` by score.
        asked: the evidence of each score.
        own: reasons of the scores themselves beside those of their evidence, ``(N,)`` bool by score and reason.

    """
    nan = {name: values.isnan() for name, values in scores.items() if bool(values.isnan().any())}
    if not nan:
        return [""] * len(ask.targets)
    reasons: dict[str, Tensor] = {}
    for one in dict.fromkeys(evidence for name in nan for evidence in asked[name] if evidence.missing):
        wanted = torch.stack([nan[name] for name in nan if one in asked[name]]).any(dim=0)
        for text, holds in one.missing.items():
            found = holds(ask).cpu() & wanted
            reasons[text] = reasons[text] | found if text in reasons else found
    for name in nan:
        for text, rows in ((own or {}).get(name) or {}).items():
            found = rows.cpu() & nan[name]
            reasons[text] = reasons[text] | found if text in reasons else found
    told = [[text for text, holds in reasons.items() if bool(holds[n])] for n in range(len(ask.targets))]
    some = torch.stack(list(nan.values())).any(dim=0).tolist()
    return [("; ".join(why) or "score undefined") if missing else "" for why, missing in zip(told, some, strict=True)]


def fill_too_weak(ask: Ask) -> Tensor:
    """Tell where the filled image keeps more than half of the confidence, ``(N,)`` bool."""
    return ask.probe.filled_confidence / ask.probe.confidence > MAX_RESIDUAL


def _unscorable(ask: Ask) -> list[str]:
    probe, flat = ask.probe, ask.attribution.flatten(1)
    checks = {
        "empty region": ~probe.targets.region.flatten(1).any(dim=1),
        "confidence not finite": ~probe.confidence.isfinite(),
        f"confidence below {MIN_CONFIDENCE}": probe.confidence < MIN_CONFIDENCE,
        "map not finite": ~flat.isfinite().all(dim=1),
        "constant map": flat.amax(dim=1) == flat.amin(dim=1),
    }
    codes = torch.zeros(len(flat), dtype=torch.long, device=flat.device)
    for code, failed in enumerate(checks.values(), start=1):
        codes = codes.where((codes > 0) | ~failed, code)
    names = ["", *checks]
    return [names[code] for code in codes.tolist()]
