"""How sure are we: intervals and tests for the records of an audit.

Targets of one image are not independent of each other, so images are what is drawn and flipped here, all their targets
together. A target without a score (NaN) is left out and counted. No result depends on the order of the records or on the
images' names; the same seed gives the same figures.

Records are what :meth:`segaudit.Auditor.records` gives, or its Parquet file read as a list of dictionaries; every key with
a floating-point value is a score, except ``area``.
"""

from segaudit.statistics.models import Association, auroc, spearman
from segaudit.statistics.records import Difference, Records, compare, difference, relative, summary
from segaudit.statistics.resampling import PERMUTATIONS, Estimate, holm, interval

__all__ = [
    "PERMUTATIONS",
    "Association",
    "Difference",
    "Estimate",
    "Records",
    "auroc",
    "compare",
    "difference",
    "holm",
    "interval",
    "relative",
    "spearman",
    "summary",
]
