"""Runs the verbs that Lightning does not have: listings, benchmark, report, compare, select, workspace."""

import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lightning
import yaml
from rich.console import Console

import segaudit.metrics.catalogue as score_catalogue
from segaudit.attribution.catalogue import LEGEND, catalogue, describe
from segaudit.benchmark import Benchmark
from segaudit.cli.messages import OneSentenceParser
from segaudit.records.run import all_directions, run_names
from segaudit.report import comparison, difference_table, read_records, read_run, write_report
from segaudit.report.workspace import build_workspace
from segaudit.selection import (
    SelectionRule,
    draw_selection,
    read_candidates,
    selection_table,
    verdict,
    write_selection,
)


def explainers(words: list[str]) -> None:
    """Print a table of all explainers, or what the named ones say of themselves."""
    if words:
        print("\n\n".join(describe(name) for name in words))
        return
    rows = [("explainer", "family", "passes an image", "what it is")]
    rows += [(entry.name, entry.family, entry.cost, entry.summary) for entry in catalogue()]
    _print_columns(rows)
    print(f"{LEGEND} `segaudit explainers <name>` tells more.")


def scores(words: list[str]) -> None:
    """Print a table of all scores, or what the named ones say of themselves."""
    if words:
        print("\n\n".join(score_catalogue.describe(name) for name in words))
        return
    rows = [("score", "family", "better", "range", "what it is")]
    _print_columns(rows + [(e.name, e.family, e.better, e.range, e.summary) for e in score_catalogue.catalogue()])
    print("`segaudit scores <name>` tells more.")


def benchmark(words: list[str]) -> None:
    """Audit networks on data sets with explainers and scores, and lay the results side by side."""
    parser = OneSentenceParser(prog="segaudit benchmark", description=Benchmark.__doc__)
    parser.add_argument("--config", action="config", help="a YAML file")
    parser.add_class_arguments(Benchmark, as_group=False, sub_configs=True)
    found = parser.parse_args(words)
    config: dict[str, Any] = yaml.safe_load(parser.dump(found))
    lightning.seed_everything(
        found.seed, verbose=False
    )  # networks without weights of their own draw them when they are made
    made = parser.instantiate_classes(found)
    made.pop("config", None)
    Benchmark(**made.as_dict()).run(config)


def report(words: list[str]) -> None:
    """Write one self-contained HTML page about runs."""
    parser = OneSentenceParser(prog="segaudit report", description=report.__doc__)
    parser.add_argument("runs", nargs="+", type=Path, help="folders of runs: of a fit, an audit or a benchmark")
    parser.add_argument("--out", type=Path, help="the page; defaults to report.html in the first run's folder")
    found = parser.parse_args(words)
    path = write_report(found.runs, found.out or found.runs[0] / "report.html")
    print(f"report: {path}")


def compare(words: list[str]) -> None:
    """Print paired differences of two or more audits from the first."""
    parser = OneSentenceParser(prog="segaudit compare", description=compare.__doc__)
    parser.add_argument("runs", nargs="+", type=Path, help="folders of runs, two or more")
    parser.add_argument("--out", type=Path, help="an HTML page of the runs and their differences")
    found = parser.parse_args(words)
    if len(found.runs) < 2:
        raise ValueError("compare needs at least two runs: segaudit compare RUN RUN…")
    names = run_names(found.runs)
    rows = comparison(
        {name: read_records(run) for name, run in zip(names, found.runs, strict=True)}, all_directions(found.runs)
    )
    Console(width=max(Console().width, 130)).print(difference_table(rows, names[0]))
    if found.out:
        print(f"report: {write_report(found.runs, found.out)}")


def select(words: list[str]) -> None:
    """Choose among all epochs of finished runs, by the rules that AuditCheckpoint has."""
    parser = OneSentenceParser(prog="segaudit select", description=select.__doc__)
    parser.add_argument("--config", action="config", help="a YAML file with a rule")
    parser.add_argument("runs", nargs="+", type=Path, help="folders of runs, each of a fit")
    parser.add_argument("--rule", type=SelectionRule, default={"class_path": "Tolerant"}, help="a rule and its arguments")
    parser.add_argument("--out", type=Path, help="a folder for selection.md, selection.json and selection.png")
    found = parser.instantiate_classes(parser.parse_args(words))
    candidates = read_candidates(found.runs)
    complete = [one for one in candidates if all(key in one.values for key in found.rule.keys)]
    if not complete:
        known = sorted({key for one in candidates for key in one.values})
        raise ValueError(f"no epoch of these runs has logged {' and '.join(found.rule.keys)}; there are {', '.join(known)}.")
    ranked = found.rule.rank(complete)
    Console(width=max(Console().width, 130)).print(selection_table(found.rule, ranked))
    if left := len(candidates) - len(complete):
        print(f"left out: {left} of {len(candidates)} epochs, which did not log everything that the rule uses")
    print(verdict(found.rule, ranked))
    if found.out:
        write_selection(found.out, found.rule, ranked)
        draw_selection(found.out / "selection.png", found.rule, ranked)
        print(f"table and picture: {found.out}")


def workspace(words: list[str]) -> None:
    """Save a W&B workspace with a place for everything that a run's audits logged; one must be logged in."""
    parser = OneSentenceParser(prog="segaudit workspace", description=workspace.__doc__)
    parser.add_argument("run", type=Path, help="folder of a fit, whose keys it is made for")
    parser.add_argument("--entity", required=True, type=str, help="user or team on W&B")
    parser.add_argument("--project", default="segaudit", help="project on W&B")
    parser.add_argument("--prefix", default="audit", help="prefix of the audit's keys")
    parser.add_argument("--name", default="segaudit", help="name of the workspace")
    found = parser.parse_args(words)
    keys = list(dict.fromkeys(key for row in read_run(found.run).epochs for key in row))
    build_workspace(found.entity, found.project, keys, found.prefix, found.name).save()


COMMANDS: dict[str, Callable[[list[str]], None]] = {
    "explainers": explainers,
    "scores": scores,
    "benchmark": benchmark,
    "report": report,
    "compare": compare,
    "select": select,
    "workspace": workspace,
}


def _print_columns(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for row in rows:
        print("  ".join(f"{cell:<{wide}}" for cell, wide in zip(row, widths, strict=True)).rstrip()[:width])
