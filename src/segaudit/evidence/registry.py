"""Registers evidence: what scores are computed from, found by name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, wraps
from inspect import getdoc, signature, unwrap
from types import CodeType, FunctionType
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from segaudit.evidence.ask import Ask
from segaudit.names import did_you_mean

#: Takes what is asked for, and gives ``(N,)`` bool: for which targets this reason holds.
Reason = Callable[[Ask], Tensor]
#: What makes evidence an explainer's own, and what leaves nothing to score where the map means nothing.
_OF_EXPLAINER = {"attribution", "explainer", "cost"}
_OF_MAP = {"attribution", "explainer"}
#: Names of earlier versions, which metrics of users may still ask for.
_RENAMED = {
    "score": "confidence",
    "filled_score": "filled_confidence",
    "score_without_cue": "confidence_without_cue",
    "region_effect": "segment_effect",
    "region_attribution": "segment_attribution",
    "region_deletion_curve": "segment_deletion_curve",
    "region_deletion_fractions": "segment_deletion_fractions",
}


@dataclass(frozen=True, eq=False)
class Evidence:
    """Describes one registered piece of evidence.

    Attributes:
        name: by which the ``update`` of a metric asks for it.
        function: computes it from an :class:`Ask`.
        missing: why a score on it can be missing, by the reason's text.
        asks: which of ``attribution``, ``explainer`` and ``cost`` the function reads.

    """

    name: str
    function: Callable[[Ask], Tensor]
    missing: Mapping[str, Reason] = field(default_factory=dict)
    asks: frozenset[str] = frozenset()

    @property
    def per_explainer(self) -> bool:
        """True for evidence that depends on the explainer."""
        return bool(self.asks)

    def __reduce__(self) -> tuple[Callable[[str], "Evidence"], tuple[str]]:
        """Pickle by name: a process that unpickles it has registered its own."""
        return find, (self.name,)

    @property
    def path(self) -> str:
        """Import path of its function."""
        return f"{self.function.__module__}.{self.function.__qualname__}"


_EVIDENCE: dict[str, Evidence] = {}


def evidence(*, missing: Mapping[str, Reason] | None = None) -> Callable[[Callable[[Ask], Tensor]], Callable[[Ask], Tensor]]:
    """Register a function as evidence under its own name; metrics ask for it by a parameter of their ``update``.

    What the function reads decides whether the evidence depends on the explainer: ``ask.attribution``,
    ``ask.explainer`` and ``ask.cost`` make it the explainer's own. It is computed once a batch and explainer, or once a
    batch. Rows of targets whose map means nothing (constant, say) become NaN by themselves.

    Args:
        missing: why a score on it can be missing: by the reason's text, a function of the ask that gives ``(N,)`` bool.

    Raises:
        ValueError: if other evidence has the name.

    Example:
        >>> @evidence(missing={"region is the whole image": lambda ask: ask.targets.area == 1})
        ... def area_outside(ask: Ask) -> Tensor:
        ...     return 1 - ask.targets.area
        >>> find("area_outside").per_explainer
        False
        >>> del _EVIDENCE["area_outside"]

    """

    def register(function: Callable[[Ask], Tensor]) -> Callable[[Ask], Tensor]:
        name = function.__name__
        found = Evidence(name, function, dict(missing or {}), frozenset(_reads(function) & _OF_EXPLAINER))
        known = _EVIDENCE.get(name)
        if known is not None and known.path != found.path:
            raise ValueError(f"two functions claim the evidence {name!r}, {known.path} and {found.path}: rename yours.")
        _EVIDENCE[name] = found

        @wraps(function)
        def cached(ask: Ask) -> Tensor:
            return compute(name, ask)

        return cached

    return register


def find(name: str) -> Evidence:
    """Return the evidence of a name, names of earlier versions included.

    Raises:
        ValueError: if there is none; the message lists what there is.

    """
    name = _RENAMED.get(name, name)
    if name not in _EVIDENCE:
        near = did_you_mean(name, _EVIDENCE)
        raise ValueError(f"there is no evidence {name!r}.{near} There is: {', '.join(sorted(_EVIDENCE))}.")
    return _EVIDENCE[name]


def catalogue() -> list[Evidence]:
    """List all registered evidence, in the order of the alphabet."""
    return [_EVIDENCE[name] for name in sorted(_EVIDENCE)]


def evidence_of(name: str, metric: Metric) -> dict[str, Evidence]:
    """Return the evidence that a metric's ``update`` asks for, by parameter.

    Raises:
        ValueError: if a parameter without a default names no evidence.

    """
    parameters = [p for p in signature(metric.update).parameters.values() if p.kind is not p.VAR_KEYWORD]
    known = {
        p.name: _EVIDENCE[_RENAMED.get(p.name, p.name)] for p in parameters if _RENAMED.get(p.name, p.name) in _EVIDENCE
    }
    unknown = [p.name for p in parameters if p.name not in known and p.default is p.empty]
    if unknown:
        near = did_you_mean(unknown[0], _EVIDENCE)
        raise ValueError(
            f"the metric {name!r} asks for {', '.join(unknown)}, which is no evidence of an audit.{near} There is: "
            f"{', '.join(sorted(_EVIDENCE))}. A function with the decorator segaudit.evidence.evidence adds more."
        )
    return known


def is_shared(metric: Metric) -> bool:
    """Tell whether a score does not depend on the explainer."""
    return not any(one.per_explainer for one in evidence_of(type(metric).__name__, metric).values())


def compute(name: str, ask: Ask) -> Tensor:
    """Return evidence by name, computed once for all who ask."""
    found = find(name)
    if not found.per_explainer:
        ask = ask.shared

    def make() -> Tensor:
        values = found.function(ask)
        if not isinstance(values, Tensor):
            raise ValueError(f"the evidence {name!r} ({found.path}) gave no tensor, but the type {type(values).__name__}.")
        if found.asks & _OF_MAP and values.is_floating_point() and values.shape[:1] == (len(ask.targets),):
            values = _or_nan(values, is_scorable(ask))
        return values

    return ask.once(("evidence", found.name), make)


def is_scorable(ask: Ask) -> Tensor:
    """Tell which targets have a map that can be scored, ``(N,)`` bool; see :mod:`segaudit.evidence.missing`."""
    from segaudit.evidence.missing import unscorable

    return ask.once("is_scorable", lambda: torch.tensor([not why for why in unscorable(ask)]).to(ask.attribution.device))


def _or_nan(values: Tensor, valid: Tensor) -> Tensor:
    return values.where(valid.view(-1, *[1] * (values.ndim - 1)), torch.nan)


def _reads(function: Callable[..., Any]) -> set[str]:
    """Names of what a function reads, through functions of its own file and other evidence too."""
    found: set[str] = set()
    waiting, seen = [unwrap(function)], set[FunctionType]()
    while waiting:
        one = waiting.pop()
        if not isinstance(one, FunctionType) or one in seen:
            continue
        seen.add(one)
        names = _names(one.__code__)
        found |= names
        for called in (one.__globals__.get(name) for name in names):
            called = unwrap(called) if callable(called) else None
            known = isinstance(called, FunctionType) and any(e.function is called for e in _EVIDENCE.values())
            if isinstance(called, FunctionType) and (known or called.__module__ == function.__module__):
                waiting.append(called)
    return found


@cache
def _names(code: CodeType) -> frozenset[str]:
    inner = [_names(constant) for constant in code.co_consts if isinstance(constant, CodeType)]
    return frozenset(code.co_names).union(*inner)


def describe(name: str) -> str:
    """Return all that a piece of evidence says of itself."""
    found = find(name)
    depends = "each explainer" if found.per_explainer else "the batch, shared by all explainers"
    reasons = "".join(f"\n  {reason}" for reason in found.missing) or " none"
    return f"{found.name}\nof: {depends}\nreasons to be missing:{reasons}\n\n{getdoc(found.function)}"
