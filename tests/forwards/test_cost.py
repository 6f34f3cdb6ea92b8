"""What explanations cost in passes of images through the network: exact, whoever's method it is."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from _models import Breaks, Counting, Net, differences, images, logits_of, state_of
from torch import Tensor, nn

from segaudit.attribution import (
    DEA,
    LRP,
    AblationCAM,
    Captum,
    Edges,
    EigenCAM,
    ExpectedGradients,
    Explainer,
    GuidedBackprop,
    HiResCAM,
    InputXGradient,
    IntegratedGradients,
    KernelSHAP,
    Occlusion,
    PytorchGradCAM,
    Random,
    RegionEffects,
    Saliency,
    ScoreCAM,
    SegGradCAM,
    SmoothGrad,
    TargetMask,
    attribution_context,
)
from segaudit.auditor import Auditor
from segaudit.forwards import Probe
from segaudit.forwards.cost import Cost, PassCounter
from segaudit.forwards.target import TargetSelector
from segaudit.intervention import ConstantFill, GridRegions, Intervention, MeanFill

#: Four images of one target each, regions of two partitions, a layer of five channels.
B, R, K, LAYER = 4, 4 + 9, 5, "features.4"
FEW = Intervention(ConstantFill(3.0), GridRegions([4, 9]), steps=3, max_batch=7)
FORWARD, BOTH = 1, 3


def probe_of(model: nn.Module | None = None, per_image: int = 1, intervention: Intervention = FEW) -> Probe:
    model, x = model or Net(), images(B)
    logits = logits_of(model, x)
    return Probe(model, x, TargetSelector(max_per_image=per_image)(logits), intervention, logits)


def cost(explainer: Explainer, probe: Probe | None = None) -> Cost:
    probe = probe or probe_of()
    with attribution_context(probe.model), probe.measure_cost() as bill:
        explainer.explain(probe)
    return bill


CASES: dict[str, tuple[Callable[[], Explainer], float]] = {
    "random": (Random, 0),
    "target_mask": (TargetMask, 0),
    "edges": (Edges, 0),
    "saliency": (Saliency, B * BOTH),
    "input_x_gradient": (InputXGradient, B * BOTH),
    "guided_backprop": (GuidedBackprop, B * BOTH),
    "integrated_gradients": (lambda: IntegratedGradients(5), 5 * B * BOTH),
    "integrated_gradients_starts": (lambda: IntegratedGradients(5, [ConstantFill(), MeanFill()]), 10 * B * BOTH),
    "expected_gradients": (lambda: ExpectedGradients(6), 6 * B * BOTH),
    "smooth_grad": (lambda: SmoothGrad(draws=3), 3 * B * BOTH),
    "seg_grad_cam": (lambda: SegGradCAM(LAYER), B * BOTH),
    "seg_grad_cam_found": (SegGradCAM, B * BOTH),  # the search for the layer is charged to nobody
    "hi_res_cam": (lambda: HiResCAM(LAYER), B * BOTH),
    "eigen_cam": (lambda: EigenCAM(LAYER), B),
    "score_cam": (lambda: ScoreCAM(LAYER), B + K * B),
    "score_cam_few": (lambda: ScoreCAM(LAYER, channels=2), B + 2 * B),
    "region_effects": (RegionEffects, R * B),
    "occlusion": (lambda: Occlusion(window=6, stride=6), 2 * 2 * B),
    # The fill's score belongs to the ends of the short curves.
    "dea": (DEA, R * B + B * BOTH + 6 * len(DEA().weights) * B + B),
    "dea_plain": (lambda: DEA(weights=[0.5]), R * B + B * BOTH),
    "dea_on_region_effects": (lambda: DEA(RegionEffects(), weights=[0.5]), R * B),  # asked for twice, done once
    "captum_saliency": (lambda: Captum("captum.attr.Saliency"), B * BOTH),
    "captum_integrated_gradients": (
        lambda: Captum("captum.attr.IntegratedGradients", call={"n_steps": 8}),
        8 * B * BOTH,
    ),
    "captum_occlusion": (
        lambda: Captum("captum.attr.FeatureAblation"),
        B + 4 * B,  # as they are, and without each region of the coarsest partition
    ),
    "captum_layer": (lambda: Captum("captum.attr.LayerGradCam", layer=LAYER), B * BOTH),
    "pytorch_grad_cam": (lambda: PytorchGradCAM(layer=LAYER), B * BOTH),
    "pytorch_grad_cam_eigen": (lambda: PytorchGradCAM("pytorch_grad_cam.EigenCAM", layer=LAYER), B),
}


@pytest.mark.parametrize(("make", "expected"), CASES.values(), ids=CASES.keys())
def test_an_explainer_costs_what_it_must(make: Callable[[], Explainer], expected: float) -> None:
    assert cost(make()).forwards == expected
    assert cost(make()).forwards == expected  # the second time as well


@pytest.mark.parametrize("form", ["dict", "logits"])
def test_whatever_the_model_returns(form: str) -> None:
    assert cost(Saliency(), probe_of(Net(form=form))).forwards == B * BOTH
    assert cost(SegGradCAM(LAYER), probe_of(Net(form=form))).forwards == B * BOTH


def test_each_further_target_of_an_image_costs_a_backward_pass_and_curves() -> None:
    probe = probe_of(per_image=3)
    rounds, targets = int(probe.targets.position.max()) + 1, len(probe.targets)
    assert rounds > 1
    assert cost(Saliency(), probe).forwards == B * (1 + 2 * rounds)
    assert cost(RegionEffects(), probe).forwards == R * B
    dea = cost(DEA(), probe_of(per_image=3))
    assert dea.forwards == R * B + B * (1 + 2 * rounds) + 6 * len(DEA().weights) * targets + B


def test_forwards_are_those_that_the_model_saw() -> None:
    """Of all explainers that run none but forwards."""
    for make in (
        RegionEffects,
        lambda: KernelSHAP(40),
        lambda: ScoreCAM("model." + LAYER),
        lambda: AblationCAM("model." + LAYER),
    ):
        probe = probe_of(Counting(Net()))
        before = probe.model.images
        assert cost(make(), probe).forwards == probe.model.images - before > 0


def test_a_backward_pass_that_starts_in_the_middle_is_counted() -> None:
    pytest.importorskip("zennit")
    net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 2, 1))
    probe = probe_of(net)
    find = 1 + 2 + 2  # one image: a forward, which modules matter, whether all passes through the last layer
    assert cost(LRP(), probe).forwards == find + B * (1 + 2 + 2)


def test_shared_work_stands_on_every_bill_once() -> None:
    probe = probe_of()
    source = Saliency()
    with attribution_context(probe.model):
        first, again, dea, later = (cost(e, probe) for e in (source, source, DEA(source, [0.5]), RegionEffects()))
    assert (first.forwards, first.own_forwards) == (B * BOTH, 0)
    assert again.forwards == B * BOTH
    assert dea.forwards == R * B + B * BOTH
    assert later.forwards == R * B
    cams = probe_of()
    assert [cost(cam, cams).forwards for cam in (SegGradCAM(LAYER), HiResCAM(LAYER))] == [B * BOTH] * 2


def test_the_order_of_explainers_does_not_change_their_bills() -> None:
    """What others or a metric asked for before, filled images say, is charged all the same."""
    makers: list[Callable[[], Explainer]] = [
        Saliency,
        RegionEffects,
        DEA,
        lambda: KernelSHAP(40),
        lambda: SmoothGrad(draws=2),
    ]
    two = Intervention([ConstantFill(3.0), MeanFill()], GridRegions([4, 9]), steps=3)
    for intervention in (FEW, two):
        one, other = probe_of(intervention=intervention), probe_of(intervention=intervention)
        with attribution_context(other.model):
            other.effect_map()
            assert float(other.filled_confidence.sum()) > 0
        forth = [cost(make(), one).forwards for make in makers]
        back = [cost(make(), other).forwards for make in reversed(makers)][::-1]
        assert forth == back
    assert (
        forth[2] == R * B + B * BOTH + 6 * len(DEA().weights) * B + B
    )  # an image is filled only by the fills that its targets have
    assert forth[4] == 2 * B * BOTH  # a gradient does not ask for fills


def test_nothing_stays_and_errors_do_not_matter() -> None:
    model = Breaks(nth=3)
    probe = Probe(model, images(B), TargetSelector(max_per_image=1)(logits_of(model.net, images(B))), FEW)
    before = state_of(model)
    with pytest.raises(RuntimeError, match="the model broke"), attribution_context(model), probe.measure_cost():
        RegionEffects().explain(probe)
    assert differences(before, state_of(model)) == []
    with attribution_context(model), probe.measure_cost() as bill:
        Saliency().explain(probe)
    assert bill.forwards == B * BOTH
    assert differences(before, state_of(model)) == []


def test_training_is_not_counted_and_does_not_notice() -> None:
    net, x = Net(), images(B)
    expected = torch.autograd.grad(net(x).sum(), net.head.weight)[0]
    meter = PassCounter(net)
    with meter.on(), meter.on():
        logits = net(x)
    assert meter.passes == B
    net(x)  # off
    (found,) = torch.autograd.grad(logits.sum(), net.head.weight)
    assert torch.equal(found, expected)
    assert meter.passes == B  # off as well
    with meter.on():
        net(x).sum().backward()
        with torch.no_grad():
            net(x)
        net(x=x).sum().backward()
    assert meter.passes == B * (1 + 3 + 1 + 3)


def test_one_image_in_two_forward_passes_is_counted_where_it_went() -> None:
    net, x = Net(), images(B).requires_grad_(True)
    meter = PassCounter(net)
    with meter.on():
        one, other = net(x), net(x)
        torch.autograd.grad(one.sum(), x)
        assert meter.passes == 2 * B + 2 * B
        torch.autograd.grad(other.sum(), x)
        assert meter.passes == 2 * B + 4 * B
        torch.autograd.grad(net(x).sum() + net(x).sum(), x)
        assert meter.passes == 4 * B + 8 * B


class Plain(Explainer):
    """A user's own, which knows nothing of bills."""

    def attribute(self, probe: Probe) -> Tensor:
        x = probe.images.clone().requires_grad_(True)
        probe.model(probe.model(x)).sum().backward()
        return x.grad.abs().sum(dim=1)[probe.targets.image_index]


def test_a_user_s_explainer_is_counted_too() -> None:
    assert cost(Plain(), probe_of(nn.Conv2d(3, 3, 1))).forwards == 2 * B * BOTH


def audited(explainers: list[Any], metrics: list[str]) -> tuple[dict[str, Tensor], int]:
    auditor = Auditor(explainers, metrics, TargetSelector(max_per_image=3), FEW)
    batch = auditor.update(Net(), images(B))
    return {name: scores["forwards"] for name, scores in batch.scores.items()}, len(batch.targets)


def test_in_an_audit() -> None:
    explainers = ["region_effects", "saliency", "random", DEA()]
    alone, n = audited(explainers, ["forwards"])
    rounds = 3
    assert alone["region_effects"].tolist() == pytest.approx([R * B / n] * n)
    assert alone["saliency"].tolist() == pytest.approx([B * (1 + 2 * rounds) / n] * n)
    assert alone["random"].tolist() == [0] * n
    whole = R * B + B * (1 + 2 * rounds) + 6 * len(DEA().weights) * n + B
    assert alone["dea"].tolist() == pytest.approx([whole / n] * n)
    # What other metrics ask for changes nothing.
    beside, _ = audited(
        explainers[::-1], ["forwards", "deletion_auc", "effect_calibration", "stability", "irof", "randomisation"]
    )
    assert {k: v.tolist() for k, v in beside.items()} == {k: v.tolist() for k, v in alone.items()}
