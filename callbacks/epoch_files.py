"""Writes the files of an epoch's audit into the run folder."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from lightning.pytorch import Trainer
from PIL import Image

from segaudit.forwards.panel import Panel
from segaudit.records.files import atomic_write
from segaudit.records.summary import class_name


def write_epoch(trainer: Trainer, folder: Path, rows: list[dict[str, Any]], picture: np.ndarray[Any, Any] | None) -> None:
    """Write records (Parquet) and a picture (PNG), named after the loop, the epoch and the step; complete or not at all.

    Args:
        trainer: gives the loop, the epoch and the step.
        folder: folder to write to; it is made if missing.
        rows: one record each; without records no file is written.
        picture: ``(height, width, 3)`` uint8.

    """
    folder.mkdir(parents=True, exist_ok=True)
    stage = "" if trainer.state.fn in (None, "fit") else f"{trainer.state.fn.value}-"
    stem = folder / f"{stage}epoch={trainer.current_epoch:03d}-step={trainer.global_step:06d}"
    if rows:
        with atomic_write(Path(f"{stem}.parquet")) as draft:
            pq.write_table(pa.Table.from_pylist(rows), draft)
    if picture is not None:
        with atomic_write(Path(f"{stem}.png")) as draft:
            Image.fromarray(picture).save(draft, format="PNG")


def write_panel(folder: Path, panel: Panel, class_names: Sequence[str]) -> None:
    """Write ``panel.csv``, one row per target: image, class, area, and what the panel was drawn with; once."""
    path = folder / "panel.csv"
    if path.exists() and panel.settings in path.read_text(encoding="utf-8"):
        return
    rows = [row | {"class": class_name(class_names, row["class_index"])} for row in panel.rows()]
    with atomic_write(path) as draft, open(draft, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]) if rows else ["image"])
        writer.writeheader()
        writer.writerows(rows)
