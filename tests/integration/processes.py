"""Audits in each of several processes, and writes the results to a folder."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import torch
from integration.tiny import audit, figures, loader, still, task, trainer
from lightning.pytorch import seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint

from segaudit.callbacks import AttributionAudit, AuditAlarm, AuditCheckpoint
from segaudit.selection import Tolerant

#: How many images are audited: 5 leave a process with less to do, whether there are two or three, 1 leaves all others with
#: nothing.
COUNTS = (5, 1)
FITTED = (7, 1)
MONITOR = "audit/saliency/faithfulness_gap"
#: Of the audits of a training; those of a validation have all default explainers.
FEW = ["saliency", "dea", "random"]


def found(audited: AttributionAudit, logged: Any) -> dict[str, Any]:
    intervals = {str(key): list(estimate) for key, estimate in audited.auditor.intervals().items() if "seconds" not in key}
    return {"figures": figures(logged, "audit/"), "records": audited.auditor.records(), "intervals": intervals}


def validate(weights: Path, images: int, **options: Any) -> dict[str, Any]:
    """Audit given weights on some images; one process does it as well as two."""
    model, audited = task(), audit(max_images=images, panels=1)
    model.load_state_dict(torch.load(weights, weights_only=True))
    loop = trainer(audited, **options)
    loop.validate(model, loader(7), verbose=False)
    return found(audited, loop.callback_metrics)


def stand_still(weights: Path, images: int, **options: Any) -> dict[str, Any]:
    """Fit with a learning rate of 0, so that the weights do not depend on who trained on what; audit every epoch."""
    model, audited = task(optimizer=still), audit(max_images=images, panels=1, explainers=FEW)
    model.load_state_dict(torch.load(weights, weights_only=True))
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 0.0
    loop = trainer(audited, max_epochs=2, **options)
    loop.fit(model, loader(7, train=True), loader(7))
    return found(audited, loop.callback_metrics)


def fit(folder: Path, audited: bool, **options: Any) -> dict[str, Any]:
    """Train two epochs; with the audit, let it choose the checkpoint."""
    model, auditing = task(), audit(max_images=5, panels=1, explainers=FEW)
    keep = ModelCheckpoint(folder / "kept", monitor=MONITOR, mode="max")
    choose = AuditCheckpoint(Tolerant("audit/saliency/off_target_leakage", tolerance=0.5), dirpath=folder / "chosen")
    alarm = AuditAlarm("saliency", ["off_target_leakage"])
    callbacks = [auditing, keep, choose, alarm] if audited else []
    loop = trainer(*callbacks, folder=folder / str(audited), max_epochs=2, enable_checkpointing=audited, **options)
    seed_everything(0, verbose=False)
    loop.fit(model, loader(16, train=True), loader(7))
    bits = b"".join(value.numpy().tobytes() for value in model.network.state_dict().values())
    report = {"weights": hashlib.sha256(bits).hexdigest()}
    if audited:
        report |= found(auditing, loop.callback_metrics)
        report |= {"monitor": str(float(loop.callback_metrics[MONITOR])), "best": keep.best_model_path}
        report |= {"best_score": str(float(keep.best_model_score))}
        candidates = [[one.name, one.values["val/iou"], Path(one.path).name] for one in choose.candidates]
        report |= {"chosen": choose.best_model_path, "candidates": candidates, "alarm": alarm.state_dict()}
    return report


def main(folder: Path) -> None:
    world = int(os.environ["WORLD_SIZE"])
    group = {"strategy": "ddp", "devices": world}
    report: dict[str, Any] = {str(n): validate(folder / "weights.pt", n, **group) for n in COUNTS}
    report |= {f"fit {n}": stand_still(folder / "weights.pt", n, **group) for n in FITTED}
    if world == 2:
        report |= {"audited": fit(folder, True, **group), "plain": fit(folder, False, **group)}
    (folder / f"{world}-rank{torch.distributed.get_rank()}.json").write_text(json.dumps(report))
    torch.distributed.destroy_process_group()
