"""Does a score see the truth? Models that lean on a planted cue more or less at equal IoU, and what all scores say of them.

    python benchmarks/validity.py train
    python benchmarks/validity.py audit
    python benchmarks/validity.py report > tables.md

`train` trains a small U-Net on scenes by their shapes, then copies of it on scenes of which half have a tag that
contradicts the shape: in a share of these the label follows the tag. What a model learns there is how far to believe a tag;
where tag and shape agree, as in all scenes that the models are judged on, it makes no difference. `audit` scores each of
them with all scores, and with those that fill pixels under other fills too. `report` prints Markdown tables and draws
docs/validity/scores.png. docs/validity.md shows what came out.
"""

import argparse
import json
import statistics
import time
from collections.abc import Iterator
from copy import deepcopy
from itertools import islice
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import segmentation_models_pytorch as smp
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from models import network
from torch import Tensor, nn

from segaudit import Auditor, Intervention
from segaudit.attribution import DEA, Explainer, IntegratedGradients, Random, RegionEffects, Saliency, SegGradCAM, TargetMask
from segaudit.data import ShortcutScenes
from segaudit.forwards.target import TargetSelector
from segaudit.intervention import ConstantFill, Fill, MeanFill, NoiseFill, SuperpixelRegions
from segaudit.metrics.catalogue import catalogue
from segaudit.statistics import Association, auroc, spearman
from segaudit.validity import explainer_agreement, reliance, score_agreement, validity

#: How many training scenes there are.
SCENES = 512
#: Of training by shape, 64 batches each.
EPOCHS = 14
#: How often the label follows the tag where it contradicts the shape, and for how many batches that is trained. What tags
#: tell lifts the mean IoU, so some that do not follow them are trained for longer, and a cheat for less.
MODELS = [
    *((share, 448) for share in (0.0, 0.08, 0.24, 0.4, 0.55, 0.7, 0.85, 1.0)),
    *((share, 672) for share in (0.0, 0.08, 0.24)),
    (0.85, 256),
]
#: A model whose score falls by more than this share when a tag changes its colour is a cheat.
CHEAT = 0.3
#: The scenes that all models are judged on; no model has seen them.
HELD_OUT = 1000
EXPLAINERS: dict[str, Explainer] = {
    "saliency": Saliency(),
    "integrated_gradients": IntegratedGradients(steps=8),
    "seg_grad_cam": SegGradCAM(),
    "region_effects": RegionEffects(),
    "dea": DEA(),
    "random": Random(),
    "target_mask": TargetMask(),
}
CONTROLS = ("random", "target_mask")
#: "usual" removes these scenes whole (docs/fills.md); the others see only the scores that fill pixels.
FILLS: dict[str, Fill | None] = {"usual": ConstantFill(), "range": None, "mean": MeanFill(), "noise": NoiseFill()}
FILLED = ("faithfulness", "leakage", "subset", "calibration", "cue")
SELECTOR = TargetSelector(min_area=0.005, max_per_image=1, classes=[1, 2, 3])


def scenes(shift: int = 0, count: int = 128, shortcut: float = 1.0) -> dict[str, Tensor]:
    """Held-out scenes, their tags moved on by ``shift`` classes."""
    module = ShortcutScenes(shortcut=shortcut, seed=HELD_OUT, val_images=count)
    drawn, pipeline = module.dataset("val"), module.pipeline("val")
    items = [
        pipeline(one.image, str(k), mask=one.mask, cue=one.cue)
        for k, one in enumerate(drawn.scene(k, shift) for k in range(count))
    ]
    return {name: torch.stack([item[name] for item in items]) for name in ("image", "mask", "cue")}


def train(arguments: argparse.Namespace) -> None:
    """Write of each model the weights, the mean IoU and how far it relies on tags."""
    held_out, changed = scenes(), [scenes(shift) for shift in (1, 2)]
    folder = Path(arguments.folder)
    folder.mkdir(parents=True, exist_ok=True)
    for seed in arguments.seeds:
        images, masks, cues = (
            torch.cat(of) for of in zip(*(_training(1.0, seed, shift) for shift in range(3)), strict=True)
        )
        follows = torch.where(masks > 0, cues.flatten(1).amax(dim=1)[:, None, None], masks)  # labelled by the tag
        lightning.seed_everything(seed, verbose=False)
        base = network("unet", "planted")
        _fit(base, *_training(0.0, seed)[:2], _all(seed), smp.losses.DiceLoss("multiclass"), EPOCHS * 64, seed)
        print(f"seed {seed}: {_told(base, held_out, changed)} before any tag is followed", flush=True)
        for share, steps in MODELS:
            path, started, model = folder / f"{_named(share, steps, seed)}.pt", time.perf_counter(), deepcopy(base)
            if path.exists():
                continue
            generator = torch.Generator().manual_seed(seed)
            chosen = torch.rand(len(masks), generator=generator)[:, None, None] < share
            _fit(model, images, torch.where(chosen, follows, masks), _mixed(seed), nn.CrossEntropyLoss(), steps, seed)
            iou, rely = mean_iou(model, held_out), mean_reliance(model, held_out, changed)
            torch.save({"iou": iou, "reliance": rely, "weights": model.state_dict()}, path)
            print(f"{path.stem}: {time.perf_counter() - started:.0f} s, IoU {iou:.3f}, reliance {rely:.3f}", flush=True)


def _training(shortcut: float, seed: int, shift: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """The training scenes, their tags moved on by ``shift`` classes: images, masks and cues."""
    module = ShortcutScenes(shortcut=shortcut, seed=seed)
    drawn, pipeline = module.dataset("train"), module.pipeline("val")
    items = [
        pipeline(one.image, str(k), mask=one.mask, cue=one.cue)
        for k, one in enumerate(drawn.scene(k, shift) for k in range(SCENES))
    ]
    return tuple(torch.stack([item[name] for item in items]) for name in ("image", "mask", "cue"))  # type: ignore[return-value]


def _all(seed: int) -> Iterator[Tensor]:
    """Batches of 8, every scene once an epoch."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        yield from torch.randperm(SCENES, generator=generator).split(8)


def _mixed(seed: int) -> Iterator[Tensor]:
    """Batches of 4 scenes whose tags tell the truth and 4 whose tags lie."""
    for rows in _all(seed):
        yield rows + torch.tensor([0, 0, 0, 0, SCENES, SCENES, 2 * SCENES, 2 * SCENES])


def _fit(
    model: nn.Module, images: Tensor, masks: Tensor, batches: Iterator[Tensor], loss: nn.Module, steps: int, seed: int
) -> None:
    """Train, and leave the model ready to be used."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=steps)
    generator = torch.Generator().manual_seed(seed)
    model.train()
    for rows in islice(batches, steps):
        turned = [_turned(images[row], masks[row], generator) for row in rows]
        x, y = (torch.stack(of) for of in zip(*turned, strict=True))
        optimizer.zero_grad()
        loss(model(x), y).backward()
        optimizer.step()
        scheduler.step()
    model.eval()


def _named(share: float, steps: int, seed: int) -> str:
    return f"f{share}_n{steps}_seed{seed}"


def _told(model: nn.Module, held_out: dict[str, Tensor], changed: list[dict[str, Tensor]]) -> str:
    return f"IoU {mean_iou(model, held_out):.3f}, reliance {mean_reliance(model, held_out, changed):.3f}"


def _turned(image: Tensor, mask: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """One of the eight ways to turn and mirror a square."""
    turns, mirrored = (int(torch.randint(k, (1,), generator=generator)) for k in (4, 2))
    image, mask = image.rot90(turns, (1, 2)), mask.rot90(turns, (0, 1))
    return (image.flip(2), mask.flip(1)) if mirrored else (image, mask)


@torch.no_grad()
def mean_iou(model: nn.Module, held_out: dict[str, Tensor]) -> float:
    found = torch.cat([model(x).argmax(dim=1) for x in held_out["image"].split(32)])
    pairs = torch.bincount((held_out["mask"] * 4 + found).flatten(), minlength=16).view(4, 4).double()
    hit = pairs.diag()
    return float((hit / (pairs.sum(dim=0) + pairs.sum(dim=1) - hit)).mean())


def mean_reliance(model: nn.Module, held_out: dict[str, Tensor], changed: list[dict[str, Tensor]]) -> float:
    falls = [reliance(model, held_out["image"], other["image"], SELECTOR) for other in changed]
    return float(torch.cat(falls).nanmean())


def audit(arguments: argparse.Namespace) -> None:
    """Write one file a model and fill: its IoU, how far it relies on tags, and the records."""
    folder, held_out = Path(arguments.folder), scenes()
    told = {name: of[: arguments.images] for name, of in held_out.items()}
    paths = [folder / f"{_named(*model, seed)}.pt" for model in MODELS for seed in arguments.seeds]
    for path in filter(Path.exists, paths):
        name, kept, model = path.stem, torch.load(path, weights_only=True), network("unet", "planted").eval()
        model.load_state_dict(kept["weights"])
        shifted = mean_iou(model, scenes(shortcut=0.0))
        for fill in arguments.fills:
            out, started = folder / f"audit_{name}_{fill}.json", time.perf_counter()
            if out.exists():
                continue
            metrics = [e.name for e in catalogue() if e.name != "seconds" and (fill == "usual" or e.family in FILLED)]
            auditor = Auditor(
                EXPLAINERS, metrics, SELECTOR, Intervention(FILLS[fill], SuperpixelRegions([24, 64]), steps=12, max_batch=64)
            )
            for start in range(0, arguments.images if fill == "usual" else arguments.images // 2, 8):
                part = {key: of[start : start + 8] for key, of in told.items()}
                ids = range(start, start + len(part["image"]))
                auditor.update(model, part["image"], part["mask"], ids, part["cue"])
            content = {
                "iou": kept["iou"],
                "shifted_iou": shifted,
                "reliance": kept["reliance"],
                "records": auditor.records(),
            }
            out.write_text(json.dumps(content))
            print(f"{name}, {fill}: {time.perf_counter() - started:.0f} s", flush=True)


def report(arguments: argparse.Namespace) -> None:
    """Print Markdown tables and draw a figure."""
    found = {
        fill: {
            path.name.removeprefix("audit_").removesuffix(f"_{fill}.json"): json.loads(path.read_text())
            for path in sorted(Path(arguments.folder).glob(f"audit_*_{fill}.json"))
        }
        for fill in FILLS
    }
    usual = dict(sorted(found["usual"].items(), key=lambda item: item[1]["reliance"]))
    truth = {name: one["reliance"] for name, one in usual.items()}
    cheats = [name for name, value in truth.items() if value > CHEAT]
    _models(usual, truth, cheats)
    audits = {name: one["records"] for name, one in usual.items()}
    rows = validity(audits, truth, cheats)
    _scores({(row.explainer, row.score): (row.correlation, row.separation) for row in rows})
    _agreement(found, usual)
    _pairs(audits)
    _figure(usual, truth, cheats, rows, Path(arguments.out))


def _models(usual: dict[str, Any], truth: dict[str, float], cheats: list[str]) -> None:
    _row("labels by the tag", "batches", "seed", "mean IoU", "where tags say nothing", "reliance", "")
    _row(*["---"] * 7)
    for name, one in usual.items():
        share, steps, seed = name.removeprefix("f").replace("_n", " ").replace("_seed", " ").split()
        last = "cheat" if name in cheats else "honest"
        _row(share, steps, seed, f"{one['iou']:.3f}", f"{one['shifted_iou']:.3f}", f"{truth[name]:.3f}", last)
    ious, real = [one["iou"] for one in usual.values()], list(truth.values())
    correlation, separation = spearman(ious, real), auroc(ious, [name in cheats for name in usual])
    print(f"\nMean IoU itself: Spearman {_interval(correlation)}, AUROC {_interval(separation)}.\n")


def _scores(found: dict[tuple[str, str], tuple[Association, Association]]) -> None:
    _row("score", *EXPLAINERS)
    _row(*["---"] * (len(EXPLAINERS) + 1))
    for entry in catalogue():
        cells = [found.get((explainer, entry.name)) for explainer in EXPLAINERS]
        if any(cells):
            _row(f"`{entry.name}`", *["" if cell is None else _both(*cell) for cell in cells])
    print()
    best = [
        (explainer, score, *both)
        for (explainer, score), both in found.items()
        if explainer not in CONTROLS and abs(both[0].value) >= 0.9 and abs(both[1].value - 0.5) >= 0.45
    ]
    _row("score", "of", "Spearman", "p", "AUROC", "p", "models")
    _row(*["---"] * 7)
    for explainer, score, one, other in best:
        _row(
            f"`{score}`",
            explainer,
            _interval(one),
            f"{one.p_value:.4f}",
            _interval(other),
            f"{other.p_value:.4f}",
            one.models,
        )
    print()


def _agreement(found: dict[str, dict[str, Any]], usual: dict[str, Any]) -> None:
    models = [name for name in usual if all(name in of for of in found.values())]
    by_fill = [explainer_agreement([found[fill][name]["records"] for fill in FILLS]) for name in models]
    alike = sorted({name.split("_seed")[0] for name in usual})
    seeds = [[usual[name]["records"] for name in usual if name.startswith(f"{share}_seed")] for share in alike]
    by_seed = [explainer_agreement(audits) for audits in seeds if len(audits) > 1]
    _row("score", "between fills", "between seeds")
    _row("---", "---", "---")
    for entry in catalogue():
        _row(f"`{entry.name}`", *[_mean([of.get(entry.name, np.nan) for of in every]) for every in (by_fill, by_seed)])
    print()


def _pairs(audits: dict[str, Any]) -> None:
    alike = score_agreement(audits, [name for name in EXPLAINERS if name not in CONTROLS])
    close = sorted((pair for pair, value in alike.items() if abs(value) >= 0.9), key=lambda pair: -abs(alike[pair]))
    _row("scores that order these models alike", "Spearman")
    _row("---", "---")
    for one, other in close:
        _row(f"`{one}`, `{other}`", f"{alike[one, other]:+.2f}")
    values = [abs(value) for value in alike.values() if not np.isnan(value)]
    print(f"\nOf {len(values)} pairs of scores the median absolute correlation is {statistics.median(values):.2f}.\n")


def _figure(usual: dict[str, Any], truth: dict[str, float], cheats: list[str], rows: list[Any], out: Path) -> None:
    best: list[Any] = []
    for row in rows:  # one a score, the best first
        if row.explainer not in CONTROLS and row.score != "cue_effect" and row.score not in [b.score for b in best]:
            best.append(row)
    drawing = Figure(figsize=(11, 5.4), dpi=110, layout="constrained")
    canvas = FigureCanvasAgg(drawing)
    panels: list[tuple[str, dict[str, float]]] = [("mean IoU", {name: one["iou"] for name, one in usual.items()})]
    for row in best[:7]:
        values = {
            name: float(
                np.nanmean([r[row.score] for r in one["records"] if r["explainer"] == row.explainer and row.score in r])
            )
            for name, one in usual.items()
        }
        panels.append((f"{row.score}\nof {row.explainer}", values))
    for place, (title, values) in enumerate(panels, start=1):
        axes = drawing.add_subplot(2, 4, place)
        for kind, colour in (("honest", "C0"), ("cheat", "C3")):
            names = [name for name in usual if (name in cheats) == (kind == "cheat")]
            axes.scatter([truth[name] for name in names], [values[name] for name in names], s=22, color=colour, label=kind)
        axes.set_title(title, fontsize=9)
        axes.set_xlabel("reliance on the tag", fontsize=8)
        axes.tick_params(labelsize=7)
        if place == 1:
            low, high = axes.get_ylim()
            axes.set_ylim(min(low, 0.5), max(high, 1.0))
            axes.legend(fontsize=7)
    out.mkdir(parents=True, exist_ok=True)
    canvas.print_png(str(out / "scores.png"))


def _both(correlation: Association, separation: Association) -> str:
    return f"{correlation.value:+.2f} / {separation.value:.2f}"


def _interval(found: Association) -> str:
    return f"{found.value:+.2f} [{found.low:+.2f}, {found.high:+.2f}]"


def _mean(values: list[float]) -> str:
    scored = [value for value in values if not np.isnan(value)]
    return f"{np.mean(scored):+.2f}" if scored else ""


def _row(*cells: object) -> None:
    print(f"| {' | '.join(map(str, cells))} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(required=True)
    for verb in (train, audit, report):
        one = verbs.add_parser(verb.__name__)
        one.add_argument("--folder", default="runs/benchmarks/validity", help="of weights and audits")
        one.add_argument("--threads", type=int, default=1)
        one.set_defaults(run=verb)
        if verb in (train, audit):
            one.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
        if verb is audit:
            one.add_argument("--images", type=int, default=12)
            one.add_argument("--fills", nargs="+", choices=list(FILLS), default=list(FILLS))
        if verb is report:
            one.add_argument("--out", default="docs/validity")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    arguments.run(arguments)


if __name__ == "__main__":
    main()
