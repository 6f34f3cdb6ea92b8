"""Reports: tables, pictures and pages that show an audit to people."""

from segaudit.records.run import read_records, read_run
from segaudit.records.summary import read_summary
from segaudit.report.comparison import comparison
from segaudit.report.folder import AuditFolder
from segaudit.report.gate import AuditFailedError, Rule
from segaudit.report.page import write_report
from segaudit.report.picture import Panel, draw_panels
from segaudit.report.table import difference_table, score_table

__all__ = [
    "AuditFailedError",
    "AuditFolder",
    "Panel",
    "Rule",
    "comparison",
    "difference_table",
    "draw_panels",
    "read_records",
    "read_run",
    "read_summary",
    "score_table",
    "write_report",
]
