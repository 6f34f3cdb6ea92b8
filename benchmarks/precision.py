"""What masked forwards in half precision save, and what they cost: the same audit twice, on CamVid.

    python benchmarks/precision.py --root <CamVid> [--network unet] [--precision bf16-mixed]

All default explainers and scores. Prints, for each score, its mean in single precision, the mean over explainers of how far
the mean in half precision is from it, the mean and the largest difference of one map's score, and the rank correlation of
the scores of all maps; then the seconds of both audits, whose batches take turns.
"""

import argparse
import time
from itertools import islice

import torch
from models import NETWORKS, batches, datamodule, trained
from torch import Tensor

from segaudit import Auditor, Intervention, TargetSelector
from segaudit.attribution import attribution_context
from segaudit.forwards.batching import Precision
from segaudit.statistics import spearman

COSTS = ("seconds", "forwards")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", required=True, help="CamVid's folder")
    parser.add_argument("--network", choices=NETWORKS, default="unet")
    parser.add_argument("--weights", default="runs/benchmarks", help="folder of the trained weights")
    parser.add_argument("--precision", default="bf16-mixed")
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    model = trained(arguments.network, "camvid", arguments.root, arguments.weights)
    data = datamodule("camvid", arguments.root)
    images = torch.cat([batch["image"][:1] for batch in islice(batches(data), arguments.images)])
    with attribution_context(model):
        masks = model(images).argmax(dim=1)  # the same targets, whatever the precision
    precisions: tuple[Precision, Precision] = ("32-true", arguments.precision)
    auditors = {precision: _auditor(precision) for precision in precisions}
    seconds = dict.fromkeys(precisions, 0.0)
    for start in range(0, len(images), arguments.batch):
        rows = slice(start, start + arguments.batch)
        for precision, auditor in auditors.items():
            started = time.perf_counter()
            auditor.update(model, images[rows], masks[rows], [str(i) for i in range(len(images))[rows]])
            seconds[precision] += time.perf_counter() - started

    single, half = (auditor.records() for auditor in auditors.values())
    explainers = list(auditors["32-true"].explainers)
    print(f"{arguments.network}: {len(single) // len(explainers)} targets, {len(single)} maps, {arguments.threads} threads")
    print("| score | single precision | means differ by | maps differ by | at most | rank correlation |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name in auditors["32-true"].directions:
        if name in COSTS:
            continue
        ours, theirs = (torch.tensor([row[name] for row in rows], dtype=torch.float64) for rows in (single, half))
        known = ours.isfinite() & theirs.isfinite()
        of = torch.tensor([explainers.index(row["explainer"]) for row in single])
        means = [_means(values.where(known, torch.nan), of, len(explainers)) for values in (ours, theirs)]
        apart = (ours - theirs).abs()[known]
        print(
            f"| {name} | {ours[known].mean():.3f} | {(means[0] - means[1]).abs().nanmean():.4f} | {apart.mean():.4f} | "
            f"{apart.max():.3f} | {spearman(ours[known], theirs[known]).value:.3f} |"
        )
    first, second = seconds.values()
    print(f"\nseconds: {first:.1f}, {second:.1f}, ratio {first / second:.2f}")


def _auditor(precision: Precision) -> Auditor:
    selector = TargetSelector(region="ground_truth", min_area=0.02, max_per_image=2)
    return Auditor(intervention=Intervention(max_batch=32, precision=precision), selector=selector)


def _means(values: Tensor, of: Tensor, groups: int) -> Tensor:
    return torch.stack([values[of == group].nanmean() for group in range(groups)])


if __name__ == "__main__":
    main()
