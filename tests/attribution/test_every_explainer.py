"""Checks every explainer of the package, whatever it computes. A new one needs no line here: it is found by its class."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from _models import Net, images, uneven_targets
from attribution.test_attention import Stages

from segaudit.attribution import (
    DEA,
    LIME,
    RISE,
    AblationCAM,
    Captum,
    EigenCAM,
    ExpectedGradients,
    Explainer,
    InputXGradient,
    IntegratedGradients,
    KernelSHAP,
    Occlusion,
    PytorchGradCAM,
    ScoreCAM,
    SegGradCAM,
    SmoothGrad,
    VarGrad,
)
from segaudit.attribution.catalogue import catalogue
from segaudit.forwards import Probe
from segaudit.intervention import ConstantFill, MeanFill
from segaudit.testing import check_explainer

with contextlib.suppress(ImportError):  # here, because its import changes the environment
    import pytorch_grad_cam  # noqa: F401


@dataclass
class Case:
    """An explainer with few steps, or with other arguments, and what it needs to be told apart from the others."""

    make: Callable[[], Explainer]
    options: dict[str, Any] = field(default_factory=dict)


#: Explainers whose default arguments are slow, and what else they can do; by short name, with a number for a variant.
CASES = {
    "integrated_gradients": Case(lambda: IntegratedGradients(steps=5)),
    "integrated_gradients 2": Case(lambda: IntegratedGradients(steps=3, starts=[ConstantFill(0.7), MeanFill()])),
    "expected_gradients": Case(lambda: ExpectedGradients(draws=5)),
    "smooth_grad": Case(lambda: SmoothGrad(draws=3)),
    "smooth_grad 2": Case(lambda: SmoothGrad(InputXGradient(), draws=2, level=0.3)),
    "var_grad": Case(lambda: VarGrad(draws=3)),
    "occlusion": Case(lambda: Occlusion(window=4, stride=3)),
    "rise": Case(lambda: RISE(masks=24, cells=4)),
    "kernel_shap": Case(lambda: KernelSHAP(samples=40)),
    "lime": Case(lambda: LIME(samples=24)),
    "eigen_cam 2": Case(lambda: EigenCAM(center=False)),
    "score_cam 2": Case(lambda: ScoreCAM(channels=3)),
    "ablation_cam 2": Case(lambda: AblationCAM(channels=3)),
    "dea 2": Case(lambda: DEA(IntegratedGradients(steps=3))),
    "dea 3": Case(lambda: DEA(SegGradCAM(), weights=[0.5])),
    "captum 2": Case(lambda: Captum("captum.attr.KernelShap", call={"n_samples": 20})),
    "captum 3": Case(lambda: Captum("captum.attr.LayerGradCam")),
}
#: DEA divides differences of confidences near 1 by the largest of them, which magnifies float32's rounding; so does
#: HiResCAM, whose channels cancel to a hundredth of themselves where a region is one pixel with a logit near 0, and
#: AblationCAM, which sees a channel's effect as such a difference.
OPTIONS: dict[str, dict[str, Any]] = {
    "dea": {"tolerance": 1e-4},
    "hi_res_cam": {"tolerance": 1e-4},
    "ablation_cam": {"tolerance": 1e-4},
    "eigen_cam": {"depends_on": ("model", "image")},  # it knows nothing of the class
    "attention_rollout": {"depends_on": ("model", "image"), "network": Stages, "dims": 2, "channels": 3},
    "oracle": {"cues": True},
    "pytorch_grad_cam": {"dims": (2, 3)},
}
USUAL = {"channels": (3, 1, 5), "dims": (2, 1, 3), "device": "cuda" if torch.cuda.is_available() else None}
ALL = {entry.name: Case(entry.cls) for entry in catalogue()} | CASES


def test_the_tables_name_explainers_that_exist() -> None:
    names = {entry.name: entry.cls for entry in catalogue()}
    assert OPTIONS.keys() <= names.keys()
    for name, case in CASES.items():
        assert type(case.make()) is names[name.split()[0]]


@pytest.mark.parametrize("name", ALL)
def test_explainer(name: str) -> None:
    check_explainer(ALL[name].make, **USUAL | OPTIONS.get(name.split()[0], {}))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device: maps on a GPU are not compared with the CPU's")
def test_maps_on_a_gpu_are_those_of_the_cpu() -> None:
    assert USUAL["device"] == "cuda"  # test_explainer compares them


def test_pytorch_grad_cam_says_that_it_cannot_explain_signals() -> None:
    model, x = Net(dims=1), images(size=(40,))
    with pytest.raises(ValueError, match="takes 2-D images and 3-D volumes"):
        PytorchGradCAM()(model, x, uneven_targets(model, x))


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
