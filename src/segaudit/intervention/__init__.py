"""Interventions on the input: fills, partitions, perturbations."""

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
from segaudit.intervention.partition import GridRegions, Regions, ScatteredRegions, SuperpixelRegions
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
    "RangeFill",
    "Regions",
    "ScatteredRegions",
    "Shift",
    "ShuffleFill",
    "SuperpixelRegions",
]


def __getattr__(name: str) -> object:
    if name == "Probe":  # where earlier versions had it
        from segaudit.forwards import Probe

        return Probe
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
