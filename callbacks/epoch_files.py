"""Writes the files of an epoch's audit into the run folder."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from lightning.pytorch import Trainer
from PIL import Image

from segaudit.records.files import atomic_write


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
