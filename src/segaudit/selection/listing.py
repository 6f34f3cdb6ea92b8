"""Tells the result of a rule: as a sentence, as a table, and in files."""

import json
from collections.abc import Sequence
from math import isfinite
from pathlib import Path
from typing import Any

from rich.table import Table

from segaudit.formatting import number
from segaudit.records.files import atomic_write
from segaudit.selection.candidate import Ranked
from segaudit.selection.panel import Outlook, outlook
from segaudit.selection.rules import SelectionRule


def chosen(ranked: Sequence[Ranked]) -> Ranked | None:
    """Return the best candidate whose checkpoint is there; None where none has a checkpoint and all numbers."""
    return next((one for one in ranked if one.scored and one.candidate.path), None)


def verdict(rule: SelectionRule, ranked: Sequence[Ranked]) -> str:
    """Say in a sentence which candidate was chosen, and why."""
    best = chosen(ranked)
    if best is None:
        reason = ranked[0].why if ranked else f"nothing that has {', '.join(rule.keys)} was validated"
        if ranked and ranked[0].scored:
            reason = f"no candidate's file is there; the best would be {ranked[0].candidate.name} ({reason})"
        return f"no checkpoint was chosen: {reason}."
    if best.allowed:
        text = f"chosen of {len(ranked)}: {best.candidate.name} ({best.why})"
    else:
        text = f"no candidate of {len(ranked)} satisfies the rule; the nearest is {best.candidate.name} ({best.why})"
    lost = "" if best is ranked[0] else f"; {ranked[0].candidate.name} ranks higher, but its checkpoint is gone"
    return f"{text}{lost}: {best.candidate.path}{_beside(rule, ranked, best)}"


def outlook_of(rule: SelectionRule, ranked: Sequence[Ranked]) -> Outlook | None:
    """Say what the chosen candidate is likely to reach on other images; None where that cannot be told."""
    best = chosen(ranked)
    if best is None or not best.allowed or rule.objective is None:
        return None
    key, sign = rule.objective
    return outlook([one.candidate for one in ranked if one.allowed], best.candidate, key, sign)


def _beside(rule: SelectionRule, ranked: Sequence[Ranked], best: Ranked) -> str:
    """Say beside the choice that the best of many looks better than it is."""
    found = outlook_of(rule, ranked)
    if found is None:
        return ""
    text = (
        f". Chosen among {found.among}: {found.key} is {number(best.candidate.values[found.key])} here, and expected to be "
        f"{number(found.expected)} on other images"
    )
    if found.alike:
        others = "1 other" if found.alike == 1 else f"{found.alike} others"
        text += f". {found.images} images do not tell it from {others}"
    return f"{text}."


def selection_table(rule: SelectionRule, ranked: Sequence[Ranked]) -> Table:
    """Lay out the ranking as a table, the best candidate first."""
    table = Table(title=str(rule), title_justify="left")
    for name in ("place", *rule.keys):
        table.add_column(name, justify="right")
    table.add_column("candidate", no_wrap=True)
    table.add_column("why", overflow="fold")
    for place, one in enumerate(ranked, start=1):
        numbers = [number(one.candidate.values.get(key), 4) for key in rule.keys]
        style = "" if one.allowed else "dim"
        table.add_row(str(place), *numbers, one.candidate.name, one.why, style=style)
    return table


def write_selection(folder: Path, rule: SelectionRule, ranked: Sequence[Ranked]) -> None:
    """Write ``selection.json`` and ``selection.md``, which say for every candidate why it won or lost."""
    best = chosen(ranked)
    found = {
        "rule": str(rule),
        "keys": rule.keys,
        "chosen": best.candidate.path if best else None,
        "verdict": verdict(rule, ranked),
        "outlook": _outlook_row(outlook_of(rule, ranked)),
        "candidates": [_row(place, one) for place, one in enumerate(ranked, start=1)],
    }
    with atomic_write(folder / "selection.json") as draft:
        draft.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    lines = [f"{found['verdict']}", "", f"`{rule}`", ""]
    lines += [f"| place | candidate | {' | '.join(rule.keys)} | checkpoint | why |", "| --- " * (len(rule.keys) + 4) + "|"]
    for place, one in enumerate(ranked, start=1):
        numbers = " | ".join(number(one.candidate.values.get(key), 4) for key in rule.keys)
        file = Path(one.candidate.path).name or "deleted"
        lines.append(f"| {place} | {one.candidate.name} | {numbers} | {file} | {one.why} |")
    with atomic_write(folder / "selection.md") as draft:
        draft.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _outlook_row(found: Outlook | None) -> dict[str, Any] | None:
    return None if found is None else found._asdict() | {"expected": found.expected if isfinite(found.expected) else None}


def _row(place: int, one: Ranked) -> dict[str, Any]:
    candidate = one.candidate
    values = {key: value if isfinite(value) else None for key, value in candidate.values.items()}
    return {
        "place": place,
        "name": candidate.name,
        "epoch": candidate.epoch,
        "step": candidate.step,
        "allowed": one.allowed,
        "kept": bool(candidate.path),
        "why": one.why,
        "checkpoint": candidate.path or None,
        "values": values,
    }
