"""Reads run folders of fits, audits and benchmarks."""

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import nan
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from segaudit.metrics.catalogue import catalogue
from segaudit.records.summary import read_summary


@dataclass
class Run:
    """Holds the content of a run folder.

    Attributes:
        name: name of the run.
        folder: the folder.
        audits: summaries, each with its folder.
        epochs: logged values of each epoch, from metrics.csv.
        config: text of the configuration.
        selection: content of AuditCheckpoint's selection.json; empty where there is none.
        alarm: content of AuditAlarm's alarm.json; empty where there is none.

    """

    name: str
    folder: Path
    audits: list[tuple[Path, dict[str, Any]]] = field(default_factory=list)
    epochs: list[dict[str, float]] = field(default_factory=list)
    config: str = ""
    selection: dict[str, Any] = field(default_factory=dict)
    alarm: dict[str, Any] = field(default_factory=dict)


def read_run(folder: Path | str) -> Run:
    """Read the folder of a fit or an audit (``runs/…/version_0``), of an audit alone, or of a benchmark.

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: if the folder holds no run, or a file in it is broken.

    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}: name the folder of a run, runs/quickstart/version_0 say.")
    run = Run(run_names([folder])[0], folder)
    for path in sorted([*folder.glob("summary.json"), *folder.glob("*/summary.json")]):
        run.audits.append((path.parent, read_summary(path)))
    run.epochs = _epochs(folder / "metrics.csv")
    for name in ("config.yaml", "benchmark.yaml", "../config.yaml"):
        if (folder / name).is_file():
            run.config = (folder / name).read_text(encoding="utf-8")
            break
    chosen = folder / "checkpoints" / "selection.json"
    if chosen.is_file():
        run.selection = json.loads(chosen.read_text(encoding="utf-8"))
    for alarm in sorted(folder.glob("*/alarm.json")):
        run.alarm = json.loads(alarm.read_text(encoding="utf-8"))
    if not run.audits and not run.epochs:
        raise ValueError(
            f"the folder {folder} holds no run: it has neither summary.json, which `audit` and `benchmark` write, nor "
            "metrics.csv, which `fit` writes."
        )
    return run


def read_records(folder: Path | str) -> list[dict[str, Any]]:
    """Read the records of a run: those of its offline audit, or of the last epoch that was audited in ``fit``.

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: if there are no records in it.

    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}: name the folder of a run, runs/quickstart/version_0 say.")
    found = [*sorted(folder.glob("targets.parquet")), *sorted(folder.glob("*/targets.parquet"))]
    found = found or sorted(folder.glob("*epoch=*.parquet")) or sorted(folder.glob("audit/*epoch=*.parquet"))
    if not found:
        raise ValueError(
            f"the folder {folder} holds no records of an audit: run `segaudit audit`, or fit with AttributionAudit."
        )
    return read_rows(found[-1])


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Read the records of one file.

    Raises:
        ValueError: if the file is broken.

    """
    try:
        rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"{path} is broken ({str(error).splitlines()[0]}): run the audit again.") from None
    return rows


def run_names(folders: Sequence[Path | str]) -> list[str]:
    """Return a name for each run: the end of its path, as long as needed to tell the runs apart."""
    paths = [_run_folder(Path(folder)).resolve() for folder in folders]
    for parts in range(2, max(len(path.parts) for path in paths) + 1):
        names = ["/".join(path.parts[-parts:]) for path in paths]
        if len(set(names)) == len(names):
            return names
    return [f"{path.name} ({place})" for place, path in enumerate(paths, start=1)]


def all_directions(folders: Sequence[Path | str]) -> dict[str, bool | None]:
    """Tell by score whether higher is better, for segaudit's scores and for those in the summaries of the runs."""
    found = {entry.name: entry.cls.higher_is_better for entry in catalogue()}
    for folder in folders:
        for path in (*Path(folder).glob("summary.json"), *Path(folder).glob("*/summary.json")):
            found |= read_summary(path)["directions"]
    return found


def _run_folder(folder: Path) -> Path:
    """Return the run folder that contains an audit's folder, or the folder itself."""
    return folder.parent if (folder / "summary.json").is_file() and (folder / "../config.yaml").is_file() else folder


def _epochs(path: Path) -> list[dict[str, float]]:
    """Read metrics.csv, with one row per epoch."""
    if not path.is_file():
        return []
    found: dict[float, dict[str, float]] = {}
    with open(path, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            try:
                epoch = float(row["epoch"])
                values = {name: float(value) for name, value in row.items() if value and name not in ("epoch", "step", None)}
            except (KeyError, TypeError, ValueError):
                continue
            found.setdefault(epoch, {"epoch": epoch}).update(values)
    return [found[epoch] for epoch in sorted(found)]


def column(rows: list[dict[str, float]], name: str) -> list[float]:
    """Return one column; NaN where a row lacks it."""
    return [row.get(name, nan) for row in rows]
