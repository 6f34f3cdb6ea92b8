"""How near few, well-placed points come to the area under a curve of 200 steps, on CamVid with networks trained here.

    python benchmarks/curves.py --root <folder> --network unet

Prints, by way of placing the points and by their number, the mean error of the area between floor and 1, its 95th percentile
and the share of curves within 0.01, over deletion and insertion of all maps and targets.
"""

import argparse

import torch
from models import NETWORKS, batches, datamodule, trained
from torch import Tensor

from segaudit.attribution import Explainer, Random, Saliency, SegGradCAM, attribution_context
from segaudit.functional import deletion_auc, insertion_auc
from segaudit.intervention import Intervention, Probe
from segaudit.intervention.curve import Curve, spaced
from segaudit.intervention.rank import pixel_ranks
from segaudit.target import TargetSelector

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
    errors: dict[tuple[str, int], list[Tensor]] = {}
    found = 0
    for batch in batches(datamodule("camvid", arguments.root)):
        if found >= arguments.images:
            break
        images = batch["image"][: arguments.images - found]
        found += len(images)
        with attribution_context(model):
            targets = TargetSelector(min_area=0.02, max_per_image=2)(model(images).detach())
            probe = Probe(model, images, targets, Intervention(max_batch=32))
            for explainer in EXPLAINERS.values():
                maps = explainer.explain(probe)
                for insert in (False, True):
                    dense = exact(probe, maps, insert)
                    truth = area(dense, insert)
                    for points in POINTS:
                        curve = (probe.insertion_curve if insert else probe.deletion_curve)(maps, points)
                        errors.setdefault(("placed", points), []).append((area(curve, insert) - truth).abs())
                        pixels = maps[0].numel()
                        for way, counts in (("quadratic", spaced(points, pixels, 2)), ("even", spaced(points, pixels, 1))):
                            # The dense curve stands in for the model: linear between its 200 steps.
                            sparse = along(dense, counts.double() / pixels)
                            errors.setdefault((way, points), []).append((area(sparse, insert) - truth).abs())
    print("| points are | forwards a curve | mean error | 95th percentile | within 0.01 | curves |")
    print("| --- | --- | --- | --- | --- | --- |")
    for (way, points), values in sorted(errors.items()):
        all_errors = torch.cat(values)
        scored = all_errors[all_errors.isfinite()]
        share = float((scored <= 0.01).double().mean())
        print(f"| {way} | {points} | {scored.mean():.4f} | {scored.quantile(0.95):.4f} | {share:.1%} | {len(scored)} |")


def area(curve: Curve, insert: bool) -> Tensor:
    return (insertion_auc if insert else deletion_auc)(curve.values, curve.fractions)


def exact(probe: Probe, maps: Tensor, insert: bool) -> Curve:
    """The curve at 200 even steps."""
    rank, pixels = pixel_ranks(maps), maps[0].numel()
    counts = spaced(REFERENCE - 1, pixels, 1).tolist()
    scores = [probe.score_without(rank >= count if insert else rank < count) for count in counts]
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
