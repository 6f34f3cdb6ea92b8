"""Reads what an offline run of W&B left: the run file, `run-<id>.wandb`, and the media beside it.

The file is a log in LevelDB's format (blocks of 32 KiB; fragments with checksum, length and kind) after a header of seven
bytes; each record is a protocol buffer. W&B itself reads it in a program that is no part of its Python package.
"""

import json
import struct
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wandb.proto import wandb_internal_pb2 as pb

_HEADER = b":W&B\xe1\xbe\x00"
_BLOCK = 32768
_LAST_FRAGMENTS = (1, 4)  # of a record: it is whole, or its last


@dataclass
class OfflineRun:
    """What is in a run file.

    Attributes:
        folder: `files/` beside it, with the media.
        metrics: what `define_metric` said, by key or glob.
        history: each `log` call, in order; a nested key's parts are joined by dots.
        first_log: how many records stand before the first of them.
        defined: how many records stand before the last definition.
        summary: as it is at the end.
        charts: by key, what was set up as a chart.
        class_labels: names of a mask's classes, by the image's key and the mask's name.
        artifacts: in order.
    """

    folder: Path
    metrics: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    first_log: int = -1
    defined: int = -1
    summary: dict[str, Any] = field(default_factory=dict)
    charts: dict[str, Any] = field(default_factory=dict)
    class_labels: dict[tuple[str, str], Any] = field(default_factory=dict)
    artifacts: list[Any] = field(default_factory=list)

    def logged(self, key: str) -> list[Any]:
        """Every value of a key: a number, or a nested value's fields."""
        found = []
        for row in self.history:
            nested = {name.removeprefix(f"{key}."): value for name, value in row.items() if name.startswith(f"{key}.")}
            if key in row or nested:
                found.append(row.get(key, nested))
        return found

    def table(self, key: str, place: int = -1) -> dict[str, Any]:
        """Columns and rows of one of the tables that were logged under a key."""
        return json.loads((self.folder / self.logged(key)[place]["path"]).read_text())


def read_run(folder: Path) -> OfflineRun:
    """The one offline run in a folder, which must have been finished; W&B's own process may still be writing it down."""
    (path,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    run = OfflineRun(path.parent / "files")
    for _ in range(300):
        records = list(read_records(path))
        if records and records[-1].HasField("exit"):
            break
        time.sleep(0.1)
    else:
        raise AssertionError(f"{path} has no end")
    for place, record in enumerate(records):
        kind = record.WhichOneof("record_type")
        if kind == "metric":
            run.metrics[record.metric.name or record.metric.glob_name] = record.metric
            run.defined = place
        elif kind == "history":
            run.first_log = place if run.first_log < 0 else run.first_log
            run.history.append({_key(item): json.loads(item.value_json) for item in record.history.item})
        elif kind == "summary":
            run.summary |= {_key(item): json.loads(item.value_json) for item in record.summary.update}
        elif kind == "config":
            for item in record.config.update:
                if list(item.nested_key[:2]) == ["_wandb", "visualize"]:
                    run.charts[item.nested_key[2]] = json.loads(item.value_json)["panel_config"]
                elif item.key == "_wandb":
                    for one in json.loads(item.value_json).get("mask/class_labels", {}).values():
                        run.class_labels[tuple(one["key"].split("_wandb_delimeter_"))] = one["value"]
        elif kind == "artifact":
            run.artifacts.append(record.artifact)
    return run


def read_records(path: Path) -> Iterator[Any]:
    """Every record of a run file that is whole."""
    data = path.read_bytes()
    assert data.startswith(_HEADER)
    place, parts = len(_HEADER), b""
    while place < len(data):
        if _BLOCK - place % _BLOCK < 7:  # a fragment's header does not fit: the block ends here
            place += _BLOCK - place % _BLOCK
            continue
        if len(data) < place + 7:
            return
        checksum, length, kind = struct.unpack_from("<IHB", data, place)
        if len(data) < place + 7 + length:
            return
        assert zlib.crc32(data[place + 6 : place + 7 + length]) == checksum
        parts += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in _LAST_FRAGMENTS:
            record = pb.Record()
            record.ParseFromString(parts)
            parts = b""
            yield record


def _key(item: Any) -> str:
    return item.key or ".".join(item.nested_key)
