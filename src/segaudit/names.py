"""Finds a class by its name in snake case; nothing has to be registered."""

import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, TypeVar

T = TypeVar("T")


class Immutable:
    """Refuses to change an attribute that has been set, so that settings mean the same in every audit that uses them.

    Example:
        >>> class Settings(Immutable):
        ...     def __init__(self, steps):
        ...         self.steps = steps
        >>> Settings(3).steps = 4
        Traceback (most recent call last):
        ...
        AttributeError: Settings cannot be changed: make a new one with another steps.

    """

    def __setattr__(self, name: str, value: Any) -> None:
        if name in vars(self):
            raise AttributeError(f"{type(self).__name__} cannot be changed: make a new one with another {name}.")
        super().__setattr__(name, value)

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__} cannot be changed: {name} stays.")


def snake_case(name: str) -> str:
    """Turn a class's name into its short name.

    Example:
        >>> [snake_case(name) for name in ("SegGradCAM", "DEA", "DeletionAUC", "RegionEffects")]
        ['seg_grad_cam', 'dea', 'deletion_auc', 'region_effects']

    """
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def score_key(explainer: str, score: str, prefix: str = "") -> str:
    """Return the key of a score in logs, ``<prefix>/<explainer>/<score>``; parts that are empty are left out.

    Example:
        >>> score_key("dea", "stability", "audit"), score_key("", "cue_effect", "audit"), score_key("dea", "stability")
        ('audit/dea/stability', 'audit/cue_effect', 'dea/stability')

    """
    return "/".join(part for part in (prefix, explainer, score) if part)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Ask whether the nearest known name was meant; empty where none is near.

    Example:
        >>> did_you_mean("deletion_au", ["deletion_auc", "seconds"])
        " Did you mean 'deletion_auc'?"

    """
    near = get_close_matches(name, list(known), n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


def resolve(entry: T | str, base: type[T]) -> T:
    """Return the object itself, or make one of the subclass of ``base`` that a short name names.

    Raises:
        ValueError: if no imported subclass has that name, or if several have. The message lists them.

    """
    if not isinstance(entry, str):
        return entry
    known = _by_short_name(base)
    if entry not in known:
        # Of a library's base class, the library's own are no use here.
        library = "" if base.__module__.startswith("segaudit.") else _package(base)
        ours = [name for name, classes in known.items() if _package(classes[-1]) != library and name[:1] != "_"]
        listed = ", ".join(sorted(ours or known))
        near = did_you_mean(entry, ours or known)
        raise ValueError(f"there is no {base.__name__} {entry!r}.{near} Known: {listed}; any other goes by its class_path.")
    if len(known[entry]) > 1:
        paths = " and ".join(map(class_path, known[entry]))
        raise ValueError(
            f"the short name {entry!r} means {len(known[entry])} classes, {paths}: give the class_path, an object, or "
            "another name to your class."
        )
    found: T = known[entry][0]()
    return found


def resolve_named(entries: Mapping[str, T | str] | Sequence[T | str], base: type[T]) -> dict[str, T]:
    """Return objects by name, from a mapping or from a list whose entries name themselves.

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


def built_in(names: Iterable[str], base: type[T]) -> dict[str, T]:
    """Make segaudit's own subclasses of ``base`` by their short names, whatever else has these names."""
    known = {snake_case(cls.__name__): cls for cls in subclasses(base) if _package(cls) == "segaudit"}
    return {name: known[name]() for name in names}


def class_path(cls: type) -> str:
    """Return where a class can be imported from, ``segaudit.attribution.fusion.DEA`` say."""
    return f"{cls.__module__}.{cls.__qualname__}"


def subclasses(cls: type[T]) -> list[type[T]]:
    """List all imported classes that derive from ``cls``, directly or not."""
    return [found for sub in cls.__subclasses__() for found in (sub, *subclasses(sub))]


def _by_short_name(base: type[T]) -> dict[str, list[type[T]]]:
    """Group concrete subclasses by short name; of a class that was defined again, in a notebook say, the last counts."""
    found: dict[str, dict[str, type[T]]] = {}
    for cls in subclasses(base):
        if not getattr(cls, "__abstractmethods__", None):
            found.setdefault(snake_case(cls.__name__), {})[class_path(cls)] = cls
    return {name: list(classes.values()) for name, classes in found.items()}


def _package(cls: type) -> str:
    return cls.__module__.partition(".")[0]
