"""How near few, well-placed points come to the area under a curve of 200 steps, on CamVid with networks trained here.

    python benchmarks/curves.py --root <folder> --network unet

Prints, by way of placing the points and by their number, the mean error of the area between floor and 1, its 95th percentile
and the share within 0.01, over deletion and insertion of all maps and targets; the share of maps of which both are; and how
near `curve_error` comes. Images are spread over the validation split.
"""

import argparse
from itertools import islice

import torch
from models import NETWORKS, batches, datamodule, trained
from torch import Tensor

from segaudit.attribution import Explainer, Random, Saliency, SegGradCAM, attribution_context
from segaudit.forwards import Probe
from segaudit.forwards.curve import Curve, spaced
from segaudit.forwards.removal_order import pixel_ranks
from segaudit.forwards.target import TargetSelector
from segaudit.functional import curve_error, deletion_auc, insertion_auc
from segaudit.intervention import Intervention
from segaudit.statistics import spearman

EXPLAINERS: dict[str, Explainer] = {"saliency": Saliency(), "seg_grad_cam": SegGradCAM(), "random": Random()}
POINTS = (8, 12, 16)
REFERENCE = 200


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", default="data/camvid", help="CamVid's folder")
    parser.add_argument("--network", choices=NETWORKS, required=True)
    parser.add_argument("--weights", default="runs/benchmarks", help="folder of the trained weights")
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    model = trained(arguments.network, "camvid", arguments.root, arguments.weights)
    errors: dict[tuple[str, int], list[Tensor]] = {}  # of deletion and insertion, (2, N) each
    estimates: dict[int, list[Tensor]] = {}
    for found, batch in enumerate(islice(batches(datamodule("camvid", arguments.root)), arguments.images), start=1):
        images = batch["image"][:1]
        with attribution_context(model):
            targets = TargetSelector(min_area=0.02, max_per_image=2)(model(images).detach())
            probe = Probe(model, images, targets, Intervention(max_batch=32))
            for explainer in EXPLAINERS.values():
                maps = explainer.explain(probe)
                dense = [exact(probe, maps, insert) for insert in (False, True)]
                for points in POINTS:
                    placed = [probe.deletion_curve(maps, points), probe.insertion_curve(maps, points)]
                    errors.setdefault(("placed", points), []).append(apart(placed, dense))
                    found_errors = curve_error(placed[0].error, placed[1].error, probe.confidence, probe.filled_confidence)
                    estimates.setdefault(points, []).append(found_errors)
                    pixels = maps[0].numel()
                    for way, counts in (("quadratic", spaced(points, pixels, 2)), ("even", spaced(points, pixels, 1))):
                        # The dense curve stands in for the model: linear between its 200 steps.
                        sparse = [along(one, counts.double() / pixels) for one in dense]
                        errors.setdefault((way, points), []).append(apart(sparse, dense))
        print(f"{found} images", flush=True)
    print("| points are | forwards a curve | mean error | 95th percentile | within 0.01 | both areas of a map | curves |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for (way, points), values in sorted(errors.items()):
        pairs = torch.cat(values, dim=1)
        pairs = pairs[:, pairs.isfinite().all(dim=0)]
        shares = [float((of <= 0.01).double().mean()) for of in (pairs, pairs.amax(dim=0))]
        middle = f"{pairs.mean():.4f} | {pairs.quantile(0.95):.4f} | {shares[0]:.1%} | {shares[1]:.1%}"
        print(f"| {way} | {points} | {middle} | {pairs.numel()} |")
    print()
    for points, found_estimates in estimates.items():
        estimated, real = torch.cat(found_estimates), torch.cat(errors["placed", points], dim=1).amax(dim=0)
        known = estimated.isfinite() & real.isfinite()
        estimated, real = estimated[known], real[known]
        share, rank = float((real <= estimated).double().mean()), spearman(estimated, real).value
        print(
            f"{points} points: curve_error is {estimated.mean():.4f} on average, the larger error {real.mean():.4f}; "
            f"it is no smaller than that for {share:.0%} of the maps; rank correlation {rank:.2f}."
        )


def apart(curves: list[Curve], dense: list[Curve]) -> Tensor:
    """Error of the areas under a deletion and an insertion curve, ``(2, N)``."""
    pairs = zip(curves, dense, (False, True), strict=True)
    return torch.stack([(area(curve, insert) - area(exactly, insert)).abs() for curve, exactly, insert in pairs])


def area(curve: Curve, insert: bool) -> Tensor:
    return (insertion_auc if insert else deletion_auc)(curve.values, curve.fractions)


def exact(probe: Probe, maps: Tensor, insert: bool) -> Curve:
    """The curve at 200 even steps."""
    rank, pixels = pixel_ranks(maps, probe.tie_order[probe.targets.image_index]), maps[0].numel()
    counts = spaced(REFERENCE - 1, pixels, 1).tolist()
    scores = [probe.confidence_without(rank >= count if insert else rank < count) for count in counts]
    values = torch.stack(scores, dim=1) / probe.reference[:, None]
    return Curve(values, torch.tensor(counts).double().expand(len(values), -1) / pixels, torch.zeros(len(values)))


def along(curve: Curve, fractions: Tensor) -> Curve:
    nodes = curve.fractions.contiguous()
    at = fractions.expand(len(nodes), -1).contiguous()
    after = torch.searchsorted(nodes, at).clamp(1, nodes.shape[1] - 1)
    low, high = nodes.gather(1, after - 1), nodes.gather(1, after)
    start, end = curve.values.double().gather(1, after - 1), curve.values.double().gather(1, after)
    return Curve(torch.lerp(start, end, (at - low) / (high - low)), at, curve.error)


if __name__ == "__main__":
    main()
