"""Training: the Lightning module, the Trainer, weights from files, and a loss against reliance on artefacts."""

from segaudit.training.reliance_penalty import ReliancePenalty
from segaudit.training.task import SegmentationTask
from segaudit.training.trainer import Trainer
from segaudit.training.weights import load_weights

__all__ = ["ReliancePenalty", "SegmentationTask", "Trainer", "load_weights"]
