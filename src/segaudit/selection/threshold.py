"""Thresholds: a comparison with a number, ``<= 0.35``, in the one grammar of all rules."""

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite

#: Completes an error's sentence: "write what must hold, such as '<= 0.35': ...".
GRAMMAR = "one of <, <=, > and >=, then a finite number"

_COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}
_TEXT = re.compile(r"\s*(<=|>=|<|>)\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?)\s*", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True)
class Threshold:
    """Compares values with a number.

    A threshold does not know whether it is welcome that it holds. ``subject_to`` of
    :class:`segaudit.selection.Constrained` names what must hold, ``fail_if`` of an audit
    (:class:`segaudit.report.Rule`) names what must not.

    Attributes:
        sign: ``<``, ``<=``, ``>`` or ``>=``.
        limit: a finite number.

    Raises:
        ValueError: if the sign is none of these, or the limit is not finite.

    Example:
        >>> threshold = Threshold.parse("<= 0.35")
        >>> threshold.holds(0.35), threshold.holds(0.5), round(threshold.excess(0.5), 2), str(threshold)
        (True, False, 0.15, '<= 0.35')

    """

    sign: str
    limit: float

    def __post_init__(self) -> None:
        if self.sign not in _COMPARISONS or not isfinite(self.limit):
            raise ValueError(f"'{self.sign} {self.limit}' is no threshold: write {GRAMMAR}.")

    @classmethod
    def parse(cls, text: str) -> "Threshold":
        """Read a threshold.

        Args:
            text: a sign and a number, ``<= 0.35``; spaces do not matter.

        Raises:
            ValueError: if the text is anything else, or the number is not finite.

        """
        found = _TEXT.fullmatch(str(text))
        if found is None or not isfinite(limit := float(found[2])):
            raise ValueError(f"{text!r} is no threshold: write {GRAMMAR}.")
        return cls(found[1], limit)

    def holds(self, value: float) -> bool:
        """Tell whether the value satisfies the comparison; NaN never does."""
        return _COMPARISONS[self.sign](value, self.limit)

    def excess(self, value: float) -> float:
        """Return the distance of the value from the limit, at least 0; 0 where the threshold holds, NaN for NaN."""
        return 0.0 if self.holds(value) else abs(value - self.limit)

    def __str__(self) -> str:
        return f"{self.sign} {self.limit:g}"
