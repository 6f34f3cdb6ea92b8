"""Peers through the adapters are the peers themselves, and leave nothing behind that they would leave alone."""

import sys
from itertools import combinations
from math import comb
from pathlib import Path

import captum.attr as captum
import numpy as np
import pytest
import pytorch_grad_cam as cams
import torch
from _models import Counting, Net, differences, images, state_of, uneven_targets
from _processes import print_modules, run
from torch import Tensor, nn

from segaudit.attribution import IntegratedGradients, Saliency, SegGradCAM
from segaudit.attribution.adapter import Captum, PytorchGradCAM
from segaudit.attribution.context import restored
from segaudit.forwards.target import Targets, target_logit
from segaudit.intervention import ConstantFill, GridRegions, Intervention

FEW = Intervention(ConstantFill(), GridRegions([6, 3]), max_batch=7)


def close(a: Tensor, b: Tensor, relative: float = 1e-5) -> None:
    assert a.shape == b.shape
    scale = b.flatten(1).abs().amax(dim=1).clamp_min(1e-12).view(-1, *[1] * (b.ndim - 1))
    assert bool(((a - b).abs() <= relative * scale).all()), float(((a - b).abs() / scale).max())


class One(nn.Module):
    """The mean logit of one target, for batches of any length: what one would write by hand."""

    def __init__(self, model: nn.Module, class_index: int, region: Tensor) -> None:
        super().__init__()
        self.model, self.class_index, self.region = model, class_index, region

    def forward(self, x: Tensor) -> Tensor:
        logits = self.model(x)[:, self.class_index]
        return (logits * self.region).flatten(1).sum(1) / self.region.sum()


def by_hand(name: str, model: nn.Module, x: Tensor, targets: Targets, **call: object) -> Tensor:
    """One target at a time, with captum alone."""
    maps = []
    for n in range(len(targets)):
        image = x[targets.image_index[n : n + 1]].clone().requires_grad_(True)
        one = One(model, int(targets.class_index[n]), targets.region[n])
        maps.append(getattr(captum, name)(one).attribute(image, **call).detach().sum(1))
    return torch.cat(maps)


GRADIENT = {
    "DeepLift": {},
    "Saliency": {},
    "InputXGradient": {},
    "IntegratedGradients": {"n_steps": 6},
    "GuidedBackprop": {},
    "Deconvolution": {},
    "Occlusion": {"sliding_window_shapes": (3, 4, 4), "strides": (3, 2, 2)},
}


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("name", GRADIENT)
def test_captum_is_captum(name: str, inplace: bool) -> None:
    model, x = Net(inplace=inplace), images()
    targets = uneven_targets(model, x)
    call = GRADIENT[name]
    listed = {key: list(value) if isinstance(value, tuple) else value for key, value in call.items()}  # as YAML gives it
    maps = Captum(f"captum.attr.{name}", call=listed)(model, x, targets, intervention=FEW)
    close(maps, by_hand(name, model, x, targets, **call))
    assert float(maps.abs().max()) > 0


def test_captum_with_regions_and_the_audits_fill() -> None:
    """Ablation and Shapley values of the audit's own regions, by brute force."""
    model, x = Net(), images()
    targets = uneven_targets(model, x)
    some = Intervention(ConstantFill(), GridRegions([4]), max_batch=5)
    labels = GridRegions([4])(x)[0]

    def logit(n: int, removed: list[int]) -> float:
        gone = torch.isin(labels[targets.image_index[n]], torch.tensor(removed))
        with torch.no_grad():
            return float(target_logit(model(x[targets.image_index[n]][None] * ~gone), targets[n : n + 1]))

    def expected(value: object) -> Tensor:
        rows = [[value(n, r) for r in range(4)] for n in range(len(targets))]
        return 3 * torch.tensor(rows).gather(1, labels[targets.image_index].flatten(1)).view(targets.region.shape)

    ablation = Captum("captum.attr.FeatureAblation")(model, x, targets, intervention=some)
    close(ablation, expected(lambda n, r: logit(n, []) - logit(n, [r])))

    def shapley(n: int, r: int) -> float:
        others = [s for s in range(4) if s != r]
        return sum(
            (logit(n, [s for s in others if s not in kept]) - logit(n, [s for s in others if s not in kept] + [r]))
            / (4 * comb(3, size))
            for size in range(4)
            for kept in combinations(others, size)
        )

    close(Captum("captum.attr.ShapleyValues")(model, x, targets, intervention=some), expected(shapley), 1e-4)


def test_captum_agrees_with_ours() -> None:
    model, x = Net(), images()
    targets = uneven_targets(model, x)
    close(Captum("captum.attr.Saliency", channels="abs_max")(model, x, targets), Saliency()(model, x, targets))
    theirs = Captum("captum.attr.IntegratedGradients", call={"n_steps": 8, "method": "gausslegendre"})
    close(theirs(model, x, targets, intervention=FEW), IntegratedGradients(8)(model, x, targets))


@pytest.mark.parametrize("name", ["LayerGradCam", "LayerDeepLift", "LayerIntegratedGradients", "GuidedGradCam"])
def test_captum_layer_methods(name: str) -> None:
    model, x = Net(stride=2), images()
    targets = uneven_targets(model, x)
    maps = Captum(f"captum.attr.{name}", layer="features.4")(model, x, targets)
    assert maps.shape == targets.region.shape
    assert maps.isfinite().all()
    if name == "LayerGradCam":
        close(maps, by_layer(model, x, targets))


def by_layer(model: nn.Module, x: Tensor, targets: Targets) -> Tensor:
    maps = []
    for n in range(len(targets)):

        def one(image: Tensor, n: int = n) -> Tensor:
            logits = torch.nn.functional.interpolate(model(image), image.shape[2:], mode="bilinear")
            return target_logit(logits, targets[n : n + 1])

        peer = captum.LayerGradCam(one, model.features[4])
        maps.append(peer.attribute(x[targets.image_index[n : n + 1]].clone().requires_grad_(True)).detach())
    return torch.nn.functional.interpolate(torch.cat(maps), x.shape[2:], mode="bilinear")[:, 0]


RANDOM = {
    "GradientShap": {"n_samples": 3},
    "KernelShap": {"n_samples": 20},
    "Lime": {"n_samples": 20},
    "ShapleyValueSampling": {"n_samples": 2},
    "NoiseTunnel": {"nt_samples": 3},
}


@pytest.mark.parametrize("name", RANDOM)
def test_random_methods_follow_the_image_and_their_seed(name: str) -> None:
    model, x = Net(), images()
    targets = uneven_targets(model, x)
    make = lambda seed: Captum(f"captum.attr.{name}", call=RANDOM[name], seed=seed)  # noqa: E731
    torch.manual_seed(1)
    maps = make(0)(model, x, targets, intervention=FEW)
    torch.manual_seed(2)
    assert torch.equal(make(0)(model, x, targets, intervention=FEW), maps)
    assert not torch.allclose(make(1)(model, x, targets, intervention=FEW), maps)
    last = targets[len(targets) - 1 :]
    alone = make(0)(
        model, x[3:], Targets(torch.zeros_like(last.image_index), last.class_index, last.region), intervention=FEW
    )
    assert torch.equal(alone[0], maps[-1])


def test_noise_tunnel_takes_its_method_by_name() -> None:
    model, x = Net(), images()
    targets = uneven_targets(model, x)
    quiet = {"nt_samples": 2, "stdevs": 1e-12}
    maps = Captum("captum.attr.NoiseTunnel", {"attribution_method": "captum.attr.InputXGradient"}, quiet)(model, x, targets)
    close(maps, Captum("captum.attr.InputXGradient")(model, x, targets))


def test_the_peers_are_not_needed_to_import_segaudit(tmp_path: Path) -> None:
    """The server of warm processes has imported the program, the callbacks, the benchmark and the report."""
    assert "segaudit.attribution" in run(print_modules, "segaudit", log=tmp_path / "ours").split()
    assert run(print_modules, "captum", "pytorch_grad_cam", "zennit", log=tmp_path / "peers") == "\n"


def test_no_forward_is_larger_than_max_batch() -> None:
    for name, call in {**GRADIENT, "FeatureAblation": {}, "KernelShap": {"n_samples": 20}}.items():
        model, x = Counting(Net()), images()
        targets = uneven_targets(Net(), x)
        Captum(f"captum.attr.{name}", call=call)(model, x, targets, intervention=Intervention(max_batch=4))
        assert max(model.batches) <= 4, name


class Residual(nn.Module):
    """A block of a ResNet: one ReLU, used three times."""

    def __init__(self) -> None:
        super().__init__()
        self.relu = nn.ReLU(inplace=True)
        self.one, self.two, self.head = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.one(x))
        return self.head(self.relu(self.relu(self.two(x)) + x))


def test_deep_lift_where_one_relu_is_used_several_times() -> None:
    """What captum refuses alone: the differences add up to that of the logits."""
    torch.manual_seed(0)
    model, x = Residual(), images()
    zero = torch.arange(4)
    targets = Targets(zero, zero % 2, torch.rand(4, 12, 10) > 0.5)
    before = state_of(model)
    maps = Captum()(model, x, targets, intervention=FEW)
    quiet = {"nt_samples": 2, "stdevs": 1e-12}
    noisy = Captum("captum.attr.NoiseTunnel", {"attribution_method": "captum.attr.DeepLift"}, quiet)
    smooth = noisy(model, x, targets, intervention=FEW)
    close(smooth, maps, 1e-4)
    assert differences(before, state_of(model)) == []
    assert dict(model.named_modules()).keys() == dict(Residual().named_modules()).keys()
    with torch.no_grad():
        difference = target_logit(model(x), targets) - target_logit(model(0 * x), targets)
    torch.testing.assert_close(maps.flatten(1).sum(1), difference, rtol=1e-4, atol=1e-5)
    with pytest.raises(RuntimeError, match="more than once"):
        by_hand("DeepLift", model, x, targets)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "captum.attr.Nothing"}, "'captum.attr.Nothing' is no attribution method"),
        ({"method": "DeepLift"}, "'DeepLift' is no attribution method; give the path of a class, captum.attr.Name say"),
        ({"method": "captum.attr.NeuronGradient"}, "explains a neuron of a layer, not a target"),
        ({"method": "captum.attr.FeaturePermutation"}, "depend on the batch"),
        ({"method": "captum.attr.Occlusion"}, "needs sliding_window_shapes: give it in call"),
        ({"method": "captum.attr.DeepLiftShap"}, "needs baselines"),
        ({"method": "captum.attr.DataLoaderAttribution"}, "cannot be told which target|needs"),
        ({"channels": "mean"}, "channels must be one of sum, abs_max, got 'mean'"),
    ],
)
def test_what_captum_cannot_do_here(arguments: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message) as found:
        Captum(**arguments)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize(("make", "extra"), [(Captum, "captum"), (PytorchGradCAM, "grad-cam")])
def test_a_missing_peer_names_its_extra(make: type, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    monkeypatch.setitem(sys.modules, "pytorch_grad_cam", None)
    with pytest.raises(ImportError, match=rf"pip install 'segaudit\[{extra}\]'"):
        make()


@pytest.mark.parametrize(
    "name", ["GradCAM", "HiResCAM", "GradCAMPlusPlus", "LayerCAM", "EigenCAM", "AblationCAM", "ScoreCAM"]
)
@pytest.mark.parametrize("inplace", [False, True])
def test_cams_are_the_peers(name: str, inplace: bool) -> None:
    model, x = Net(inplace=inplace), images()
    targets = uneven_targets(model, x)
    maps = PytorchGradCAM(f"pytorch_grad_cam.{name}", layer="features.4")(model, x, targets, intervention=FEW)
    for n in range(len(targets)):
        c, region = int(targets.class_index[n]), targets.region[n]
        plain = Net()  # a copy, because the peer leaves things behind, and one whose ReLU does not change what it keeps
        with getattr(cams, name)(model=plain, target_layers=[plain.features[4]]) as cam:
            image = x[targets.image_index[n : n + 1]].clone()
            found = cam(input_tensor=image, targets=[lambda logits, c=c, region=region: logits[c][region].mean()])
        assert float(np.abs(found[0] - maps[n].numpy()).max()) < 1e-5
    assert float(maps.max()) > 0.9


def test_cam_finds_a_layer_as_ours_does() -> None:
    model, x = Net(), images(size=(12, 12))
    targets = uneven_targets(model, x)
    theirs, ours = PytorchGradCAM()(model, x, targets), SegGradCAM()(model, x, targets)
    top = ours.flatten(1).amax(1)
    some = top > 1e-4
    assert int(some.sum()) >= 4
    low = ours.flatten(1).amin(1)
    unit = (ours - low[:, None, None]) / (top - low).clamp_min(1e-12)[:, None, None]
    torch.testing.assert_close(theirs[some], unit[some], rtol=1e-5, atol=1e-5)


def test_what_pytorch_grad_cam_cannot_do_here() -> None:
    with pytest.raises(ValueError, match=r"'pytorch_grad_cam\.SESS' is no attribution method"):
        PytorchGradCAM("pytorch_grad_cam.SESS")
    model, x = Net(dims=1), images(size=(40,))
    with pytest.raises(ValueError, match="2-D images and 3-D volumes, got 1 spatial dimension"):
        PytorchGradCAM()(model, x, uneven_targets(model, x))
    model, x = Net(), images()
    with pytest.raises(ValueError, match="no layer 'nothing'"):
        PytorchGradCAM(layer="nothing")(model, x, uneven_targets(model, x))


def test_restored_gives_everything_back() -> None:
    model, x = Net(), images()
    before, names = state_of(model), [set(vars(m)) for m in model.modules()]
    expected = model(x)

    def change() -> None:
        model.features[1].weight.data = model.features[1].weight.data * 2
        model.features[1].running_mean.data = model.features[1].running_mean.data + 1
        model.features[4].bias = None
        model.features[4].note = 1
        model.features[2] = nn.Tanh()
        model.head.register_forward_hook(lambda *_: None)
        model.head.register_full_backward_hook(lambda *_: None)
        raise RuntimeError("midway")

    with pytest.raises(RuntimeError, match="midway"), restored(model):
        change()
    assert differences(before, state_of(model)) == []
    assert [set(vars(m)) for m in model.modules()] == names
    assert torch.equal(model(x), expected)


def test_the_gradients_of_training_survive() -> None:
    model, x = Net(), images()
    targets = uneven_targets(model, x)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    makers = [Captum, lambda: Captum("captum.attr.GuidedBackprop")]
    if cams is not None:
        makers += [
            lambda: PytorchGradCAM(layer="features"),
            lambda: PytorchGradCAM("pytorch_grad_cam.AblationCAM", "features.4"),
        ]
    for make in makers:
        make()(model, x, targets)
        assert all(bool((p.grad == 1).all()) for p in model.parameters())
