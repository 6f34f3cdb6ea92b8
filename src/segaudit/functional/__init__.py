"""Scores as functions of plain tensors: one value a target, NaN for a target that cannot be scored."""

from segaudit.functional.cue import cue_effect, cue_mass
from segaudit.functional.faithfulness import deletion_auc, faithfulness_gap, fill_residual, insertion_auc
from segaudit.functional.leakage import off_target_leakage, unsupported_leakage
from segaudit.functional.stability import stability, stability_retention

__all__ = [
    "cue_effect",
    "cue_mass",
    "deletion_auc",
    "faithfulness_gap",
    "fill_residual",
    "insertion_auc",
    "off_target_leakage",
    "stability",
    "stability_retention",
    "unsupported_leakage",
]
