"""Forward passes: what is asked of the model, about which targets, at what cost."""

from segaudit.forwards.batch import Sample, unpack
from segaudit.forwards.batching import Batching
from segaudit.forwards.curve import Curve
from segaudit.forwards.output import class_logits, logits_of, predict, probabilities
from segaudit.forwards.probe import Probe
from segaudit.forwards.target import Targets, TargetSelector, target_confidence, target_logit

__all__ = [
    "Batching",
    "Curve",
    "Probe",
    "Sample",
    "TargetSelector",
    "Targets",
    "class_logits",
    "logits_of",
    "predict",
    "probabilities",
    "target_confidence",
    "target_logit",
    "unpack",
]
