"""A contest: the same batch of CamVid for all, each contender in a process of its own, seconds and peak memory."""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import torch
from models import NETWORKS, batches, datamodule, trained
from torch import Tensor

from segaudit.attribution import Random, Saliency, SegGradCAM, attribution_context
from segaudit.forwards import Probe
from segaudit.forwards.batching import Precision
from segaudit.forwards.target import TargetSelector
from segaudit.functional.faithfulness import MAX_RESIDUAL
from segaudit.intervention import Intervention, Regions

#: What contenders import, all of it before the memory is measured.
PEERS = ("captum.attr", "captum.metrics", "pytorch_grad_cam.metrics.road", "quantus", "torchcam.metrics")
PRECISIONS: tuple[Precision, ...] = ("32-true", "bf16-mixed")


class Batch:
    """Targets of a few images, maps of several kinds, and the model."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        torch.set_num_threads(arguments.threads)
        self.precision: Precision = arguments.precision
        self.model = trained(arguments.network, "camvid", arguments.root, arguments.weights)
        self.images = torch.cat(
            [batch["image"][:1] for batch in islice(batches(datamodule("camvid", arguments.root)), arguments.images)]
        )
        with attribution_context(self.model):
            self.targets = TargetSelector(min_area=0.02, max_per_image=arguments.per_image)(self.model(self.images).detach())
            probe = self.probe(32)
            keep = (probe.confidence > 0.3) & (probe.filled_confidence <= MAX_RESIDUAL * probe.confidence)
            self.targets = self.targets[keep.nonzero()[:, 0]]
            probe = self.probe(32)
            self.kinds = torch.stack([explainer.explain(probe) for explainer in (Saliency(), SegGradCAM(), Random())])
            self.filled = probe.filled[probe.fill_index, self.targets.image_index]
        # For the clock a third of the targets by each explainer.
        place = torch.arange(len(self.targets))
        self.maps = self.kinds[place % len(self.kinds), place]

    def probe(self, max_batch: int, precision: Precision | None = None, regions: Regions | None = None) -> Probe:
        intervention = Intervention(regions=regions, max_batch=max_batch, precision=precision or self.precision)
        return Probe(self.model, self.images, self.targets, intervention)

    @property
    def repeated(self) -> Tensor:
        """The image of each target."""
        return self.images[self.targets.image_index]


class Figures(NamedTuple):
    """Of one contender: seconds of its best round, what it held at most beyond its start in MiB, and what it gave."""

    seconds: float
    peak: float
    result: Tensor


#: What a contender does with a batch; the number is that of points a curve, where there are any.
Contender = Callable[[Batch, int], Tensor]


def parser(what: str | None) -> argparse.ArgumentParser:
    """The options that all contests share."""
    found = argparse.ArgumentParser(description=what, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("--root", required=True, help="CamVid's folder")
    found.add_argument("--network", choices=NETWORKS, default="unet")
    found.add_argument("--weights", default="runs/benchmarks", help="folder of the trained weights")
    found.add_argument("--images", type=int, default=8)
    found.add_argument("--per-image", type=int, default=3, help="most targets of an image")
    found.add_argument("--threads", type=int, default=2)
    found.add_argument("--rounds", type=int, default=2)
    found.add_argument("--json", help="file for the figures")
    found.add_argument("--contender", help=argparse.SUPPRESS)
    found.add_argument("--points", type=int, default=0, help=argparse.SUPPRESS)
    found.add_argument("--precision", choices=PRECISIONS, default="32-true", help=argparse.SUPPRESS)
    found.add_argument("--result", help=argparse.SUPPRESS)
    return found


def contend(arguments: argparse.Namespace, contenders: Mapping[str, Contender]) -> None:
    """Be one contender: once to warm up, then rounds with a clock."""
    for peer in PEERS:
        import_module(peer)
    batch, contender = Batch(arguments), contenders[arguments.contender]
    with torch.no_grad():
        batch.model(batch.images[:1])
    held = _memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    result = contender(batch, arguments.points)
    peak = _memory("VmHWM") - held
    seconds = []
    for _ in range(arguments.rounds):
        started = time.perf_counter()
        contender(batch, arguments.points)
        seconds.append(time.perf_counter() - started)
    torch.save(result.detach(), arguments.result)
    print(json.dumps([min(seconds), peak]))


def figures(contender: str, points: int = 0, precision: str = "32-true") -> Figures:
    """Run this program again as one contender."""
    with tempfile.NamedTemporaryFile(suffix=".pt") as file:
        words = [sys.executable, *sys.argv, "--contender", contender, "--points", str(points)]
        words += ["--precision", precision, "--result", file.name]
        done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True)
        seconds, peak = json.loads(done.stdout.strip().splitlines()[-1])
        return Figures(seconds, peak, torch.load(file.name, weights_only=True))


class Outcome(NamedTuple):
    """Of two contenders, ours and the peer's."""

    ours: Figures
    theirs: Figures

    @property
    def ratio(self) -> float:
        """Of the seconds, the peer's over ours."""
        return self.theirs.seconds / self.ours.seconds

    @property
    def cells(self) -> str:
        """Of a table: seconds, their ratio, peak memory."""
        mine, theirs = self
        seconds = f"{mine.seconds:.3g}, {theirs.seconds:.3g}"
        return f"{seconds} | **{self.ratio:.1f}** | {mine.peak:.0f}, {theirs.peak:.0f} |"

    def plain(self) -> dict[str, Any]:
        """What the JSON has of it."""
        return {"ratio": self.ratio, "ours": self.ours[:2], "theirs": self.theirs[:2]}


def write(path: str | None, found: Any) -> None:
    if path:
        Path(path).write_text(json.dumps(found, indent=1))


def _memory(name: str) -> float:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return float(line.split()[1]) / 1024
