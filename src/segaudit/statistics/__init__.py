"""Statistics: intervals, tests and decisions for the records of an audit.

Targets of one image depend on each other, and so do images of one patient or sequence. The unit is therefore the image, or
the group where the records name one (``group``); every unit has equal weight. A target without a score (NaN) is left out and
counted. No result depends on the order of the records or on the names. The same seed gives the same figures. Everything is
computed in float64.

Records are the rows of :meth:`segaudit.Auditor.records`, or those of its Parquet file, as a list of dictionaries. Every key
with a floating-point value is a score, except ``area``.
"""

from segaudit.statistics.adjustment import holm
from segaudit.statistics.choice import resplit
from segaudit.statistics.drift import DriftAlarm
from segaudit.statistics.flips import PERMUTATIONS, p_above
from segaudit.statistics.level import Estimate, interval, level_interval
from segaudit.statistics.models import Association, auroc, spearman
from segaudit.statistics.panel import TargetSeries, panel_filled, panel_means
from segaudit.statistics.records import Difference, Ranges, Records, compare, difference, relative, summary, unit_differences
from segaudit.statistics.verdict import losses, units_needed, verdict

__all__ = [
    "PERMUTATIONS",
    "Association",
    "Difference",
    "DriftAlarm",
    "Estimate",
    "Ranges",
    "Records",
    "TargetSeries",
    "auroc",
    "compare",
    "difference",
    "holm",
    "interval",
    "level_interval",
    "losses",
    "p_above",
    "panel_filled",
    "panel_means",
    "relative",
    "resplit",
    "spearman",
    "summary",
    "unit_differences",
    "units_needed",
    "verdict",
]
