"""Explainers: from a model, images and targets to one signed map a target."""

# Written by `make tables` from the lists `__all__` of the modules.

from segaudit.attribution.adapter import Captum, PytorchGradCAM
from segaudit.attribution.attention import AttentionRollout
from segaudit.attribution.base import Explainer
from segaudit.attribution.cam import (
    AblationCAM,
    EigenCAM,
    GradCAMPlusPlus,
    HiResCAM,
    LayerCAM,
    ScoreCAM,
    SegGradCAM,
    SegXResCAM,
    XGradCAM,
)
from segaudit.attribution.context import attribution_context
from segaudit.attribution.control import Centre, Edges, Oracle, Random, TargetMask
from segaudit.attribution.fusion import DEA
from segaudit.attribution.gradient import GuidedBackprop, InputXGradient, Saliency
from segaudit.attribution.path import ExpectedGradients, IntegratedGradients
from segaudit.attribution.perturbation import RISE, Occlusion, RegionEffects
from segaudit.attribution.relevance import LRP
from segaudit.attribution.smooth import SmoothGrad, VarGrad
from segaudit.attribution.surrogate import LIME, KernelSHAP

__all__ = [
    "DEA",
    "LIME",
    "LRP",
    "RISE",
    "AblationCAM",
    "AttentionRollout",
    "Captum",
    "Centre",
    "Edges",
    "EigenCAM",
    "ExpectedGradients",
    "Explainer",
    "GradCAMPlusPlus",
    "GuidedBackprop",
    "HiResCAM",
    "InputXGradient",
    "IntegratedGradients",
    "KernelSHAP",
    "LayerCAM",
    "Occlusion",
    "Oracle",
    "PytorchGradCAM",
    "Random",
    "RegionEffects",
    "Saliency",
    "ScoreCAM",
    "SegGradCAM",
    "SegXResCAM",
    "SmoothGrad",
    "TargetMask",
    "VarGrad",
    "XGradCAM",
    "attribution_context",
]
