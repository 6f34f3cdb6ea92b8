"""Checks for explainers, metrics, fills, perturbations and evidence of anyone, with pytest or without it."""

from segaudit.testing.evidence import check_evidence
from segaudit.testing.explainer import check_explainer
from segaudit.testing.fill import check_fill
from segaudit.testing.metric import check_metric
from segaudit.testing.networks import SmallNet
from segaudit.testing.perturbation import check_perturbation
from segaudit.testing.random_evidence import random_evidence

__all__ = [
    "SmallNet",
    "check_evidence",
    "check_explainer",
    "check_fill",
    "check_metric",
    "check_perturbation",
    "random_evidence",
]
