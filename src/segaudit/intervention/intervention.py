"""How pixels are removed."""

from collections.abc import Sequence

from segaudit.intervention.fill import Fill, RangeFill
from segaudit.intervention.region import Regions, SuperpixelRegions
from segaudit.intervention.room import Precision, Room


class Intervention:
    """How pixels are removed and how finely: shared by all explainers and scores of an audit.

    Args:
        fill: what stands in place of removed pixels; the image's darkest and its brightest colour unless told. Of several,
            each target gets the one that leaves the least of its score when the whole image is filled: a model must call a
            filled image something, so any one fill fails for some class. A sweep masks an image once for each fill that
            its targets have.
        regions: the partitions whose parts are removed one at a time for effect maps.
        steps: points of a deletion or insertion curve beside its two ends; see :mod:`segaudit.intervention.curve`.
        units: what these curves fill or show at a time, at one scale: pixels unless told, patches with
            :class:`GridRegions`, superpixels with :class:`SuperpixelRegions`. The map's mean in a unit is what ranks it, and
            a point of the curve has whole units.
        max_batch: most images in one forward pass; one whose gradients are asked for counts as four. 64 unless told, and
            in training no more than a training batch. Where the memory runs out, fewer from then on.
        precision: of masked forwards, "32-true", "16-mixed" or "bf16-mixed"; the Trainer's unless told, and single where
            there is none. Passes with gradients are outside of it. docs/speed.md has what half of it costs and saves.

    Attributes:
        room: how many images go through the network at once, and in which precision.

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
        if fill is None:
            fill = [RangeFill(0.0), RangeFill(1.0)]
        self.fills = list(fill) if isinstance(fill, Sequence) else [fill]
        self.regions = regions or SuperpixelRegions()
        self.steps = steps
        self.room = Room(max_batch, precision)
        self.units = units

    @property
    def max_batch(self) -> int:
        """Most images in one forward pass, as of now."""
        return self.room.most
