"""What CAMs of several targets an image cost beside pytorch_grad_cam's: ratios measured in one run.

    python benchmarks/cam.py [--images 4] [--classes 4] [--size 128] [--layer NAME] [--repeats 5] [--threads 1]

Both explain every class of every image at the same layer of one U-Net. Ours find the layer themselves unless it is named,
and are timed one by one as well as all together on one probe, as in an audit. Theirs are timed in their two uses, one
call a target and one call for all with the images repeated; the faster counts. Repeats are interleaved, and medians taken.
"""

import argparse
from collections.abc import Callable
from copy import deepcopy
from statistics import median

import pytorch_grad_cam as peer
import segmentation_models_pytorch as smp
import torch
from pytorch_grad_cam.utils.model_targets import SemanticSegmentationTarget
from torch import Tensor

from segaudit.attribution import Explainer, GradCAMPlusPlus, HiResCAM, LayerCAM, SegGradCAM, attribution_context
from segaudit.attribution.layer import find_layer
from segaudit.forwards import Probe
from segaudit.forwards.cost import now
from segaudit.forwards.target import Targets
from segaudit.intervention import Intervention

PAIRS: dict[str, type[Explainer]] = {
    "GradCAM": SegGradCAM,
    "GradCAMPlusPlus": GradCAMPlusPlus,
    "LayerCAM": LayerCAM,
    "HiResCAM": HiResCAM,
}


def stripes(images: int, classes: int, size: int) -> Targets:
    """Each image's classes in horizontal stripes of equal height."""
    labels = (torch.arange(size) * classes // size)[:, None].expand(size, size)
    region = torch.stack([labels == c for c in range(classes)])
    return Targets(
        torch.arange(images).repeat_interleave(classes), torch.arange(classes).repeat(images), region.repeat(images, 1, 1)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--classes", type=int, default=4)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--layer", help="name of a module; the one that our CAMs find unless told")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(arguments.threads)

    device = torch.device(arguments.device)
    model = smp.Unet("resnet18", encoder_weights=None, classes=arguments.classes).to(device).eval()
    images = torch.randn(arguments.images, 3, arguments.size, arguments.size, device=device)
    cpu = stripes(arguments.images, arguments.classes, arguments.size)
    targets = Targets(cpu.image_index.to(device), cpu.class_index.to(device), cpu.region.to(device))
    layer = arguments.layer or find_layer(model, images[:1])

    rows = images[targets.image_index]
    classes, regions = cpu.class_index.tolist(), cpu.region.float().numpy()
    wanted = [SemanticSegmentationTarget(c, region) for c, region in zip(classes, regions, strict=True)]

    def together() -> None:
        with attribution_context(model):
            probe = Probe(model, images, targets, Intervention())
            for ours in PAIRS.values():
                ours(layer=arguments.layer).explain(probe)  # type: ignore[call-arg]

    jobs: dict[str, Callable[[], object]] = {"ours, all on one probe": together}
    for name, ours in PAIRS.items():
        theirs = deepcopy(model)  # it leaves hooks and gradients behind
        cam = getattr(peer, name)(model=theirs, target_layers=[theirs.get_submodule(layer)])

        def single(cam: Callable[..., Tensor] = cam) -> None:
            for row, target in zip(rows.split(1), wanted, strict=True):
                cam(input_tensor=row, targets=[target])

        explainer = ours(layer=arguments.layer)  # type: ignore[call-arg]
        jobs[f"ours, {name}"] = lambda explainer=explainer: explainer(model, images, targets)
        jobs[f"theirs, {name}, a call a target"] = single
        jobs[f"theirs, {name}, one call"] = lambda cam=cam: cam(input_tensor=rows, targets=wanted)

    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for repeat in range(arguments.repeats + 1):
        for name, job in jobs.items():
            started = now(device)
            job()
            if repeat:  # the first warms up
                seconds[name].append(now(device) - started)
    middle = {name: median(values) for name, values in seconds.items()}

    print(f"device {device}, {arguments.threads} threads, {arguments.size}x{arguments.size}, layer {layer}")
    print(f"{arguments.images} images, {len(targets)} targets; milliseconds, median of {arguments.repeats}")
    print(f"{'':18}{'ours':>8}{'theirs, a call a target':>26}{'theirs, one call':>18}{'ratio':>8}")
    total = 0.0
    for name in PAIRS:
        mine = middle[f"ours, {name}"]
        each, batch = middle[f"theirs, {name}, a call a target"], middle[f"theirs, {name}, one call"]
        total += min(each, batch)
        print(f"{name:18}{1e3 * mine:8.0f}{1e3 * each:26.0f}{1e3 * batch:18.0f}{min(each, batch) / mine:8.1f}")
    all_four = middle["ours, all on one probe"]
    print(f"{'all four':18}{1e3 * all_four:8.0f}{'':26}{1e3 * total:18.0f}{total / all_four:8.1f}")


if __name__ == "__main__":
    main()
