"""Curves and ROAD beside those of peers: seconds and peak memory at equal accuracy, as ratios measured in one run.

    python benchmarks/peers.py --root <CamVid> [--network unet] [--images 8] [--threads 2] [--json FILE]

Same model, images, targets, maps and fill. First, how many even steps a peer's curve needs until 95 % of its areas lie
within 0.01 of the area of 200 steps, as many as ours at its default do; then each contender in a process of its own, in
turns, once to warm up and `--rounds` times with a clock. Memory is what the process holds at most beyond what it held after
a first forward of one image. Areas are of S over S(x).
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from curves import along, exact
from models import NETWORKS, batches, datamodule, trained
from torch import Tensor, nn

from segaudit.attribution import Random, Saliency, SegGradCAM, attribution_context
from segaudit.intervention import ConstantFill, Intervention, Probe
from segaudit.intervention.curve import spaced
from segaudit.intervention.imputation import road_curves
from segaudit.target import Targets, TargetSelector, target_score

LADDER = (8, 12, 16, 20, 25, 32, 40, 50, 64, 80, 100, 125, 160)
SHARES = tuple(share / 10 for share in range(1, 10))
#: What is compared: ours first, then the peer's; the factor that is asked for.
CONTESTS = {
    "deletion and insertion": ("ours_both", "torch_cam", 4.0),
    "deletion": ("ours_deletion", "quantus", 8.0),
    "ROAD, nine shares, both ways": ("ours_road", "grad_cam_road", 10.0),
}


class Batch:
    """Targets of a few images, one map each, and the model."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        torch.set_num_threads(arguments.threads)
        self.model = trained(arguments.network, "camvid", arguments.root, arguments.weights)
        images = torch.cat(
            [batch["image"][:1] for batch in islice(batches(datamodule("camvid", arguments.root)), arguments.images)]
        )
        with attribution_context(self.model):
            logits = self.model(images)
            targets = TargetSelector(min_area=0.02, max_per_image=1)(logits.detach())
            keep = target_score(logits[targets.image_index], targets) > 0.3
            self.targets = targets[keep.nonzero()[:, 0]]
            self.images = images
            probe = self.probe(64)
            explainers = (Saliency(), SegGradCAM(), Random())
            maps = [explainer.explain(probe) for explainer in explainers]
        # A third of the targets by each explainer, so that the maps are of several kinds.
        place = torch.arange(len(self.targets))
        self.maps = torch.stack(maps)[place % len(maps), place]

    def probe(self, max_batch: int) -> Probe:
        return Probe(self.model, self.images, self.targets, Intervention(ConstantFill(), max_batch=max_batch))

    @property
    def repeated(self) -> Tensor:
        """The image of each target."""
        return self.images[self.targets.image_index]


# Contenders: each gives areas or scores (N,) of the batch's targets.


def ours_both(batch: Batch, steps: int) -> Tensor:
    with attribution_context(batch.model):
        probe = batch.probe(32)
        curves = probe.deletion_curve(batch.maps), probe.insertion_curve(batch.maps)
        return torch.stack([torch.trapezoid(one.values.double(), one.fractions, dim=1) for one in curves])


def ours_deletion(batch: Batch, steps: int) -> Tensor:
    with attribution_context(batch.model):
        one = batch.probe(len(batch.targets)).deletion_curve(batch.maps)
        return torch.trapezoid(one.values.double(), one.fractions, dim=1)


def ours_road(batch: Batch, steps: int) -> Tensor:
    with attribution_context(batch.model):
        least, most = road_curves(batch.probe(len(batch.targets)), batch.maps, SHARES)
    return torch.stack([least, most])


def torch_cam(batch: Batch, steps: int) -> Tensor:
    from torchcam.metrics import DeletionInsertionMetric

    metric = DeletionInsertionMetric(_Given(batch.model, batch.maps), partial(torch.softmax, dim=1), steps=steps)
    metric.update(batch.repeated, targets=[_mean(batch.targets, n) for n in range(len(batch.targets))])
    return torch.tensor([metric.summary()["deletion_auc"], metric.summary()["insertion_auc"]])


def quantus(batch: Batch, steps: int) -> Tensor:
    from quantus.helpers.model.pytorch_model import PyTorchModel
    from quantus.metrics.faithfulness.pixel_flipping import PixelFlipping

    images = batch.repeated
    metric = PixelFlipping(features_in_step=-(-images[0].numel() // steps), normalise=False, disable_warnings=True)
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


CONTENDERS: dict[str, Callable[[Batch, int], Tensor]] = {
    one.__name__: one for one in (ours_both, ours_deletion, ours_road, torch_cam, quantus, grad_cam_road)
}


def accuracy(batch: Batch) -> dict[str, Any]:
    """Share of areas within 0.01 of those of 200 steps: ours, and even steps by their number."""
    with attribution_context(batch.model):
        probe = batch.probe(32)
        dense = [exact(probe, batch.maps, insert) for insert in (False, True)]
        placed = [probe.deletion_curve(batch.maps), probe.insertion_curve(batch.maps)]

    def area(values: Tensor, fractions: Tensor) -> Tensor:
        return torch.trapezoid(values.double(), fractions, dim=1)

    pixels = batch.maps[0].numel()
    true = [area(one.values, one.fractions) for one in dense]
    ours = [(area(one.values, one.fractions) - real).abs() for one, real in zip(placed, true, strict=True)]
    even = {}
    for steps in LADDER:
        nodes = spaced(steps - 1, pixels, 1).double() / pixels
        sparse = [along(one, nodes) for one in dense]
        even[steps] = [(area(one.values, one.fractions) - real).abs() for one, real in zip(sparse, true, strict=True)]

    def share(errors: list[Tensor]) -> float:
        return float((torch.cat(errors) <= 0.01).double().mean())

    return {
        "targets": len(batch.targets),
        "ours": {"both": share(ours), "deletion": share(ours[:1])},
        "even": {steps: {"both": share(errors), "deletion": share(errors[:1])} for steps, errors in even.items()},
    }


def contend(arguments: argparse.Namespace) -> None:
    """Be one contender: print seconds of each round and the peak memory in MiB."""
    batch, contender = Batch(arguments), CONTENDERS[arguments.contender]
    with torch.no_grad():
        batch.model(batch.images[:1])
    held = _memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    contender(batch, arguments.steps)
    peak = _memory("VmHWM") - held
    seconds = []
    for _ in range(arguments.rounds):
        started = time.perf_counter()
        contender(batch, arguments.steps)
        seconds.append(time.perf_counter() - started)
    print(json.dumps({"seconds": min(seconds), "peak": peak}))


def _memory(name: str) -> float:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return float(line.split()[1]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", required=True, help="CamVid's folder")
    parser.add_argument("--network", choices=NETWORKS, default="unet")
    parser.add_argument("--weights", default="runs/benchmarks", help="folder of the trained weights")
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--json", help="file for the figures")
    parser.add_argument("--contender", choices=CONTENDERS, help=argparse.SUPPRESS)
    parser.add_argument("--steps", type=int, default=0, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.contender:
        return contend(arguments)
    found = accuracy(Batch(arguments))
    wanted = {kind: min(0.95, found["ours"][kind]) for kind in ("both", "deletion")}
    needed = {kind: next((steps for steps in LADDER if found["even"][steps][kind] >= wanted[kind]), 200) for kind in wanted}
    print(f"{found['targets']} targets, {arguments.network}, {arguments.threads} threads")
    for kind, share in found["ours"].items():
        print(f"{kind}: ours within 0.01 for {share:.1%}; even steps need {needed[kind]} for {wanted[kind]:.0%}")
    print("| what | ours | peer | seconds | ratio | asked | peak memory, MiB |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for what, (ours, peer, asked) in CONTESTS.items():
        steps = needed["both" if peer == "torch_cam" else "deletion"]
        rows = [_run(name, steps) for name in (ours, peer)]
        seconds, peaks = ([row[key] for row in rows] for key in ("seconds", "peak"))
        found[what] = {"seconds": seconds, "ratio": seconds[1] / seconds[0], "peak": peaks, "steps": steps}
        ratio = seconds[1] / seconds[0]
        print(
            f"| {what} | {ours} | {peer} | {seconds[0]:.2f} / {seconds[1]:.2f} | {ratio:.1f} | {asked:.0f} | "
            f"{peaks[0]:.0f} / {peaks[1]:.0f} |",
            flush=True,
        )
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(found, indent=1))
    return None


def _run(contender: str, steps: int) -> dict[str, float]:
    words = [sys.executable, *sys.argv, "--contender", contender, "--steps", str(steps)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    figures: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return figures


if __name__ == "__main__":
    main()
