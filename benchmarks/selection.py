"""Choosing by explanation: what the models that are chosen so do where the shortcut is gone.

    python benchmarks/selection.py train
    python benchmarks/selection.py report > tables.md

`train` runs configs/selection.yaml for candidates that differ in seed, augmentation and in how often they saw the shortcut,
several groups of them, each with scenes of its own. `report` lets IoU alone and each rule choose among all audited epochs
of a group, tests what was chosen on scenes like those of the validation and on scenes whose tags say nothing, prints
Markdown tables and draws docs/selection/groups.png.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import segmentation_models_pytorch as smp
import torch
import yaml
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torchmetrics.classification import MulticlassConfusionMatrix

from segaudit.data import ShortcutScenes
from segaudit.selection import Candidate, Constrained, SelectionRule, Tolerant, Weighted, chosen, read_candidates
from segaudit.statistics import interval
from segaudit.training.task import pooled_iou
from segaudit.training.weights import load_weights

CONFIG = Path(__file__).parents[1] / "configs" / "selection.yaml"
HUE = {
    "class_path": "albumentations.HueSaturationValue",
    "init_args": {"hue_shift_limit": [-90, 90], "sat_shift_limit": 0, "val_shift_limit": 0, "p": 1.0},
}
#: What tells the candidates of a group apart: how often the tag tells the truth in training, and the augmentation. Shapes
#: take longer to learn than tags: who reads tags stops sooner, where both are of like IoU on the validation.
KINDS: dict[str, list[str]] = {
    "always": ["--data.shortcut", "1.0", "--trainer.max_epochs", "8", "--model.lr_scheduler.T_max", "8"],
    "never": ["--data.shortcut", "0.0"],
    "any hue": ["--data.shortcut", "1.0", "--data.train_transforms", json.dumps([HUE])],
}
LEAKAGE = "audit/region_effects/off_target_leakage"
RULES: dict[str, SelectionRule] = {
    "best IoU": Weighted({"val/iou": 1.0}),
    "AuditCheckpoint's default": Tolerant(),
    "tolerance 0.005": Tolerant(tolerance=0.005),
    "tolerance 0.02": Tolerant(tolerance=0.02),
    "leakage at most 0.35": Constrained(subject_to={LEAKAGE: "<= 0.35"}),
    "IoU less leakage": Weighted({"val/iou": 1.0, LEAKAGE: -1.0}),
}
#: Seeds of scenes that no candidate has seen.
HELD_OUT = 1000


def train(arguments: argparse.Namespace) -> None:
    """Train the candidates of every group that are not there yet."""
    for place, (kind, options) in enumerate(KINDS.items()):
        for group in arguments.groups:
            root = Path(arguments.folder) / f"{group}" / kind.replace(" ", "_")
            if (root / "done").exists():
                continue
            words = ["fit", "--config", str(CONFIG), "--trainer.default_root_dir", str(root)]
            words += ["--seed_everything", f"{10 * group + place}", "--data.seed", f"{group}", *options]
            subprocess.run([sys.executable, "-m", "src.cli", *words, "--trainer.enable_progress_bar", "false"], check=True)
            (root / "done").touch()


def report(arguments: argparse.Namespace) -> None:
    """Print tables and draw a picture."""
    scenes = {name: held_out(name) for name in ("like", "shifted")}
    groups = [folder for folder in sorted(Path(arguments.folder).iterdir()) if folder.is_dir()]
    tested: dict[str, tuple[float, float]] = {}
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in RULES}
    pools = []
    for folder in groups:
        runs = [path.parent / "version_0" for path in sorted(folder.glob("*/done"))]
        pool = [one for one in read_candidates(runs) if LEAKAGE in one.values and one.path]
        pools.append(pool)
        for one in pool:
            tested[one.path] = (test(one, scenes["like"]), test(one, scenes["shifted"]))
        for name, rule in RULES.items():
            best = chosen(rule.rank(pool))
            assert best is not None
            like, shifted = tested[best.candidate.path]
            found[name].append({"candidate": best.candidate, "like": like, "shifted": shifted, "allowed": best.allowed})
    print(f"{len(groups)} groups of {len(pools[0])} candidates ({len(KINDS)} runs, every epoch of each)\n")
    _print_rules(found)
    _print_groups(groups, found)
    _print_kinds(pools, tested)
    _draw(pools, found, tested, Path(arguments.picture))


def held_out(which: str, count: int = 512) -> tuple[torch.Tensor, torch.Tensor]:
    """Scenes like those of the validation, or with tags that say nothing."""
    shortcut = 1.0 if which == "like" else 0.0
    data = ShortcutScenes(seed=HELD_OUT, shortcut=shortcut, val_images=count).dataset("val")
    items = [data[k] for k in range(count)]
    return torch.stack([item["image"] for item in items]), torch.stack([item["mask"] for item in items])


@torch.no_grad()
def test(candidate: Candidate, scenes: tuple[torch.Tensor, torch.Tensor]) -> float:
    """Mean IoU of a checkpoint, pooled over all pixels."""
    arguments = yaml.safe_load(CONFIG.read_text())["model"]["init_args"]["network"]["init_args"]
    network = smp.Unet(**arguments).to(memory_format=torch.channels_last).eval()
    load_weights(network, candidate.path)
    confusion = MulticlassConfusionMatrix(arguments["classes"])
    for images, masks in zip(*(part.split(32) for part in scenes), strict=True):
        confusion.update(network(images).argmax(dim=1), masks)
    return float(pooled_iou(confusion.compute(), 255).nanmean())


def _print_rules(found: dict[str, list[dict[str, Any]]]) -> None:
    base = found["best IoU"]
    print("| rule | IoU like the validation | against best IoU, worst | IoU shifted | against best IoU |")
    print("| --- | --- | --- | --- | --- |")
    for name, rows in found.items():
        like, shifted = ([row[key] for row in rows] for key in ("like", "shifted"))
        lost = [row["like"] - other["like"] for row, other in zip(rows, base, strict=True)]
        gained = [row["shifted"] - other["shifted"] for row, other in zip(rows, base, strict=True)]
        print(
            f"| {name} | {np.mean(like):.3f} | {np.mean(lost):+.3f}, {min(lost):+.3f} | {_spread(shifted)} | "
            f"{_spread(gained, sign='+')} |"
        )
    print()


def _print_groups(groups: list[Path], found: dict[str, list[dict[str, Any]]]) -> None:
    names = ("best IoU", "AuditCheckpoint's default")
    print("| group | " + " | ".join(f"{name}: candidate | val IoU | leakage | like | shifted" for name in names) + " |")
    print("| --- " * 11 + "|")
    for place, folder in enumerate(groups):
        cells = []
        for name in names:
            row = found[name][place]
            one = row["candidate"]
            kind = Path(one.path).parents[2].name.replace("_", " ")
            cells += [f"{kind}, epoch {one.epoch}", f"{one.values['val/iou']:.3f}", f"{one.values[LEAKAGE]:.3f}"]
            cells += [f"{row['like']:.3f}", f"{row['shifted']:.3f}"]
        print(f"| {folder.name} | {' | '.join(cells)} |")
    print()


def _print_kinds(pools: list[list[Candidate]], tested: dict[str, tuple[float, float]]) -> None:
    print("| candidates, last epoch | val IoU | leakage | cue mass | cue effect | IoU like | IoU shifted |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for kind in KINDS:
        last = [
            max((one for one in pool if Path(one.path).parents[2].name == kind.replace(" ", "_")), key=lambda one: one.epoch)
            for pool in pools
        ]
        keys = ("val/iou", LEAKAGE, "audit/region_effects/cue_mass", "audit/cue_effect")
        cells = [f"{np.mean([one.values[key] for one in last]):.3f}" for key in keys]
        cells += [f"{np.mean([tested[one.path][side] for one in last]):.3f}" for side in (0, 1)]
        print(f"| {kind} | {' | '.join(cells)} |")


def _spread(values: list[float], sign: str = "") -> str:
    """Mean and interval by bootstrap over groups."""
    found = interval(values, list(range(len(values))))
    return f"{found.mean:{sign}.3f} [{found.low:{sign}.3f}, {found.high:{sign}.3f}]"


def _draw(
    pools: list[list[Candidate]],
    found: dict[str, list[dict[str, Any]]],
    tested: dict[str, tuple[float, float]],
    path: Path,
) -> None:
    figure = Figure(figsize=(3.1 * len(pools), 3.6), dpi=110, layout="constrained")
    axes = figure.subplots(1, len(pools), sharey=True, squeeze=False)[0]
    for place, (axis, pool) in enumerate(zip(axes, pools, strict=True)):
        shown = axis.scatter(
            [one.values["val/iou"] for one in pool], [one.values[LEAKAGE] for one in pool],
            c=[tested[one.path][1] for one in pool], cmap="viridis", vmin=0.2, vmax=1.0, s=26,
        )  # fmt: skip
        for name, marker, colour in (("best IoU", "s", "#c32c35"), ("AuditCheckpoint's default", "*", "black")):
            one = found[name][place]["candidate"]
            axis.scatter(
                one.values["val/iou"], one.values[LEAKAGE], s=190, marker=marker, facecolors="none", edgecolors=colour,
                linewidths=1.6, label=name if place == 0 else None,
            )  # fmt: skip
        best = max(one.values["val/iou"] for one in pool)
        axis.axvspan(best - 0.01, best, color="0.9", zorder=0)
        axis.set_xlim(best - 0.12, best + 0.01)
        axis.set_title(f"group {place}", fontsize=9)
        axis.set_xlabel("val IoU", fontsize=8)
        axis.tick_params(labelsize=7)
    axes[0].set_ylabel("off-target leakage of region effects", fontsize=8)
    figure.legend(loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    figure.colorbar(shown, ax=list(axes), label="IoU where tags say nothing", shrink=0.9)
    path.parent.mkdir(parents=True, exist_ok=True)
    FigureCanvasAgg(figure).print_png(str(path))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=("train", "report"))
    parser.add_argument("--folder", default="runs/selection", help="of the runs")
    parser.add_argument("--groups", type=int, nargs="+", default=[0, 1, 2, 3, 4, 5], help="that are trained")
    parser.add_argument("--picture", default="docs/selection/groups.png")
    arguments = parser.parse_args()
    {"train": train, "report": report}[arguments.verb](arguments)


if __name__ == "__main__":
    main()
