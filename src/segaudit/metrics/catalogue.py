"""Lists the scores: one table for the program, the documentation and the tests."""

import inspect
from dataclasses import dataclass

import segaudit.functional
from segaudit.docstrings import section, summary
from segaudit.metrics.base import TargetMean
from segaudit.names import snake_case, subclasses

LEGEND = (
    "K: points of a curve, R: segments of all partitions, P: perturbations, F: fills, T: the image's targets, which share a "
    "cost, E: the explainer's own cost."
)
#: Titles of the families in docs/scores.md, in their order there. Others follow under their own names.
FAMILIES = {
    "faithfulness": "Do the highlighted pixels drive the prediction?",
    "imputation": "Do the highlighted pixels drive the prediction?",
    "subset": "Do the map's values tell the effects?",
    "calibration": "Do the map's values tell the effects?",
    "leakage": "Does credit stay on the target?",
    "localisation": "Does credit stay on the target?",
    "sparseness": "On how few pixels does the credit lie?",
    "stability": "Is the map robust, and does it come from what was learnt?",
    "randomisation": "Is the map robust, and does it come from what was learnt?",
    "cue": "Planted data, and cost",
    "runtime": "Planted data, and cost",
}


@dataclass(frozen=True)
class Entry:
    """Describes one score.

    The texts come from the docstring of its function, or where it has none from that of its class.

    Attributes:
        name: the short name, in YAML and logs.
        family: the file it comes from, ``faithfulness`` or ``leakage``, say.
        better: ``high``, ``low``, or ``-`` where neither is.
        range: of one target's value in an audit, ``0 to 1`` or ``from 0``.
        summary: the first sentence.
        unit: the section ``Unit``.
        cost: the section ``Cost``, the forwards of a target beyond the explainer's own; :data:`LEGEND` has the letters.
        definition: the section ``Definition``: who defined it, or that it is our reading.
        pitfalls: the section ``Pitfalls``.
        cls: the class.

    """

    name: str
    family: str
    better: str
    range: str
    summary: str
    unit: str
    cost: str
    definition: str
    pitfalls: str
    cls: type[TargetMean]


def catalogue() -> list[Entry]:
    """List the scores of this package, families and their members in the order of the alphabet.

    Example:
        >>> [entry.name for entry in catalogue() if entry.family == "leakage"]
        ['off_target_leakage', 'unsupported_leakage']

    """
    every = subclasses(TargetMean)  # type: ignore[type-abstract]
    ours = {cls for cls in every if cls.__module__.startswith(f"{__package__}.")}
    return sorted(map(_entry, ours), key=lambda entry: (entry.family, entry.name))


def describe(name: str) -> str:
    """Return the whole docstring of a score, under its name.

    Raises:
        ValueError: if there is none of that name; the message lists those that exist.

    """
    entries = {entry.name: entry for entry in catalogue()}
    if name not in entries:
        raise ValueError(f"there is no score {name!r}. Known: {', '.join(sorted(entries))}.")
    entry = entries[name]
    head = f"{name}\nclass_path: {entry.cls.__name__}\nbetter: {entry.better}\nrange: {entry.range}"
    return f"{head}\n\n{inspect.getdoc(_documented(entry.cls))}"


def score_range(name: str) -> tuple[float, float] | None:
    """Return the range that a score's class declares for intervals, by its short name, a user's own classes included.

    None for a score that has no range, for one whose class is not known here, and for one that two classes claim with
    different ranges.

    Example:
        >>> score_range("off_target_leakage"), score_range("faithfulness_gap"), score_range("seconds")
        ((0.0, 1.0), (-1.0, 1.0), None)

    """
    every = subclasses(TargetMean)  # type: ignore[type-abstract]
    ranges = {cls.score_range for cls in every if snake_case(cls.__name__) == name}
    return ranges.pop() if len(ranges) == 1 else None


def _documented(cls: type[TargetMean]) -> object:
    """Return what has the score's docstring: its function, or where it has none its class."""
    return getattr(segaudit.functional, snake_case(cls.__name__), cls)


def _entry(cls: type[TargetMean]) -> Entry:
    low, high, documented = cls.plot_lower_bound, cls.plot_upper_bound, _documented(cls)
    start = "" if low is None else f"{low:g}" if high is not None else f"from {low:g}"
    end = "" if high is None else f"to {high:g}"
    return Entry(
        name=snake_case(cls.__name__),
        family=cls.__module__.rpartition(".")[2],
        better={True: "high", False: "low", None: "-"}[cls.higher_is_better],
        range=f"{start} {end}".strip() or "any",
        summary=summary(documented),
        unit=section(documented, "Unit"),
        cost=section(documented, "Cost"),
        definition=section(documented, "Definition"),
        pitfalls=section(documented, "Pitfalls"),
        cls=cls,
    )
