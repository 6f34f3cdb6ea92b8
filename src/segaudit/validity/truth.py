"""Compares the scores of audited models with their true reliance on a cue."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
from torch import Tensor, nn

from segaudit.attribution import attribution_context
from segaudit.forwards.batching import Batching
from segaudit.forwards.probe import forward
from segaudit.forwards.target import TargetSelector, target_confidence
from segaudit.functional import cue_effect
from segaudit.statistics import Association, Records, auroc, spearman
from segaudit.validity.means import means


class Validity(NamedTuple):
    """Holds the association of a score with the truth about models.

    Attributes:
        explainer: name of the explainer whose maps are scored.
        score: the score's name.
        correlation: Spearman's correlation, over models, of the score's mean with the truth.
        separation: AUROC of cheating models against honest ones by the score's mean; 0 separates them as well as 1.

    """

    explainer: str
    score: str
    correlation: Association
    separation: Association


def validity(audits: Mapping[str, Records], truth: Mapping[str, float], cheats: Iterable[str]) -> list[Validity]:
    """Compute how well every score of every explainer orders models by the truth, the best first.

    A model's score is the mean over its scored targets.

    Args:
        audits: records of each model's audit, by model.
        truth: each model's true reliance on the cue, from :func:`reliance` for example.
        cheats: the models that should be separated from the others.

    Raises:
        ValueError: if a model has no truth, or a cheat was not audited.

    Example:
        >>> found = {"a": 0.1, "b": 0.2, "c": 0.5}
        >>> audits = {m: [{"sample_id": "0", "explainer": "dea", "cue_mass": v}] for m, v in found.items()}
        >>> (row,) = validity(audits, {"a": 0.0, "b": 0.3, "c": 0.9}, cheats=["c"])
        >>> row.correlation.value, row.separation.value
        (1.0, 1.0)

    """
    models, marked = list(audits), set(cheats)
    if missing := [model for model in models if model not in truth]:
        raise ValueError(f"there is no truth for {', '.join(missing)}: give one number for each audited model.")
    if unknown := sorted(marked - set(models)):
        raise ValueError(f"{', '.join(unknown)} should be a cheat, but was not audited.")
    found = {model: means(records) for model, records in audits.items()}
    real, labels = [truth[model] for model in models], [model in marked for model in models]
    rows = []
    for explainer, score in dict.fromkeys(key for of in found.values() for key in of):
        values = [found[model].get((explainer, score), np.nan) for model in models]
        rows.append(Validity(explainer, score, spearman(values, real), auroc(values, labels)))
    return sorted(rows, key=lambda row: (-abs(np.nan_to_num(row.correlation.value)), row.explainer, row.score))


def reliance(
    model: nn.Module, images: Tensor, changed: Tensor, selector: TargetSelector | None = None, max_batch: int = 64
) -> Tensor:
    """Compute the relative fall of S when only the cue in the image changes.

    This is the truth that audits are compared with: it needs neither a fill nor a map.

    Args:
        model: maps images to logits.
        images: ``(B, channels, *S)``.
        changed: the same images with another cue, ``(B, channels, *S)``.
        selector: chooses the targets of an image.
        max_batch: largest number of images in one forward pass.

    Returns:
        ``(N,)`` in [-19, 1], relative to S(x); NaN where S(x) is below 0.05.

    Raises:
        ValueError: if the two differ in shape.

    Example:
        >>> import torch
        >>> x = torch.zeros(1, 2, 1, 2).index_fill(1, torch.tensor([0]), 5.0)  # each pixel's logits are its channels
        >>> reliance(nn.Identity(), x, x.flip(1)).round(decimals=2)
        tensor([0.9900])

    """
    if images.shape != changed.shape:
        raise ValueError(f"images {tuple(images.shape)} and changed {tuple(changed.shape)} must have the same shape.")
    batching = Batching(max_batch)
    with attribution_context(model):
        logits = forward(model, images, batching)
        targets = (selector or TargetSelector())(logits)
        before, after = (
            target_confidence(of[targets.image_index], targets) for of in (logits, forward(model, changed, batching))
        )
        return cue_effect(before, after)
