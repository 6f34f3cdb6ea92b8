"""What a rule chooses among."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite

from segaudit.metrics.catalogue import catalogue


@dataclass
class Candidate:
    """A model at one epoch.

    Attributes:
        name: as sentences call it, ``epoch 3``.
        values: logged numbers by key.
        path: of the checkpoint; empty where there is none, or none any more.
        epoch: from 0.
        step: optimizer steps that had been taken.

    """

    name: str
    values: Mapping[str, float]
    path: str = ""
    epoch: int = 0
    step: int = 0


@dataclass(frozen=True)
class Ranked:
    """A candidate's place.

    Attributes:
        candidate: which.
        allowed: whether the rule lets it win.
        why: a sentence's end, in the rule's terms.
        scored: whether it has all the numbers that the rule looks at.

    """

    candidate: Candidate
    allowed: bool
    why: str
    scored: bool = True


def missing(candidate: Candidate, keys: Sequence[str]) -> str:
    """Which of the keys has no number, as a sentence's end; empty if all have one."""
    absent = [key for key in keys if key not in candidate.values]
    lost = [key for key in keys if key not in absent and not isfinite(candidate.values[key])]
    parts = [f"{', '.join(absent)} was not measured"] * bool(absent) + [f"{', '.join(lost)} could not be scored"] * bool(
        lost
    )
    return "; ".join(parts)


def higher_is_better(key: str) -> bool:
    """Which way a logged number is better, by the last part of its key.

    Raises:
        ValueError: if nothing is known about it.

    Example:
        >>> higher_is_better("audit/dea/off_target_leakage"), higher_is_better("val/iou")
        (False, True)

    """
    directions = {entry.name: entry.cls.higher_is_better for entry in catalogue()}
    direction = (directions | {"iou": True, "loss": False, "accuracy": True, "dice": True}).get(key.rsplit("/", 1)[-1])
    if key.startswith(("val/iou/", "test/iou/")):
        direction = True
    if direction is None:
        raise ValueError(f"nobody said which way {key!r} is better: say it, 'max' or 'min'.")
    return direction
