"""Tells how alike an explainer's maps of different images are: the chance level that stability is compared with.

Saliency maps of different images resemble each other, because objects are in the middle and the sky is above. A map that
survives a perturbation is worth no more than that resemblance. It takes other images to know it, so the chance level is that
of a whole audit: one number for each explainer and class, whatever the order or the batches of the images.
"""

import base64
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from segaudit.functional.stability import MAX_CHANCE
from segaudit.functional.tied_ranks import mean_ranks

#: Pixels of a map that are compared, on a grid: a correlation over more of them is hardly more exact.
PIXELS = 1024
#: Why a score above chance can be missing where the score itself is not.
NO_OTHER = "no other image of the class"
ALIKE = "the maps of different images are alike"


@dataclass
class Likeness:
    """Adds up an explainer's maps by class, so that the mean correlation of all pairs of maps can be had.

    A map's ranks, at the pixels of a grid, less their mean and divided by their length, are a vector z. Spearman's
    correlation of two maps is the product of their vectors, so its mean over all pairs of n maps is (‖Σz‖² − n) / n(n − 1).
    That takes one vector a class, however many maps there are, and those of batches, processes and files add up.

    Attributes:
        sums: by class, the number of maps and the sum of their vectors ``(P,)`` float64.

    """

    sums: dict[int, tuple[int, Tensor]] = field(default_factory=dict)

    def add(self, maps: Tensor, classes: Tensor) -> None:
        """Add maps ``(N, *S)``, one of each image and class; those that are constant or not finite are left out.

        Args:
            maps: ``(N, *S)``.
            classes: the class of each, ``(N,)``.

        """
        vectors = _vectors(maps)
        says = vectors.isfinite().all(dim=1)
        for index in classes[says].unique().tolist():
            of_class = vectors[says & (classes == index)]
            self._add(index, len(of_class), of_class.sum(dim=0).cpu())

    def merge(self, other: "Likeness") -> None:
        """Add the maps of another batch, process or file."""
        for index, (count, total) in other.sums.items():
            self._add(index, count, total)

    def chance(self, class_index: int) -> float:
        """Return the mean correlation of the maps of two different images of a class; NaN where there is one image."""
        count, total = self.sums.get(class_index, (0, torch.zeros(1)))
        return (float(total.square().sum()) - count) / (count * (count - 1)) if count > 1 else float("nan")

    def packed(self) -> dict[str, Any]:
        """Return a form that JSON can hold, in half precision."""
        return {str(k): [n, base64.b64encode(v.half().numpy().tobytes()).decode()] for k, (n, v) in self.sums.items()}

    @classmethod
    def unpacked(cls, packed: Mapping[str, Any]) -> "Likeness":
        """Read the form of :meth:`packed`."""
        read = {int(k): (int(n), np.frombuffer(base64.b64decode(text), np.float16)) for k, (n, text) in packed.items()}
        return cls({k: (n, torch.tensor(vector, dtype=torch.float64)) for k, (n, vector) in read.items()})

    def _add(self, class_index: int, count: int, total: Tensor) -> None:
        before, held = self.sums.get(class_index, (0, torch.zeros_like(total)))
        self.sums[class_index] = (before + count, held + total)


def merged(every: Iterable[Mapping[str, Likeness]]) -> dict[str, Likeness]:
    """Join what several batches, processes or files have found, by explainer."""
    found: dict[str, Likeness] = {}
    for one in every:
        for name, likeness in one.items():
            found.setdefault(name, Likeness()).merge(likeness)
    return found


def above_chance(
    records: Sequence[Mapping[str, Any]], likeness: Mapping[str, Likeness], scores: Collection[str]
) -> list[dict[str, Any]]:
    """Return rows whose ``scores`` are above chance, (ρ − ρ₀) / (1 − ρ₀), with the reason where that cannot be had.

    Args:
        records: rows of an audit, with plain correlations ρ.
        likeness: of the whole audit, by explainer. ρ₀ is the chance level of a row's explainer and class.
        scores: which of the scores to compare with chance.

    """
    levels: dict[tuple[str, int], float] = {}
    rows = []
    for record in records:
        row = dict(record)
        known = [name for name in scores if row.get(name) is not None and row[name] == row[name]]
        if known:
            key = row["explainer"], row["class_index"]
            if key not in levels:
                levels[key] = likeness[key[0]].chance(key[1]) if key[0] in likeness else float("nan")
            level = levels[key]
            comparable = level <= MAX_CHANCE  # False for NaN
            for name in known:
                row[name] = (row[name] - level) / (1 - level) if comparable else float("nan")
            if not comparable:
                why = NO_OTHER if level != level else ALIKE
                row["reason"] = "; ".join(dict.fromkeys(filter(None, [*row["reason"].split("; "), why])))
        rows.append(row)
    return rows


def _vectors(maps: Tensor) -> Tensor:
    """Return ``(N, P)`` float64 of length 1; NaN for a map that is constant on the grid or not finite."""
    dims = maps.ndim - 1
    cells = round(PIXELS ** (1 / dims))
    finite = maps.flatten(1).isfinite().all(dim=1)
    for axis in range(1, maps.ndim):
        side = maps.shape[axis]
        # The pixel in the middle of each cell; the same number for images of any size, so that they can be compared.
        at = ((torch.arange(cells, device=maps.device) + 0.5) * (side / cells)).long().clamp_max(side - 1)
        maps = maps.index_select(axis, at)
    ranks = mean_ranks(maps.flatten(1))
    ranks = ranks - ranks.mean(dim=1, keepdim=True)
    length = ranks.norm(dim=1, keepdim=True)
    unit: Tensor = (ranks / length).where(finite[:, None] & (length > 0), torch.nan)
    return unit
