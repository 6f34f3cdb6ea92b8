"""How much of each target's score the fills leave when the whole image is filled: alone, in pairs, in threes.

    python benchmarks/fills.py --root data/camvid [--weights runs/benchmarks] [--images 40] [--per-image 3] [--out all.json]
    python benchmarks/fills.py --data planted
    python benchmarks/fills.py --picture docs/fills.png

Trains each network (or loads it) and prints the mean `fill_residual` and the share of targets above 0.5, which get
no deletion or insertion score; then both by class. For every fill, and for the best pairs and threes, of which each
target gets the one that leaves least, as in `Intervention(fill=[...])`. The JSON has every combination.
"""

import argparse
import json
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from models import NETWORKS, batches, datamodule, trained
from torch import Tensor

from segaudit import TargetSelector
from segaudit.forwards.probe import forward
from segaudit.forwards.target import target_confidence
from segaudit.functional.faithfulness import MAX_RESIDUAL, MIN_CONFIDENCE
from segaudit.intervention import (
    BlurFill,
    ConstantFill,
    Fill,
    LocalMeanFill,
    MeanFill,
    NoiseFill,
    NoisyLinearFill,
    RangeFill,
    ShuffleFill,
)

FILLS: dict[str, Fill] = {
    "constant 0": ConstantFill(),
    "constant -2": ConstantFill(-2.0),  # about black, and about white
    "constant 2": ConstantFill(2.0),
    "darkest": RangeFill(0.0),
    "brightest": RangeFill(1.0),
    "mean": MeanFill(),
    "local mean 0.25": LocalMeanFill(0.25),
    "local mean 0.5": LocalMeanFill(0.5),
    "blur 0.1": BlurFill(0.1),
    "blur 0.3": BlurFill(0.3),
    "shuffle": ShuffleFill(),
    "noise": NoiseFill(),
    "noisy linear": NoisyLinearFill(),
}
#: Rows of a table of combinations.
SHOWN = 12


@torch.no_grad()
def residuals(name: str, arguments: argparse.Namespace) -> tuple[Tensor, Tensor]:
    """Residual of each fill ``(F, N)`` and class ``(N,)`` of one network's targets that can be scored."""
    model = trained(name, arguments.data, arguments.root, arguments.weights)
    objects = [1, 2, 3] if arguments.data == "planted" else None
    selector = TargetSelector(max_per_image=arguments.per_image, classes=objects)
    found: list[Tensor] = []
    classes: list[Tensor] = []
    seen = 0
    for batch in batches(datamodule(arguments.data, arguments.root)):
        images = batch["image"][: arguments.images - seen]
        if not len(images):
            break
        logits = forward(model, images, 8)
        targets = selector(logits)
        score = target_confidence(logits[targets.image_index], targets)
        targets, score = targets[score >= MIN_CONFIDENCE], score[score >= MIN_CONFIDENCE]
        filled = [forward(model, fill(images), 8)[targets.image_index] for fill in FILLS.values()]
        found.append(torch.stack([target_confidence(one, targets) for one in filled]) / score)
        classes.append(targets.class_index)
        seen += len(images)
    return torch.cat(found, dim=1), torch.cat(classes)


def row(fills: Sequence[str], by_network: dict[str, tuple[Tensor, Tensor]], classes: Sequence[int]) -> dict[str, Any]:
    """Mean and share above the limit of the least residual of some fills, by network and by class."""
    places = [list(FILLS).index(name) for name in fills]
    least = {name: found[places].amin(dim=0) for name, (found, _) in by_network.items()}
    every, of_class = torch.cat(list(least.values())), torch.cat([c for _, c in by_network.values()])
    return {
        "fills": list(fills),
        "mean": float(every.mean()),
        "above": float((every > MAX_RESIDUAL).float().mean()),
        "networks": {name: [float(v.mean()), float((v > MAX_RESIDUAL).float().mean())] for name, v in least.items()},
        "classes": {
            c: [float(every[of_class == c].mean()), float((every[of_class == c] > MAX_RESIDUAL).float().mean())]
            for c in classes
        },
    }


def picture(path: str) -> None:
    """Draw a planted scene, and what each fill makes of it where all or a half of it is removed."""
    image = next(iter(batches(datamodule("planted", ""))))["image"][:1]
    half = torch.zeros(1, *image.shape[2:], dtype=torch.bool)
    half[:, 16:48, 8:56] = True
    drawing = Figure(figsize=(13, 2.5), dpi=100, layout="constrained")
    canvas = FigureCanvasAgg(drawing)
    low, high = image.amin(), image.amax()
    shown: dict[str, Fill | None] = {"image": None} | FILLS
    for place, (name, fill) in enumerate(shown.items()):
        for part, removed in enumerate((torch.ones_like(half), half)):
            axes = drawing.add_subplot(2, len(shown), part * len(shown) + place + 1)
            values = image if fill is None else fill.remove(image, removed, fill(image))
            axes.imshow(((values[0] - low) / (high - low)).clamp(0, 1).permute(1, 2, 0).numpy())
            axes.set_axis_off()
            if not part:
                axes.set_title(name.replace(" ", "\n", 1), fontsize=8)
    canvas.print_png(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=("camvid", "planted"), default="camvid")
    parser.add_argument("--root", default="data/camvid")
    parser.add_argument("--weights", default="runs/benchmarks")
    parser.add_argument("--images", type=int, default=40)
    parser.add_argument("--per-image", type=int, default=3, help="targets an image gives at most; an audit's default is 3")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--out", help="a JSON file with every combination")
    parser.add_argument("--picture", help="draw what the fills look like into this file, and measure nothing")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.picture:
        picture(arguments.picture)
        return
    by_network = {}
    for name in arguments.networks:
        by_network[name] = residuals(name, arguments)
        print(f"{name}: {len(by_network[name][1])} targets", flush=True)
    of_class = torch.cat([c for _, c in by_network.values()])
    classes = of_class.unique().tolist()
    rows = {size: [row(c, by_network, classes) for c in combinations(FILLS, size)] for size in (1, 2, 3)}
    for found in rows.values():
        found.sort(key=lambda one: (one["above"], one["mean"]))
    best = [*rows[1], *rows[2][:SHOWN], *rows[3][:SHOWN]]
    networks = arguments.networks
    print("\nMean residual / share of targets above 0.5\n")
    print(f"| fill | all | {' | '.join(networks)} |\n|{' --- |' * (len(networks) + 2)}")
    for one in best:
        cells = [(one["mean"], one["above"]), *[one["networks"][n] for n in networks]]
        print(f"| {' + '.join(one['fills'])} | {' | '.join(f'{m:.2f} / {a:.0%}' for m, a in cells)} |")
    print("\nThe same by class\n")
    counts = {c: int((of_class == c).sum()) for c in classes}
    names = datamodule(arguments.data, arguments.root).class_names
    print(f"| fill | {' | '.join(f'{names[c]} ({n})' for c, n in counts.items())} |\n|{' --- |' * (len(classes) + 1)}")
    for one in best:
        print(f"| {' + '.join(one['fills'])} | {' | '.join(f'{m:.2f} / {a:.0%}' for m, a in one['classes'].values())} |")
    if arguments.out:
        targets = {name: len(c) for name, (_, c) in by_network.items()}
        text = json.dumps({"targets": targets, "classes": counts, "rows": [one for found in rows.values() for one in found]})
        Path(arguments.out).write_text(text)


if __name__ == "__main__":
    main()
