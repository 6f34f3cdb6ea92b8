"""Averages scores of maps under perturbations over targets; see :mod:`segaudit.functional.stability`."""

from typing import Any

from torch import Tensor

from segaudit.functional.stability import (
    max_sensitivity,
    robustness_pearson,
    stability,
    stability_raw,
    stability_retention,
    topk_overlap,
)
from segaudit.metrics.base import TargetMean

__all__ = ["MaxSensitivity", "RobustnessPearson", "Stability", "StabilityRaw", "StabilityRetention", "TopkOverlap"]


class Stability(TargetMean):
    """Average :func:`segaudit.functional.stability` over targets.

    In an audit the chance level is that of all images, so :class:`segaudit.Auditor` takes it off at the end.
    """

    higher_is_better = True
    plot_lower_bound = None
    plot_upper_bound = 1.0
    score_range = (-1.0, 1.0)
    above_chance = True

    def update(self, attribution: Tensor, perturbed_attribution: Tensor, kept: Tensor, chance: Tensor | None = None) -> None:
        """Add maps ``(N, *S)``, their perturbed versions ``(N, P, *S)``, which pairs count, and chance levels ``(N,)``."""
        self.add(stability(attribution, perturbed_attribution, kept, chance))


class StabilityRaw(TargetMean):
    """Average :func:`segaudit.functional.stability_raw` over targets."""

    higher_is_better = True
    plot_lower_bound = -1.0
    plot_upper_bound = 1.0
    score_range = (-1.0, 1.0)

    def update(self, attribution: Tensor, perturbed_attribution: Tensor, kept: Tensor) -> None:
        """Add maps ``(N, *S)``, their perturbed versions ``(N, P, *S)`` and which pairs count ``(N, P)``."""
        self.add(stability_raw(attribution, perturbed_attribution, kept))


class RobustnessPearson(TargetMean):
    """Average :func:`segaudit.functional.robustness_pearson` over targets."""

    higher_is_better = True
    plot_lower_bound = -1.0
    plot_upper_bound = 1.0
    score_range = (-1.0, 1.0)

    def update(self, attribution: Tensor, perturbed_attribution: Tensor, kept: Tensor) -> None:
        """Add maps ``(N, *S)``, their perturbed versions ``(N, P, *S)`` and which pairs count ``(N, P)``."""
        self.add(robustness_pearson(attribution, perturbed_attribution, kept))


class StabilityRetention(TargetMean):
    """Average :func:`segaudit.functional.stability_retention` over targets."""

    higher_is_better = True
    plot_lower_bound = 0.0
    plot_upper_bound = 1.0
    score_range = (0.0, 1.0)

    def update(self, kept: Tensor) -> None:
        """Add which perturbations kept the prediction, ``(N, P)`` bool."""
        self.add(stability_retention(kept))


class MaxSensitivity(TargetMean):
    """Average :func:`segaudit.functional.max_sensitivity` over targets."""

    higher_is_better = False
    plot_lower_bound = 0.0
    plot_upper_bound = None
    score_range = None

    def update(self, attribution: Tensor, perturbed_attribution: Tensor, kept: Tensor) -> None:
        """Add maps ``(N, *S)``, their perturbed versions ``(N, P, *S)`` and which pairs count ``(N, P)``."""
        self.add(max_sensitivity(attribution, perturbed_attribution, kept))


class TopkOverlap(TargetMean):
    """Average :func:`segaudit.functional.topk_overlap` over targets.

    Args:
        k: share of the image's pixels in (0, 1].
        kwargs: of :class:`torchmetrics.Metric`.

    """

    higher_is_better = True
    plot_lower_bound = 0.0
    plot_upper_bound = 1.0
    score_range = (0.0, 1.0)

    def __init__(self, k: float = 0.1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.k = k

    def update(self, attribution: Tensor, perturbed_attribution: Tensor, kept: Tensor) -> None:
        """Add maps ``(N, *S)``, their perturbed versions ``(N, P, *S)`` and which pairs count ``(N, P)``."""
        self.add(topk_overlap(attribution, perturbed_attribution, kept, self.k))
