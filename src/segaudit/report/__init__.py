"""What a person sees of an audit: tables and pictures."""

from segaudit.report.picture import Panel, draw_panels
from segaudit.report.table import score_table

__all__ = ["Panel", "draw_panels", "score_table"]
