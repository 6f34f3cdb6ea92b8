"""Rules: how candidates are ranked, and which may still win when more of them come."""

import operator
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from segaudit.selection.candidate import Candidate, Ranked, higher_is_better, missing

_SIGNS: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}


class SelectionRule(ABC):
    """Ranks candidates; equals stand in the order in which they came, and one without a number never wins."""

    @property
    @abstractmethod
    def keys(self) -> list[str]:
        """The logged numbers that the rule looks at, the first one before all."""

    def rank(self, candidates: Sequence[Candidate]) -> list[Ranked]:
        """All candidates, the best first."""
        known = [one for one in candidates if not missing(one, self.keys)]
        unknown = [one for one in candidates if missing(one, self.keys)]
        ranked = self._rank(known) if known else []
        return ranked + [Ranked(one, False, missing(one, self.keys), scored=False) for one in unknown]

    def contenders(self, candidates: Sequence[Candidate], count: int = 1) -> list[Candidate]:
        """Those that are among the best ``count``, or may be again when more candidates come; the rest never will."""
        known = [one for one in candidates if not missing(one, self.keys)]
        return self._contenders(known, count) if known else []

    @abstractmethod
    def _rank(self, known: Sequence[Candidate]) -> list[Ranked]:
        """Rank candidates that have all numbers."""

    def _contenders(self, known: Sequence[Candidate], count: int) -> list[Candidate]:
        # Where a candidate's place among others does not depend on who else is there, who is behind stays behind.
        return [one.candidate for one in self._rank(known)[:count]]


@dataclass
class Constrained(SelectionRule):
    """The best by one number among those that keep within bounds.

    Where none does, the one nearest to the bounds comes first: with the least sum of what it exceeds them by.

    Args:
        maximize: key of the number; ``val/iou`` unless ``minimize`` is given.
        minimize: key of a number that should be low, instead.
        subject_to: bounds by key, ``{"audit/dea/off_target_leakage": "<= 0.35"}``.

    Raises:
        ValueError: if both or a bound that is none are given.

    Example:
        >>> rule = Constrained(subject_to={"audit/dea/off_target_leakage": "<= 0.35"})
        >>> [first, second] = rule.rank([
        ...     Candidate("epoch 0", {"val/iou": 0.9, "audit/dea/off_target_leakage": 0.5}),
        ...     Candidate("epoch 1", {"val/iou": 0.8, "audit/dea/off_target_leakage": 0.3}),
        ... ])
        >>> first.candidate.name, second.why
        ('epoch 1', 'audit/dea/off_target_leakage is 0.500, not <= 0.35')

    """

    maximize: str | None = None
    minimize: str | None = None
    subject_to: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Read the bounds."""
        if self.maximize and self.minimize:
            raise ValueError("Constrained takes maximize or minimize, not both.")
        if not self.subject_to:
            raise ValueError("Constrained needs a bound: subject_to={'audit/dea/off_target_leakage': '<= 0.35'}, say.")
        self._bounds = {key: _bound(key, text) for key, text in self.subject_to.items()}

    @property
    def keys(self) -> list[str]:
        """The number to optimise, then those with bounds."""
        return list(dict.fromkeys([self.minimize or self.maximize or "val/iou", *self.subject_to]))

    def _rank(self, known: Sequence[Candidate]) -> list[Ranked]:
        key, sign = self.keys[0], -1 if self.minimize else 1
        by_objective = sorted(known, key=lambda one: -sign * one.values[key])
        excess = {id(one): self.excess(one) for one in known}
        best = "lowest" if self.minimize else "highest"
        found: list[Ranked] = []
        for one in sorted(by_objective, key=lambda one: (bool(self._broken(one)), excess[id(one)])):
            broken = self._broken(one)
            kept = f"keeps within the bounds; {key} is {one.values[key]:.3f}"
            if not broken and not found:
                kept += f", the {best} of those that do"
            found.append(Ranked(one, not broken, "; ".join(broken) or kept))
        return found

    def _broken(self, one: Candidate) -> list[str]:
        return [
            f"{key} is {one.values[key]:.3f}, not {sign} {limit:g}"
            for key, (sign, limit) in self._bounds.items()
            if not _SIGNS[sign](one.values[key], limit)
        ]

    def excess(self, one: Candidate) -> float:
        """The sum of what a candidate exceeds the bounds by; 0 where it keeps within them."""
        over = (abs(one.values[k] - limit) for k, (s, limit) in self._bounds.items() if not _SIGNS[s](one.values[k], limit))
        return sum(over)


@dataclass
class Tolerant(SelectionRule):
    """The best by one number among those whose accuracy is within a tolerance of the best.

    Args:
        prefer: key of the number, a score of the audit.
        accuracy: key of the accuracy; higher is better.
        tolerance: how far below the best accuracy a candidate may be, in its unit.
        mode: whether ``prefer`` should be high or low; known for every score of ours.

    Raises:
        ValueError: if the tolerance is negative, or nobody knows which way ``prefer`` is better.

    Example:
        >>> rule = Tolerant("audit/dea/off_target_leakage", tolerance=0.01)
        >>> ranked = rule.rank([
        ...     Candidate("epoch 0", {"val/iou": 0.800, "audit/dea/off_target_leakage": 0.1}),
        ...     Candidate("epoch 1", {"val/iou": 0.895, "audit/dea/off_target_leakage": 0.2}),
        ...     Candidate("epoch 2", {"val/iou": 0.900, "audit/dea/off_target_leakage": 0.4}),
        ... ])
        >>> [one.candidate.name for one in ranked]
        ['epoch 1', 'epoch 2', 'epoch 0']

    """

    prefer: str = "audit/region_effects/off_target_leakage"
    accuracy: str = "val/iou"
    tolerance: float = 0.01
    mode: Literal["max", "min"] | None = None

    def __post_init__(self) -> None:
        """Learn the direction."""
        if self.tolerance < 0:
            raise ValueError(f"tolerance must be at least 0, got {self.tolerance}.")
        self._sign = 1 if (self.mode == "max" if self.mode else higher_is_better(self.prefer)) else -1

    @property
    def keys(self) -> list[str]:
        """The accuracy and what is preferred."""
        return [self.accuracy, self.prefer]

    def _near(self, known: Sequence[Candidate]) -> list[Candidate]:
        """Those within the tolerance, the preferred first."""
        best = max(one.values[self.accuracy] for one in known)
        near = [one for one in known if one.values[self.accuracy] >= best - self.tolerance]
        return sorted(near, key=lambda one: (-self._sign * one.values[self.prefer], -one.values[self.accuracy]))

    def _rank(self, known: Sequence[Candidate]) -> list[Ranked]:
        top = max(known, key=lambda one: one.values[self.accuracy])
        best, near = top.values[self.accuracy], self._near(known)
        extreme = "highest" if self._sign > 0 else "lowest"
        found: list[Ranked] = []
        for one in near:
            why = f"{self.accuracy} {one.values[self.accuracy]:.3f} is within {self.tolerance:g} of the best, {best:.3f}"
            why += f"; {self.prefer} is {one.values[self.prefer]:.3f}"
            if not found:
                why += f", the {extreme} of the {len(near)} that are" if len(near) > 1 else "; no other is"
            found.append(Ranked(one, True, why))
        far = [one for one in known if not any(one is other for other in near)]
        for one in sorted(far, key=lambda one: -one.values[self.accuracy]):
            accuracy = f"{self.accuracy} {one.values[self.accuracy]:.3f}"
            why = f"{accuracy} is more than {self.tolerance:g} below {top.name}'s {best:.3f}"
            found.append(Ranked(one, False, why))
        return found

    def _contenders(self, known: Sequence[Candidate], count: int) -> list[Candidate]:
        # A higher accuracy may come and shut out the present best. Then one wins that has, of those with at least its own
        # accuracy, the best score; so those stay before which fewer than `count` are better in both.
        near = self._near(known)
        kept = [
            one
            for place, one in enumerate(near)
            if sum(other.values[self.accuracy] >= one.values[self.accuracy] for other in near[:place]) < count
        ]
        by_accuracy = sorted(known, key=lambda one: -one.values[self.accuracy])[:count]
        return kept + [one for one in by_accuracy if not any(one is other for other in kept)]


@dataclass
class Weighted(SelectionRule):
    """The highest weighted sum.

    Args:
        weights: by key; below 0 for what should be low.

    Raises:
        ValueError: if there are none.

    Example:
        >>> rule = Weighted({"val/iou": 1.0, "audit/dea/off_target_leakage": -0.5})
        >>> rule.rank([Candidate("epoch 0", {"val/iou": 0.9, "audit/dea/off_target_leakage": 0.4})])[0].why
        'the weighted sum is 0.7000'

    """

    weights: dict[str, float]

    def __post_init__(self) -> None:
        """Refuse an empty sum."""
        if not self.weights:
            raise ValueError("Weighted needs weights: {'val/iou': 1.0, 'audit/dea/off_target_leakage': -0.5}, say.")

    @property
    def keys(self) -> list[str]:
        """What has a weight."""
        return list(self.weights)

    def _sum(self, one: Candidate) -> float:
        return sum(weight * one.values[key] for key, weight in self.weights.items())

    def _rank(self, known: Sequence[Candidate]) -> list[Ranked]:
        ordered = sorted(known, key=lambda one: -self._sum(one))
        return [Ranked(one, True, f"the weighted sum is {self._sum(one):.4f}") for one in ordered]


@dataclass
class Pareto(SelectionRule):
    """All that no other beats in every number; the best by the first number leads them.

    Args:
        objectives: keys; a mapping says which way each is better, ``{"val/iou": "max", "audit/mine/drift": "min"}``, a list
            leaves that to what is known of our scores.

    Raises:
        ValueError: if there are fewer than two, or nobody knows which way one is better.

    Example:
        >>> rule = Pareto(["val/iou", "audit/dea/off_target_leakage"])
        >>> ranked = rule.rank([
        ...     Candidate("epoch 0", {"val/iou": 0.8, "audit/dea/off_target_leakage": 0.1}),
        ...     Candidate("epoch 1", {"val/iou": 0.7, "audit/dea/off_target_leakage": 0.2}),
        ...     Candidate("epoch 2", {"val/iou": 0.9, "audit/dea/off_target_leakage": 0.4}),
        ... ])
        >>> [(one.candidate.name, one.allowed) for one in ranked]
        [('epoch 2', True), ('epoch 0', True), ('epoch 1', False)]

    """

    objectives: dict[str, Literal["max", "min"]] | list[str] = field(
        default_factory=lambda: ["val/iou", "audit/region_effects/off_target_leakage"]
    )

    def __post_init__(self) -> None:
        """Learn the directions."""
        if len(self.objectives) < 2:
            raise ValueError("Pareto weighs numbers against each other: name at least two objectives.")
        known = self.objectives if isinstance(self.objectives, dict) else dict.fromkeys(self.objectives)
        self._signs = {key: 1 if (mode == "max" if mode else higher_is_better(key)) else -1 for key, mode in known.items()}

    @property
    def keys(self) -> list[str]:
        """The objectives."""
        return list(self._signs)

    def _beats(self, one: Candidate, other: Candidate) -> bool:
        ahead = [sign * (one.values[key] - other.values[key]) for key, sign in self._signs.items()]
        return min(ahead) >= 0 and max(ahead) > 0

    def _rank(self, known: Sequence[Candidate]) -> list[Ranked]:
        beaten_by = {id(one): [other for other in known if self._beats(other, one)] for one in known}
        key, sign = next(iter(self._signs.items()))
        ordered = sorted(known, key=lambda one: (len(beaten_by[id(one)]), -sign * one.values[key]))
        found = []
        for one in ordered:
            better = beaten_by[id(one)]
            why = f"{better[0].name} is as good or better in all of {', '.join(self.keys)}" if better else ""
            found.append(Ranked(one, not better, why or f"on the front; {key} is {one.values[key]:.3f}"))
        return found

    def _contenders(self, known: Sequence[Candidate], count: int) -> list[Candidate]:
        return [one.candidate for one in self._rank(known) if one.allowed]


def _bound(key: str, text: str) -> tuple[str, float]:
    found = re.fullmatch(r"\s*(<=|>=|<|>)\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?)\s*", text, re.IGNORECASE)
    if found is None:
        raise ValueError(f"{text!r} is no bound for {key}: write one like '<= 0.35', with <, <=, > or >=.")
    return found[1], float(found[2])
