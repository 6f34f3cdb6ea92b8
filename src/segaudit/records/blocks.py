"""Blocks: files with the scores of some images of a data set under one network."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from segaudit.records.files import atomic_write


@dataclass
class Block:
    """Holds the results of one block of images.

    Attributes:
        records: one row per (target, explainer).
        confusion: numbers of pixels by true and predicted class ``(C, C)``, without ignored pixels.
        samples: hash of each image and its mask, by the image's name.

    """

    records: list[dict[str, Any]]
    confusion: list[list[int]] = field(default_factory=list)
    samples: dict[str, str] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        """Write the block to a file, completely or not at all."""
        table = pa.Table.from_pylist(self.records) if self.records else pa.table({})
        about = json.dumps({"confusion": self.confusion, "samples": self.samples})
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
        return cls(table.to_pylist(), about["confusion"], about["samples"])
