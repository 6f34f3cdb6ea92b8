"""Rules that rank candidates and tell which of them may still win when more come."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from segaudit.formatting import number
from segaudit.selection.candidate import Candidate, Ranked, higher_is_better, missing
from segaudit.selection.panel import iou_standard_error
from segaudit.selection.threshold import GRAMMAR, Threshold


class SelectionRule(ABC):
    """Ranks candidates.

    Equal candidates stay in the order in which they came. A candidate without one of the rule's numbers never wins.
    """

    @property
    @abstractmethod
    def keys(self) -> list[str]:
        """Keys of the logged numbers that the rule uses, the most important first."""

    @property
    def objective(self) -> tuple[str, int] | None:
        """Key of the one number that decides among allowed candidates, and 1 or -1 for high or low; None where none does."""
        return None

    def rank(self, candidates: Sequence[Candidate]) -> list[Ranked]:
        """Return all candidates, the best first."""
        known = [one for one in candidates if not missing(one, self.keys)]
        unknown = [one for one in candidates if missing(one, self.keys)]
        ranked = self.rank_known(known) if known else []
        return ranked + [Ranked(one, False, missing(one, self.keys), scored=False) for one in unknown]

    def contenders(self, candidates: Sequence[Candidate], count: int = 1) -> list[Candidate]:
        """Return the candidates that are among the best ``count`` now, or may be when more candidates come."""
        known = [one for one in candidates if not missing(one, self.keys)]
        return self.contenders_known(known, count) if known else []

    @abstractmethod
    def rank_known(self, known: Sequence[Candidate]) -> list[Ranked]:
        """Rank candidates that have all numbers."""

    def contenders_known(self, known: Sequence[Candidate], count: int) -> list[Candidate]:
        """Return those that are among the best ``count``, or may be again."""
        # The order of two candidates does not depend on the others here, so one that is behind stays behind.
        return [one.candidate for one in self.rank_known(known)[:count]]


@dataclass
class Constrained(SelectionRule):
    """Chooses the best candidate by one number among those that satisfy every bound.

    If no candidate satisfies all bounds, the nearest one comes first: the one with the least total excess.

    Args:
        maximize: key of the number that should be high. Defaults to ``val/iou``.
        minimize: key of a number that should be low, instead of ``maximize``.
        subject_to: what **must** hold, by key: ``{"audit/dea/off_target_leakage": "<= 0.35"}``. The ``fail_if`` rules of
            an audit have the same grammar and the opposite meaning: they say what must not hold.

    Raises:
        ValueError: if both ``maximize`` and ``minimize`` are given, there is no bound, or one cannot be read.

    Example:
        >>> rule = Constrained(subject_to={"audit/dea/off_target_leakage": "<= 0.35"})
        >>> [first, second] = rule.rank([
        ...     Candidate("epoch 0", {"val/iou": 0.9, "audit/dea/off_target_leakage": 0.5}),
        ...     Candidate("epoch 1", {"val/iou": 0.8, "audit/dea/off_target_leakage": 0.3}),
        ... ])
        >>> first.candidate.name, second.why
        ('epoch 1', 'audit/dea/off_target_leakage is 0.500, but must be <= 0.35')

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
        """Key of the number to optimise, then those with bounds."""
        return list(dict.fromkeys([self.minimize or self.maximize or "val/iou", *self.subject_to]))

    @property
    def objective(self) -> tuple[str, int]:
        """Key of the number to optimise, and its direction."""
        return self.keys[0], -1 if self.minimize else 1

    def rank_known(self, known: Sequence[Candidate]) -> list[Ranked]:
        """Rank candidates that have all numbers."""
        key, sign = self.objective
        by_objective = sorted(known, key=lambda one: -sign * one.values[key])
        excess = {id(one): self.excess(one) for one in known}
        best = "lowest" if self.minimize else "highest"
        found: list[Ranked] = []
        for one in sorted(by_objective, key=lambda one: (bool(self._broken(one)), excess[id(one)])):
            broken = self._broken(one)
            within = f"keeps within the bounds; {key} is {number(one.values[key])}"
            if not broken and not found:
                within += f", the {best} of those that do"
            found.append(Ranked(one, not broken, "; ".join(broken) or within))
        return found

    def _broken(self, one: Candidate) -> list[str]:
        return [
            f"{key} is {number(one.values[key])}, but must be {bound}"
            for key, bound in self._bounds.items()
            if not bound.holds(one.values[key])
        ]

    def excess(self, one: Candidate) -> float:
        """Return the sum of a candidate's distances from the bounds that it does not satisfy; 0 where it satisfies all."""
        return sum(bound.excess(one.values[key]) for key, bound in self._bounds.items())


@dataclass
class Tolerant(SelectionRule):
    """Chooses the best candidate by one number among those whose accuracy is close to the best accuracy.

    Two models may differ in accuracy by chance. So the tolerance is at least one standard error of the paired difference
    from the most accurate one, over the IoU of the audit's images, where that is known.

    Args:
        prefer: key of the number, a score of the audit.
        accuracy: key of the accuracy; higher is better.
        tolerance: largest distance from the best accuracy, in the accuracy's unit, unless one standard error is larger.
        mode: ``max`` or ``min``, for a ``prefer`` whose direction segaudit does not know.

    Raises:
        ValueError: if the tolerance is negative, or the direction of ``prefer`` is not known.

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
        """Look up the direction."""
        if self.tolerance < 0:
            raise ValueError(f"tolerance must be at least 0, got {self.tolerance}.")
        self._sign = 1 if (self.mode == "max" if self.mode else higher_is_better(self.prefer)) else -1

    @property
    def keys(self) -> list[str]:
        """Keys of the accuracy and of the preferred number."""
        return [self.accuracy, self.prefer]

    @property
    def objective(self) -> tuple[str, int]:
        """Key of the preferred number, and its direction."""
        return self.prefer, self._sign

    def _within(self, top: Candidate, one: Candidate) -> float:
        """Return the tolerance for a candidate beside the most accurate one."""
        return max(self.tolerance, iou_standard_error(top, one))

    def _near(self, known: Sequence[Candidate]) -> list[Candidate]:
        """Return the candidates within the tolerance, the preferred first."""
        top = max(known, key=lambda one: one.values[self.accuracy])
        best = top.values[self.accuracy]
        near = [one for one in known if one.values[self.accuracy] >= best - self._within(top, one)]
        return sorted(near, key=lambda one: (-self._sign * one.values[self.prefer], -one.values[self.accuracy]))

    def rank_known(self, known: Sequence[Candidate]) -> list[Ranked]:
        """Rank candidates that have all numbers."""
        top = max(known, key=lambda one: one.values[self.accuracy])
        best, near = top.values[self.accuracy], self._near(known)
        extreme = "highest" if self._sign > 0 else "lowest"
        found: list[Ranked] = []
        for one in near:
            accuracy = f"{self.accuracy} {number(one.values[self.accuracy])}"
            within = self._within(top, one)
            margin = f"{within:g}" if within == self.tolerance else f"{number(within)} (one standard error)"
            why = f"{accuracy} is within {margin} of the best, {number(best)}"
            why += f"; {self.prefer} is {number(one.values[self.prefer])}"
            if not found:
                why += f", the {extreme} of the {len(near)} that are" if len(near) > 1 else "; no other is"
            found.append(Ranked(one, True, why))
        far = [one for one in known if not any(one is other for other in near)]
        for one in sorted(far, key=lambda one: -one.values[self.accuracy]):
            accuracy = f"{self.accuracy} {number(one.values[self.accuracy])}"
            why = f"{accuracy} is more than {number(self._within(top, one))} below {top.name}'s {number(best)}"
            found.append(Ranked(one, False, why))
        return found

    def contenders_known(self, known: Sequence[Candidate], count: int) -> list[Candidate]:
        """Return those that are among the best ``count``, or may be again."""
        # A higher accuracy may come later and shut out the present best. The winner is then the best by score among those
        # that are accurate enough. So a candidate stays if fewer than `count` others are better in both numbers.
        near = self._near(known)
        staying = [
            one
            for place, one in enumerate(near)
            if sum(other.values[self.accuracy] >= one.values[self.accuracy] for other in near[:place]) < count
        ]
        by_accuracy = sorted(known, key=lambda one: -one.values[self.accuracy])[:count]
        return staying + [one for one in by_accuracy if not any(one is other for other in staying)]


@dataclass
class Weighted(SelectionRule):
    """Chooses the candidate with the highest weighted sum.

    Args:
        weights: weight by key; negative for a number that should be low.

    Raises:
        ValueError: if there is no weight.

    Example:
        >>> rule = Weighted({"val/iou": 1.0, "audit/dea/off_target_leakage": -0.5})
        >>> rule.rank([Candidate("epoch 0", {"val/iou": 0.9, "audit/dea/off_target_leakage": 0.4})])[0].why
        'the weighted sum is 0.7000'

    """

    weights: dict[str, float]

    def __post_init__(self) -> None:
        """Check that there is something to add up."""
        if not self.weights:
            raise ValueError("Weighted needs weights: {'val/iou': 1.0, 'audit/dea/off_target_leakage': -0.5}, say.")

    @property
    def keys(self) -> list[str]:
        """Keys of the numbers that have a weight."""
        return list(self.weights)

    def _sum(self, one: Candidate) -> float:
        return sum(weight * one.values[key] for key, weight in self.weights.items())

    def rank_known(self, known: Sequence[Candidate]) -> list[Ranked]:
        """Rank candidates that have all numbers."""
        ordered = sorted(known, key=lambda one: -self._sum(one))
        return [Ranked(one, True, f"the weighted sum is {number(self._sum(one), 4)}") for one in ordered]


@dataclass
class Pareto(SelectionRule):
    """Chooses the Pareto front: the candidates that no other beats. The best by the first objective leads it.

    One candidate beats another if it is at least as good in every objective and better in one.

    Args:
        objectives: keys. A mapping gives the direction of each, ``{"val/iou": "max", "audit/mine/drift": "min"}``; with a
            list, the directions are those that segaudit knows.

    Raises:
        ValueError: if there are fewer than two objectives, or a direction is not known.

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
        """Look up the directions."""
        if len(self.objectives) < 2:
            raise ValueError("Pareto weighs numbers against each other: name at least two objectives.")
        known = self.objectives if isinstance(self.objectives, dict) else dict.fromkeys(self.objectives)
        self._signs = {key: 1 if (mode == "max" if mode else higher_is_better(key)) else -1 for key, mode in known.items()}

    @property
    def keys(self) -> list[str]:
        """Keys of the objectives."""
        return list(self._signs)

    def _beats(self, one: Candidate, other: Candidate) -> bool:
        ahead = [sign * (one.values[key] - other.values[key]) for key, sign in self._signs.items()]
        return min(ahead) >= 0 and max(ahead) > 0

    def rank_known(self, known: Sequence[Candidate]) -> list[Ranked]:
        """Rank candidates that have all numbers."""
        beaten_by = {id(one): [other for other in known if self._beats(other, one)] for one in known}
        key, sign = next(iter(self._signs.items()))
        ordered = sorted(known, key=lambda one: (len(beaten_by[id(one)]), -sign * one.values[key]))
        found = []
        for one in ordered:
            better = beaten_by[id(one)]
            why = f"{better[0].name} is as good or better in all of {', '.join(self.keys)}" if better else ""
            found.append(Ranked(one, not better, why or f"on the front; {key} is {number(one.values[key])}"))
        return found

    def contenders_known(self, known: Sequence[Candidate], count: int) -> list[Candidate]:
        """Return those that are among the best ``count``, or may be again."""
        return [one.candidate for one in self.rank_known(known) if one.allowed]


def _bound(key: str, text: str) -> Threshold:
    try:
        return Threshold.parse(text)
    except ValueError:
        raise ValueError(f"{text!r} is no bound for {key}: write what must hold, such as '<= 0.35': {GRAMMAR}.") from None
