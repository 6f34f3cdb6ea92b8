"""Statistics: intervals and tests for the records of an audit.

Targets of one image depend on each other, so images are drawn and flipped here, each with all its targets. A target without
a score (NaN) is left out and counted. No result depends on the order of the records or on the images' names. The same seed
gives the same figures.

Records are the rows of :meth:`segaudit.Auditor.records`, or those of its Parquet file, as a list of dictionaries. Every key
with a floating-point value is a score, except ``area``.
"""

from segaudit.statistics.models import Association, auroc, spearman
from segaudit.statistics.panel import TargetSeries, panel_filled, panel_means
from segaudit.statistics.records import Difference, Records, compare, difference, relative, summary
from segaudit.statistics.resampling import PERMUTATIONS, Estimate, holm, interval

__all__ = [
    "PERMUTATIONS",
    "Association",
    "Difference",
    "Estimate",
    "Records",
    "TargetSeries",
    "auroc",
    "compare",
    "difference",
    "holm",
    "interval",
    "panel_filled",
    "panel_means",
    "relative",
    "spearman",
    "summary",
]
