"""Averages scores of deletion and insertion curves over targets; see :mod:`segaudit.functional.faithfulness`."""

from typing import Any

from torch import Tensor

from segaudit.functional.faithfulness import (
    comprehensiveness,
    curve_error,
    deletion_auc,
    faithfulness_gap,
    fill_residual,
    insertion_auc,
    irof,
    monotonicity,
    second_fill_gap,
    sufficiency,
)
from segaudit.metrics.base import TargetMean

__all__ = [
    "IROF",
    "Comprehensiveness",
    "CurveError",
    "DeletionAUC",
    "FaithfulnessGap",
    "FillResidual",
    "InsertionAUC",
    "Monotonicity",
    "SecondFillGap",
    "Sufficiency",
]


class DeletionAUC(TargetMean):
    """Average :func:`segaudit.functional.deletion_auc` over targets.

    Example:
        >>> import torch
        >>> metric = DeletionAUC()
        >>> metric.update(torch.tensor([[1.0, 0.2, 0.2]]), torch.tensor([0.0, 0.5, 1.0]))
        >>> metric.compute()
        tensor(0.2500)

    """

    higher_is_better = False
    plot_lower_bound = -1.0
    plot_upper_bound = 39.0
    score_range = (0.0, 1.0)

    def update(self, deletion_curve: Tensor, deletion_fractions: Tensor) -> None:
        """Add deletion curves ``(N, K)`` and the fractions of filled pixels, ``(K,)`` or ``(N, K)``."""
        self.add(deletion_auc(deletion_curve, deletion_fractions))


class InsertionAUC(TargetMean):
    """Average :func:`segaudit.functional.insertion_auc` over targets."""

    higher_is_better = True
    plot_lower_bound = -1.0
    plot_upper_bound = 39.0
    score_range = (0.0, 1.0)

    def update(self, insertion_curve: Tensor, insertion_fractions: Tensor) -> None:
        """Add insertion curves ``(N, K)`` and the fractions of shown pixels, ``(K,)`` or ``(N, K)``."""
        self.add(insertion_auc(insertion_curve, insertion_fractions))


class FaithfulnessGap(TargetMean):
    """Average :func:`segaudit.functional.faithfulness_gap` over targets."""

    higher_is_better = True
    plot_lower_bound = -40.0
    plot_upper_bound = 40.0
    score_range = (-1.0, 1.0)

    def update(
        self, deletion_curve: Tensor, deletion_fractions: Tensor, insertion_curve: Tensor, insertion_fractions: Tensor
    ) -> None:
        """Add insertion curves ``(N, K)`` and the fractions of shown pixels, ``(K,)`` or ``(N, K)``."""
        self.add(faithfulness_gap(deletion_curve, deletion_fractions, insertion_curve, insertion_fractions))


class SecondFillGap(TargetMean):
    """Average :func:`segaudit.functional.second_fill_gap` over targets."""

    higher_is_better = True
    score_range = (-1.0, 1.0)
    plot_lower_bound = -40.0
    plot_upper_bound = 40.0

    def update(
        self,
        second_deletion_curve: Tensor,
        second_deletion_fractions: Tensor,
        second_insertion_curve: Tensor,
        second_insertion_fractions: Tensor,
    ) -> None:
        """Add both curves under the second fill ``(N, K)`` and their fractions, ``(K,)`` or ``(N, K)``."""
        deletion = second_deletion_curve, second_deletion_fractions
        self.add(second_fill_gap(*deletion, second_insertion_curve, second_insertion_fractions))


class CurveError(TargetMean):
    """Average :func:`segaudit.functional.curve_error` over targets."""

    higher_is_better = False
    plot_lower_bound = 0.0
    plot_upper_bound = 40.0
    score_range = (0.0, 1.0)

    def update(self, deletion_error: Tensor, insertion_error: Tensor, confidence: Tensor, filled_confidence: Tensor) -> None:
        """Add errors ``(N,)`` and confidences ``(N,)`` of images and of filled images."""
        self.add(curve_error(deletion_error, insertion_error, confidence, filled_confidence))


class Comprehensiveness(TargetMean):
    """Average :func:`segaudit.functional.comprehensiveness` over targets.

    Args:
        k: share of the image's pixels in (0, 1].
        kwargs: of :class:`torchmetrics.Metric`.

    """

    higher_is_better = True
    plot_lower_bound = -19.0
    plot_upper_bound = 1.0
    score_range = (-1.0, 1.0)

    def __init__(self, k: float = 0.1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.k = k

    def update(self, deletion_curve: Tensor, deletion_fractions: Tensor) -> None:
        """Add deletion curves ``(N, K)`` and the fractions of filled pixels, ``(K,)`` or ``(N, K)``."""
        self.add(comprehensiveness(deletion_curve, deletion_fractions, self.k))


class Sufficiency(TargetMean):
    """Average :func:`segaudit.functional.sufficiency` over targets.

    Args:
        k: share of the image's pixels in (0, 1].
        kwargs: of :class:`torchmetrics.Metric`.

    """

    higher_is_better = False
    plot_lower_bound = -19.0
    plot_upper_bound = 1.0
    score_range = (-1.0, 1.0)

    def __init__(self, k: float = 0.1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.k = k

    def update(self, insertion_curve: Tensor, insertion_fractions: Tensor) -> None:
        """Add insertion curves ``(N, K)`` and the fractions of shown pixels, ``(K,)`` or ``(N, K)``."""
        self.add(sufficiency(insertion_curve, insertion_fractions, self.k))


class Monotonicity(TargetMean):
    """Average :func:`segaudit.functional.monotonicity` over targets."""

    higher_is_better = True
    plot_lower_bound = 0.5
    plot_upper_bound = 1.0
    score_range = (0.5, 1.0)

    def update(self, insertion_curve: Tensor) -> None:
        """Add insertion curves ``(N, K)``."""
        self.add(monotonicity(insertion_curve))


class IROF(TargetMean):
    """Average :func:`segaudit.functional.irof` over targets."""

    higher_is_better = True
    plot_lower_bound = -38.0
    plot_upper_bound = 2.0
    score_range = (0.0, 1.0)

    def update(self, segment_deletion_curve: Tensor, segment_deletion_fractions: Tensor) -> None:
        """Add curves over segments ``(N, K)`` and the fractions of filled segments, ``(K,)`` or ``(N, K)``."""
        self.add(irof(segment_deletion_curve, segment_deletion_fractions))


class FillResidual(TargetMean):
    """Average :func:`segaudit.functional.fill_residual` over targets."""

    higher_is_better = False
    plot_lower_bound = 0.0
    plot_upper_bound = 20.0
    score_range = (0.0, 1.0)

    def update(self, confidence: Tensor, filled_confidence: Tensor) -> None:
        """Add confidences ``(N,)`` of images and of filled images."""
        self.add(fill_residual(confidence, filled_confidence))
