"""Blocks: files with the scores of some images of a data set under one network."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from segaudit.metrics.chance import Likeness, above_chance, merged
from segaudit.records.files import atomic_write


@dataclass
class Block:
    """Holds the results of one block of images.

    Attributes:
        records: one row per (target, explainer).
        confusion: numbers of pixels by true and predicted class ``(C, C)``, without ignored pixels.
        samples: hash of each image and its mask, by the image's name.
        likeness: how alike the maps of its images are, by explainer; see :func:`rows_of`.

    """

    records: list[dict[str, Any]]
    confusion: list[list[int]] = field(default_factory=list)
    samples: dict[str, str] = field(default_factory=dict)
    likeness: dict[str, Likeness] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        """Write the block to a file, completely or not at all."""
        table = pa.Table.from_pylist(self.records) if self.records else pa.table({})
        likeness = {name: found.packed() for name, found in self.likeness.items()}
        about = json.dumps({"confusion": self.confusion, "samples": self.samples, "likeness": likeness})
        with atomic_write(path) as draft:
            pq.write_table(table.replace_schema_metadata({"segaudit": about}), draft)

    @classmethod
    def read(cls, path: Path) -> "Block":
        """Read a block.

        Raises:
            ValueError: if the file is not a block.

        """
        try:
            table = pq.read_table(path)
            about: Mapping[str, Any] = json.loads(table.schema.metadata[b"segaudit"])
        except (pa.ArrowInvalid, KeyError, TypeError, json.JSONDecodeError):
            raise ValueError(f"{path} is not a block of a benchmark: delete it, and run the benchmark again.") from None
        likeness = {name: Likeness.unpacked(packed) for name, packed in about.get("likeness", {}).items()}
        return cls(table.to_pylist(), about["confusion"], about["samples"], likeness)


def rows_of(blocks: Sequence[Block], provisional: Collection[str]) -> list[dict[str, Any]]:
    """Return the rows of all blocks of one network and data set.

    Args:
        blocks: in the order of the images.
        provisional: scores that are plain correlations in a block. Here they are compared with the images of all blocks.

    """
    records = [row for block in blocks for row in block.records]
    if not provisional:
        return records
    return above_chance(records, merged(block.likeness for block in blocks), provisional)
