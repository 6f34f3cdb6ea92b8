"""Does the random control score 0 wherever the docs claim 0? Means, unclipped, with their standard errors.

    python benchmarks/random_control.py [--networks conv_plain conv_wide conv_deep] [--targets 200] [--out random.json]
    python benchmarks/random_control.py --data camvid --root data/camvid --networks unet deeplabv3plus segformer

The default networks are small and trained here on planted scenes, in seconds. Those of benchmarks/models.py are trained, or
loaded from `--weights`. A score passes with |mean| at most 0.02 and within 2.5 standard errors of 0. The image is the unit
of the error, as targets of one image share what is drawn. `--old` shows beside it what the correlations are with the
effect of area left in.
"""

import argparse
import json
from collections import defaultdict
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import torch
from models import NETWORKS, batches, datamodule, trained
from torch import Tensor, nn

from segaudit import Auditor, Intervention, TargetSelector
from segaudit.data import ShortcutScenes
from segaudit.functional import effect_calibration, faithfulness_correlation, sensitivity_n
from segaudit.metrics import TargetMean

#: Scores whose docs say that a random map has 0.
CLAIMS = (
    "faithfulness_correlation",
    "sensitivity_n",
    "effect_calibration",
    "road",
    "faithfulness_gap",
    "stability",
    "robustness_pearson",
)
SMALL = {"conv_plain": (12, 3), "conv_wide": (24, 2), "conv_deep": (12, 5)}
MOST, ERRORS = 0.02, 2.5


class WithArea(TargetMean):
    """The correlations as they were: the area is not taken off."""

    def update(self, subset_attribution: Tensor, subset_effect: Tensor, subset_size: Tensor) -> None:
        self.add(faithfulness_correlation(subset_attribution, subset_effect, subset_size))


class SensitivityWithArea(TargetMean):
    """The same."""

    def update(self, subset_attribution: Tensor, subset_effect: Tensor, subset_size: Tensor) -> None:
        self.add(sensitivity_n(subset_attribution, subset_effect, subset_size))


class CalibrationWithArea(TargetMean):
    """The same."""

    def update(self, segment_attribution: Tensor, segment_effect: Tensor) -> None:
        self.add(effect_calibration(segment_attribution, segment_effect))


def small(name: str) -> nn.Module:
    """A plain convolutional network, trained for some seconds on planted scenes."""
    width, depth = SMALL[name]
    torch.manual_seed(sorted(SMALL).index(name))
    layers: list[nn.Module] = []
    for place in range(depth):
        layers += [nn.Conv2d(3 if not place else width, width, 5, padding=2), nn.BatchNorm2d(width), nn.ReLU()]
    model = nn.Sequential(*layers, nn.Conv2d(width, 4, 1))
    module = ShortcutScenes(shortcut=1.0, batch_size=8, train_images=64, size=48)
    module.prepare_data()
    module.setup("fit")
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    loss = nn.CrossEntropyLoss(weight=torch.tensor([0.3, 1.0, 1.0, 1.0]), ignore_index=255)
    for _ in range(4):
        for batch in module.train_dataloader():
            optimizer.zero_grad()
            loss(model(batch["image"]), batch["mask"].long()).backward()
            optimizer.step()
    return model.eval()


def audit(model: nn.Module, module: Any, targets: int, old: bool) -> list[dict[str, Any]]:
    """Rows of the random control on the validation images, until there are enough targets."""
    metrics: list[Any] = [*CLAIMS]
    if old:
        metrics += [WithArea(), SensitivityWithArea(), CalibrationWithArea()]
    auditor = Auditor(["random"], metrics, TargetSelector(max_per_image=3), Intervention(steps=8))
    seen = 0
    for batch in batches(module):
        seen += len(auditor.update(model, batch["image"]).targets)
        if seen >= targets:
            break
    return auditor.records()


def judge(rows: list[dict[str, Any]], score: str) -> dict[str, Any]:
    """Mean over images of the means of their targets, its standard error, and whether both are as the docs claim."""
    of_image: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        if row[score] == row[score]:
            of_image[row["sample_id"]].append(row[score])
    values = [fmean(found) for found in of_image.values()]
    mean, error = fmean(values), stdev(values) / len(values) ** 0.5
    scored = sum(map(len, of_image.values()))
    holds = abs(mean) <= MOST and abs(mean) <= ERRORS * error
    return {"score": score, "targets": scored, "images": len(values), "mean": mean, "error": error, "holds": holds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=(*SMALL, *NETWORKS), default=list(SMALL))
    parser.add_argument("--data", choices=("planted", "camvid"), default="planted", help="of the networks of models.py")
    parser.add_argument("--root", default="data/camvid")
    parser.add_argument("--weights", default="runs/benchmarks")
    parser.add_argument("--targets", type=int, default=200)
    parser.add_argument("--old", action="store_true")
    parser.add_argument("--out", help="a JSON file")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found = []
    print(
        "| network | score | targets | images | mean | standard error | holds |\n| --- | --- | --- | --- | --- | --- | --- |"
    )
    for name in arguments.networks:
        if name in SMALL:
            module: Any = ShortcutScenes(shortcut=1.0, batch_size=8, val_images=arguments.targets, size=48)
            module.prepare_data()
            module.setup("fit")
            model = small(name)
        else:
            module = datamodule(arguments.data, arguments.root)
            model = trained(name, arguments.data, arguments.root, arguments.weights)
        rows = audit(model, module, arguments.targets, arguments.old)
        scores = [score for score in rows[0] if isinstance(rows[0][score], float) and score != "area"]
        for one in (judge(rows, score) for score in scores):
            found.append({"network": name} | one)
            holds = "yes" if one["holds"] else "no"
            figures = f"{one['targets']} | {one['images']} | {one['mean']:+.4f} | {one['error']:.4f} | {holds}"
            print(f"| {name} | `{one['score']}` | {figures} |", flush=True)
    if arguments.out:
        Path(arguments.out).write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
