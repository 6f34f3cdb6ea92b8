"""Scores as torchmetrics classes, with the same names as in :mod:`segaudit.functional`."""

from segaudit.metrics.base import TargetMean
from segaudit.metrics.cue import CueEffect, CueMass
from segaudit.metrics.faithfulness import (
    IROF,
    Comprehensiveness,
    DeletionAUC,
    FaithfulnessGap,
    FillResidual,
    InsertionAUC,
    Monotonicity,
    Sufficiency,
)
from segaudit.metrics.imputation import ROAD
from segaudit.metrics.leakage import OffTargetLeakage, UnsupportedLeakage
from segaudit.metrics.randomisation import Randomisation, RandomisationFull
from segaudit.metrics.runtime import Seconds
from segaudit.metrics.stability import Stability, StabilityRetention
from segaudit.metrics.subset import FaithfulnessCorrelation, Infidelity, SensitivityN

__all__ = [
    "IROF",
    "ROAD",
    "Comprehensiveness",
    "CueEffect",
    "CueMass",
    "DeletionAUC",
    "FaithfulnessCorrelation",
    "FaithfulnessGap",
    "FillResidual",
    "Infidelity",
    "InsertionAUC",
    "Monotonicity",
    "OffTargetLeakage",
    "Randomisation",
    "RandomisationFull",
    "Seconds",
    "SensitivityN",
    "Stability",
    "StabilityRetention",
    "Sufficiency",
    "TargetMean",
    "UnsupportedLeakage",
]
