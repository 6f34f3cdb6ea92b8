"""A program that trains, is killed where it is told to be or at random, goes on from last.ckpt, and says what came out.

It forks for every training, so that importing everything is paid for once.
"""

import hashlib
import json
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

import albumentations as A
import pyarrow.parquet as pq
import torch
from integration.tiny import CLASSES, TinyNetwork, adam, halve, loader, quick, trainer
from lightning.pytorch import Callback, seed_everything

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
    torch.set_num_threads(1)
    seed_everything(0 if ckpt_path is None else 9, verbose=False)  # what is drawn later comes from the checkpoint
    keep = DyingCheckpoint(RULE)
    keep.dying = dying
    audit = quick(metrics=["off_target_leakage", "deletion_auc"], every_n_epochs=2, max_images=4)
    callbacks = [audit, AuditAlarm("saliency", ["off_target_leakage"]), keep, *([dying] if dying else [])]
    loop = trainer(*callbacks, folder=folder, enable_checkpointing=True, max_epochs=EPOCHS)
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


def forked(*arguments: Any, seconds: float | None = None) -> int:
    """Train in a process of its own, killed after some seconds; its exit status, negative for the signal that killed it."""
    child = os.fork()
    if not child:
        status = 1
        try:
            train(*arguments)
            status = 0
        finally:
            sys.stdout.flush()
            os._exit(status)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)  # one that has ended waits to be asked, and takes no harm
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def outcome(root: Path) -> dict[str, Any]:
    """What came out of a run, the records of its audits among it; an epoch that was run again counts where it ran last."""
    records = {}
    versions = sorted(root.glob("version_*"), key=lambda path: int(path.name.removeprefix("version_")))
    for path in (path for version in versions for path in version.glob("audit/*.parquet")):
        records[path.stem] = pq.read_table(path).to_pylist()
    return json.loads((root / "outcome.json").read_text()) | {"records": repr(sorted(records.items()))}


def killed_at_random(folder: Path, data: str, deaths: int, seconds: float) -> dict[str, Any]:
    """Outcomes of runs that are killed again and again, at any moment, until they come to their end."""
    draw, outcomes, died = random.Random(0), {}, 0
    while died < deaths:
        root = folder / f"run {len(outcomes)}"
        for life in range(4):
            found = sorted(root.glob("version_*/checkpoints/last.ckpt"), key=lambda path: path.stat().st_mtime)
            last = found[-1] if found else None
            status = forked(root, data, None, last, seconds=None if life == 3 else draw.uniform(0, seconds))
            assert status in (0, -signal.SIGKILL), status
            died += status != 0
            if not status:
                break
        outcomes[f"{root.name}, killed {life} times"] = outcome(root)
    return outcomes


def main(folder: Path, data: str, deaths: int) -> None:
    outcomes: dict[str, Any] = {}
    started = time.perf_counter()
    assert forked(folder / "whole", data, None, None) == 0
    seconds = time.perf_counter() - started
    outcomes["whole"] = outcome(folder / "whole")
    if deaths:
        outcomes |= killed_at_random(folder, data, deaths, seconds)
        (folder / "outcomes.json").write_text(json.dumps(outcomes))
        return
    for epoch, moment in DEATHS[data]:
        root = folder / f"{epoch} {moment}"
        assert forked(root, data, Dying(epoch, moment), None) == -signal.SIGKILL
        last = root / "version_0" / "checkpoints" / "last.ckpt"
        assert last.exists() == (epoch > 0)
        assert forked(root, data, None, last if last.exists() else None) == 0
        outcomes[root.name] = outcome(root)
    (folder / "outcomes.json").write_text(json.dumps(outcomes))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
