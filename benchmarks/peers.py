"""Curves and ROAD beside those of peers: seconds and peak memory at equal accuracy, as ratios measured in one run.

    python benchmarks/peers.py --root <CamVid> [--network unet] [--images 8] [--per-image 3] [--threads 2] [--json FILE]

Same model, images, targets, maps and fill. First, how many points our curves and even ones need until 95 % of their areas
lie within 0.01 of that of 200 even steps; then each contender at its number in a process of its own, in turns, once to warm
up and `--rounds` times with a clock. Memory is what the process holds at most beyond what it held after a first forward of
one image. Areas are the scores: between floor and 1, of targets that the fill can test. Ours are measured in single
precision and with masked forwards in bfloat16, whose errors of the area count as well.
"""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from functools import partial
from typing import Any

import numpy as np
import torch
from contest import PRECISIONS, Batch, Contender, Outcome, contend, figures, parser, write
from curves import along, area, exact
from torch import Tensor, nn

from segaudit.attribution import attribution_context
from segaudit.evidence.imputation import road_curves
from segaudit.forwards.curve import spaced
from segaudit.forwards.target import Targets

PLACED = (6, 8, 9, 10, 12, 14, 16, 20)
EVEN = (8, 10, 12, 14, 16, 18, 20, 22, 25, 28, 32, 36, 40, 50, 64, 80, 100)
WITHIN, SHARE = 0.01, 0.95
SHARES = tuple(share / 10 for share in range(1, 10))
#: What is compared: ours, the peer's, and the factor that is asked for.
CONTESTS = {
    "deletion and insertion": ("ours_both", "torch_cam", 4.0),
    "deletion": ("ours_deletion", "quantus", 8.0),
    "ROAD, nine shares, both ways": ("ours_road", "grad_cam_road", 10.0),
}


# Contenders: each gives areas or scores (N,) of the batch's targets, with so many points a curve.


def ours_both(batch: Batch, points: int) -> Tensor:
    with attribution_context(batch.model):
        probe = batch.probe(32)
        curves = probe.deletion_curve(batch.maps, points), probe.insertion_curve(batch.maps, points)
        return torch.stack([area(one, insert) for one, insert in zip(curves, (False, True), strict=True)])


def ours_deletion(batch: Batch, points: int) -> Tensor:
    with attribution_context(batch.model):
        return area(batch.probe(len(batch.targets)).deletion_curve(batch.maps, points), False)


def ours_road(batch: Batch, points: int) -> Tensor:
    with attribution_context(batch.model):
        least, most = road_curves(batch.probe(len(batch.targets)), batch.maps, SHARES)
    return torch.stack([least, most])


def torch_cam(batch: Batch, steps: int) -> Tensor:
    from torchcam.metrics import DeletionInsertionMetric

    metric = DeletionInsertionMetric(
        _Given(batch.model, batch.maps), partial(torch.softmax, dim=1), steps=steps, baseline=batch.filled
    )
    metric.update(batch.repeated, targets=[_mean(batch.targets, n) for n in range(len(batch.targets))])
    return torch.tensor([metric.summary()["deletion_auc"], metric.summary()["insertion_auc"]])


def quantus(batch: Batch, steps: int) -> Tensor:
    from quantus.helpers.model.pytorch_model import PyTorchModel
    from quantus.metrics.faithfulness.pixel_flipping import PixelFlipping

    images, filled = batch.repeated, batch.filled.flatten(1).numpy()

    def fill(arr: Any, indices: Any, **_: Any) -> Any:
        changed = arr.copy()
        np.put_along_axis(changed, indices, np.take_along_axis(filled, indices, axis=1), axis=1)
        return changed

    metric = PixelFlipping(
        features_in_step=-(-images[0].numel() // steps), normalise=False, disable_warnings=True, perturb_func=fill
    )
    found = metric.evaluate_batch(
        model=PyTorchModel(_AllScores(batch.model, batch.targets).eval(), softmax=False, channel_first=True),
        x_batch=images.numpy(),
        y_batch=np.arange(len(images)),
        a_batch=batch.maps[:, None].numpy(),
    )
    return torch.tensor(found).mean(dim=1)


def grad_cam_road(batch: Batch, steps: int) -> Tensor:
    from pytorch_grad_cam.metrics.road import ROADCombined

    metric = ROADCombined(percentiles=[round(100 * share) for share in SHARES])
    targets = [_mean(batch.targets, n) for n in range(len(batch.targets))]
    return torch.tensor(metric(batch.repeated, batch.maps.numpy(), targets, _Probabilities(batch.model)))


class _Given:
    """What torch-cam asks of an extractor of maps: here they are."""

    def __init__(self, model: nn.Module, maps: Tensor) -> None:
        self.model, self.maps = model, maps

    def __call__(self, *_: Any, **__: Any) -> list[Tensor]:
        return [self.maps]

    def fuse_cams(self, cams: list[Tensor]) -> Tensor:
        return cams[0]

    def _hooks_off(self) -> Any:
        return nullcontext()


class _Probabilities(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images).softmax(dim=1)  # type: ignore[no-any-return]


class _AllScores(_Probabilities):
    """S of every target at every image ``(M, N)``: Quantus takes from each image's row the column of its target."""

    def __init__(self, model: nn.Module, targets: Targets) -> None:
        super().__init__(model)
        self.classes = targets.class_index
        inside = targets.region.flatten(1).float()
        self.weights = inside / inside.sum(dim=1, keepdim=True)

    def forward(self, images: Tensor) -> Tensor:
        chosen = super().forward(images)[:, self.classes].flatten(2)
        return torch.einsum("mnp,np->mn", chosen, self.weights)


def _mean(targets: Targets, n: int) -> Callable[[Tensor], Tensor]:
    """From one image's probabilities ``(C, *S)`` to S of a target."""
    c, region = int(targets.class_index[n]), targets.region[n]
    return lambda probabilities: probabilities[c][region].mean()


CONTENDERS: dict[str, Contender] = {
    one.__name__: one for one in (ours_both, ours_deletion, ours_road, torch_cam, quantus, grad_cam_road)
}


def accuracy(batch: Batch) -> dict[str, dict[int, dict[str, float]]]:
    """Share of areas within 0.01 of those of 200 steps, by the way and the number of points: of both curves, of deletion."""
    found: dict[str, dict[int, dict[str, float]]] = {}
    errors: dict[tuple[str, int], list[Tensor]] = {}
    with attribution_context(batch.model):
        for maps in batch.kinds:
            dense = [exact(batch.probe(32, "32-true"), maps, insert) for insert in (False, True)]
            true = [area(one, insert) for one, insert in zip(dense, (False, True), strict=True)]
            for precision in PRECISIONS:
                probe = batch.probe(32, precision)
                for points in PLACED:
                    curves = [probe.deletion_curve(maps, points), probe.insertion_curve(maps, points)]
                    errors.setdefault((precision, points), []).append(_errors(curves, true))
            pixels = maps[0].numel()
            for steps in EVEN:
                nodes = spaced(steps - 1, pixels, 1).double() / pixels
                errors.setdefault(("even", steps), []).append(_errors([along(one, nodes) for one in dense], true))
    for (way, points), parts in errors.items():
        within = torch.cat(parts, dim=1) <= WITHIN
        found.setdefault(way, {})[points] = {
            "both": float(within.double().mean()),
            "deletion": float(within[0].double().mean()),
        }
    return found


def _errors(curves: list[Any], true: list[Tensor]) -> Tensor:
    pairs = zip(curves, (False, True), true, strict=True)
    return torch.stack([(area(one, insert) - real).abs() for one, insert, real in pairs])


def needed(shares: Mapping[int, Mapping[str, float]], kind: str) -> int | None:
    """The fewest points with which, and with all larger numbers, enough areas are near; None where none is enough."""
    enough = [points for points, share in shares.items() if share[kind] >= SHARE]
    return next((p for p in enough if all(q in enough for q in shares if q > p)), None)


def main() -> None:
    arguments = parser(__doc__).parse_args()
    if arguments.contender:
        return contend(arguments, CONTENDERS)
    batch = Batch(arguments)
    print(f"{len(batch.targets)} targets, {arguments.network}, {arguments.threads} threads", flush=True)
    shares = accuracy(batch)
    points = {(way, kind): needed(shares[way], kind) for way in shares for kind in ("both", "deletion")}
    for (way, kind), number in points.items():
        near = ", ".join(f"{n}: {share[kind]:.0%}" for n, share in shares[way].items())
        print(f"{way}, {kind}: {number} points ({near})")
    found: dict[str, Any] = {"targets": len(batch.targets), "within": shares, "contests": []}
    del batch
    print("| what | points, ours and theirs | our precision | asked | seconds, ours and theirs | ratio | peak memory, MiB |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for what, (ours, peer, asked) in CONTESTS.items():
        kind = "both" if peer == "torch_cam" else "deletion"
        their = points["even", kind] or EVEN[-1]
        theirs = figures(peer, their)
        for precision in PRECISIONS:
            our = points[precision, kind] or PLACED[-1]
            outcome = Outcome(figures(ours, our, precision), theirs)
            both = "" if "ROAD" in what else f"{our}, {their}"
            found["contests"].append({"what": what, "precision": precision} | outcome.plain())
            print(f"| {what}, {peer} | {both} | {precision} | {asked:.0f} | {outcome.cells}", flush=True)
    write(arguments.json, found)
    return None


if __name__ == "__main__":
    main()
