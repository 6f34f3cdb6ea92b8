"""How an audit's cost grows with targets, points of a curve, pixels, regions and classes: seconds, passes, and a fit.

    python benchmarks/growth.py [--threads 2] [--json FILE]

A small U-Net, an audit by DEA and a control, deletion and insertion areas and leakage. One thing is varied at a time; the
others stay at 8 targets, 16 points, 96x96 pixels, 24 regions and 4 classes. "Exponent" is the slope of the logarithm of the
seconds beyond the first update's fixed part against that of what is varied: 1 is linear, 0 no growth. For classes the
seconds of bare forwards are beside it, as the network's own last layer and its logits grow.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn

from segaudit import Auditor, Intervention, TargetSelector
from segaudit.forwards.cost import now
from segaudit.intervention import GridRegions

DEFAULT_BATCH = {"targets": 8, "points": 16, "side": 96, "regions": 24, "classes": 4}
VARIED = {
    "targets": (4, 8, 16, 32),
    "points": (8, 16, 32, 64),
    "side": (64, 96, 128, 192),
    "regions": (9, 25, 64, 144),
    "classes": (2, 8, 32, 128),
}


def measure(rounds: int, device: str, **setting: int) -> dict[str, float]:
    """Seconds and passes of an audit of one batch, the least of some rounds; those of as many bare forwards."""
    value = DEFAULT_BATCH | setting
    torch.manual_seed(0)
    network = smp.Unet(
        "resnet18", encoder_weights=None, encoder_depth=3, decoder_channels=(64, 32, 16), classes=value["classes"]
    )
    model = network.to(device, memory_format=torch.channels_last).eval()
    images = _images(value["targets"], value["side"]).to(device)
    seconds, passes = [], 0
    for _ in range(rounds):
        auditor = Auditor(
            explainers=["dea", "target_mask"],
            metrics=["deletion_auc", "insertion_auc", "off_target_leakage"],
            selector=TargetSelector(min_area=0, max_per_image=1),
            intervention=Intervention(regions=GridRegions([value["regions"]]), steps=value["points"], max_batch=32),
        )
        counted = _Counter(model)
        started = now(images.device)
        found = auditor.update(counted, images)
        seconds.append(now(images.device) - started)
        passes = counted.images
        assert len(found.targets) == value["targets"]
    with torch.no_grad():
        model(images[:4])
        started = now(images.device)
        for _ in range(8):
            model(images[:4])
        bare = (now(images.device) - started) / 32
    return {"seconds": min(seconds), "forwards": passes, "bare": bare * passes}


class _Counter(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.images = 0

    def forward(self, images: Tensor) -> Tensor:
        self.images += len(images)
        return self.model(images)  # type: ignore[no-any-return]


def _images(count: int, side: int) -> Tensor:
    noise = torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(1))
    return nn.functional.avg_pool2d(noise, 9, 1, 4) * 9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--only", choices=VARIED, nargs="+", default=list(VARIED))
    parser.add_argument("--json", help="file for the figures")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    measure(1, arguments.device, points=8)
    figures: dict[str, Any] = {}
    print("| varied | values | seconds | forwards | over as many bare forwards | exponent |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name in arguments.only:
        values = VARIED[name]
        rows = [measure(arguments.rounds, arguments.device, **{name: value}) for value in values]
        axis = np.array([value**2 if name == "side" else value for value in values], dtype=float)
        seconds = np.array([row["seconds"] for row in rows])
        exponent, line = np.polyfit(np.log(axis), np.log(seconds), 1)[0], np.polyfit(axis, seconds, 1)
        fitted = 1 - ((seconds - np.polyval(line, axis)) ** 2).sum() / ((seconds - seconds.mean()) ** 2).sum()
        figures[name] = {"values": values, "rows": rows, "exponent": exponent, "r2": fitted}
        shown = "pixels" if name == "side" else name
        passes, ratios = ([row["forwards"] for row in rows], [row["seconds"] / row["bare"] for row in rows])
        cells = [shown, _join(axis, ".0f"), _join(seconds, ".2f"), _join(passes, ".0f"), _join(ratios, ".2f")]
        print(f"| {' | '.join(cells)} | {exponent:.2f}, R² of a line {fitted:.3f} |", flush=True)
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(figures, indent=1))


def _join(values: Any, form: str) -> str:
    return ", ".join(format(value, form) for value in values)


if __name__ == "__main__":
    main()
