"""Averages records."""

from typing import Any

from segaudit.statistics import Records, summary


def means(records: Records) -> dict[tuple[Any, ...], float]:
    """Return the mean of every score over the scored targets, by explainer and score; NaN where there is none."""
    return {key: estimate.mean for key, estimate in summary(records, draws=1).items()}
