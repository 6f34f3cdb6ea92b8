"""Lists the fills, for the documentation and the tests."""

import inspect
from dataclasses import dataclass

from segaudit.docstrings import section, summary
from segaudit.intervention.fill import Fill
from segaudit.names import subclasses


@dataclass(frozen=True)
class Entry:
    """Describes one fill.

    Attributes:
        call: the class with the arguments of its constructor, as they would be written in Python.
        summary: the first sentence of its docstring.
        removes: the section ``Removes``.
        invents: the section ``Keeps or invents``.
        cls: the class.

    """

    call: str
    summary: str
    removes: str
    invents: str
    cls: type[Fill]


def catalogue() -> list[Entry]:
    """List the fills of this package, in the order of the alphabet.

    Example:
        >>> [entry.call for entry in catalogue()][:2]
        ['BlurFill(sigma=0.1)', 'ConstantFill(value=0.0)']

    """
    known = set(subclasses(Fill))  # type: ignore[type-abstract]
    ours = [cls for cls in known if cls.__module__.startswith(f"{__package__}.") and not inspect.isabstract(cls)]
    return sorted(map(_entry, ours), key=lambda entry: entry.call)


def _entry(cls: type[Fill]) -> Entry:
    arguments = (f"{p.name}={p.default!r}" for p in inspect.signature(cls).parameters.values() if p.default is not p.empty)
    return Entry(
        call=f"{cls.__name__}({', '.join(arguments)})",
        summary=summary(cls),
        removes=section(cls, "Removes"),
        invents=section(cls, "Keeps or invents"),
        cls=cls,
    )
