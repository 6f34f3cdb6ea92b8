"""Selection: rules that choose a model by accuracy and by explanation, among the epochs of one run or of several."""

from segaudit.selection.candidate import Candidate, Ranked
from segaudit.selection.listing import chosen, selection_table, verdict, write_selection
from segaudit.selection.picture import draw_selection
from segaudit.selection.rules import Constrained, Pareto, SelectionRule, Tolerant, Weighted
from segaudit.selection.runs import read_candidates
from segaudit.selection.threshold import Threshold

__all__ = [
    "Candidate",
    "Constrained",
    "Pareto",
    "Ranked",
    "SelectionRule",
    "Threshold",
    "Tolerant",
    "Weighted",
    "chosen",
    "draw_selection",
    "read_candidates",
    "selection_table",
    "verdict",
    "write_selection",
]
