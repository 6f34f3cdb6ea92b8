"""Defines what every score's class is: a metric that averages values over the targets that could be scored."""

from typing import Any, ClassVar

import torch
from torch import Tensor
from torchmetrics import Metric

from segaudit.names import snake_case

__all__ = ["TargetMean"]


class TargetMean(Metric):
    """Averages values over all targets that could be scored; exact over batches and ranks, NaN where there is none.

    A subclass calls :meth:`add` with the values of one ``update``. The parameters of its ``update`` name the evidence
    that it needs; :class:`segaudit.Auditor` computes the evidence that some metric names and passes it by name.

    ``plot_lower_bound`` and ``plot_upper_bound``, torchmetrics' own, are the range of every value that the evidence of an
    audit can give; None where there is no end. S is in [0, 1], and a target with S(x) below 0.05 is not scored. So
    confidences relative to S(x) are in [0, 20], and the ranges of faithfulness follow from that.

    ``score_range`` is the range that intervals of a mean rest on: [0, 1], or [-1, 1] for a score that has a sign. Values
    outside of it are rare. They are clipped for intervals, and the share clipped is reported. None, the default, is for a
    score without a range, such as seconds; its intervals then rest on the spread of the values alone.
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better: bool | None = None
    score_range: ClassVar[tuple[float, float] | None] = None
    #: Whether an audit compares the correlation with that of other images at its end; see :mod:`segaudit.metrics.chance`.
    above_chance: ClassVar[bool] = False

    values: list[Tensor]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("values", default=[], dist_reduce_fx="cat")

    @property
    def name(self) -> str:
        """The short name, in logs and YAML: the class's name in snake case."""
        return snake_case(type(self).__name__)

    def add(self, values: Tensor) -> None:
        """Store the values ``(N,)`` of one update; NaN for a target that could not be scored."""
        self.values.append(values.detach().float())

    def missing(self, **evidence: Tensor) -> dict[str, Tensor]:
        """Tell of reasons for a missing value that follow from this metric's own settings: by reason, ``(N,)`` bool.

        Those of the evidence itself stand beside the evidence. Defaults to none.

        Args:
            evidence: what ``update`` takes.

        """
        return {}

    @property
    def per_target(self) -> Tensor:
        """All values so far, ``(N,)``, in the order of the updates."""
        values = self.values  # a tensor after synchronisation, a list before
        return torch.cat(list(values)) if isinstance(values, list) and values else torch.as_tensor(values)

    @property
    def unscored(self) -> int:
        """The number of targets that could not be scored so far."""
        return int(self.per_target.isnan().sum())

    def compute(self) -> Tensor:
        """Return the mean over the scored targets, a scalar."""
        return self.per_target.double().nanmean().float()
