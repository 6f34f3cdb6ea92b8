"""Interventions on the input: fills, regions, masked forwards, perturbations."""

from segaudit.intervention.fill import (
    BlurFill,
    ConstantFill,
    Fill,
    LocalMeanFill,
    MeanFill,
    NoiseFill,
    NoisyLinearFill,
    RangeFill,
    ShuffleFill,
)
from segaudit.intervention.intervention import Intervention
from segaudit.intervention.perturbation import (
    JPEG,
    Albumentations,
    Brightness,
    Contrast,
    GaussianBlur,
    GaussianNoise,
    Perturbation,
    Shift,
)
from segaudit.intervention.probe import Probe
from segaudit.intervention.region import GridRegions, Regions, SuperpixelRegions

__all__ = [
    "JPEG",
    "Albumentations",
    "BlurFill",
    "Brightness",
    "ConstantFill",
    "Contrast",
    "Fill",
    "GaussianBlur",
    "GaussianNoise",
    "GridRegions",
    "Intervention",
    "LocalMeanFill",
    "MeanFill",
    "NoiseFill",
    "NoisyLinearFill",
    "Perturbation",
    "Probe",
    "RangeFill",
    "Regions",
    "Shift",
    "ShuffleFill",
    "SuperpixelRegions",
]
