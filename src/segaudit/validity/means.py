"""Means of records, by explainer and score."""

from typing import Any

from segaudit.statistics import Records, summary


def means(records: Records) -> dict[tuple[Any, ...], float]:
    """Mean of every score over the targets that have it, by explainer and score; NaN where none has."""
    return {key: estimate.mean for key, estimate in summary(records, draws=1).items()}
