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


class Forwards(TargetMean):
    """Mean forward-equivalents per target; work that explainers share is charged to each that uses it.

    An image through the network once is 1, its backward pass 2, also where that ends at a layer in the middle. Exact and the
    same on every machine. As with :class:`Seconds`, the passes of a batch are shared evenly by its targets, so that the
    value of one target depends on how many targets its batch has. What an audit needs anyway, the logits of the batch, is
    charged to nobody, and so is the search for a CAM's layer, which happens once a model.
    """

    higher_is_better = False
    plot_lower_bound = 0.0
    plot_upper_bound = None

    def update(self, forwards: Tensor) -> None:
        """Add forward-equivalents ``(N,)``."""
        self.add(forwards)
