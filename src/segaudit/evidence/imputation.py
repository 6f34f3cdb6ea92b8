"""Evidence of ROAD: the confidence that is left when pixels are guessed from their neighbours."""

from collections.abc import Sequence

import torch
from torch import Tensor

from segaudit.evidence.ask import Ask
from segaudit.evidence.registry import evidence
from segaudit.forwards.probe import Probe
from segaudit.forwards.removal_order import pixel_ranks
from segaudit.intervention.fill import Fill, NoisyLinearFill
from segaudit.intervention.intervention import Intervention


def _road(ask: Ask) -> tuple[Tensor, Tensor]:
    return ask.once("road", lambda: road_curves(ask.probe, ask.attribution))


@evidence()
def road_deletion(ask: Ask) -> Tensor:
    """Return S over S(x) with the most attributed pixels imputed, ``(N, J)`` for J shares of the pixels."""
    return _road(ask)[0]


@evidence()
def road_retention(ask: Ask) -> Tensor:
    """Return S over S(x) with the least attributed pixels imputed, ``(N, J)`` for J shares of the pixels."""
    return _road(ask)[1]


def road_curves(
    probe: Probe, attribution: Tensor, shares: Sequence[float] = (0.2, 0.4, 0.6, 0.8), fill: Fill | None = None
) -> tuple[Tensor, Tensor]:
    """Return S over S(x) with the most, and with the least attributed pixels imputed (ROAD, Rong et al. 2022).

    Args:
        probe: the batch; its own fills are not used.
        attribution: ``(N, *S)``; ties go in the random order of the probe, :attr:`segaudit.Probe.tie_order`.
        shares: of the image's pixels that are imputed, each in (0, 1). Each costs two forwards a target.
        fill: the imputer. Defaults to :class:`segaudit.intervention.NoisyLinearFill`.

    Returns:
        ``(N, J)`` each, a column a share; NaN where S(x) is too low.

    Raises:
        ValueError: if a share is not in (0, 1).

    """
    if not shares or not all(0 < share < 1 for share in shares):
        raise ValueError(f"shares are parts of the image's pixels between 0 and 1, got {list(shares)}.")
    imputing = Intervention(fill or NoisyLinearFill())
    imputed = Probe(probe.model, probe.images, probe.targets, imputing, probe.logits, batching=probe.batching)
    place = pixel_ranks(attribution, probe.tie_order[probe.targets.image_index])
    pixels = attribution[0].numel() if len(attribution) else 0
    counts = [round(share * pixels) for share in shares]
    most = [imputed.confidence_without(place < count) for count in counts]
    least = [imputed.confidence_without(place >= pixels - count) for count in counts]
    return torch.stack(most, dim=1) / probe.reference[:, None], torch.stack(least, dim=1) / probe.reference[:, None]
