"""Scores as functions of plain tensors: one value a target, NaN for a target that cannot be scored."""

# Written by `make tables` from the lists `__all__` of the modules.

from segaudit.functional.calibration import effect_calibration, effect_calibration_error
from segaudit.functional.cue import cue_effect, cue_mass
from segaudit.functional.faithfulness import (
    comprehensiveness,
    curve_error,
    deletion_auc,
    faithfulness_gap,
    fill_residual,
    insertion_auc,
    irof,
    monotonicity,
    second_fill_gap,
    sufficiency,
)
from segaudit.functional.imputation import road
from segaudit.functional.leakage import off_target_leakage, unsupported_leakage
from segaudit.functional.localisation import localisation_auc, pointing_game, relevance_mass, relevance_rank
from segaudit.functional.randomisation import randomisation, randomisation_full
from segaudit.functional.sparseness import entropy, sparseness
from segaudit.functional.stability import (
    max_sensitivity,
    robustness_pearson,
    stability,
    stability_raw,
    stability_retention,
    topk_overlap,
)
from segaudit.functional.subset import faithfulness_correlation, infidelity, sensitivity_n

__all__ = [
    "comprehensiveness",
    "cue_effect",
    "cue_mass",
    "curve_error",
    "deletion_auc",
    "effect_calibration",
    "effect_calibration_error",
    "entropy",
    "faithfulness_correlation",
    "faithfulness_gap",
    "fill_residual",
    "infidelity",
    "insertion_auc",
    "irof",
    "localisation_auc",
    "max_sensitivity",
    "monotonicity",
    "off_target_leakage",
    "pointing_game",
    "randomisation",
    "randomisation_full",
    "relevance_mass",
    "relevance_rank",
    "road",
    "robustness_pearson",
    "second_fill_gap",
    "sensitivity_n",
    "sparseness",
    "stability",
    "stability_raw",
    "stability_retention",
    "sufficiency",
    "topk_overlap",
    "unsupported_leakage",
]
