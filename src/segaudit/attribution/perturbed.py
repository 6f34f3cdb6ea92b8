"""Maps of images that are changed a little, laid where the pixels of the unchanged image are."""

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from segaudit.attribution.base import Explainer
from segaudit.functional.faithfulness import MIN_SCORE
from segaudit.intervention import Perturbation, Probe
from segaudit.intervention.probe import forward
from segaudit.output import predict

#: Least IoU between a class's regions before and after a perturbation that counts as the same prediction.
KEPT_IOU = 0.9


class Perturbed(NamedTuple):
    """Which targets kept their prediction under a perturbation, ``(N,)`` bool, and a probe of those alone."""

    perturbation: Perturbation
    kept: Tensor
    probe: Probe


def perturb(probe: Probe, perturbation: Perturbation) -> Perturbed:
    """Change a probe's images, and see which of its targets keep their prediction."""
    targets = replace(probe.targets, region=perturbation.move(probe.targets.region))
    images = perturbation(probe.images)
    logits = forward(probe.model, images, probe.intervention.room)
    classes = targets.class_index.view(-1, *[1] * (targets.region.ndim - 1))
    before = (predict(probe.logits)[targets.image_index] == classes).flatten(1)
    after = (perturbation.back(predict(logits))[targets.image_index] == classes).flatten(1)
    overlap, union = (before & after).sum(dim=1), (before | after).sum(dim=1)
    kept = (overlap >= KEPT_IOU * union) & (probe.score >= MIN_SCORE)
    kept &= targets.region.flatten(1).any(dim=1)  # what moves may leave the image
    cues = None if probe.cues is None else perturbation.move(probe.cues)
    moved = Probe(probe.model, images, targets[kept], probe.intervention, logits, cues, probe.fill_index[kept])
    return Perturbed(perturbation, kept, moved)


def explain_perturbed(explainer: Explainer, perturbed: list[Perturbed], attribution: Tensor) -> Tensor:
    """Maps ``(N, P, *S)`` on the perturbed images; NaN where the prediction was not kept and nobody asks."""
    maps = torch.full_like(attribution, torch.nan)[:, None].repeat(1, len(perturbed), *[1] * (attribution.ndim - 1))
    for place, (perturbation, kept, probe) in enumerate(perturbed):
        maps[kept, place] = perturbation.back(explainer.explain(probe))
    return maps
