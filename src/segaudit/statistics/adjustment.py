"""Adjusts the p-values of many tests."""

import numpy as np
from numpy.typing import ArrayLike

from segaudit.statistics.arrays import Vector, vector


def holm(p_values: ArrayLike) -> Vector:
    """Adjust the p-values ``(N,)`` of a family of tests (Holm 1979). NaN stays NaN and is not in the family.

    If every test with an adjusted p-value of at most 0.05 is rejected, the probability of any false rejection is at most
    5 %, whatever the dependence between the tests.

    Example:
        >>> holm([0.01, 0.04, 0.03]).tolist()
        [0.03, 0.06, 0.06]

    """
    adjusted = vector(p_values, "p_values").copy()
    known = np.flatnonzero(~np.isnan(adjusted))
    if ((adjusted[known] < 0) | (adjusted[known] > 1)).any():
        raise ValueError("p_values must be in [0, 1].")
    order = known[np.argsort(adjusted[known], kind="stable")]
    steps = adjusted[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return adjusted
