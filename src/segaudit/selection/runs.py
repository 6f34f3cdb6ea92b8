"""Candidates of finished runs, from what lies in their folders."""

import pickle
from collections.abc import Sequence
from pathlib import Path

import torch

from segaudit.records.run import read_run, run_names
from segaudit.selection.candidate import Candidate


def read_candidates(folders: Sequence[Path | str]) -> list[Candidate]:
    """Every epoch of the runs, with what was logged then and its checkpoint if that was kept.

    Args:
        folders: of runs, ``runs/…/version_0``, each with a metrics.csv.

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
    """Path and step by epoch; ``last.ckpt`` only where there is no other."""
    found: dict[int, tuple[str, int]] = {}
    files = sorted(folder.glob("checkpoints/*.ckpt"), key=lambda path: (not path.stem.startswith("last"), path.name))
    for path in files:
        try:
            loaded = torch.load(path, map_location="meta", mmap=True, weights_only=True)
            found[int(loaded["epoch"])] = str(path), int(loaded["global_step"])
        except (pickle.UnpicklingError, RuntimeError, OSError, KeyError, TypeError, ValueError):
            continue  # not a checkpoint that could be used; an audit of it would say why
    return found
