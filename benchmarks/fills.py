"""Measures how much of each target's score the fills leave when the whole image is filled: alone, in pairs, in threes.

    python benchmarks/fills.py --root data/camvid [--weights runs/benchmarks] [--images 40] [--per-image 3] [--out all.json]
    python benchmarks/fills.py --data planted
    python benchmarks/fills.py --picture docs/fills.png

Trains each network (or loads it) and prints the mean `fill_residual` and the share of targets above 0.5, which get
no deletion or insertion score; then both by class. For every fill, and for the best pairs and threes, of which each
target gets the one that differs most from its region, as in `Intervention(fill=[...])`. Beside it stands what a choice
by the model's confidence would leave, which was the rule before. The JSON has every combination.
"""

import argparse
import json
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from models import NETWORKS, batches, datamodule, trained
from torch import Tensor

from segaudit import TargetSelector
from segaudit.forwards.batching import Batching
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
from segaudit.intervention.choice import fill_distances, ranked

FILLS: dict[str, Fill] = {
    "constant 0": ConstantFill(),
    "constant -2": ConstantFill(-2.0),  # about black, and about white
    "constant 2": ConstantFill(2.0),
    "darkest": RangeFill(0.0),
    "brightest": RangeFill(1.0),
    "brighter": RangeFill(1.5),  # by half of the image's range
    "mean": MeanFill(),
    "local mean 0.25": LocalMeanFill(0.25),
    "local mean 0.5": LocalMeanFill(0.5),
    "blur 0.1": BlurFill(0.1),
    "blur 0.3": BlurFill(0.3),
    "shuffle": ShuffleFill(),
    "noise": NoiseFill(),
    "noisy linear": NoisyLinearFill(),
}
#: The fills of an audit by default.
DEFAULT = ["darkest", "brighter"]
#: What it was when the model's confidence chose.
EARLIER = ["darkest", "brightest"]
#: Rows of a table of combinations.
SHOWN = 12


class Measured(NamedTuple):
    """Holds what F fills do to one network's N targets.

    Attributes:
        residual: share of S(x) that each fill leaves, ``(F, N)``.
        classes: class of each target, ``(N,)``.
        distance: by which an audit chooses, ``(F, N)``; see :func:`segaudit.intervention.choice.fill_distances`.

    """

    residual: Tensor
    classes: Tensor
    distance: Tensor

    def chosen(self, places: Sequence[int]) -> Tensor:
        """Residual ``(N,)`` of the fill that an audit takes of some."""
        return self.residual[list(places)].gather(0, ranked(self.distance[list(places)])[:1])[0]

    def least(self, places: Sequence[int]) -> Tensor:
        """Residual ``(N,)`` of the fill that leaves the least of the model's confidence."""
        return self.residual[list(places)].amin(dim=0)


@torch.no_grad()
def measure(name: str, arguments: argparse.Namespace) -> Measured:
    """Measure the fills on one network's targets that can be scored."""
    model = trained(name, arguments.data, arguments.root, arguments.weights)
    objects = [1, 2, 3] if arguments.data == "planted" else None
    selector = TargetSelector(max_per_image=arguments.per_image, classes=objects)
    found: list[Measured] = []
    seen, batching = 0, Batching(8)
    for batch in batches(datamodule(arguments.data, arguments.root)):
        images = batch["image"][: arguments.images - seen]
        if not len(images):
            break
        logits = forward(model, images, batching)
        targets = selector(logits)
        score = target_confidence(logits[targets.image_index], targets)
        targets, score = targets[score >= MIN_CONFIDENCE], score[score >= MIN_CONFIDENCE]
        which, filled = targets.image_index, [fill(images) for fill in FILLS.values()]
        left = [target_confidence(forward(model, one, batching)[which], targets) for one in filled]
        distance = fill_distances(images, filled, which, targets.region)
        found.append(Measured(torch.stack(left) / score, targets.class_index, distance))
        seen += len(images)
    return Measured(*(torch.cat(parts, dim=0 if parts[0].ndim == 1 else 1) for parts in zip(*found, strict=True)))


def row(fills: Sequence[str], by_network: dict[str, Measured], classes: Sequence[int]) -> dict[str, Any]:
    """Mean and share above the limit of the residual of some fills, by network and by class, and by the earlier rule."""
    places = [list(FILLS).index(name) for name in fills]
    of_class = torch.cat([found.classes for found in by_network.values()])
    rules = {
        "": {name: found.chosen(places) for name, found in by_network.items()},
        "least_": {name: found.least(places) for name, found in by_network.items()},
    }
    found: dict[str, Any] = {"fills": list(fills)}
    for rule, values in rules.items():
        every = torch.cat(list(values.values()))
        found |= {
            f"{rule}mean": float(every.mean()),
            f"{rule}above": float((every > MAX_RESIDUAL).float().mean()),
            f"{rule}networks": {name: _mean_and_above(v) for name, v in values.items()},
            f"{rule}classes": {c: _mean_and_above(every[of_class == c]) for c in classes},
            f"{rule}lost": {
                name: {c: int((v[by_network[name].classes == c] > MAX_RESIDUAL).sum()) for c in classes}
                for name, v in values.items()
            },
        }
    return found


def _mean_and_above(values: Tensor) -> list[float]:
    return [float(values.mean()), float((values > MAX_RESIDUAL).float().mean())]


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
    parser.add_argument(
        "--fills", nargs="+", choices=FILLS, default=list(FILLS), help="measure these and their combinations"
    )
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--out", help="a JSON file with every combination")
    parser.add_argument("--picture", help="draw what the fills look like into this file, and measure nothing")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.picture:
        picture(arguments.picture)
        return
    for name in FILLS.keys() - {*arguments.fills, *DEFAULT, *EARLIER}:
        del FILLS[name]
    by_network = {}
    for name in arguments.networks:
        by_network[name] = measure(name, arguments)
        print(f"{name}: {len(by_network[name].classes)} targets", flush=True)
    of_class = torch.cat([found.classes for found in by_network.values()])
    classes = of_class.unique().tolist()
    rows = {size: [row(c, by_network, classes) for c in combinations(FILLS, size)] for size in (1, 2, 3)}
    for found in rows.values():
        found.sort(key=lambda one: (one["above"], one["mean"]))
    best = [*rows[1], *rows[2][:SHOWN], *rows[3][:SHOWN]]
    default, earlier = (next(one for one in rows[2] if one["fills"] == pair) for pair in (DEFAULT, EARLIER))
    best += [one for one in (default, earlier) if one not in best]
    networks = arguments.networks
    print("\nMean residual / share of targets above 0.5; last, the same if the model's confidence chose among the fills\n")
    print(f"| fill | all | {' | '.join(networks)} | all, by the model |\n|{' --- |' * (len(networks) + 3)}")
    for one in best:
        cells = [
            (one["mean"], one["above"]),
            *[one["networks"][n] for n in networks],
            (one["least_mean"], one["least_above"]),
        ]
        print(f"| {' + '.join(one['fills'])} | {' | '.join(f'{m:.2f} / {a:.0%}' for m, a in cells)} |")
    print("\nThe same by class\n")
    counts = {c: int((of_class == c).sum()) for c in classes}
    names = datamodule(arguments.data, arguments.root).class_names
    print(f"| fill | {' | '.join(f'{names[c]} ({n})' for c, n in counts.items())} |\n|{' --- |' * (len(classes) + 1)}")
    for one in best:
        print(f"| {' + '.join(one['fills'])} | {' | '.join(f'{m:.2f} / {a:.0%}' for m, a in one['classes'].values())} |")
    print(f"\nTargets above 0.5 of all: {' + '.join(DEFAULT)}, chosen from the image, and")
    print(f"in brackets {' + '.join(EARLIER)}, chosen from the image and by the model's confidence\n")
    print(f"| network | {' | '.join(names[c] for c in classes)} |\n|{' --- |' * (len(classes) + 1)}")
    for name, of_network in by_network.items():
        cells = []
        for c in classes:
            lost = [one["lost"][name][c] for one in (default, earlier)]
            count = int((of_network.classes == c).sum())
            cells.append(f"{lost[0]} ({lost[1]}, {earlier['least_lost'][name][c]}) of {count}")
        print(f"| {name} | {' | '.join(cells)} |")
    if arguments.out:
        targets = {name: len(found.classes) for name, found in by_network.items()}
        text = json.dumps({"targets": targets, "classes": counts, "rows": [one for found in rows.values() for one in found]})
        Path(arguments.out).write_text(text)


if __name__ == "__main__":
    main()
