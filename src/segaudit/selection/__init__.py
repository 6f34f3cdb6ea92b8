"""Which model to choose, by accuracy and by explanation: rules, the same for a run's checkpoints and for finished runs."""

from segaudit.selection.candidate import Candidate, Ranked
from segaudit.selection.listing import chosen, selection_table, verdict, write_selection
from segaudit.selection.picture import draw_selection
from segaudit.selection.rules import Constrained, Pareto, SelectionRule, Tolerant, Weighted
from segaudit.selection.runs import read_candidates

__all__ = [
    "Candidate",
    "Constrained",
    "Pareto",
    "Ranked",
    "SelectionRule",
    "Tolerant",
    "Weighted",
    "chosen",
    "draw_selection",
    "read_candidates",
    "selection_table",
    "verdict",
    "write_selection",
]
