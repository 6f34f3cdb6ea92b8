"""How well each explainer finds a planted cue that the network is known to use.

    python benchmarks/cue.py [--weights runs/benchmarks] [--images 24] [--networks unet deeplabv3plus segformer]

Trains a network on scenes whose tag gives the class away (or loads it), and prints a Markdown table of the share of the
positive mass that lies on the tag, by explainer, beside the oracle's, which gives a pixel of the tag as much as one of the
object. `cue_effect` says how far the score falls when the tag is filled: what there is to find.
"""

import argparse

import torch
from models import NETWORKS, batches, datamodule, trained

from segaudit import Auditor, Intervention, TargetSelector
from segaudit.attribution import DEA, LIME, AblationCAM, Explainer, IntegratedGradients, KernelSHAP, ScoreCAM
from segaudit.attribution.catalogue import catalogue
from segaudit.intervention import ConstantFill

#: Cheaper than by default; the rest as it is.
OWN: dict[str, Explainer] = {
    "kernel_shap": KernelSHAP(samples=300),
    "lime": LIME(samples=150),
    "score_cam": ScoreCAM(channels=64),
    "ablation_cam": AblationCAM(channels=64),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default="runs/benchmarks")
    parser.add_argument("--images", type=int, default=24)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    table: dict[str, dict[str, float]] = {}
    for name in arguments.networks:
        model = trained(name, "planted", "", arguments.weights)
        explainers = {entry.name: OWN.get(entry.name) or entry.cls() for entry in catalogue()}
        explainers["dea on integrated_gradients"] = DEA(IntegratedGradients())
        if name == "segformer":  # a normalisation that has no rule
            del explainers["lrp"]
        else:
            del explainers["attention_rollout"]
        auditor = Auditor(
            explainers,
            ["cue_mass", "cue_effect"],
            TargetSelector(classes=[1, 2, 3]),
            Intervention(ConstantFill(), max_batch=32),  # removes these scenes whole
        )
        seen = 0
        for batch in batches(datamodule("planted", "")):
            if seen >= arguments.images:
                break
            auditor.update(model, batch["image"], batch["mask"], batch["id"], batch["cue"])
            seen += len(batch["image"])
            print(f"{name}: {seen} images", flush=True)
        for key, value in auditor.compute().items():
            explainer, _, score = key.rpartition("/")
            if score in ("cue_mass", "cue_effect"):
                table.setdefault(explainer or score, {})[name] = float(value)
    table = dict(sorted(table.items(), key=lambda item: -sum(item[1].values()) / len(item[1])))
    print(f"\n| explainer | {' | '.join(arguments.networks)} |\n|{' --- |' * (len(arguments.networks) + 1)}")
    for explainer, row in table.items():
        print(f"| {explainer} | {' | '.join(f'{row[n]:.3f}' if n in row else '-' for n in arguments.networks)} |")


if __name__ == "__main__":
    main()
