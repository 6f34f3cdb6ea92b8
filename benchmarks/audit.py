"""How long an audit takes: 200 CamVid targets, DEA and three scores, against the bare forwards that it is made of.

    python benchmarks/audit.py --root <CamVid>

The network is trained first where that has not been done. "Bare" are as many images through the network as the audit sent
through it, in batches as large as its own, without gradients; a backward pass counts as two.
"""

import argparse
import sys
import time

import torch
from models import batches, datamodule, trained
from torch import Tensor, nn

from segaudit import Auditor, Intervention, TargetSelector
from segaudit.intervention import SuperpixelRegions


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", required=True, help="of CamVid")
    parser.add_argument("--network", default="unet")
    parser.add_argument("--folder", default="runs/benchmarks", help="of weights")
    parser.add_argument("--targets", type=int, default=200)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    model = trained(arguments.network, "camvid", arguments.root, arguments.folder)
    auditor = Auditor(
        explainers=["dea"],
        metrics=["deletion_auc", "off_target_leakage", "stability", "forwards"],
        selector=TargetSelector(min_area=0.01, max_per_image=3),
        intervention=Intervention(regions=SuperpixelRegions([24, 49]), max_batch=32),
    )
    seen = {"forward": 0, "backward": 0}
    handle = model.register_forward_hook(lambda module, inputs, output: _count(seen, inputs[0], output))
    started, images, shape = time.perf_counter(), 0, torch.Size()
    for batch in batches(datamodule("camvid", arguments.root)):
        auditor.update(model, batch["image"], batch["mask"], batch["id"])
        images, shape = images + len(batch["image"]), batch["image"].shape[1:]
        print(f"{len(auditor.records())} targets, {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
        if len(auditor.records()) >= arguments.targets:
            break
    seconds = time.perf_counter() - started
    handle.remove()
    passes = seen["forward"] + 2 * seen["backward"]
    bare = _bare(model, shape, passes)
    targets = len(auditor.records())
    print(f"{targets} targets of {images} images, {arguments.network}, {arguments.threads} threads: {seconds:.0f} s")
    print(f"a target: {seconds / targets:.2f} s, {passes / targets:.0f} forwards (a backward pass counts as two)")
    print(f"as many bare forwards: {bare:.0f} s; the audit takes {seconds / bare:.2f} times that")
    print(f"the images alone, once through the network: {bare * images / passes:.1f} s")


def _count(seen: dict[str, int], images: Tensor, output: Tensor) -> None:
    seen["forward"] += len(images)
    if output.requires_grad:
        seen["backward"] += len(images)


@torch.no_grad()
def _bare(model: nn.Module, shape: torch.Size, images: int) -> float:
    """Seconds that so many images take, from a sample of 640."""
    x = torch.randn(32, *shape).to(memory_format=torch.channels_last)
    model(x)
    started = time.perf_counter()
    for _ in range(20):
        model(x)
    return (time.perf_counter() - started) * images / 640


if __name__ == "__main__":
    main()
