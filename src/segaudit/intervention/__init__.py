"""Interventions on the input: fills, regions, masked forwards, perturbations."""

from segaudit.intervention.fill import BlurFill, ConstantFill, Fill, MeanFill, NoiseFill
from segaudit.intervention.perturbation import Brightness, GaussianNoise, Perturbation
from segaudit.intervention.probe import Intervention, Probe
from segaudit.intervention.region import GridRegions, Regions, SuperpixelRegions

__all__ = [
    "BlurFill",
    "Brightness",
    "ConstantFill",
    "Fill",
    "GaussianNoise",
    "GridRegions",
    "Intervention",
    "MeanFill",
    "NoiseFill",
    "Perturbation",
    "Probe",
    "Regions",
    "SuperpixelRegions",
]
