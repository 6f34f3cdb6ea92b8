"""Short names: a class is found by its name in snake case, without being registered anywhere."""

import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import TypeVar

T = TypeVar("T")


def snake_case(name: str) -> str:
    """Turn a class's name into its short name.

    Example:
        >>> [snake_case(name) for name in ("SegGradCAM", "DEA", "DeletionAUC", "RegionEffects")]
        ['seg_grad_cam', 'dea', 'deletion_auc', 'region_effects']

    """
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A question about the nearest known name; empty where none is near.

    Example:
        >>> did_you_mean("deletion_au", ["deletion_auc", "seconds"])
        " Did you mean 'deletion_auc'?"

    """
    near = get_close_matches(name, list(known), n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


def resolve(entry: T | str, base: type[T]) -> T:
    """The object itself, or a new one of the subclass of ``base`` that a short name names.

    Raises:
        ValueError: if no imported subclass has that name; the message lists those that exist.

    """
    if not isinstance(entry, str):
        return entry
    known = {snake_case(cls.__name__): cls for cls in subclasses(base) if not getattr(cls, "__abstractmethods__", None)}
    if entry not in known:
        # Of a library's base class, the library's own are no use here.
        library = "" if base.__module__.startswith("segaudit.") else _package(base)
        ours = [name for name, cls in known.items() if _package(cls) != library and name[:1] != "_"]
        listed = ", ".join(sorted(ours or known))
        near = did_you_mean(entry, ours or known)
        raise ValueError(f"there is no {base.__name__} {entry!r}.{near} Known: {listed}; any other goes by its class_path.")
    found: T = known[entry]()
    return found


def resolve_named(entries: Mapping[str, T | str] | Sequence[T | str], base: type[T]) -> dict[str, T]:
    """Objects by name, from a mapping or from a list whose entries name themselves.

    Raises:
        ValueError: if two entries of a list have one name.

    """
    if isinstance(entries, Mapping):
        return {name: resolve(entry, base) for name, entry in entries.items()}
    objects = [resolve(entry, base) for entry in entries]
    names = [snake_case(type(item).__name__) for item in objects]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"{', '.join(twice)} appears more than once; give a mapping with a name for each.")
    return dict(zip(names, objects, strict=True))


def _package(cls: type) -> str:
    return cls.__module__.partition(".")[0]


def subclasses(cls: type[T]) -> list[type[T]]:
    """All classes that derive from ``cls`` and have been imported, directly or not."""
    return [found for sub in cls.__subclasses__() for found in (sub, *subclasses(sub))]
