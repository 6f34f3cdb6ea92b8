"""Evidence of stability: maps of perturbed images, and whether the prediction survived."""

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from segaudit.attribution.base import Explainer
from segaudit.evidence.ask import Ask
from segaudit.evidence.registry import evidence
from segaudit.forwards import Probe
from segaudit.forwards.output import predict
from segaudit.forwards.probe import forward
from segaudit.functional.faithfulness import MIN_CONFIDENCE
from segaudit.intervention import Perturbation

#: Least IoU between a class's regions before and after a perturbation that counts as the same prediction.
KEPT_IOU = 0.9


class Perturbed(NamedTuple):
    """Holds what a perturbation did to a batch.

    Attributes:
        perturbation: the change of the input.
        kept: ``(N,)`` bool: which targets kept their prediction.
        probe: of the perturbed images and the targets that kept it.

    """

    perturbation: Perturbation
    kept: Tensor
    probe: Probe


def prediction_not_kept(ask: Ask) -> Tensor:
    """Tell which targets lost their prediction under every perturbation, ``(N,)`` bool."""
    return ~kept(ask).any(dim=1)


def perturbed_map_says_nothing(ask: Ask) -> Tensor:
    """Tell where a map of a perturbed image that kept its prediction is constant or not finite, ``(N,)`` bool."""
    maps = perturbed_attribution(ask).flatten(2)
    differs = maps.isfinite().all(dim=2) & (maps.amax(dim=2) > maps.amin(dim=2))
    return (kept(ask) & ~differs).any(dim=1)


@evidence(missing={"prediction not kept": prediction_not_kept})
def kept(ask: Ask) -> Tensor:
    """Return which predictions survived each of P perturbations, ``(N, P)`` bool."""
    return torch.stack([one.kept for one in _perturbed(ask.shared)], dim=1)


@evidence(missing={"perturbed map constant or not finite": perturbed_map_says_nothing})
def perturbed_attribution(ask: Ask) -> Tensor:
    """Return the maps of P perturbed images, ``(N, P, *S)``; NaN where the prediction was not kept."""
    return explain_perturbed(ask.explainer, _perturbed(ask.shared), ask.attribution)


def _perturbed(ask: Ask) -> list[Perturbed]:
    if not ask.perturbations:
        raise ValueError("stability is measured under perturbations: name at least one, or leave stability out.")
    return ask.once("perturbed", lambda: [perturb(ask.probe, one) for one in ask.perturbations])


def perturb(probe: Probe, perturbation: Perturbation) -> Perturbed:
    """Change a probe's images, and tell which of its targets keep their prediction."""
    targets = replace(probe.targets, region=perturbation.move(probe.targets.region))
    images = perturbation(probe.images)
    logits = forward(probe.model, images, probe.batching)
    classes = targets.class_index.view(-1, *[1] * (targets.region.ndim - 1))
    first, drawn = (predict(each)[targets.image_index] == classes for each in (probe.logits, logits))
    before, after = first.flatten(1), perturbation.back(drawn).flatten(1)
    overlap, union = (before & after).sum(dim=1), (before | after).sum(dim=1)
    survived = (overlap >= KEPT_IOU * union) & (probe.confidence >= MIN_CONFIDENCE)
    survived &= targets.region.flatten(1).any(dim=1)  # what moves may leave the image
    cues = None if probe.cues is None else perturbation.move(probe.cues)
    fills = probe.fill_index[survived]
    # The region as the perturbed prediction changes it: all of it where regions are predicted ones.
    first = perturbation.move(first)
    predicted = ((targets.region & ~(first & ~drawn)) | (drawn & ~first))[survived]
    moved = Probe(probe.model, images, targets[survived], probe.intervention, logits, cues, fills, probe.batching, predicted)
    return Perturbed(perturbation, survived, moved)


def explain_perturbed(explainer: Explainer, perturbed: list[Perturbed], attribution: Tensor) -> Tensor:
    """Return maps ``(N, P, *S)`` of the perturbed images; NaN where the prediction was not kept."""
    maps = torch.full_like(attribution, torch.nan)[:, None].repeat(1, len(perturbed), *[1] * (attribution.ndim - 1))
    for place, (perturbation, survived, probe) in enumerate(perturbed):
        maps[survived, place] = perturbation.back(explainer.explain(probe))
    return maps
