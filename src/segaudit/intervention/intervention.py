"""Sets how pixels are removed."""

from collections.abc import Sequence
from typing import Literal, get_args

from segaudit.intervention.fill import Fill, RangeFill
from segaudit.intervention.partition import Regions, SuperpixelRegions
from segaudit.names import Immutable

#: In Lightning's words.
Precision = Literal["32-true", "16-mixed", "bf16-mixed"]


class Intervention(Immutable):
    """Sets how pixels are removed and how finely, for all explainers and scores of an audit.

    The object never changes. What a run decides, such as a Trainer's precision, stays in the run.

    Args:
        fill: replaces removed pixels. Defaults to the image's darkest colour and one that is brighter
            than its brightest by half of its range. Of several fills, each target
            gets the one that differs most from the image over the target's region, whatever the model says: a model must
            call a filled image something, so any one fill fails for some class. Of equals, the first counts. A sweep masks
            an image once for each fill that its targets have.
        regions: makes the partitions whose segments are removed one at a time for effect maps. Defaults to superpixels.
        steps: points of a deletion or insertion curve beside its two ends; see :mod:`segaudit.forwards.curve`.
        max_batch: most images in one forward pass; an image with gradients counts as four. Defaults to 64, and in training
            to at most a training batch. When memory runs out, the run goes on with fewer.
        units: what a curve fills or shows at a time: patches with :class:`GridRegions`, superpixels with
            :class:`SuperpixelRegions`, of one scale. Defaults to pixels. A unit's rank is that of the map's mean in it, and
            a point of the curve has whole units.
        precision: of masked forwards, "32-true", "16-mixed" or "bf16-mixed". Defaults to the Trainer's, and to single
            precision without one. Passes with gradients are always single. docs/speed.md has what half of it saves.

    Raises:
        ValueError: if a number makes no sense, or the list of fills is empty.

    """

    def __init__(
        self,
        fill: Fill | Sequence[Fill] | None = None,
        regions: Regions | None = None,
        steps: int = 16,
        max_batch: int | None = None,
        units: Regions | None = None,
        precision: Precision | None = None,
    ) -> None:
        if steps < 1:
            raise ValueError(f"steps must be at least 1, got {steps}.")
        if isinstance(fill, Sequence) and not fill:
            raise ValueError("fill is an empty list: name at least one fill, or leave it out for the default.")
        if units is not None and len(units.counts) != 1:
            raise ValueError(f"units are of one scale, but their counts are {units.counts}: name one number.")
        check_batching(max_batch, precision)
        if fill is None:
            fill = [RangeFill(0.0), RangeFill(1.5)]
        self.fills = tuple(fill) if isinstance(fill, Sequence) else (fill,)
        self.regions = regions or SuperpixelRegions()
        self.steps = steps
        self.max_batch = max_batch
        self.units = units
        self.precision = precision


def check_batching(max_batch: int | None, precision: str | None) -> None:
    """Refuse settings that make no sense.

    Raises:
        ValueError: if ``max_batch`` is below 1 or the precision is unknown.

    """
    if max_batch is not None and max_batch < 1:
        raise ValueError(f"max_batch must be at least 1, got {max_batch}.")
    if precision not in (None, *get_args(Precision)):
        raise ValueError(f"precision must be one of {', '.join(get_args(Precision))}, got {precision!r}.")
