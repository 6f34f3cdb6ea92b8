"""Scores as torchmetrics classes, with the same names as in :mod:`segaudit.functional`."""

# Written by `make tables` from the lists `__all__` of the modules.

from segaudit.metrics.base import TargetMean
from segaudit.metrics.calibration import EffectCalibration, EffectCalibrationError
from segaudit.metrics.cue import CueEffect, CueMass
from segaudit.metrics.faithfulness import (
    IROF,
    Comprehensiveness,
    CurveError,
    DeletionAUC,
    FaithfulnessGap,
    FillResidual,
    InsertionAUC,
    Monotonicity,
    SecondFillGap,
    Sufficiency,
)
from segaudit.metrics.imputation import ROAD
from segaudit.metrics.leakage import OffTargetLeakage, UnsupportedLeakage
from segaudit.metrics.localisation import LocalisationAUC, PointingGame, RelevanceMass, RelevanceRank
from segaudit.metrics.randomisation import Randomisation, RandomisationFull
from segaudit.metrics.runtime import Forwards, Seconds
from segaudit.metrics.sparseness import Entropy, Sparseness
from segaudit.metrics.stability import (
    MaxSensitivity,
    RobustnessPearson,
    Stability,
    StabilityRaw,
    StabilityRetention,
    TopkOverlap,
)
from segaudit.metrics.subset import FaithfulnessCorrelation, Infidelity, SensitivityN

__all__ = [
    "IROF",
    "ROAD",
    "Comprehensiveness",
    "CueEffect",
    "CueMass",
    "CurveError",
    "DeletionAUC",
    "EffectCalibration",
    "EffectCalibrationError",
    "Entropy",
    "FaithfulnessCorrelation",
    "FaithfulnessGap",
    "FillResidual",
    "Forwards",
    "Infidelity",
    "InsertionAUC",
    "LocalisationAUC",
    "MaxSensitivity",
    "Monotonicity",
    "OffTargetLeakage",
    "PointingGame",
    "Randomisation",
    "RandomisationFull",
    "RelevanceMass",
    "RelevanceRank",
    "RobustnessPearson",
    "SecondFillGap",
    "Seconds",
    "SensitivityN",
    "Sparseness",
    "Stability",
    "StabilityRaw",
    "StabilityRetention",
    "Sufficiency",
    "TargetMean",
    "TopkOverlap",
    "UnsupportedLeakage",
]
