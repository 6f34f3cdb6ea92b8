"""The same numbers by us and by peers: seconds and peak memory, as ratios measured in one run, and how far they differ.

    python benchmarks/same.py --root <CamVid> [--network unet] [--images 8] [--per-image 3] [--threads 2] [--json FILE]

Same model, images, targets, maps, fills, sets of regions and noise; single precision. Each contender in a process of its
own, once to warm up and `--rounds` times with a clock. A peer gets all targets as one batch. captum has as many images in a
pass of effects as we have, and more in one of infidelity, in each of which it repeats the unperturbed images. "Differ by" is
the largest difference over the largest value.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from contest import Batch, Contender, Outcome, contend, figures, parser, write
from torch import Tensor

from segaudit.attribution import Saliency, SegGradCAM, attribution_context
from segaudit.attribution.layer import layer_of
from segaudit.evidence.subsets import random_subsets, subset_effects, subset_sums
from segaudit.forwards.target import target_logit
from segaudit.functional import infidelity, max_sensitivity, relevance_mass
from segaudit.intervention import GaussianNoise, SuperpixelRegions

#: Most images in a pass; for both as many as make whole rounds of the targets.
MOST = 32
#: One scale.
REGIONS = SuperpixelRegions([64])
#: Versions of an image for max-sensitivity, and their noise in units of its standard deviation.
VERSIONS, NOISE = 8, 0.1
#: What is compared: ours and the peer's.
CONTESTS = {
    "effects of 64 superpixels, captum `FeatureAblation`": ("ours_effects", "captum_ablation"),
    "infidelity, 48 sets of regions, captum `infidelity`": ("ours_infidelity", "captum_infidelity"),
    f"max-sensitivity of saliency, {VERSIONS} versions, Quantus `MaxSensitivity`": (
        "ours_sensitivity",
        "quantus_sensitivity",
    ),
    "Seg-Grad-CAM, pytorch-grad-cam `GradCAM`": ("ours_cam", "grad_cam"),
    "mass in the region, Quantus `RelevanceMassAccuracy`": ("ours_mass", "quantus_mass"),
}


def ours_effects(batch: Batch, _: int) -> Tensor:
    with attribution_context(batch.model):
        probe = batch.probe(_most(batch), regions=REGIONS)
        return probe.effect_map() * probe.confidence.view(-1, 1, 1)  # captum's are in units of S


def captum_ablation(batch: Batch, _: int) -> Tensor:
    from captum.attr import FeatureAblation

    with torch.no_grad():
        labels = batch.probe(MOST, regions=REGIONS).regions[0][batch.targets.image_index]
        effects = FeatureAblation(lambda images: _scores(batch, images)).attribute(
            batch.repeated,
            baselines=batch.filled,
            feature_mask=labels[:, None],
            perturbations_per_eval=_most(batch) // len(batch.targets),
        )
        return effects[:, 0]


def ours_infidelity(batch: Batch, _: int) -> Tensor:
    with attribution_context(batch.model):
        probe = batch.probe(_most(batch))
        sets = random_subsets(probe)
        effects, sums = subset_effects(probe, sets), subset_sums(batch.maps, sets, batch.targets)
        # captum's is in units of S squared, and does not mind the sign.
        least = torch.minimum(infidelity(sums, effects), infidelity(-sums, effects))
        return least * effects.double().square().mean(dim=1) * probe.confidence.double().square()


def captum_infidelity(batch: Batch, _: int) -> Tensor:
    from captum.metrics import infidelity as peer

    with torch.no_grad():
        sets = random_subsets(batch.probe(MOST))
        draws, turn = len(sets.size), 0
        number = torch.arange(len(batch.targets))

        def perturb(images: Tensor) -> tuple[Tensor, Tensor]:
            nonlocal turn
            versions = len(images) // len(number)  # of each target, one after another
            draw = torch.arange(turn, turn + versions).repeat(len(number))
            target = number.repeat_interleave(versions)
            turn += versions
            image = batch.targets.image_index[target]
            chosen = (
                sets.member[image, draw].gather(1, sets.labels[image].flatten(1)).view(len(images), 1, *images.shape[2:])
            )
            return chosen.float().expand_as(images), torch.where(chosen, batch.filled[target], images)

        return peer(
            lambda images: _scores(batch, images, number.repeat_interleave(len(images) // len(number))),
            perturb,
            batch.repeated,
            # A value for each channel is asked for, of which only the sum counts.
            torch.cat([batch.maps[:, None], torch.zeros_like(batch.repeated[:, 1:])], dim=1),
            n_perturb_samples=draws,
            max_examples_per_batch=8 * len(batch.targets),  # each pass has one of the unperturbed images beside it
            normalize=True,
        )


def ours_sensitivity(batch: Batch, _: int) -> Tensor:
    with attribution_context(batch.model):
        probe, explainer = batch.probe(MOST), Saliency()
        versions = [explainer.explain(probe.at(noise(probe.images))) for noise in _noises()]
        kept = torch.ones(len(batch.targets), VERSIONS, dtype=torch.bool)
        return max_sensitivity(explainer.explain(probe), torch.stack(versions, dim=1), kept)


def quantus_sensitivity(batch: Batch, _: int) -> Tensor:
    from quantus.helpers.model.pytorch_model import PyTorchModel
    from quantus.metrics.robustness.max_sensitivity import MaxSensitivity

    noises = _noises()

    def explain(model: Any, inputs: Any, targets: Any, **_: Any) -> Any:
        images = torch.as_tensor(inputs).requires_grad_()
        (gradient,) = torch.autograd.grad(target_logit(batch.model(images), batch.targets).sum(), images)
        return gradient.abs().amax(dim=1, keepdim=True).numpy()

    def perturb(**_: Any) -> Any:
        return next(noises)(batch.images)[batch.targets.image_index].flatten(1).numpy()  # follows from the image

    metric = MaxSensitivity(
        nr_samples=VERSIONS,
        abs=False,
        normalise=False,
        perturb_func=perturb,
        return_nan_when_prediction_changes=False,
        disable_warnings=True,
    )
    metric.explain_func, metric.explain_func_kwargs = explain, {}
    images = batch.repeated.numpy()
    model = PyTorchModel(batch.model, channel_first=True)
    found = metric.evaluate_batch(model, images, np.arange(len(images)), explain(model, images, None))
    return torch.as_tensor(np.asarray(found))


def ours_cam(batch: Batch, _: int) -> Tensor:
    with attribution_context(batch.model):
        maps = SegGradCAM().explain(batch.probe(MOST))
    return maps / maps.flatten(1).amax(dim=1).view(-1, 1, 1)


def grad_cam(batch: Batch, _: int) -> Tensor:
    from pytorch_grad_cam import GradCAM

    regions = zip(batch.targets.class_index.tolist(), batch.targets.region, strict=True)
    targets = [lambda logits, c=c, region=region: logits[c][region].mean() for c, region in regions]
    layer = layer_of(batch.probe(MOST), None).module  # known by now
    with GradCAM(model=batch.model, target_layers=[layer]) as cam:
        return torch.as_tensor(cam(input_tensor=batch.repeated, targets=targets))


def ours_mass(batch: Batch, _: int) -> Tensor:
    return relevance_mass(batch.maps, batch.targets.region)


def quantus_mass(batch: Batch, _: int) -> Tensor:
    from quantus import RelevanceMassAccuracy

    metric = RelevanceMassAccuracy(abs=False, normalise=False, disable_warnings=True)
    found = metric.evaluate_batch(
        a_batch=batch.maps.clamp_min(0)[:, None].numpy(), s_batch=batch.targets.region[:, None].numpy()
    )
    return torch.as_tensor(np.asarray(found))


CONTENDERS: dict[str, Contender] = {
    one.__name__: one
    for one in (
        *(ours_effects, ours_infidelity, ours_sensitivity, ours_cam, ours_mass),
        *(captum_ablation, captum_infidelity, quantus_sensitivity, grad_cam, quantus_mass),
    )
}


def _most(batch: Batch) -> int:
    return max(1, MOST // len(batch.targets)) * len(batch.targets)


def _scores(batch: Batch, images: Tensor, target: Tensor | None = None) -> Tensor:
    """S of the targets ``target`` ``(M,)``, in turns unless told, at M images."""
    if target is None:
        target = torch.arange(len(images)) % len(batch.targets)
    region = batch.targets.region[target].flatten(1)
    chosen = batch.model(images).softmax(dim=1)[torch.arange(len(images)), batch.targets.class_index[target]]
    return (chosen.flatten(1) * region).sum(dim=1) / region.sum(dim=1)


def _noises() -> Iterator[GaussianNoise]:
    return (GaussianNoise(NOISE, seed) for seed in range(VERSIONS))


def main() -> None:
    arguments = parser(__doc__).parse_args()
    if arguments.contender:
        return contend(arguments, CONTENDERS)
    batch = Batch(arguments)
    print(f"{len(batch.targets)} targets in {len(batch.images)} images, {arguments.network}, {arguments.threads} threads")
    del batch
    print("| what, peer | differ by | seconds, ours and theirs | ratio | peak memory, ours and theirs, MiB |")
    print("| --- | --- | --- | --- | --- |")
    found = []
    for what, (ours, peer) in CONTESTS.items():
        outcome = Outcome(figures(ours), figures(peer))
        mine, theirs = outcome.ours.result, outcome.theirs.result
        apart = float((mine - theirs).abs().max() / theirs.abs().max())
        found.append({"what": what, "apart": apart} | outcome.plain())
        print(f"| {what} | {apart:.0e} | {outcome.cells}", flush=True)
    write(arguments.json, found)
    return None


if __name__ == "__main__":
    main()
