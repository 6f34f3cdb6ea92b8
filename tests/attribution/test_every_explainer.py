"""What holds for each explainer, whatever it computes. A new one is tested by being listed in EXPLAINERS."""

import contextlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from _models import Breaks, Net, differences, images, state_of, uneven_targets
from torch import nn

import segaudit.attribution as room
from segaudit.attribution import (
    DEA,
    LIME,
    LRP,
    RISE,
    AblationCAM,
    AttentionRollout,
    Captum,
    Centre,
    Edges,
    EigenCAM,
    ExpectedGradients,
    Explainer,
    GradCAMPlusPlus,
    GuidedBackprop,
    HiResCAM,
    InputXGradient,
    IntegratedGradients,
    KernelSHAP,
    LayerCAM,
    Occlusion,
    Oracle,
    PytorchGradCAM,
    Random,
    RegionEffects,
    Saliency,
    ScoreCAM,
    SegGradCAM,
    SegXResCAM,
    SmoothGrad,
    TargetMask,
    VarGrad,
    XGradCAM,
)
from segaudit.forwards import Probe
from segaudit.forwards.target import Targets
from segaudit.intervention import ConstantFill, GridRegions, Intervention, MeanFill, SuperpixelRegions

with contextlib.suppress(ImportError):  # here, because its import changes the environment
    import pytorch_grad_cam  # noqa: F401

Maker = Callable[[], Explainer]

EXPLAINERS: dict[str, Maker] = {
    "saliency": Saliency,
    "integrated_gradients": lambda: IntegratedGradients(steps=5),
    "integrated_gradients_starts": lambda: IntegratedGradients(steps=3, starts=[ConstantFill(0.7), MeanFill()]),
    "expected_gradients": lambda: ExpectedGradients(draws=5),
    "input_x_gradient": InputXGradient,
    "guided_backprop": GuidedBackprop,
    "smooth_grad": lambda: SmoothGrad(draws=3),
    "smooth_grad_on_input_x_gradient": lambda: SmoothGrad(InputXGradient(), draws=2, level=0.3),
    "var_grad": lambda: VarGrad(draws=3),
    "occlusion": lambda: Occlusion(window=4, stride=3),
    "rise": lambda: RISE(masks=24, cells=4),
    "kernel_shap": lambda: KernelSHAP(samples=40),
    "lime": lambda: LIME(samples=24),
    "seg_grad_cam": SegGradCAM,
    "grad_cam_plus_plus": GradCAMPlusPlus,
    "x_grad_cam": XGradCAM,
    "hi_res_cam": HiResCAM,
    "layer_cam": LayerCAM,
    "seg_x_res_cam": SegXResCAM,
    "eigen_cam": EigenCAM,
    "eigen_cam_paper": lambda: EigenCAM(center=False),
    "score_cam": ScoreCAM,
    "score_cam_few": lambda: ScoreCAM(channels=3),
    "ablation_cam": AblationCAM,
    "ablation_cam_few": lambda: AblationCAM(channels=3),
    "region_effects": RegionEffects,
    "dea": DEA,
    "dea_on_ig": lambda: DEA(IntegratedGradients(steps=3)),
    "dea_on_cam": lambda: DEA(SegGradCAM(), weights=[0.5]),
    "captum": Captum,
    "captum_kernel_shap": lambda: Captum("captum.attr.KernelShap", call={"n_samples": 20}),
    "captum_layer": lambda: Captum("captum.attr.LayerGradCam"),
    "pytorch_grad_cam": PytorchGradCAM,
    "lrp": LRP,
    "random": Random,
    "target_mask": TargetMask,
    "edges": Edges,
    "centre": Centre,
}
CONTROLS = {"random", "target_mask", "edges", "centre"}
#: They take another network or other data than the ones here; their own files test what is tested here.
ELSEWHERE = {AttentionRollout: "test_attention.py", Oracle: "test_control.py"}
#: What a peer cannot do, and says so.
REFUSED = {("pytorch_grad_cam", 1): "takes 2-D images and 3-D volumes"}
FEW = Intervention(regions=GridRegions([3, 8]), max_batch=7)

every = pytest.mark.parametrize("make", EXPLAINERS.values(), ids=EXPLAINERS.keys())
#: Those that look at the model.
asking = pytest.mark.parametrize(
    "make",
    [make for name, make in EXPLAINERS.items() if name not in CONTROLS],
    ids=[name for name in EXPLAINERS if name not in CONTROLS],
)


def test_the_table_lists_all_explainers() -> None:
    exported = [getattr(room, name) for name in room.__all__]
    concrete = {c for c in exported if inspect.isclass(c) and issubclass(c, Explainer) and not inspect.isabstract(c)}
    assert concrete == {type(make()) for make in EXPLAINERS.values()} | set(ELSEWHERE)
    assert {name for name, make in EXPLAINERS.items() if make().control} == CONTROLS


def close(a: torch.Tensor, b: torch.Tensor, relative: float = 1e-5) -> None:
    """Equal up to a share of each map's own largest value."""
    assert a.shape == b.shape
    scale = b.flatten(1).abs().amax(dim=1).view(-1, *[1] * (b.ndim - 1))
    assert bool(((a - b).abs() <= relative * scale).all()), float(((a - b).abs() / scale).max())


CASES = {
    "plain": {},
    "dict": {"form": "dict"},
    "logits": {"form": "logits"},
    "inplace": {"inplace": True},
    "low_resolution": {"stride": 2},
    "binary": {"classes": 1},
    "grey": {"channels": 1},
    "five_channels": {"channels": 5},
    "signal": {"dims": 1},
    "volume": {"dims": 3},
}
SIZES = {1: (40,), 2: (12, 10), 3: (6, 7, 8)}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
@every
def test_shape_dtype_and_independence_of_the_batch(make: Maker, case: dict[str, object]) -> None:
    model = Net(**case)
    x = images(channels=case.get("channels", 3), size=SIZES[case.get("dims", 2)])
    targets = uneven_targets(model, x)
    if refusal := REFUSED.get((make().name, case.get("dims", 2))):
        with pytest.raises(ValueError, match=refusal):
            make()(model, x, targets, intervention=FEW)
        return
    maps = make()(model, x, targets, intervention=FEW)
    assert maps.shape == targets.region.shape
    assert maps.dtype == torch.float32
    assert not maps.requires_grad
    assert maps.isfinite().all()
    assert bool((maps.flatten(1).amax(dim=1) > maps.flatten(1).amin(dim=1)).any())  # it says something
    alone = []
    for n in range(len(targets)):
        b = targets.image_index[n : n + 1]
        one = Targets(torch.zeros_like(b), targets.class_index[n : n + 1], targets.region[n : n + 1])
        alone.append(make()(model, x[b], one, intervention=FEW))
    # DEA divides differences of scores near 1 by the largest of them, which magnifies float32's rounding; so does HiResCAM,
    # whose channels cancel to a hundredth of themselves where a region is one pixel with a logit near 0.
    close(maps, torch.cat(alone), 1e-4 if isinstance(make(), DEA | HiResCAM) else 1e-5)


@every
def test_equal_to_itself_and_to_the_map_of_equal_models(make: Maker) -> None:
    model, x = Net(), images()
    targets = uneven_targets(model, x)
    first = make()(model, x, targets, intervention=FEW)
    torch.manual_seed(99)
    assert torch.equal(make()(model, x, targets, intervention=FEW), first)
    for form in ("dict", "logits"):
        assert torch.equal(make()(Net(form=form), x, targets, intervention=FEW), first)
    close(make()(Net(inplace=True), x, targets, intervention=FEW), first)


@asking
def test_the_model_the_image_and_the_target_matter(make: Maker) -> None:
    model, x = Net(), images()
    targets = uneven_targets(model, x)
    first = make()(model, x, targets, intervention=FEW)
    assert not torch.allclose(make()(Net(seed=5), x, targets, intervention=FEW), first)
    assert not torch.allclose(make()(model, images(seed=5), targets, intervention=FEW), first)
    if isinstance(make(), EigenCAM):
        return  # it knows nothing of the target
    turned = Targets(targets.image_index, (targets.class_index + 1) % 3, targets.region)
    assert not torch.allclose(make()(model, x, turned, intervention=FEW), first)


@every
def test_no_target(make: Maker) -> None:
    model, x = Net(), images()
    none = torch.zeros(0, dtype=torch.long)
    maps = make()(model, x, Targets(none, none, torch.zeros(0, 12, 10, dtype=torch.bool)))
    assert maps.shape == (0, 12, 10)
    assert maps.dtype == torch.float32


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@every
def test_images_and_targets_made_without_gradients(make: Maker, mode: Callable[[], object]) -> None:
    model = Net()
    expected = make()(model, images(), uneven_targets(model, images()), intervention=FEW)
    with mode():  # the two loops of Lightning
        x = images() * 1
        maps = make()(model, x, uneven_targets(model, x), intervention=FEW)
        assert not torch.is_grad_enabled()
    assert torch.equal(maps, expected)


def marked_model() -> nn.Module:
    """A model in a state of which every part is unusual: mixed modes, a gradient, a frozen weight, a hook of its user."""
    model = Net()
    model.train()
    model.features[1].eval()
    model.features[3].eval()
    model.head.weight.requires_grad_(False)
    model.head.bias.grad = torch.full_like(model.head.bias, 3.0)
    model.features[0].register_forward_hook(lambda *_: None)
    return model


@pytest.mark.parametrize("training", ["mixed", "train", "eval"])
@every
def test_leaves_no_trace(make: Maker, training: str) -> None:
    model, x = marked_model(), images()
    if training != "mixed":
        model.train(training == "train")
    targets = uneven_targets(Net(), x)
    before, kept = state_of(model), x.clone()
    maps = make()(model, x, targets, intervention=FEW)
    assert differences(before, state_of(model)) == []
    assert torch.equal(x, kept)
    assert x.requires_grad is False
    # The model was at rest, whatever mode it came in: no dropout, no batch statistics.
    close(maps, make()(Net(), x, targets, intervention=FEW))


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
@asking
def test_leaves_no_trace_when_the_model_breaks_midway(make: Maker, share: float) -> None:
    model, x = Breaks(nth=10**9), images()  # draws random numbers in each forward, too
    model.train()
    model.net.features[1].eval()
    model.net.head.weight.requires_grad_(False)
    model.net.head.bias.grad = torch.ones_like(model.net.head.bias)
    model.net.features[2].register_forward_pre_hook(lambda *_: None)
    targets = uneven_targets(Net(), x)
    before = state_of(model)
    make()(model, x, targets, intervention=FEW)  # finds a CAM's layer, once a model
    assert differences(before, state_of(model)) == []
    model.calls = 0
    make()(model, x, targets, intervention=FEW)
    model.nth = 1 + round(share * (model.calls - 1))  # the first, a middle and the last forward pass
    model.calls = 0
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        before = state_of(model)
        with pytest.raises(RuntimeError, match="the model broke"):
            make()(model, x, targets, intervention=FEW)
        assert model.calls == model.nth
        assert differences(before, state_of(model)) == []


@every
def test_frozen_parameters(make: Maker) -> None:
    x, model = images(), Net()
    targets = uneven_targets(model, x)
    expected = make()(model, x, targets, intervention=FEW)
    frozen = Net().requires_grad_(False)
    assert torch.equal(make()(frozen, x, targets, intervention=FEW), expected)
    assert not any(p.requires_grad for p in frozen.parameters())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@every
def test_autocast_of_the_caller_does_not_reach_the_map(make: Maker, dtype: torch.dtype) -> None:
    model, x = Net(), images()
    targets = uneven_targets(model, x)
    expected = make()(model, x, targets, intervention=FEW)
    with torch.autocast("cpu", dtype=dtype):
        maps = make()(model, x, targets, intervention=FEW)
        assert torch.is_autocast_enabled("cpu")
    assert torch.equal(maps, expected)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device: maps on a GPU are not compared with the CPU's")
@every
def test_maps_on_a_gpu_are_those_of_the_cpu(make: Maker) -> None:
    model, x = Net(), images()
    targets = uneven_targets(model, x)
    expected = make()(model, x, targets, intervention=FEW)
    on_gpu = Targets(targets.image_index.cuda(), targets.class_index.cuda(), targets.region.cuda())
    maps = make()(Net().cuda(), x.cuda(), on_gpu, intervention=FEW)
    assert maps.device.type == "cuda"
    close(maps.cpu(), expected, 1e-3)


@every
def test_superpixels_and_chunks_do_not_tie_the_batch_together(make: Maker) -> None:
    model, x = Net(), images()
    targets = uneven_targets(model, x)
    maps = [
        make()(model, x, targets, intervention=Intervention(regions=SuperpixelRegions([3, 8]), max_batch=chunk))
        for chunk in (1, 7, 1000)
    ]
    for chunked in maps[:2]:
        close(chunked, maps[2], 1e-4 if isinstance(make(), DEA) else 1e-5)


def test_an_explainer_may_be_a_dataclass() -> None:
    @dataclass
    class Scaled(Explainer):
        factor: float = 2.0

        def attribute(self, probe: Probe) -> torch.Tensor:
            return self.factor * probe.targets.region.float()

    model, x = Net(), images()
    targets = uneven_targets(model, x)
    assert torch.equal(Scaled()(model, x, targets), 2 * targets.region.float())


def test_a_wrong_shape_is_named() -> None:
    class Flat(Explainer):
        def attribute(self, probe: object) -> torch.Tensor:
            return torch.zeros(2, 2, requires_grad=True)

    model, x = Net(), images()
    with pytest.raises(ValueError, match=r"'flat' returned the shape \(2, 2\).*one map a target"):
        Flat()(model, x, uneven_targets(model, x))
