"""Averages what an explanation costs over targets."""

from torch import Tensor

from segaudit.metrics.base import TargetMean

__all__ = ["Forwards", "Seconds"]


class Seconds(TargetMean):
    """Average wall-clock seconds per target; work that explainers share is charged to each that uses it.

    Unit:
        seconds a target

    Cost:
        0

    Definition:
        Wall clock.

    Pitfalls:
        It depends on the machine and the batch size: compare within one run.
    """

    higher_is_better = False
    plot_lower_bound = 0.0
    plot_upper_bound = None
    score_range = None

    def update(self, seconds: Tensor) -> None:
        """Add seconds ``(N,)``."""
        self.add(seconds)


class Forwards(TargetMean):
    """Average forward-equivalents per target; work that explainers share is charged to each that uses it.

    One image through the network counts 1 and its backward pass 2, also where that ends at a layer in the middle. The logits
    of the batch, which an audit needs anyway, are charged to nobody. Neither is the search for a CAM's layer, which happens
    once a model.

    Unit:
        forwards a target, a backward as two

    Cost:
        0

    Definition:
        Our reading.

    Pitfalls:
        The targets of a batch share its passes evenly, so the value of a target depends on how many there are. Unlike
        ``seconds`` it is the same on every machine.
    """

    higher_is_better = False
    plot_lower_bound = 0.0
    plot_upper_bound = None
    score_range = None

    def update(self, forwards: Tensor) -> None:
        """Add forward-equivalents ``(N,)``."""
        self.add(forwards)
