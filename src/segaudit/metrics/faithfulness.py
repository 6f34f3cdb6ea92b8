"""Metrics of deletion and insertion curves; see :mod:`segaudit.functional.faithfulness`."""

from torch import Tensor

from segaudit.functional.faithfulness import deletion_auc, faithfulness_gap, fill_residual, insertion_auc
from segaudit.metrics.base import TargetMean


class DeletionAUC(TargetMean):
    """Mean of :func:`segaudit.functional.deletion_auc` over targets.

    Example:
        >>> import torch
        >>> metric = DeletionAUC()
        >>> metric.update(torch.tensor([[1.0, 0.2, 0.2]]), torch.tensor([0.0, 0.5, 1.0]))
        >>> metric.compute()
        tensor(0.2500)

    """

    higher_is_better = False

    def update(self, deletion_curve: Tensor, fractions: Tensor) -> None:
        """Add curves ``(N, K)`` at fractions ``(K,)`` or ``(N, K)``."""
        self.add(deletion_auc(deletion_curve, fractions))


class InsertionAUC(TargetMean):
    """Mean of :func:`segaudit.functional.insertion_auc` over targets."""

    higher_is_better = True

    def update(self, insertion_curve: Tensor, fractions: Tensor) -> None:
        """Add curves ``(N, K)`` at fractions ``(K,)`` or ``(N, K)``."""
        self.add(insertion_auc(insertion_curve, fractions))


class FaithfulnessGap(TargetMean):
    """Mean of :func:`segaudit.functional.faithfulness_gap` over targets."""

    higher_is_better = True

    def update(self, deletion_curve: Tensor, insertion_curve: Tensor, fractions: Tensor) -> None:
        """Add curves ``(N, K)`` at fractions ``(K,)`` or ``(N, K)``."""
        self.add(faithfulness_gap(deletion_curve, insertion_curve, fractions))


class FillResidual(TargetMean):
    """Mean of :func:`segaudit.functional.fill_residual` over targets."""

    higher_is_better = False

    def update(self, score: Tensor, filled_score: Tensor) -> None:
        """Add scores ``(N,)`` of images and of filled images."""
        self.add(fill_residual(score, filled_score))
