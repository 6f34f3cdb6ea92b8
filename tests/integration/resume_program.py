"""A training that dies where it is told to, in a module of its own so that a process can import it."""

import hashlib
import json
import os
import signal
from pathlib import Path
from typing import Any

import albumentations as A
import torch
from integration.tiny import CLASSES, TinyNetwork, adam, halve, loader, quick, trainer
from lightning.pytorch import Callback, seed_everything
from lightning.pytorch.loggers import CSVLogger

from segaudit.callbacks import AuditAlarm, AuditCheckpoint
from segaudit.data import ShortcutScenes
from segaudit.selection import Tolerant
from segaudit.training.task import SegmentationTask

EPOCHS = 5
#: Where a run is killed: an epoch, and a batch of it or a moment of its end.
DEATHS: dict[str, list[tuple[int, int | str]]] = {
    "squares": [(0, 1), (1, 0), (2, 2), (3, "validation"), (3, "saved"), (4, "last saved"), (4, 1)],
    "scenes": [(2, 1), (3, "saved")],
}
RULE = Tolerant("audit/saliency/off_target_leakage", tolerance=0.02)


class Dying(Callback):
    """Kills its own process, as a machine that stops would."""

    def __init__(self, epoch: int, moment: int | str) -> None:
        self.epoch, self.moment = epoch, moment

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.die(trainer, batch_idx)

    def on_validation_batch_end(self, trainer, pl_module, *_):
        self.die(trainer, "validation")

    def die(self, trainer: Any, moment: int | str) -> None:
        if (trainer.current_epoch, moment) == (self.epoch, self.moment):
            os.kill(os.getpid(), signal.SIGKILL)


class DyingCheckpoint(AuditCheckpoint):
    """Dies between its steps."""

    dying: Dying | None = None

    def _save_last_checkpoint(self, trainer, monitor_candidates):
        if self.dying:
            self.dying.die(trainer, "saved")
        super()._save_last_checkpoint(trainer, monitor_candidates)
        if self.dying:
            self.dying.die(trainer, "last saved")


def train(folder: Path, data: str, dying: Dying | None, ckpt_path: Path | None) -> None:
    seed_everything(0 if ckpt_path is None else 9, verbose=False)  # what is drawn later comes from the checkpoint
    keep = DyingCheckpoint(RULE)
    keep.dying = dying
    audit = quick(metrics=["off_target_leakage", "deletion_auc"], every_n_epochs=2, max_images=4)
    callbacks = [audit, AuditAlarm("saliency", ["off_target_leakage"]), keep, *([dying] if dying else [])]
    # The scenes have all loggers; drawing their charts takes most of a run, and the squares are run many times.
    logger = CSVLogger(folder, name="") if data == "squares" else None
    loop = trainer(*callbacks, folder=folder, logger=logger, enable_checkpointing=True, max_epochs=EPOCHS)
    names = CLASSES if data == "squares" else None
    model = SegmentationTask(TinyNetwork(3 if names else 4), class_names=names, optimizer=adam, lr_scheduler=halve)
    if data == "squares":  # random numbers come from the global states
        loop.fit(model, loader(12, train=True), loader(6), ckpt_path=ckpt_path, weights_only=True)
    else:
        flips = [A.HorizontalFlip(p=0.5), A.ColorJitter(p=1)]
        scenes = ShortcutScenes(size=16, train_images=12, val_images=6, batch_size=4, train_transforms=flips)
        loop.fit(model, datamodule=scenes, ckpt_path=ckpt_path, weights_only=True)
    bits = b"".join(value.numpy().tobytes() for value in model.network.state_dict().values())
    told = json.loads((Path(str(keep.dirpath)) / "selection.json").read_text())
    outcome = {
        "weights": hashlib.sha256(bits).hexdigest(),
        "chosen": Path(keep.best_model_path).name,
        "chosen_weights": hashlib.sha256(
            b"".join(v.numpy().tobytes() for v in torch.load(keep.best_model_path, weights_only=True)["state_dict"].values())
        ).hexdigest(),
        "candidates": [
            {key: one[key] for key in ("name", "place", "allowed", "kept", "why")}
            | {key: value for key, value in one["values"].items() if not key.endswith("seconds")}
            for one in told["candidates"]
        ],
    }
    (folder / "outcome.json").write_text(json.dumps(outcome))
