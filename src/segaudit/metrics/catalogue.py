"""What scores there are: one table for the program, the documentation and the tests."""

import inspect
from dataclasses import dataclass

import segaudit.functional
from segaudit.metrics.base import TargetMean
from segaudit.names import snake_case, subclasses


@dataclass(frozen=True)
class Entry:
    """One score of the catalogue.

    Attributes:
        name: the short name, in YAML and logs.
        family: the file it comes from, ``faithfulness`` or ``leakage``, say.
        better: ``high``, ``low``, or ``-`` where neither is.
        range: of one target's value in an audit, ``0 to 1`` or ``from 0``.
        summary: the first sentence of its function's docstring.
        cls: the class.

    """

    name: str
    family: str
    better: str
    range: str
    summary: str
    cls: type[TargetMean]


def catalogue() -> list[Entry]:
    """Every score of this package, families and their members in the order of the alphabet.

    Example:
        >>> [entry.name for entry in catalogue() if entry.family == "leakage"]
        ['off_target_leakage', 'unsupported_leakage']

    """
    every = subclasses(TargetMean)  # type: ignore[type-abstract]
    ours = {cls for cls in every if cls.__module__.startswith(f"{__package__}.")}
    return sorted(map(_entry, ours), key=lambda entry: (entry.family, entry.name))


def describe(name: str) -> str:
    """All that a score's function and class say of themselves, under its name.

    Raises:
        ValueError: if there is none of that name; the message lists those that exist.

    """
    entries = {entry.name: entry for entry in catalogue()}
    if name not in entries:
        raise ValueError(f"there is no score {name!r}. Known: {', '.join(sorted(entries))}.")
    entry = entries[name]
    head = f"{name}\nclass_path: {entry.cls.__name__}\nbetter: {entry.better}\nrange: {entry.range}"
    return f"{head}\n\n{inspect.getdoc(getattr(segaudit.functional, name, entry.cls))}"


def _entry(cls: type[TargetMean]) -> Entry:
    name, low, high = snake_case(cls.__name__), cls.plot_lower_bound, cls.plot_upper_bound
    start = "" if low is None else f"{low:g}" if high is not None else f"from {low:g}"
    end = "" if high is None else f"to {high:g}"
    return Entry(
        name=name,
        family=cls.__module__.rpartition(".")[2],
        better={True: "high", False: "low", None: "-"}[cls.higher_is_better],
        range=f"{start} {end}".strip() or "any",
        summary=" ".join((inspect.getdoc(getattr(segaudit.functional, name, cls)) or "").split("\n\n")[0].split()),
        cls=cls,
    )
