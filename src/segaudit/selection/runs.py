"""Reads the candidates of finished runs from their folders."""

import pickle
from collections.abc import Sequence
from pathlib import Path

import torch

from segaudit.records.run import read_run, run_names
from segaudit.selection.candidate import Candidate


def read_candidates(folders: Sequence[Path | str]) -> list[Candidate]:
    """Read every epoch of the runs, with its logged numbers and its checkpoint if the file is there.

    Args:
        folders: folders of runs, ``runs/…/version_0``, each with a metrics.csv.

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: if a folder holds no metrics of a training run.

    """
    found = []
    for folder, name in zip(folders, run_names(folders), strict=True):
        epochs = read_run(folder).epochs
        if not epochs:
            raise ValueError(f"the folder {folder} holds no metrics.csv, which `fit` writes: name the folder of a fit.")
        files = _checkpoints(Path(folder))
        for row in epochs:
            epoch = int(row["epoch"])
            path, step = files.get(epoch, ("", 0))
            values = {key: value for key, value in row.items() if key != "epoch"}
            found.append(Candidate(f"{name} epoch {epoch}", values, path, epoch, step))
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
