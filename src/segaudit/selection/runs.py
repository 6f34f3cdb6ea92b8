"""Reads the candidates of finished runs from their folders."""

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from segaudit.records.run import read_rows, read_run, run_names
from segaudit.selection.candidate import Candidate
from segaudit.selection.panel import check_protocols, revise
from segaudit.statistics import TargetSeries


def read_candidates(folders: Sequence[Path | str]) -> list[Candidate]:
    """Read every epoch of the runs, with its logged numbers and its checkpoint if the file is there.

    Args:
        folders: folders of runs, ``runs/…/version_0``, each with a metrics.csv.

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: if a folder holds no metrics of a training run.

    """
    found: list[Candidate] = []
    for folder, name in zip(folders, run_names(folders), strict=True):
        epochs = read_run(folder).epochs
        if not epochs:
            raise ValueError(f"the folder {folder} holds no metrics.csv, which `fit` writes: name the folder of a fit.")
        files = _checkpoints(Path(folder))
        audited = read_series(Path(folder))
        # An epoch between two audits is of the run's protocol too.
        protocol = max((entry["protocol"] for entry in audited.values()), default=1)
        for row in epochs:
            epoch = int(row["epoch"])
            path, step = files.get(epoch, ("", 0))
            values = {key: value for key, value in row.items() if key != "epoch"}
            found.append(
                Candidate(f"{name} epoch {epoch}", values, path, epoch, step, **audited.get(epoch, {"protocol": protocol}))
            )
    check_protocols(found)
    revise(found)
    return found


def read_series(folder: Path) -> dict[int, dict[str, Any]]:
    """Read the audits of a fit: by epoch, scores by target, IoU by image, and the protocol, as a candidate has them.

    Args:
        folder: folder of the run.

    """
    found: dict[int, dict[str, Any]] = {}
    for audit in sorted({path.parent for path in folder.glob("*/epoch=*.parquet")}):
        series = TargetSeries()
        for path in sorted(audit.glob("epoch=*.parquet")):
            rows = read_rows(path)
            if not rows or "protocol" not in rows[0]:
                continue
            epoch = int(rows[0]["epoch"])
            series.add(epoch, rows)
            entry = found.setdefault(epoch, {"scores": {}, "image_iou": {}, "protocol": int(rows[0]["protocol"])})
            entry["image_iou"] |= {str(row["sample_id"]): row["image_iou"] for row in rows if "image_iou" in row}
        for epoch in series.audits:
            found[epoch]["scores"] |= {f"{audit.name}/{key}": series.of_audit(key, epoch) for key in series.keys}
    return found


def _checkpoints(folder: Path) -> dict[int, tuple[str, int]]:
    """Return path and step by epoch; ``last.ckpt`` only where an epoch has no other file."""
    found: dict[int, tuple[str, int]] = {}
    files = sorted(folder.glob("checkpoints/*.ckpt"), key=lambda path: (not path.stem.startswith("last"), path.name))
    for path in files:
        try:
            loaded = torch.load(path, map_location="meta", mmap=True, weights_only=True)
            found[int(loaded["epoch"])] = str(path), int(loaded["global_step"])
        except (pickle.UnpicklingError, RuntimeError, OSError, KeyError, TypeError, ValueError):
            continue  # not a usable checkpoint; an audit of it would say why
    return found
