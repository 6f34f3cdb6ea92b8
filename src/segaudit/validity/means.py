"""Means of records, by explainer and score."""

import math

from segaudit.statistics import Records


def means(records: Records) -> dict[tuple[str, str], float]:
    """Mean of every score over the targets that have it, by explainer and score; NaN where none has."""
    found: dict[tuple[str, str], list[float]] = {}
    for row in records:
        for score, value in row.items():
            if isinstance(value, float) and score != "area":
                scored = found.setdefault((row["explainer"], score), [])
                if not math.isnan(value):
                    scored.append(value)
    return {key: math.fsum(scored) / len(scored) if scored else math.nan for key, scored in found.items()}
