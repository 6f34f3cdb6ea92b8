"""An audit and a task whose figures are what a script says, for what is decided by them."""

from typing import Any

import torch
from integration.tiny import task

from segaudit.callbacks import AttributionAudit
from segaudit.training.task import SegmentationTask


class Scripted(AttributionAudit):
    """Audits when an audit is due; leakage (a number, or one an image) and randomisation are what the script says."""

    def __init__(self, leakage: list[Any], randomisation: list[float] | None = None, **options: Any) -> None:
        metrics = ["off_target_leakage", "faithfulness_gap", *(["randomisation_full"] if randomisation else [])]
        super().__init__(explainers=["saliency"], metrics=metrics, **options)
        self.leakage, self.randomisation = leakage, randomisation

    def _audit(self, trainer, pl_module, loaders):
        each = torch.as_tensor(self.leakage[trainer.current_epoch]).reshape(-1)
        found = {"off_target_leakage": float(each.mean()), "faithfulness_gap": 0.5, "unscored": 0.0}
        self.values = {f"saliency/{name}": torch.tensor(value) for name, value in found.items()}
        if self.randomisation:
            self.values["saliency/randomisation_full"] = torch.tensor(self.randomisation[trainer.current_epoch])
        self.records = [
            {"sample_id": str(k), "class_index": 1, "area": 0.1, "explainer": "saliency", "off_target_leakage": value}
            for k, value in enumerate(each.tolist())
        ]
        self.series.add(trainer.current_epoch, self.records)
        self.audited_at = trainer.global_step
        pl_module.log_dict({f"{self.prefix}/{name}": x for name, x in self.values.items()})


class Known(SegmentationTask):
    """Its IoU is what the script says."""

    script: list[float]

    def _log_iou(self, stage: str) -> None:
        self.log(f"{stage}/iou", self.script[self.current_epoch])


def known(iou: list[float]) -> Known:
    base = task()
    model = Known(base.network, class_names=base.class_names, optimizer=base.optimizer)
    model.script = iou
    return model
