"""Train semantic segmentation models and audit their explanations while they train."""

from pathlib import Path

if Path(__file__).with_name("callbacks").is_file():
    raise ImportError(
        "src/segaudit/callbacks is a text file here, but it must be a symbolic link to callbacks/: this checkout was "
        "made without symbolic links. Run `git config core.symlinks true` and check the repository out again, or install "
        "the wheel."
    )

from segaudit import statistics
from segaudit.attribution import (
    DEA,
    Explainer,
    IntegratedGradients,
    Random,
    RegionEffects,
    Saliency,
    SegGradCAM,
    TargetMask,
)
from segaudit.auditor import AuditedBatch, Auditor
from segaudit.intervention import BlurFill, ConstantFill, Fill, Intervention, MeanFill, NoiseFill, RangeFill
from segaudit.right_reasons import ReliancePenalty
from segaudit.target import Targets, TargetSelector

__version__ = "0.1.0"

__all__ = [
    "DEA",
    "AuditedBatch",
    "Auditor",
    "BlurFill",
    "ConstantFill",
    "Explainer",
    "Fill",
    "IntegratedGradients",
    "Intervention",
    "MeanFill",
    "NoiseFill",
    "Random",
    "RangeFill",
    "RegionEffects",
    "ReliancePenalty",
    "Saliency",
    "SegGradCAM",
    "TargetMask",
    "TargetSelector",
    "Targets",
    "statistics",
]
