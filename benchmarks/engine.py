"""What an audit costs beside the forwards and backwards that it needs: ratios measured in one run.

    python benchmarks/engine.py [--targets 64] [--size 128] [--counts 24 64 140] [--threads 2]

Prints the seconds of a whole audit of 64 targets (all default explainers and metrics), the seconds that it spends inside
the network, forwards and backwards, and their ratio; then the same forwards replayed bare, in full batches.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn

from segaudit import Auditor, Intervention, TargetSelector
from segaudit.forwards.cost import now
from segaudit.intervention import SuperpixelRegions


class Timed(nn.Module):
    """A network that notes how long it runs and how many images it sees."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.seconds = 0.0
        self.images = 0

    def forward(self, images: Tensor) -> Tensor:
        started = now(images.device)
        output: Tensor = self.network(images)
        self.seconds += now(images.device) - started
        self.images += len(images)
        return output


class TimedGrad:
    """torch.autograd.grad with a clock."""

    def __init__(self, grad: Callable[..., Any]) -> None:
        self.grad = grad
        self.seconds = 0.0

    def __call__(self, outputs: Tensor, *args: Any, **kwargs: Any) -> Any:
        started = now(outputs.device)
        result = self.grad(outputs, *args, **kwargs)
        self.seconds += now(outputs.device) - started
        return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--targets", type=int, default=64)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--counts", type=int, nargs="+", default=[24, 64], help="regions, a number a scale")
    parser.add_argument("--steps", type=int, default=10, help="points of a curve")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(arguments.threads)

    network = smp.Unet("resnet18", encoder_weights=None, encoder_depth=3, decoder_channels=(64, 32, 16), classes=4)
    model = Timed(network.to(arguments.device, memory_format=torch.channels_last).eval())
    grad = torch.autograd.grad = TimedGrad(torch.autograd.grad)  # type: ignore[assignment]
    intervention = Intervention(regions=SuperpixelRegions(arguments.counts), steps=arguments.steps, max_batch=64)
    auditor = Auditor(intervention=intervention, selector=TargetSelector(min_area=0, max_per_image=2))

    def batch() -> Tensor:
        noise = torch.randn(arguments.batch, 3, arguments.size, arguments.size, device=arguments.device)
        return nn.functional.avg_pool2d(noise, 9, 1, 4) * 9

    warm = batch()
    with torch.no_grad():
        network(warm)
    targets, seconds = 0, 0.0
    while targets < arguments.targets:
        images = batch()
        started = now(images.device)
        targets += len(auditor.update(model, images).targets)
        seconds += now(images.device) - started
    inside = model.seconds + grad.seconds

    full = batch().repeat(intervention.max_batch // arguments.batch + 1, 1, 1, 1)[: intervention.max_batch]
    with torch.no_grad():
        network(full)
        started, rounds = time.perf_counter(), 4
        for _ in range(rounds):
            network(full)
            now(full.device)
        per_image = (time.perf_counter() - started) / rounds / len(full)
    print(f"device {arguments.device}, {arguments.threads} threads, {arguments.size}x{arguments.size}, {targets} targets")
    print(f"audit                      {seconds:8.1f} s   {model.images} images forward")
    print(f"  inside forwards          {model.seconds:8.1f} s   {1e3 * model.seconds / model.images:.2f} ms an image")
    print(f"  inside backwards         {grad.seconds:8.1f} s")
    print(f"bare forwards in full batches: {1e3 * per_image:.2f} ms an image")
    print(f"ratio audit / (forwards + backwards): {seconds / inside:.3f}")


if __name__ == "__main__":
    main()
