"""Gates: rules that say what must not hold of an audit."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any

from segaudit.formatting import interval, number
from segaudit.names import score_key
from segaudit.selection.threshold import GRAMMAR, Threshold

_RULE = re.compile(r"\s*(?:([\w.\- ]+)/)?(\w+)(?:\.(low|high))?\s*([<>].*)")


class AuditFailedError(Exception):
    """Tells that an audit was done, and that a rule does not let the model pass."""


@dataclass(frozen=True)
class Rule:
    """Says what must **not** hold: the audit fails if the comparison holds, or if no target has the score.

    The comparison is with the mean, or with an end of its 95 % interval: ``dea/off_target_leakage.high > 0.4`` fails unless
    the whole interval is at most 0.4, and ``dea/off_target_leakage.low > 0.4`` fails only if the whole interval is above it.

    The bounds of :class:`segaudit.selection.Constrained` have the same grammar (:class:`segaudit.selection.Threshold`)
    and the opposite meaning: they say what must hold.

    Attributes:
        text: the rule as it was written, ``dea/off_target_leakage > 0.4``.
        explainer: short name of the explainer; empty for a score that does not depend on one.
        score: the score's name.
        sign: ``<``, ``<=``, ``>`` or ``>=``.
        limit: a finite number.
        end: ``low`` or ``high`` for an end of the interval; empty for the mean.

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
    end: str = ""

    @classmethod
    def parse(cls, text: str) -> "Rule":
        """Read a rule.

        Raises:
            ValueError: if the text is not a score and a threshold.

        """
        found = _RULE.fullmatch(str(text))
        try:
            if found is not None:
                threshold = Threshold.parse(found[4])
                return cls(text.strip(), found[1] or "", found[2], threshold.sign, threshold.limit, found[3] or "")
        except ValueError:
            pass
        raise ValueError(
            f"{text!r} is no rule: write what must not hold, such as 'dea/off_target_leakage > 0.4': a score, {GRAMMAR}. "
            "Add .low or .high to the score to compare an end of its interval."
        )

    @property
    def threshold(self) -> Threshold:
        """The comparison that must not hold."""
        return Threshold(self.sign, self.limit)

    def check(self, explainers: Mapping[str, Any], scores: Mapping[str, Any], shared: list[str]) -> None:
        """Check that the rule is about a score of the audit.

        Args:
            explainers: audited explainers by short name.
            scores: computed scores by name.
            shared: the scores that do not depend on an explainer.

        Raises:
            ValueError: if the explainer or the score is not among them.

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
        """Return a sentence that says why the audit fails by this rule, or an empty string where it passes.

        Args:
            part: one network on one data set, as in ``summary.json``.

        """
        rows = [r for r in part["scores"] if r["score"] == self.score and self.explainer in ("", r["explainer"])]
        mean = rows[0]["mean"] if rows else None
        name = score_key(self.explainer, self.score)
        if mean is None or not isfinite(mean):
            return f"{name} could not be scored for any target, so it is not known whether {self.text!r} holds."
        value = rows[0][self.end] if self.end else mean
        if value is None or not isfinite(value):
            return f"{name} has no 95 % interval, so it is not known whether {self.text!r} holds: audit more images."
        if self.threshold.holds(value):
            ends = interval(rows[0]["low"], rows[0]["high"])
            text = f"{name} is {number(mean)}" + (f" (95 % interval {ends})" if ends else "")
            what = f"the {'lower' if self.end == 'low' else 'upper'} end of the interval" if self.end else "it"
            return f"{text}, and the audit fails if {what} is {self.threshold}."
        return ""
