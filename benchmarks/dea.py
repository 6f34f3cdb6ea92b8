"""Dual-Evidence Attribution against its sources, its parts and region effects, on networks trained here.

    python benchmarks/dea.py measure --data planted --network unet --out results/planted_unet.json
    python benchmarks/dea.py measure --data camvid --root <folder> --network segformer --out results/camvid_segformer.json
    python benchmarks/dea.py report results/*.json
    python benchmarks/dea.py figure results/*.json --out docs/dea

`measure` takes one target an image, the largest that can be scored, and writes the deletion and insertion AUC of every
map of every image; `report` prints Markdown tables of means, paired differences and their 95 % intervals by bootstrap over
images. docs/dea.md shows what came out.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from models import NETWORKS, batches, datamodule, trained
from torch import Tensor, nn

from segaudit.attribution import (
    DEA,
    AblationCAM,
    EigenCAM,
    ExpectedGradients,
    Explainer,
    GradCAMPlusPlus,
    GuidedBackprop,
    HiResCAM,
    InputXGradient,
    IntegratedGradients,
    LayerCAM,
    Random,
    Saliency,
    ScoreCAM,
    SegGradCAM,
    SegXResCAM,
    SmoothGrad,
    TargetMask,
    VarGrad,
    XGradCAM,
    attribution_context,
)
from segaudit.attribution.fusion import equal_mass, fuse
from segaudit.functional import deletion_auc, insertion_auc
from segaudit.intervention import Intervention, Probe, SuperpixelRegions
from segaudit.target import Targets, TargetSelector

SOURCES: dict[str, Explainer] = {
    "saliency": Saliency(),
    "input_x_gradient": InputXGradient(),
    "smooth_grad": SmoothGrad(draws=4),
    "var_grad": VarGrad(draws=4),
    "integrated_gradients": IntegratedGradients(steps=8),
    "expected_gradients": ExpectedGradients(draws=8),
    "guided_backprop": GuidedBackprop(),
    "seg_grad_cam": SegGradCAM(),
    "grad_cam_plus_plus": GradCAMPlusPlus(),
    "x_grad_cam": XGradCAM(),
    "hi_res_cam": HiResCAM(),
    "layer_cam": LayerCAM(),
    "eigen_cam": EigenCAM(),
    "seg_x_res_cam": SegXResCAM(),
    "score_cam": ScoreCAM(channels=8),
    "ablation_cam": AblationCAM(channels=8),
}
#: What each term of the fusion is worth is asked with these, and with a source that knows nothing.
ABLATED = {name: SOURCES[name] for name in ("saliency", "integrated_gradients", "guided_backprop", "seg_grad_cam")} | {
    "random": Random()
}
SCALES = (24, 64, 140)
#: Forwards that DEA takes beside the sweep: the source twice, a backward pass counted as two forwards.
DEARER = {"saliency": 6, "integrated_gradients": 48}


def top_scaled(values: Tensor) -> Tensor:
    positive = values.clamp_min(0)
    top = positive.flatten(1).amax(dim=1).view(-1, 1, 1)
    return positive / top.where(top > 0, 1)


def agreement(g: Tensor, i: Tensor) -> Tensor:
    return 2 * g * i / (g.square() + i.square()).clamp_min(torch.finfo(g.dtype).tiny)


#: By name: a map (N, *S) from gradient evidence, the effect maps of the scales, and the reliability (N, 1, 1).
VARIANTS: dict[str, Callable[[Tensor, list[Tensor], Tensor], Tensor]] = {
    "full": lambda g, e, s: fuse(g, torch.stack(e).mean(dim=0), s.flatten()),
    "no reliability (s = 1)": lambda g, e, s: fuse(g, torch.stack(e).mean(dim=0), torch.ones(len(g))),
    "no cross term (g + i)": lambda g, e, s: s * equal_mass(g) + equal_mass(sum(e)),  # type: ignore[arg-type]
    "cross term alone (√(g·i))": lambda g, e, s: (s * equal_mass(g) * equal_mass(sum(e))).sqrt(),  # type: ignore[arg-type]
    "cross term weighed by agreement w": lambda g, e, s: _weighed(s * equal_mass(g), equal_mass(sum(e))),  # type: ignore[arg-type]
    "scaled by the largest value": lambda g, e, s: _power_mean(s * top_scaled(g), top_scaled(sum(e))),  # type: ignore[arg-type]
    "one scale (64)": lambda g, e, s: fuse(g, e[1], s.flatten()),
    "design's s·w·√(g·i) + i/4": lambda g, e, s: _design(top_scaled(g), top_scaled(sum(e)), s),  # type: ignore[arg-type]
}


def _weighed(g: Tensor, i: Tensor) -> Tensor:
    return g + i + 2 * agreement(g, i) * (g * i).sqrt()


def _power_mean(g: Tensor, i: Tensor) -> Tensor:
    return (g.sqrt() + i.sqrt()).square()


def _design(g: Tensor, i: Tensor, s: Tensor) -> Tensor:
    return s * agreement(g, i) * (g * i).sqrt() + i / 4


def measure(arguments: argparse.Namespace) -> None:
    """Write one row an image and map."""
    model = trained(arguments.network, arguments.data, arguments.root, arguments.weights)
    rows: list[dict[str, object]] = []
    started = time.perf_counter()
    for batch in batches(datamodule(arguments.data, arguments.root)):
        probe, ids, cues = scored_targets(model, batch, arguments.data, list(SCALES))
        found = {row["image"] for row in rows}
        if len(found) >= arguments.images:
            break
        if not len(ids):
            continue
        with attribution_context(model):
            maps = all_maps(probe, len(found) < arguments.ablated)
            for name, values in maps.items():
                deletion = deletion_auc(probe.deletion_curve(values), probe.fractions)
                insertion = insertion_auc(probe.insertion_curve(values), probe.fractions)
                mass = equal_mass(values)
                share = (mass * cues).flatten(1).sum(dim=1) / mass.flatten(1).sum(dim=1)
                for image, d, i, c in zip(ids, deletion.tolist(), insertion.tolist(), share.tolist(), strict=True):
                    rows.append({"image": image, "map": name, "deletion": d, "insertion": i, "cue_mass": c})
        print(f"{len(found) + len(ids)} images, {time.perf_counter() - started:.0f} s", flush=True)
    chosen = list(dict.fromkeys(row["image"] for row in rows))[: arguments.images]
    Path(arguments.out).parent.mkdir(parents=True, exist_ok=True)
    kept = [row for row in rows if row["image"] in set(chosen)]
    Path(arguments.out).write_text(json.dumps({"data": arguments.data, "network": arguments.network, "rows": kept}))


def scored_targets(
    model: nn.Module, batch: dict[str, Tensor], data: str, scales: list[int]
) -> tuple[Probe, list[str], Tensor]:
    """A probe with the largest target of each image that can be scored, the images' names and the targets' cues."""
    selector = TargetSelector(min_area=0.02 if data == "camvid" else 0.005, classes=None if data == "camvid" else [1, 2, 3])
    images = batch["image"]
    intervention = Intervention(regions=SuperpixelRegions(scales), steps=8, max_batch=32)
    with torch.no_grad():
        every = selector(model(images))
        probe = Probe(model, images, every, intervention)
        usable = every[(probe.score >= 0.05) & (probe.filled_score <= 0.5 * probe.score)]
    # Largest first, then the first of each image.
    order = usable.area.argsort(descending=True, stable=True)
    order = order[usable.image_index[order].argsort(stable=True)]
    largest = usable[order][usable[order].position == 0]
    kept = largest.image_index
    targets = Targets(torch.arange(len(kept)), largest.class_index, largest.region)
    cues = batch["cue"][kept] == targets.class_index.view(-1, 1, 1) if "cue" in batch else torch.zeros_like(targets.region)
    return Probe(model, images[kept], targets, intervention), [batch["id"][k] for k in kept.tolist()], cues


def all_maps(probe: Probe, ablate: bool) -> dict[str, Tensor]:
    """Every map by name."""
    effects = [one for _, one in probe.scale_effects()]
    maps = {f"region_effects {'+'.join(map(str, SCALES[:k]))}": torch.stack(effects[:k]).mean(dim=0) for k in (1, 2, 3)}
    # About as many forwards as DEA on saliency takes.
    for scales in ([30], [24, 70]):
        maps[f"region_effects {'+'.join(map(str, scales))}"] = _effects(probe, scales)
    maps["target_mask"] = TargetMask().explain(probe)
    maps["random"] = Random().explain(probe)
    for name, source in SOURCES.items():
        gradient = source.explain(probe)
        reliability = DEA(source).reliability(probe, gradient)
        maps[name] = gradient
        maps[f"dea {name}"] = fuse(gradient, torch.stack(effects).mean(dim=0), reliability)
        if name in ("saliency", "integrated_gradients"):
            for k in (1, 2):
                label = "+".join(map(str, SCALES[:k]))
                maps[f"dea {name} {label}"] = fuse(gradient, torch.stack(effects[:k]).mean(dim=0), reliability)
    if ablate:
        for name, source in ABLATED.items():
            gradient = source.explain(probe)
            # A map that is drawn anew for each image: what a source that follows noise does.
            reliability = DEA(source).reliability(probe, gradient).view(-1, 1, 1)
            for variant, make in VARIANTS.items():
                maps[f"ablation {name}: {variant}"] = make(gradient, effects, reliability)
    return {name: values.detach() for name, values in maps.items()}


def _effects(probe: Probe, scales: list[int]) -> Tensor:
    intervention = Intervention(regions=SuperpixelRegions(scales), max_batch=32)
    return Probe(probe.model, probe.images, probe.targets, intervention, probe.logits).effect_map()


class Results:
    """Per-image values by map, and paired statistics of them."""

    def __init__(self, path: str) -> None:
        content = json.loads(Path(path).read_text())
        self.title = f"{content['data']}, {content['network']}"
        self.values: dict[str, dict[str, tuple[float, float, float]]] = {}
        for row in content["rows"]:
            d, i = row["deletion"], row["insertion"]
            self.values.setdefault(row["map"], {})[row["image"]] = (d, i - d, row["cue_mass"])

    def forwards(self, scales: str) -> int:
        """How many regions an image is cut into: superpixels come out at about the number that is asked for."""
        size = (128, 160) if self.title.startswith("camvid") else (64, 64)
        noise = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0))
        regions = SuperpixelRegions([int(count) for count in scales.split("+")])
        return sum(len(labels.unique()) for labels in regions(noise))

    def mean(self, name: str, what: int) -> float:
        return float(torch.tensor([v[what] for v in self.values[name].values()]).nanmean())

    def difference(self, one: str, other: str, what: int) -> tuple[float, float, float]:
        """Mean of ``one`` less ``other`` over the images that both have, and its 95 % interval."""
        pairs = [(self.values[one][k][what], v[what]) for k, v in self.values[other].items() if k in self.values[one]]
        a = torch.tensor(pairs, dtype=torch.float64)
        change = (a[:, 0] - a[:, 1])[a.isfinite().all(dim=1)]
        generator = torch.Generator().manual_seed(0)
        draws = torch.randint(len(change), (4000, len(change)), generator=generator)
        low, high = change[draws].mean(dim=1).quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
        return float(change.mean()), low, high


def _interval(value: tuple[float, float, float]) -> str:
    return f"{value[0]:+.3f} [{value[1]:+.3f}, {value[2]:+.3f}]"


def report(arguments: argparse.Namespace) -> None:
    """Print Markdown tables."""
    for path in arguments.results:
        _report(Results(path))


def _report(results: Results) -> None:
    def both(name: str) -> str:
        return f"{results.mean(name, 0):.3f} / {results.mean(name, 1):.3f}"

    mask = results.mean("target_mask", 0)
    labels = ["+".join(map(str, SCALES[:k])) for k in (1, 2, 3)]
    print(f"\n### {results.title}, {len(results.values['target_mask'])} images\n")
    print(f"Deletion AUC / gap: target mask {both('target_mask')}, random {both('random')}.\n")
    _head("source", "alone", "DEA on it", "gap better by", "deletion better by", "holds")
    for name in SOURCES:
        gap, deletion = results.difference(f"dea {name}", name, 1), results.difference(name, f"dea {name}", 0)
        holds = gap[0] > 0 and (deletion[0] > 0 or results.mean(name, 0) < mask)
        _row(name, both(name), both(f"dea {name}"), _interval(gap), _interval(deletion), "yes" if holds else "**no**")
    print()
    _head("regions", "forwards", "region effects", "DEA on saliency, 6 more", "gap better by")
    for k, label in enumerate(labels, start=1):
        effects, dea = f"region_effects {label}", "dea saliency" if k == len(SCALES) else f"dea saliency {label}"
        gap = _interval(results.difference(dea, effects, 1))
        _row(label, results.forwards(label), both(effects), both(dea), gap)
    print()
    _head("DEA", "region effects", "forwards", "gap better by")
    for source, scales, effects in [
        ("saliency", "24", "30"),
        ("saliency", "24+64", "24+70"),
        ("saliency", "24", labels[-1]),
        ("saliency", "24+64", labels[-1]),
        ("integrated_gradients", "24", labels[-1]),
    ]:
        gap = results.difference(f"dea {source} {scales}", f"region_effects {effects}", 1)
        forwards = f"{results.forwards(scales) + DEARER[source]} against {results.forwards(effects)}"
        _row(f"on {source} {scales}", effects, forwards, _interval(gap))
    print()
    _head("gap of the form", *ABLATED)
    for variant in VARIANTS:
        _row(variant, *[f"{results.mean(f'ablation {name}: {variant}', 1):.3f}" for name in ABLATED])


def figure(arguments: argparse.Namespace) -> None:
    """Draw each source's gap beside that of DEA on it, and the gap that a number of forwards buys."""
    every = [Results(path) for path in arguments.results]
    data = list(dict.fromkeys(results.title.split(", ")[0] for results in every))
    marks, colours = dict(zip(NETWORKS, "os^", strict=True)), dict(zip(NETWORKS, ("C0", "C1", "C2"), strict=True))
    labels = ["+".join(map(str, SCALES[:k])) for k in (1, 2, 3)]
    drawing = Figure(figsize=(4.4 * len(data), 7.6), dpi=110, layout="constrained")
    canvas = FigureCanvasAgg(drawing)
    for column, kind in enumerate(data):
        top, bottom = (drawing.add_subplot(2, len(data), row * len(data) + column + 1) for row in (0, 1))
        for results in (r for r in every if r.title.startswith(kind)):
            network = results.title.split(", ")[1]
            look = {"marker": marks[network], "color": colours[network]}
            alone, fused = ([results.mean(prefix + name, 1) for name in SOURCES] for prefix in ("", "dea "))
            top.scatter(alone, fused, s=22, label=network, **look)
            counts = [results.forwards(label) for label in labels]
            for source, style in (("saliency", "-"), ("integrated_gradients", ":")):
                names = [f"dea {source} {label}" for label in labels[:-1]] + [f"dea {source}"]
                bottom.plot([n + DEARER[source] for n in counts], [results.mean(name, 1) for name in names], style, **look)
            bottom.plot(counts, [results.mean(f"region_effects {label}", 1) for label in labels], "--", **look)
        low, high = min(*top.get_xlim(), *top.get_ylim()), max(*top.get_xlim(), *top.get_ylim())
        top.plot([low, high], [low, high], color="grey", linewidth=0.8)
        top.set(title=kind, xlabel="gap of the source alone", ylabel="gap of DEA on it")
        top.legend(fontsize=8)
        bottom.set(xlabel="forwards an image (a backward pass counts as two)", ylabel="gap")
        for style, label in (("--", "region effects"), ("-", "DEA on saliency"), (":", "DEA on integrated gradients")):
            bottom.plot([], [], style, color="grey", label=label)
        bottom.margins(y=0.3)
        bottom.legend(fontsize=8, ncols=3, loc="upper center", columnspacing=1)
    Path(arguments.out).mkdir(parents=True, exist_ok=True)
    canvas.print_png(str(Path(arguments.out) / "gaps.png"))


def _head(*cells: str) -> None:
    _row(*cells)
    _row(*["---"] * len(cells))


def _row(*cells: object) -> None:
    print(f"| {' | '.join(map(str, cells))} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(required=True)
    one = verbs.add_parser("measure")
    one.add_argument("--data", choices=["planted", "camvid"], required=True)
    one.add_argument("--root", default="data/camvid", help="CamVid's folder")
    one.add_argument("--network", choices=NETWORKS, required=True)
    one.add_argument("--weights", default="runs/benchmarks", help="folder of the trained weights")
    one.add_argument("--images", type=int, default=40)
    one.add_argument("--ablated", type=int, default=24, help="images for the ablation")
    one.add_argument("--threads", type=int, default=1)
    one.add_argument("--out", required=True)
    one.set_defaults(run=measure)
    other = verbs.add_parser("report")
    other.add_argument("results", nargs="+")
    other.set_defaults(run=report)
    last = verbs.add_parser("figure")
    last.add_argument("results", nargs="+")
    last.add_argument("--out", default="docs/dea")
    last.set_defaults(run=figure)
    arguments = parser.parse_args()
    torch.set_num_threads(getattr(arguments, "threads", 1))
    arguments.run(arguments)


if __name__ == "__main__":
    main()
