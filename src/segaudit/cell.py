"""A cell: some images of a data set under one network, its scores in one file that is whole or not there."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from segaudit.files import whole


@dataclass
class Cell:
    """What one block of images gave.

    Attributes:
        records: one row per (target, explainer).
        confusion: pixels by true and predicted class ``(C, C)``, ignored ones left out.
        samples: hash of every image and mask, by its name.

    """

    records: list[dict[str, Any]]
    confusion: list[list[int]] = field(default_factory=list)
    samples: dict[str, str] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        """Write the cell; a kill on the way leaves nothing."""
        table = pa.Table.from_pylist(self.records) if self.records else pa.table({})
        about = json.dumps({"confusion": self.confusion, "samples": self.samples})
        with whole(path) as draft:
            pq.write_table(table.replace_schema_metadata({"segaudit": about}), draft)

    @classmethod
    def read(cls, path: Path) -> "Cell":
        """Read a cell.

        Raises:
            ValueError: if the file is none.

        """
        try:
            table = pq.read_table(path)
            about: Mapping[str, Any] = json.loads(table.schema.metadata[b"segaudit"])
        except (pa.ArrowInvalid, KeyError, TypeError, json.JSONDecodeError):
            raise ValueError(f"{path} is not a cell of a benchmark: delete it, and run the benchmark again.") from None
        return cls(table.to_pylist(), about["confusion"], about["samples"])


def confusion(prediction: Tensor, masks: Tensor | None, classes: int) -> list[list[int]]:
    """Pixels by true and predicted class; what the masks have beyond the classes is ignored.

    Example:
        >>> confusion(torch.tensor([[0, 1, 1]]), torch.tensor([[0, 0, 255]]), classes=2)
        [[1, 1], [0, 0]]

    """
    if masks is None:
        return []
    known = (masks >= 0) & (masks < classes)
    pairs = masks[known].long() * classes + prediction[known]
    counts: list[list[int]] = torch.bincount(pairs, minlength=classes**2).view(classes, classes).tolist()
    return counts


def ious(counts: Iterable[list[list[int]]]) -> tuple[float, list[float]]:
    """Mean intersection over union, and that of each class, pooled over pixels; NaN for a class that does not occur.

    Example:
        >>> ious([[[3, 1], [0, 4]]])
        (0.775, [0.75, 0.8])

    """
    tables = [torch.tensor(one) for one in counts if one]
    if not tables:
        return float("nan"), []
    total = torch.stack(tables).sum(dim=0)
    hit = total.diagonal().double()
    each = hit / (total.sum(0) + total.sum(1) - hit)
    return float(each.nanmean()), each.tolist()
