"""What an explanation costs."""

from torch import Tensor

from segaudit.metrics.base import TargetMean


class Seconds(TargetMean):
    """Mean wall-clock seconds per target; work that explainers share is charged to each that uses it."""

    higher_is_better = False
    plot_lower_bound = 0.0
    plot_upper_bound = None

    def update(self, seconds: Tensor) -> None:
        """Add seconds ``(N,)``."""
        self.add(seconds)
