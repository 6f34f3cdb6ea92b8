"""The most memory that an audit takes beside that of a training step, for networks of several kinds.

    python benchmarks/memory.py [--size 128] [--batch 8] [--json FILE]

Each runs in a process of its own: training steps by Adam at the batch size, or the audit that AttributionAudit makes in such
a training at its default settings, all explainers and metrics. Memory is what the process (on a GPU, torch's allocator)
holds at most, beyond what it held with the network, its images and a first forward of one image. The optimizer's state and
the gradients count as training's.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from segaudit.callbacks import AttributionAudit
from segaudit.training.task import SegmentationTask
from segaudit.training.trainer import Trainer

NETWORKS: dict[str, Any] = {
    "unet": lambda: smp.Unet("resnet18", encoder_weights=None, classes=11),
    "deeplabv3plus": lambda: smp.DeepLabV3Plus("resnet18", encoder_weights=None, classes=11),
    "segformer": lambda: smp.Segformer("mit_b0", encoder_weights=None, classes=11),
}


class Peak:
    """What is held at most, in MiB, from a call of :meth:`reset` on."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.held = 0.0

    def reset(self) -> None:
        if self.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
            self.held = torch.cuda.memory_allocated() / 2**20
        else:
            Path("/proc/self/clear_refs").write_text("5")
            self.held = self._status("VmRSS")

    def read(self) -> float:
        most = torch.cuda.max_memory_allocated() / 2**20 if self.device == "cuda" else self._status("VmHWM")
        return most - self.held

    @staticmethod
    def _status(name: str) -> float:
        line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
        return float(line.split()[1]) / 1024


class Noted(AttributionAudit):
    """An audit that notes its peak."""

    peak: Peak
    found = 0.0

    def on_train_start(self, *_: Any) -> None:
        """Nothing: only the audit of the epoch counts."""

    def on_validation_epoch_end(self, *arguments: Any) -> None:
        self.peak.reset()
        super().on_validation_epoch_end(*arguments)
        self.found = self.peak.read()


def data(size: int, batch: int) -> DataLoader[Any]:
    """Blurred noise, and masks of its brightest channel: smooth enough to give targets."""
    draw = torch.Generator().manual_seed(0)
    images = nn.functional.avg_pool2d(torch.randn(2 * batch, 3, size, size, generator=draw), 9, 1, 4) * 9
    return DataLoader(TensorDataset(images, images.argmax(dim=1)), batch_size=batch)


def training(network: nn.Module, loader: DataLoader[Any], device: str) -> float:
    """Peak of a few training steps."""
    network.to(device).train()
    images, masks = next(iter(loader))
    images, masks = images.to(device), masks.to(device)
    peak = Peak(device)
    with torch.no_grad():
        network.eval()(images[:1])
    network.train()
    peak.reset()
    optimizer = torch.optim.Adam(network.parameters())
    for _ in range(3):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(images), masks).backward()
        optimizer.step()
    return peak.read()


def auditing(network: nn.Module, loader: DataLoader[Any], device: str) -> float:
    """Peak of the audit of a training's only epoch, whose training steps are skipped."""
    audit = Noted(panels=0, max_images=loader.batch_size or 1)
    audit.peak = Peak(device)
    accelerator = "gpu" if device == "cuda" else "cpu"
    trainer = Trainer(
        callbacks=[audit], logger=False, enable_checkpointing=False, enable_model_summary=False, max_epochs=1,
        num_sanity_val_steps=0, enable_progress_bar=False, accelerator=accelerator, devices=1,
    )  # fmt: skip
    trainer.fit(_Idle(network, class_names=[str(i) for i in range(11)]), loader, loader)
    return audit.found


class _Idle(SegmentationTask):
    def training_step(self, batch: Any, batch_idx: int) -> Tensor | None:  # type: ignore[override]
        return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--json", help="file for the figures")
    parser.add_argument("--network", choices=NETWORKS, help=argparse.SUPPRESS)
    parser.add_argument("--part", choices=("training", "auditing"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.part:
        torch.manual_seed(0)
        part = {"training": training, "auditing": auditing}[arguments.part]
        print(json.dumps(part(NETWORKS[arguments.network](), data(arguments.size, arguments.batch), arguments.device)))
        return
    print(f"{arguments.size}x{arguments.size}, batches of {arguments.batch}, {arguments.device}")
    print("| network | training step, MiB | audit, MiB | ratio |")
    print("| --- | --- | --- | --- |")
    found = {}
    for name in NETWORKS:
        step, audit = (_run(name, part) for part in ("training", "auditing"))
        found[name] = {"training": step, "audit": audit}
        print(f"| {name} | {step:.0f} | {audit:.0f} | {audit / step:.2f} |", flush=True)
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(found, indent=1))


def _run(network: str, part: str) -> float:
    words = [sys.executable, *sys.argv, "--network", network, "--part", part]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout.strip().splitlines()[-1]))


if __name__ == "__main__":
    main()
