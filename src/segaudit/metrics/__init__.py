"""Scores as torchmetrics classes, with the same names as in :mod:`segaudit.functional`."""

from segaudit.metrics.base import TargetMean
from segaudit.metrics.cue import CueEffect, CueMass
from segaudit.metrics.faithfulness import DeletionAUC, FaithfulnessGap, FillResidual, InsertionAUC
from segaudit.metrics.leakage import OffTargetLeakage, UnsupportedLeakage
from segaudit.metrics.runtime import Seconds
from segaudit.metrics.stability import Stability, StabilityRetention

__all__ = [
    "CueEffect",
    "CueMass",
    "DeletionAUC",
    "FaithfulnessGap",
    "FillResidual",
    "InsertionAUC",
    "OffTargetLeakage",
    "Seconds",
    "Stability",
    "StabilityRetention",
    "TargetMean",
    "UnsupportedLeakage",
]
