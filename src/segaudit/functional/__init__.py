"""Scores as functions of plain tensors: one value a target, NaN for a target that cannot be scored."""

from segaudit.functional.cue import cue_effect, cue_mass
from segaudit.functional.faithfulness import (
    comprehensiveness,
    deletion_auc,
    faithfulness_gap,
    fill_residual,
    insertion_auc,
    irof,
    monotonicity,
    sufficiency,
)
from segaudit.functional.imputation import road
from segaudit.functional.leakage import off_target_leakage, unsupported_leakage
from segaudit.functional.randomisation import randomisation, randomisation_full
from segaudit.functional.stability import stability, stability_retention
from segaudit.functional.subset import faithfulness_correlation, infidelity, sensitivity_n

__all__ = [
    "comprehensiveness",
    "cue_effect",
    "cue_mass",
    "deletion_auc",
    "faithfulness_correlation",
    "faithfulness_gap",
    "fill_residual",
    "infidelity",
    "insertion_auc",
    "irof",
    "monotonicity",
    "off_target_leakage",
    "randomisation",
    "randomisation_full",
    "road",
    "sensitivity_n",
    "stability",
    "stability_retention",
    "sufficiency",
    "unsupported_leakage",
]
