"""Gates: rules on which an audit fails."""

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

_COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}
_RULE = re.compile(r"\s*([\w.\- ]+?/)?(\w+)\s*(<=|>=|<|>)\s*([-+]?[\d.]+(?:e[-+]?\d+)?)\s*", re.IGNORECASE)


class AuditFailedError(Exception):
    """An audit was done, and a rule says that the model must not pass."""


@dataclass(frozen=True)
class Rule:
    """The audit fails if this holds, or if the score could not be had for a single target.

    Attributes:
        text: as it was written, ``dea/off_target_leakage > 0.4``.
        explainer: whose score; empty for a score that does not depend on one.
        score: the score's name.
        sign: ``<``, ``<=``, ``>`` or ``>=``.
        limit: the number.

    Example:
        >>> rule = Rule.parse("dea/off_target_leakage > 0.4")
        >>> rule.explainer, rule.score, rule.sign, rule.limit
        ('dea', 'off_target_leakage', '>', 0.4)

    """

    text: str
    explainer: str
    score: str
    sign: str
    limit: float

    @classmethod
    def parse(cls, text: str) -> "Rule":
        """Read a rule.

        Raises:
            ValueError: if it is none.

        """
        found = _RULE.fullmatch(text)
        try:
            if found is not None:
                return cls(text.strip(), (found[1] or "").rstrip("/"), found[2], found[3], float(found[4]))
        except ValueError:
            pass
        raise ValueError(f"{text!r} is no rule: write one like 'dea/off_target_leakage > 0.4', with <, <=, > or >=.")

    def check(self, explainers: Mapping[str, Any], scores: Mapping[str, Any], shared: list[str]) -> None:
        """Refuse a rule on what is not audited.

        Raises:
            ValueError: if the explainer or the score is not there.

        """
        if self.explainer and self.explainer not in explainers:
            raise ValueError(
                f"the rule {self.text!r} names an explainer that is not audited; there are {', '.join(explainers)}."
            )
        if self.score not in scores:
            raise ValueError(f"the rule {self.text!r} names a score that is not computed; there are {', '.join(scores)}.")
        if not self.explainer and self.score not in shared:
            raise ValueError(f"the rule {self.text!r} must say whose {self.score}: write <explainer>/{self.score}.")

    def broken(self, part: Mapping[str, Any]) -> str:
        """A sentence if the audit fails by this rule, else nothing.

        Args:
            part: of a summary.

        """
        rows = [r for r in part["scores"] if r["score"] == self.score and self.explainer in ("", r["explainer"])]
        value = rows[0]["mean"] if rows else None
        name = f"{self.explainer}/{self.score}" if self.explainer else self.score
        if value is None:
            return f"{name} could not be scored for a single target, so that {self.text!r} cannot be ruled out."
        if _COMPARISONS[self.sign](value, self.limit):
            low, high = rows[0]["low"], rows[0]["high"]
            interval = "" if low is None else f" (95 % interval {low:.3f} to {high:.3f})"
            return f"{name} is {value:.3f}{interval}, and the audit fails if it is {self.sign} {self.limit:g}."
        return ""
