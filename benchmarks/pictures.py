"""Draw docs/explainers/*.png: every explainer's map of one target in one CamVid image, without the photograph itself.

    python benchmarks/pictures.py --root <CamVid's folder> [--weights runs/benchmarks]

The networks are those of benchmarks/dea.py (trained here where they are missing). Attention rollout explains the SegFormer;
the oracle (it needs a planted cue) and the edges (which would be a drawing of the photograph) are of a planted scene.
CamVid may be used, not handed on: a picture shows the map and the target's outline alone.
"""

import argparse
from pathlib import Path

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from models import batches, datamodule, trained
from torch import Tensor, nn

from segaudit.attribution import DEA, AttentionRollout, Edges, IntegratedGradients, Oracle, attribution_context
from segaudit.attribution.base import Explainer
from segaudit.attribution.catalogue import catalogue
from segaudit.forwards import Probe
from segaudit.forwards.target import Targets, TargetSelector
from segaudit.intervention import Intervention, SuperpixelRegions

CAR = 8
INTERVENTION = Intervention(regions=SuperpixelRegions([24, 64, 140]), max_batch=32)


def widest(model: nn.Module, data: str, root: str, classes: list[int]) -> Probe:
    """A probe of the target of these classes that covers most of its image, in the validation split."""
    best: tuple[float, Tensor, Targets, Tensor | None] | None = None
    for batch in batches(datamodule(data, root)):
        with torch.no_grad():
            targets = TargetSelector(classes=classes, min_area=0.0)(model(batch["image"]))
        if len(targets) and (top := float(targets.area.max())) > (best[0] if best else 0.0):
            n = int(targets.area.argmax())
            b = int(targets.image_index[n])
            one = Targets(torch.tensor([0]), targets.class_index[n : n + 1], targets.region[n : n + 1])
            best = top, batch["image"][b : b + 1], one, batch["cue"][b : b + 1] if "cue" in batch else None
    if best is None:
        raise SystemExit(f"the network finds no object of the classes {classes} in {data}.")
    return Probe(model, best[1], best[2], INTERVENTION, cues=best[3])


def draw(values: Tensor, region: Tensor, path: Path) -> None:
    """Positive evidence red, negative blue, against the largest absolute value; the target's outline in black."""
    figure = Figure(figsize=(1.6, 1.6 * region.shape[0] / region.shape[1]), dpi=100)
    canvas = FigureCanvasAgg(figure)
    axis = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    top = float(values.abs().flatten().quantile(0.995)) or float(values.abs().max()) or 1.0
    axis.imshow(values / top, cmap="RdBu_r", vmin=-1, vmax=1, aspect="auto")
    axis.contour(region.float(), levels=[0.5], colors="black", linewidths=0.6)
    axis.set_axis_off()
    canvas.print_png(str(path))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="of explainers; all unless told")
    parser.add_argument("--root", default="data/camvid")
    parser.add_argument("--weights", default="runs/benchmarks")
    parser.add_argument("--out", default="docs/explainers")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    out = Path(arguments.out)
    out.mkdir(parents=True, exist_ok=True)

    def network(name: str, data: str) -> nn.Module:
        return trained(name, data, arguments.root, arguments.weights)

    common = widest(network("unet", "camvid"), "camvid", arguments.root, [CAR])
    planted = widest(network("unet", "planted"), "planted", arguments.root, [1, 2, 3])
    segformer = network("segformer", "camvid")
    with torch.no_grad():
        cars = TargetSelector(classes=[CAR], min_area=0.0)(segformer(common.images))
    own = {
        AttentionRollout: Probe(segformer, common.images, cars, INTERVENTION),
        Oracle: planted,
        Edges: planted,  # of a photograph they would be a drawing
    }
    for entry in catalogue():
        if arguments.names and entry.name not in arguments.names:
            continue
        probe = own.get(entry.cls, common)
        explainer: Explainer = DEA(IntegratedGradients()) if entry.cls is DEA else entry.cls()
        with attribution_context(probe.model):
            draw(explainer.explain(probe)[0], probe.targets.region[0], out / f"{entry.name}.png")
        print(entry.name, flush=True)


if __name__ == "__main__":
    main()
