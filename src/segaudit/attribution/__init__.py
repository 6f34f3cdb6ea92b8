"""Explainers: from a model, images and targets to one signed map a target."""

from segaudit.attribution.base import Explainer
from segaudit.attribution.cam import SegGradCAM
from segaudit.attribution.context import attribution_context
from segaudit.attribution.control import Random, TargetMask
from segaudit.attribution.fusion import DEA
from segaudit.attribution.gradient import IntegratedGradients, Saliency
from segaudit.attribution.perturbation import RegionEffects

__all__ = [
    "DEA",
    "Explainer",
    "IntegratedGradients",
    "Random",
    "RegionEffects",
    "Saliency",
    "SegGradCAM",
    "TargetMask",
    "attribution_context",
]
