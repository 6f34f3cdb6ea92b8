"""What the right-for-the-right-reasons term does to a model that cheats, and what it costs.

    python benchmarks/validity.py train
    python benchmarks/right_reasons.py train
    python benchmarks/right_reasons.py cost
    python benchmarks/right_reasons.py report > tables.md

`train` goes on training cheats of docs/validity.md, on scenes whose tag always gives the class away, with the same seed,
data, order and epochs for each arm: no term, ReliancePenalty with the known cue (and with a fixed fill), ReliancePenalty
without knowing it, and the input-gradient penalty of Ross et al. 2017. It judges each on scenes that none has seen. `cost`
times training steps of all arms in turn. `report` prints Markdown tables. docs/right_reasons.md shows what came out.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import albumentations as A
import lightning
import segmentation_models_pytorch as smp
import torch
from models import network
from torch import Tensor, nn
from validity import SELECTOR, mean_iou, mean_reliance, scenes

from segaudit import Auditor, Intervention, ReliancePenalty
from segaudit.attribution import TargetMask
from segaudit.data import ShortcutScenes
from segaudit.intervention import ConstantFill
from segaudit.training.task import SegmentationTask
from segaudit.training.trainer import Trainer

#: The cheats, named as in benchmarks/validity.py: how often labels followed the tag, batches, seed.
STARTS = ("f1.0_n448_seed0", "f1.0_n448_seed1", "f0.85_n448_seed0")
#: Of 64 batches each, in which nearly every scene is new: from 512 scenes shapes are learned by heart.
SCENES = 6144
EPOCHS = 12
RATE = 5e-4
OBJECTS = [1, 2, 3]


class GradientPenalty(nn.Module):
    """Squared gradients of the summed log-probabilities where the artefact is (Ross et al. 2017, equation 1)."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, model: Callable[[Tensor], Tensor], batch: dict[str, Any], logits: Tensor, step: int) -> Tensor:
        images = batch["image"].detach().requires_grad_()
        objects = torch.isin(batch["mask"], torch.tensor(OBJECTS))
        summed = model(images).log_softmax(dim=1).sum(dim=1)
        score = ((summed * objects).flatten(1).sum(dim=1) / objects.flatten(1).sum(dim=1).clamp_min(1)).sum()
        (gradient,) = torch.autograd.grad(score, images, create_graph=True)
        return self.weight * (gradient.square().sum(dim=1) * (batch["cue"] > 0)).flatten(1).sum(dim=1).mean()


ARMS: dict[str, Callable[[], nn.Module | None]] = {
    "none": lambda: None,
    "artefact, weight 0.1": lambda: ReliancePenalty(OBJECTS, artefact="cue", weight=0.1),
    "artefact, weight 0.3": lambda: ReliancePenalty(OBJECTS, artefact="cue", weight=0.3),
    "artefact, weight 1": lambda: ReliancePenalty(OBJECTS, artefact="cue"),
    "artefact, constant 0": lambda: ReliancePenalty(OBJECTS, artefact="cue", weight=0.3, fill=ConstantFill()),
    "outside, weight 0.3": lambda: ReliancePenalty(OBJECTS, weight=0.3),
    "gradient": lambda: GradientPenalty(1.0),
}


def task(arm: str) -> SegmentationTask:
    return SegmentationTask(
        network("unet", "planted"),
        smp.losses.DiceLoss("multiclass"),
        optimizer=lambda p: torch.optim.AdamW(p, lr=RATE, weight_decay=0.01),
        lr_scheduler=lambda o: torch.optim.lr_scheduler.OneCycleLR(o, RATE, total_steps=EPOCHS + 1),
        right_reasons=ARMS[arm](),
    )


def data(seed: int) -> ShortcutScenes:
    """Scenes turned and mirrored in the eight ways of a square."""
    turned = A.SquareSymmetry(p=1.0)
    return ShortcutScenes(shortcut=1.0, train_images=SCENES, batch_size=8, seed=seed, train_transforms=[turned])


def train(arguments: argparse.Namespace) -> None:
    folder = Path(arguments.folder)
    folder.mkdir(parents=True, exist_ok=True)
    held_out, changed, shifted = scenes(), [scenes(shift) for shift in (1, 2)], scenes(count=512, shortcut=0.0)
    many = scenes(count=512)
    for start, arm in product(arguments.starts, arguments.arms):
        path, started = folder / f"{start}_{arm.replace(', ', '_').replace(' ', '_')}.json", time.perf_counter()
        if path.exists():
            continue
        seed = int(start.rpartition("seed")[2])
        lightning.seed_everything(seed, verbose=False)
        model = task(arm)
        kept = torch.load(Path(arguments.cheats) / f"{start}.pt", weights_only=True)
        model.network.load_state_dict(kept["weights"])
        trainer = Trainer(
            accelerator="cpu",
            precision="bf16-mixed",  # half the time
            max_epochs=EPOCHS,
            gradient_clip_val=1.0,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            limit_train_batches=64,
            limit_val_batches=0,
        )
        trainer.fit(model, datamodule=data(seed))
        net = model.network.eval()
        found = {
            "start": start,
            "arm": arm,
            "iou": mean_iou(net, many),
            "shifted_iou": mean_iou(net, shifted),
            "reliance": mean_reliance(net, held_out, changed),
            **audit(net, held_out, arguments.images),
        }
        torch.save(net.state_dict(), path.with_suffix(".pt"))
        path.write_text(json.dumps(found))
        print(f"{time.perf_counter() - started:.0f} s: {found}", flush=True)


def audit(model: nn.Module, held_out: dict[str, Tensor], images: int) -> dict[str, float]:
    """What the audit says, mean over the targets of some held-out scenes."""
    fill = Intervention(ConstantFill(), max_batch=64)  # removes these scenes whole
    auditor = Auditor({"target_mask": TargetMask()}, ["cue_effect"], SELECTOR, fill)
    for start in range(0, images, 8):
        part = {key: of[start : start + 8] for key, of in held_out.items()}
        auditor.update(model, part["image"], part["mask"], range(start, start + len(part["image"])), part["cue"])
    return {key.rpartition("/")[2]: float(value) for key, value in auditor.compute().items()}


def cost(arguments: argparse.Namespace) -> None:
    """Seconds of a step, arms in turn, so that whatever else the machine does hits all alike."""
    loader = data(0).train_dataloader()
    tasks = {arm: task(arm).train() for arm in arguments.arms}
    optimizers = {arm: torch.optim.AdamW(one.parameters(), lr=1e-4) for arm, one in tasks.items()}
    seconds: dict[str, list[float]] = {arm: [] for arm in tasks}
    for step, batch in enumerate(loader):
        if step >= arguments.steps:
            break
        for arm, one in tasks.items():
            started = time.perf_counter()
            logits = one(batch["image"])
            loss = one._loss(logits, batch["mask"])
            if one.right_reasons is not None:
                loss = loss + one.right_reasons(one, batch, logits, step)
            optimizers[arm].zero_grad()
            loss.backward()
            optimizers[arm].step()
            seconds[arm].append(time.perf_counter() - started)
    medians = {arm: statistics.median(of[3:]) for arm, of in seconds.items()}
    print("| term | ms a step | ratio |\n| --- | --- | --- |")
    for arm, median in medians.items():
        ratios = [one / none for one, none in zip(seconds[arm][3:], seconds["none"][3:], strict=True)]
        print(f"| {arm} | {1000 * median:.0f} | {statistics.median(ratios):.2f} |")


def report(arguments: argparse.Namespace) -> None:
    found = [json.loads(path.read_text()) for path in sorted(Path(arguments.folder).glob("*.json"))]
    columns = ["iou", "cue_effect", "shifted_iou", "reliance"]
    print(f"| start | term | {' | '.join(columns)} |\n|{' --- |' * (len(columns) + 2)}")
    for start, arm in product(STARTS, ARMS):
        for one in found:
            if (one["start"], one["arm"]) == (start, arm):
                print(f"| {start} | {arm} | {' | '.join(f'{one[c]:.3f}' for c in columns)} |")
    print(f"\n| term | starts | {' | '.join(columns)} |\n|{' --- |' * (len(columns) + 2)}")
    for arm in ARMS:
        runs = [one for one in found if one["arm"] == arm]
        if runs:
            means = (statistics.mean(one[c] for one in runs) for c in columns)
            print(f"| {arm} | {len(runs)} | {' | '.join(f'{mean:.3f}' for mean in means)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", default="runs/benchmarks/right_reasons")
    verbs = parser.add_subparsers(required=True)
    verb = verbs.add_parser("train")
    verb.add_argument("--cheats", default="runs/benchmarks/validity")
    verb.add_argument("--starts", nargs="+", choices=STARTS, default=list(STARTS))
    verb.add_argument("--images", type=int, default=128)
    verb.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    verb.set_defaults(run=train)
    verb = verbs.add_parser("cost")
    verb.add_argument("--steps", type=int, default=40)
    verb.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    verb.set_defaults(run=cost)
    verbs.add_parser("report").set_defaults(run=report)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.run(arguments)


if __name__ == "__main__":
    main()
