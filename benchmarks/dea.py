"""Dual-Evidence Attribution against its sources, its parts and region effects, on networks trained here.

    python benchmarks/dea.py measure --data planted --network unet --out results/planted_unet.json
    python benchmarks/dea.py measure --data camvid --root <folder> --network segformer --out results/camvid_segformer.json
    python benchmarks/dea.py report results/*.json
    python benchmarks/dea.py figure results/*.json --out docs/dea

`measure` takes one target an image, the largest that can be scored, and writes the deletion and insertion AUC of every
map of every image, some of them under a second fill; `report` prints Markdown tables of means, paired differences and their
95 % intervals by bootstrap over images. docs/dea.md shows what came out.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
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
from segaudit.attribution.fusion import equal_mass, fuse, short_gap
from segaudit.forwards import Probe
from segaudit.forwards.target import Targets, TargetSelector
from segaudit.functional import deletion_auc, insertion_auc
from segaudit.intervention import Fill, Intervention, NoiseFill, SuperpixelRegions
from segaudit.statistics import interval

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
ABLATED = {name: SOURCES[name] for name in ("saliency", "integrated_gradients", "seg_grad_cam")} | {"random": Random()}
#: Sources whose maps are judged under another fill than the one that DEA has seen as well.
OTHER_FILL = ("saliency", "input_x_gradient", "integrated_gradients", "seg_grad_cam")
SCALES = (24, 64, 140)
#: DEA on these scales beside region effects on those: the latter take more forwards.
PAIRS = (((24,), (24, 64)), ((24, 64), (24, 140)), ((24, 64, 140), (24, 64, 200)))
#: Forwards of a source, a backward pass counted as two.
COST = {"saliency": 3, "integrated_gradients": 24}

Form = Callable[[Tensor, Tensor, Tensor], Tensor]


def positive(gradient: Tensor, effects: Tensor, weight: Tensor) -> Tensor:
    return fuse(gradient.clamp_min(0), effects.clamp_min(0), weight)


def plain_sum(gradient: Tensor, effects: Tensor, weight: Tensor) -> Tensor:
    weight = weight.view(-1, 1, 1)
    return weight * equal_mass(gradient) + (1 - weight) * equal_mass(effects)


def geometric(gradient: Tensor, effects: Tensor, _: Tensor) -> Tensor:
    return (gradient.clamp_min(0) * effects.clamp_min(0)).sqrt()


def design(gradient: Tensor, effects: Tensor, _: Tensor) -> Tensor:
    """w·√(g·i) + i/4 with w = 2·g·i / (g² + i²), both scaled by their largest value."""
    g, i = (v.clamp_min(0) / v.flatten(1).amax(dim=1).clamp_min(1e-12).view(-1, 1, 1) for v in (gradient, effects))
    agreement = 2 * g * i / (g.square() + i.square()).clamp_min(torch.finfo(g.dtype).tiny)
    return agreement * (g * i).sqrt() + i / 4


#: By name: the form of the fusion, which scales it sees, and the weight where it is not measured.
VARIANTS: dict[str, tuple[Form, slice, float | None]] = {
    "full": (fuse, slice(3), None),
    "λ = 1/2, not measured": (fuse, slice(3), 0.5),
    "no agreement (weighted sum)": (plain_sum, slice(3), None),
    "agreement alone (√(g·i))": (geometric, slice(3), 0.5),
    "no signs (positive parts)": (positive, slice(3), None),
    "one scale (64)": (fuse, slice(1, 2), None),
    "design's w·√(g·i) + i/4": (design, slice(3), 0.5),
}


def measure(arguments: argparse.Namespace) -> None:
    """Write one row an image, map and fill."""
    model = trained(arguments.network, arguments.data, arguments.root, arguments.weights)
    rows: list[dict[str, object]] = []
    started, found = time.perf_counter(), 0
    Path(arguments.out).parent.mkdir(parents=True, exist_ok=True)
    for batch in batches(datamodule(arguments.data, arguments.root)):
        if found >= arguments.images:
            break
        probe, ids, cues = scored_targets(model, batch, arguments.data)
        if not len(ids):
            continue
        ids, keep = ids[: arguments.images - found], slice(arguments.images - found)
        probe, cues = probe_of(model, probe.images[keep], probe.targets[keep]), cues[keep]
        other = probe_of(model, probe.images, probe.targets, fill=NoiseFill())
        with attribution_context(model):
            for name, (values, forwards, weight) in all_maps(probe, found < arguments.ablated).items():
                mass = values.clamp_min(0)
                share = (mass * cues).flatten(1).sum(dim=1) / mass.flatten(1).sum(dim=1)
                columns = {"weight": weight, "cue_mass": share, "forwards": forwards, **areas(probe, values)}
                if judged_twice(name):
                    columns |= {f"{key}_noise": value for key, value in areas(other, values).items()}
                for k, image in enumerate(ids):
                    rows.append({"image": image, "map": name} | {key: float(v[k]) for key, v in columns.items()})
        found += len(ids)
        print(f"{found} images, {time.perf_counter() - started:.0f} s", flush=True)
        # After each batch, so that a run that is stopped leaves what it measured.
        content = {"data": arguments.data, "network": arguments.network, "rows": rows}
        Path(arguments.out).write_text(json.dumps(content))


def judged_twice(name: str) -> bool:
    return name == f"region_effects {SCALES}" or name.removeprefix("dea ") in OTHER_FILL


def areas(probe: Probe, values: Tensor) -> dict[str, Tensor]:
    deletion, insertion = probe.deletion_curve(values), probe.insertion_curve(values)
    return {
        "deletion": deletion_auc(deletion.values, deletion.fractions),
        "insertion": insertion_auc(insertion.values, insertion.fractions),
    }


def probe_of(
    model: nn.Module, images: Tensor, targets: Targets, scales: Sequence[int] = SCALES, fill: Fill | None = None
) -> Probe:
    return Probe(model, images, targets, Intervention(fill, SuperpixelRegions(list(scales)), steps=8, max_batch=32))


def scored_targets(model: nn.Module, batch: dict[str, Tensor], data: str) -> tuple[Probe, list[str], Tensor]:
    """A probe with the largest target of each image that can be scored, the images' names and the targets' cues."""
    selector = TargetSelector(min_area=0.02 if data == "camvid" else 0.005, classes=None if data == "camvid" else [1, 2, 3])
    images = batch["image"]
    with torch.no_grad():
        every = selector(model(images))
        probe = probe_of(model, images, every)
        usable = every[(probe.confidence >= 0.05) & (probe.filled_confidence <= 0.5 * probe.confidence)]
    # Largest first, then the first of each image.
    order = usable.area.argsort(descending=True, stable=True)
    order = order[usable.image_index[order].argsort(stable=True)]
    largest = usable[order][usable[order].position == 0]
    kept = largest.image_index
    targets = Targets(torch.arange(len(kept)), largest.class_index, largest.region)
    cues = batch["cue"][kept] == targets.class_index.view(-1, 1, 1) if "cue" in batch else torch.zeros_like(targets.region)
    return probe_of(model, images[kept], targets), [batch["id"][k] for k in kept.tolist()], cues


def all_maps(probe: Probe, ablate: bool) -> dict[str, tuple[Tensor, Tensor, Tensor]]:
    """Every map by name, with the forwards and the weight of each target, (N,), NaN where there are none to tell."""
    unknown = torch.full((len(probe.targets),), torch.nan)
    by_scale: dict[int, tuple[Tensor, Tensor]] = {}
    for scale in sorted({scale for pair in PAIRS for scales in pair for scale in scales}):
        one = probe_of(probe.model, probe.images, probe.targets, [scale])
        ((labels, effects),) = one.partition_effects()
        by_scale[scale] = effects, torch.tensor([float(len(row.unique())) for row in labels])

    def swept(scales: Sequence[int]) -> tuple[Tensor, Tensor]:
        effects, forwards = zip(*(by_scale[scale] for scale in scales), strict=True)
        return torch.stack(effects).mean(dim=0), torch.stack(forwards).sum(dim=0)

    maps = {
        "target_mask": (TargetMask().explain(probe), unknown, unknown),
        "random": (Random().explain(probe), unknown, unknown),
    }
    for scales in dict.fromkeys([(24,), *(scales for pair in PAIRS for scales in pair)]):
        maps[f"region_effects {scales}"] = (*swept(scales), unknown)
    for name, source in SOURCES.items():
        gradient = source.explain(probe)
        maps[name] = gradient, unknown, unknown
        for scales in [pair[0] for pair in PAIRS] if name in COST else [SCALES]:
            effects, forwards = swept(scales)
            weight = DEA().weight(probe, gradient, effects)
            label = f"dea {name}" if scales == SCALES else f"dea {name} {scales}"
            maps[label] = (
                fuse(gradient, effects, weight),
                forwards + COST.get(name, torch.nan) + 6 * len(DEA().weights),
                weight,
            )
    if ablate:
        for name, source in ABLATED.items():
            gradient = source.explain(probe)
            for variant, (form, chosen, fixed) in VARIANTS.items():
                effects = torch.stack([by_scale[scale][0] for scale in SCALES[chosen]]).mean(dim=0)
                weight = torch.full_like(unknown, fixed or 0) if fixed else measured(probe, form, gradient, effects)
                maps[f"ablation {name}: {variant}"] = form(gradient, effects, weight), unknown, weight
    return {name: (values.detach(), forwards, weight) for name, (values, forwards, weight) in maps.items()}


def measured(probe: Probe, form: Form, gradient: Tensor, effects: Tensor) -> Tensor:
    """The weight that DEA would choose, for any form."""
    candidates = torch.tensor(DEA().weights)
    gaps = [short_gap(probe, form(gradient, effects, weight.expand(len(gradient)))) for weight in candidates]
    return candidates[torch.stack(gaps).argmax(dim=0)]


class Results:
    """Per-image values by map, and paired statistics of them."""

    def __init__(self, path: str) -> None:
        content = json.loads(Path(path).read_text())
        self.title = f"{content['data']}, {content['network']}"
        self.values: dict[str, dict[str, dict[str, float]]] = {}
        for row in content["rows"]:
            for end in ("", "_noise"):
                if f"deletion{end}" in row:
                    row[f"gap{end}"] = row[f"insertion{end}"] - row[f"deletion{end}"]
            self.values.setdefault(row["map"], {})[row["image"]] = row

    def mean(self, name: str, what: str) -> float:
        return float(torch.tensor([row[what] for row in self.values[name].values()], dtype=torch.float64).nanmean())

    def difference(self, one: str, other: str, what: str) -> tuple[float, float, float]:
        """Mean of ``one`` less ``other`` over the images that both have, and its 95 % interval."""
        change = {k: self.values[one][k][what] - v[what] for k, v in self.values[other].items() if k in self.values[one]}
        return interval(list(change.values()), list(change))[:3]


def _interval(value: tuple[float, float, float]) -> str:
    digits = 3 if abs(value[0]) >= 0.002 else 4
    return f"{value[0]:+.{digits}f} [{value[1]:+.{digits}f}, {value[2]:+.{digits}f}]"


def report(arguments: argparse.Namespace) -> None:
    """Print Markdown tables."""
    for path in arguments.results:
        _report(Results(path))


def _report(results: Results) -> None:
    def both(name: str, end: str = "") -> str:
        return f"{results.mean(name, f'deletion{end}'):.3f} / {results.mean(name, f'gap{end}'):.3f}"

    mask, effects = results.mean("target_mask", "deletion"), f"region_effects {SCALES}"
    print(f"\n### {results.title}, {len(results.values['target_mask'])} images\n")
    print(
        f"Deletion AUC / gap: target mask {both('target_mask')}, random {both('random')}, region effects {both(effects)}.\n"
    )
    _head(
        "source", "alone", "DEA on it", "mean λ", "gap better by", "deletion better by", "holds", "gap over region effects"
    )
    for name in SOURCES:
        dea = f"dea {name}"
        gap, deletion = results.difference(dea, name, "gap"), results.difference(name, dea, "deletion")
        holds = gap[0] > 0 and (deletion[0] > 0 or results.mean(name, "deletion") < mask)
        over = _interval(results.difference(dea, effects, "gap"))
        weight = f"{results.mean(dea, 'weight'):.2f}"
        _row(name, both(name), both(dea), weight, _interval(gap), _interval(deletion), "yes" if holds else "**no**", over)
    print()
    _head("DEA", "forwards", "deletion / gap", "region effects", "forwards", "deletion / gap", "gap better by")
    for source in COST:
        for fused, alone in PAIRS:
            dea = f"dea {source}" if fused == SCALES else f"dea {source} {fused}"
            other = f"region_effects {alone}"
            cost = [f"{results.mean(name, 'forwards'):.0f}" for name in (dea, other)]
            gap = _interval(results.difference(dea, other, "gap"))
            _row(f"on {source}, {_plus(fused)}", cost[0], both(dea), _plus(alone), cost[1], both(other), gap)
    print()
    scored = sum(row["gap_noise"] == row["gap_noise"] for row in results.values[effects].values())
    if scored:
        print(f"Judged under noise as the fill, which DEA has not seen ({scored} images can be scored):\n")
        _head("source", "alone", "DEA on it", "gap better by", "gap over region effects")
        for name in OTHER_FILL:
            gaps = [_interval(results.difference(f"dea {name}", other, "gap_noise")) for other in (name, effects)]
            _row(name, both(name, "_noise"), both(f"dea {name}", "_noise"), *gaps)
    else:
        print("Noise as the fill, which DEA has not seen, leaves too much of all targets: none can be scored.")
    print()
    _head("gap of the form", *ABLATED)
    for variant in VARIANTS:
        _row(variant, *[f"{results.mean(f'ablation {name}: {variant}', 'gap'):.3f}" for name in ABLATED])


def _plus(scales: Sequence[int]) -> str:
    return "+".join(map(str, scales))


def figure(arguments: argparse.Namespace) -> None:
    """Draw each source's gap beside that of DEA on it, and the gap that a number of forwards buys."""
    every = [Results(path) for path in arguments.results]
    data = list(dict.fromkeys(results.title.split(", ")[0] for results in every))
    marks, colours = dict(zip(NETWORKS, "os^", strict=True)), dict(zip(NETWORKS, ("C0", "C1", "C2"), strict=True))
    drawing = Figure(figsize=(4.4 * len(data), 7.6), dpi=110, layout="constrained")
    canvas = FigureCanvasAgg(drawing)
    for column, kind in enumerate(data):
        top, bottom = (drawing.add_subplot(2, len(data), row * len(data) + column + 1) for row in (0, 1))
        for results in (r for r in every if r.title.startswith(kind)):
            network = results.title.split(", ")[1]
            look = {"marker": marks[network], "color": colours[network]}
            alone, fused = ([results.mean(prefix + name, "gap") for name in SOURCES] for prefix in ("", "dea "))
            top.scatter(alone, fused, s=22, label=network, **look)
            top.axhline(
                results.mean(f"region_effects {SCALES}", "gap"), color=colours[network], linewidth=0.8, linestyle="--"
            )
            lines = {"-": "dea saliency", ":": "dea integrated_gradients", "--": "region_effects"}
            for style, start in lines.items():
                names = [f"{start} {SCALES[:k]}" for k in (1, 2, 3)]
                names = [name if name in results.values else start for name in names]
                forwards, gaps = ([results.mean(name, what) for name in names] for what in ("forwards", "gap"))
                bottom.plot(forwards, gaps, style, **look)
        low, high = min(*top.get_xlim(), *top.get_ylim()), max(*top.get_xlim(), *top.get_ylim())
        top.plot([low, high], [low, high], color="grey", linewidth=0.8)
        top.set(title=kind, xlabel="gap of the source alone", ylabel="gap of DEA on it")
        top.plot([], [], "--", color="grey", linewidth=0.8, label="region effects")
        top.legend(fontsize=8)
        bottom.set(xlabel="forwards an image (a backward pass counts as two)", ylabel="gap")
        for style, label in (("--", "region effects"), ("-", "DEA on saliency"), (":", "DEA on integrated gradients")):
            bottom.plot([], [], style, color="grey", label=label)
    drawing.legend(*bottom.get_legend_handles_labels(), fontsize=8, ncols=3, loc="outside lower center")
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
    one.add_argument("--ablated", type=int, default=8, help="images for the ablation")
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
