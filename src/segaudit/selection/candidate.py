"""Candidates: the models that a rule chooses among."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite

from segaudit.metrics.catalogue import catalogue


@dataclass
class Candidate:
    """Holds what is known of a model at one epoch.

    Attributes:
        name: the name in sentences, ``epoch 3``.
        values: logged numbers by key.
        path: path of the checkpoint; empty where there is no file (any more).
        epoch: counted from 0.
        step: optimizer steps taken before.
        scores: by key, the score of each target of the audit's panel; NaN for a target without one. Empty where the audit
            had no panel.
        image_iou: mean IoU of each image of the panel, by its name; empty without masks.
        panel: settings that the panel was drawn with.
        protocol: version of the rules of the audit; candidates of different ones are never ranked together.

    """

    name: str
    values: Mapping[str, float]
    path: str = ""
    epoch: int = 0
    step: int = 0
    scores: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    image_iou: Mapping[str, float] = field(default_factory=dict)
    panel: str = ""
    protocol: int = 1


@dataclass(frozen=True)
class Ranked:
    """Holds a rule's judgement of one candidate.

    Attributes:
        candidate: the candidate.
        allowed: whether the rule lets it win.
        why: the reason, as the end of a sentence.
        scored: whether it has all the numbers that the rule uses.

    """

    candidate: Candidate
    allowed: bool
    why: str
    scored: bool = True


def missing(candidate: Candidate, keys: Sequence[str]) -> str:
    """Say which of the keys have no number, as the end of a sentence; empty where all have one."""
    absent = [key for key in keys if key not in candidate.values]
    lost = [key for key in keys if key not in absent and not isfinite(candidate.values[key])]
    parts = [(absent, "was not logged"), (lost, "could not be scored")]
    return "; ".join(f"{', '.join(of)} {what}" for of, what in parts if of)


def higher_is_better(key: str) -> bool:
    """Tell whether higher values of a logged number are better, by the last part of its key.

    Raises:
        ValueError: if the direction is not known.

    Example:
        >>> higher_is_better("audit/dea/off_target_leakage"), higher_is_better("val/iou")
        (False, True)

    """
    directions = {entry.name: entry.cls.higher_is_better for entry in catalogue()}
    direction = (directions | {"iou": True, "loss": False, "accuracy": True, "dice": True}).get(key.rsplit("/", 1)[-1])
    if key.startswith(("val/iou/", "test/iou/")):
        direction = True
    if direction is None:
        raise ValueError(f"segaudit does not know which way {key!r} is better: give the direction, 'max' or 'min'.")
    return direction
