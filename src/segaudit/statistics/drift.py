"""An alarm for a score that gets worse over audits: a one-sided CUSUM (Page 1954) that learns its reference and scale.

False alarms were counted in simulations; ``benchmarks/decisions.py`` repeats them.
"""

from collections.abc import Mapping
from math import copysign, inf, isfinite, log2, sqrt
from typing import Any

#: Audits before the first decision.
WARM = 5
#: The latest audits before the current one, which are not part of the reference: a change must not raise its own bar.
_GAP = 4
#: Standard deviations by which an audit must exceed the reference to count.
_SLACK = 0.5
#: No audit counts for more standard deviations, so that one outlier raises no alarm.
_CAP = 4.0
#: Threshold for one score, and what is added when the number of scores doubles.
_THRESHOLD, _PER_DOUBLING = 10.0, 1.8
#: The scale starts as if this many changes of 0.7 ``min_change`` had been seen.
_PRIOR_CHANGES, _PRIOR_SCALE = 8, 0.7
#: Audits whose mean must exceed the reference by ``min_change``.
_RECENT = 3


class DriftAlarm:
    """Raises an alarm when a panel's mean score gets worse over audits and stays so.

    The alarm adds up by how much audits exceed a reference, in standard deviations less 0.5 (CUSUM). It goes off when the
    sum is above a threshold and the last three audits exceed the reference by ``min_change`` on average. The reference is
    the mean of the earlier audits or of their later half, whichever is lower. The last four audits are no part of it. The
    standard deviation comes from changes between neighbouring audits. There is no alarm in the first five audits.

    False-alarm rate: all scores that are watched together raise a false alarm in at most 5 % of series of 50 audits in which
    nothing changes. This was calibrated by simulation for 1, 2, 4 and 8 independent scores, the default ``min_change`` and
    noise with a standard deviation of at most 0.05 in the panel's mean. A panel of 6 targets or more has such noise if it is
    0.1 for each target and 0.03 common to all. With twice that noise the rate is about 10 %. Audits that wander, each like
    the one before, raise more: 17 % at a standard deviation of 0.04 and a correlation of 0.3. Raise ``min_change`` then.

    Power: a step of 0.1 after 10 audits is found within 15 audits, at that noise with 12 targets, in 99 % of series for one
    score, 96 % for two, 93 % for four and 87 % for eight. With 6 targets it is 95, 90, 82 and 73 %.

    Args:
        min_change: smallest change that matters, in the score's unit.
        scores: number of scores that are watched together, each by an alarm of its own.

    Raises:
        ValueError: if ``min_change`` is negative or not finite, or there is no score.

    Example:
        >>> alarm = DriftAlarm()
        >>> [alarm.update(mean) for mean in (0.3, 0.31, 0.3, 0.29, 0.3, 0.3)]
        [False, False, False, False, False, False]
        >>> [alarm.update(mean) for mean in (0.6, 0.61, 0.6)]
        [False, False, True]

    """

    def __init__(self, min_change: float = 0.05, scores: int = 1) -> None:
        if not isfinite(min_change) or min_change < 0:
            raise ValueError(f"min_change must be at least 0 and finite, got {min_change}.")
        if scores < 1:
            raise ValueError(f"scores is the number of scores that are watched together, at least 1; got {scores}.")
        self.min_change = float(min_change)
        self.scores = int(scores)
        self._forget()

    @property
    def count(self) -> int:
        """Number of audits so far, without those that gave NaN."""
        return len(self._means)

    @property
    def cusum(self) -> float:
        """The sum of what audits exceeded the reference by, in standard deviations; the alarm needs :attr:`threshold`."""
        return self._cusum

    @property
    def threshold(self) -> float:
        """The sum above which the alarm goes off; it rises with the number of scores."""
        return _THRESHOLD + _PER_DOUBLING * log2(self.scores)

    @property
    def reference(self) -> float:
        """The level that the latest audit was compared with; NaN up to the fifth audit."""
        return self._reference(len(self._means) - 1) if self._means else float("nan")

    @property
    def raised(self) -> bool:
        """True if the alarm was on at the latest audit."""
        return self._raised

    def update(self, mean: float) -> bool:
        """Add the mean of an audit and return whether the alarm is on.

        Args:
            mean: mean of the score over the panel, oriented so that higher is worse; NaN means that there was no audit.

        """
        mean = float(mean)
        if not isfinite(mean):
            return False
        if len(self._means) > 1:
            self._squares += (self._means[-1] - self._means[-2]) ** 2
        self._means.append(mean)
        self._sums.append(self._sums[-1] + mean)
        self._raised = self._step(len(self._means) - 1)
        return self._raised

    def state_dict(self) -> dict[str, Any]:
        """Return the audits so far, in plain types."""
        return {"means": list(self._means)}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore an alarm by going through its audits again, under the settings of this one."""
        self._forget()
        for mean in state_dict["means"]:
            self.update(mean)

    @property
    def reference_audits(self) -> slice:
        """The audits that the latest one was compared with, among those that did not give NaN."""
        return self._span(len(self._means) - 1)

    def _forget(self) -> None:
        self._means: list[float] = []
        self._sums = [0.0]  # of all audits before each
        self._squares = 0.0  # of the changes between audits before the latest
        self._cusum = 0.0
        self._raised = False

    def _span(self, place: int) -> slice:
        """Return the audits that the one at ``place`` is compared with: the earlier ones or their later half."""
        if place < WARM:
            return slice(0, 0)
        end = max(WARM, place - _GAP)
        start = min(end // 2, end - WARM)
        later, all_ = (self._sums[end] - self._sums[start]) / (end - start), self._sums[end] / end
        return slice(start if later < all_ else 0, end)

    def _reference(self, place: int) -> float:
        """Return the level that the audit at ``place`` is compared with."""
        span = self._span(place)
        return (self._sums[span.stop] - self._sums[span.start]) / (span.stop - span.start) if span.stop else float("nan")

    def _step(self, place: int) -> bool:
        """Add the audit at ``place`` to the sum, and return whether the alarm goes off."""
        if place < WARM:
            return False
        mean, reference = self._means[place], self._reference(place)
        # Half the mean squared change is the variance of noise, whatever the trend.
        prior = _PRIOR_CHANGES * (_PRIOR_SCALE * self.min_change) ** 2
        scale = sqrt((self._squares / 2 + prior) / (place - 1 + _PRIOR_CHANGES))
        excess = mean - reference
        if abs(excess) <= 1e-9 * max(abs(mean), abs(reference)):
            excess = 0.0  # rounding, which would count where nothing else moves
        steps = excess / scale if scale else copysign(inf, excess) if excess else 0.0
        self._cusum = max(0.0, self._cusum + min(steps, _CAP) - _SLACK)
        recent = sum(self._means[-_RECENT:]) / _RECENT
        return self._cusum > self.threshold and recent - reference >= self.min_change
