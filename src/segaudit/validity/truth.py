"""Scores of audited models beside what the models really do."""

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
    """What a score of an explainer's maps says of models beside the truth.

    Attributes:
        explainer: whose maps are scored.
        score: the score's name.
        correlation: Spearman's, over models, of the score's mean with the truth.
        separation: how often a cheat's mean is above an honest model's; near 0 is as good as near 1, the other way round.

    """

    explainer: str
    score: str
    correlation: Association
    separation: Association


def validity(audits: Mapping[str, Records], truth: Mapping[str, float], cheats: Iterable[str]) -> list[Validity]:
    """How well every score of every explainer orders models by the truth, the best first.

    A model's score is the mean over its targets that could be scored.

    Args:
        audits: records of each model's audit, by model.
        truth: how far each model really leans on the cue, :func:`reliance` say.
        cheats: the models that should be told from the others.

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
    """How far S falls, relative to S(x), when the image is replaced by one in which only the cue is another: ``(N,)``.

    The truth that an audit is judged by: no fill, no map. In [-19, 1]; NaN where S(x) is below 0.05.

    Args:
        model: maps images to logits.
        images: ``(B, channels, *S)``.
        changed: the same images but for the cue, ``(B, channels, *S)``.
        selector: which targets the images give.
        max_batch: most images in one forward pass.

    Raises:
        ValueError: if the two differ in shape.

    Example:
        >>> import torch
        >>> x = torch.zeros(1, 2, 1, 2).index_fill(1, torch.tensor([0]), 5.0)  # each pixel's logits are its channels
        >>> reliance(nn.Identity(), x, x.flip(1)).round(decimals=2)
        tensor([0.9900])

    """
    if images.shape != changed.shape:
        raise ValueError(f"images {tuple(images.shape)} and changed {tuple(changed.shape)} must be of one shape.")
    batching = Batching(max_batch)
    with attribution_context(model):
        logits = forward(model, images, batching)
        targets = (selector or TargetSelector())(logits)
        before, after = (
            target_confidence(of[targets.image_index], targets) for of in (logits, forward(model, changed, batching))
        )
        return cue_effect(before, after)
