"""Lists the explainers: one table for the program, the documentation and the tests."""

import inspect
from dataclasses import dataclass

from segaudit.attribution.base import Explainer
from segaudit.docstrings import section, summary
from segaudit.names import snake_case, subclasses

LEGEND = "F: forward, B: backward pass, T: the image's targets, R: segments of all partitions, K: channels of the layer."
#: Titles of the families in docs/explainers.md, in their order there. Others follow under their own names.
FAMILIES = {
    "gradient": "Gradients",
    "path": "Gradients along a path",
    "smooth": "Smoothed gradients",
    "cam": "Class activation maps",
    "perturbation": "Masked forwards",
    "surrogate": "Linear models of masked forwards",
    "relevance": "Relevance",
    "attention": "Attention",
    "fusion": "Both kinds of evidence",
    "adapter": "Methods of other libraries",
    "control": "Controls",
}


@dataclass(frozen=True)
class Entry:
    """Describes one explainer.

    Attributes:
        name: the short name, in YAML and logs.
        family: the file it comes from, ``gradient`` or ``cam``; ``control`` for controls.
        cost: passes an image takes; :data:`LEGEND` says what the letters mean.
        summary: the first sentence of its docstring.
        when: the section ``When to use`` of its docstring.
        arguments: the constructor's, as they would be written in Python.
        cls: the class.

    """

    name: str
    family: str
    cost: str
    summary: str
    when: str
    arguments: str
    cls: type[Explainer]


def catalogue() -> list[Entry]:
    """List the explainers of this package, families and their members in the order of the alphabet, controls last.

    Example:
        >>> [entry.name for entry in catalogue() if entry.family == "fusion"]
        ['dea']

    """
    known = set(subclasses(Explainer))  # type: ignore[type-abstract]
    ours = [cls for cls in known if cls.__module__.startswith(f"{__package__}.")]
    entries = [_entry(cls) for cls in ours if not (inspect.isabstract(cls) or cls.__name__.startswith("_"))]
    return sorted(entries, key=lambda entry: (entry.cls.control, entry.family, entry.name))


def describe(name: str) -> str:
    """Return the whole docstring of an explainer, under its name.

    Raises:
        ValueError: if there is none of that name; the message lists those that exist.

    """
    entries = {entry.name: entry for entry in catalogue()}
    if name not in entries:
        raise ValueError(f"there is no explainer {name!r}. Known: {', '.join(sorted(entries))}.")
    entry = entries[name]
    return f"{name}({entry.arguments})\nclass_path: {entry.cls.__name__}\ncost: {entry.cost}\n\n{inspect.getdoc(entry.cls)}"


def _entry(cls: type[Explainer]) -> Entry:
    parameters = list(inspect.signature(cls).parameters.values())
    return Entry(
        name=snake_case(cls.__name__),
        family="control" if cls.control else cls.__module__.rpartition(".")[2],
        cost=cls.cost,
        summary=summary(cls),
        when=section(cls, "When to use"),
        arguments=", ".join(f"{p.name}={p.default!r}" if p.default is not p.empty else p.name for p in parameters),
        cls=cls,
    )
