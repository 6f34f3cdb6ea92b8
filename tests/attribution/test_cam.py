"""Seg-Grad-CAM against a slow reference and pytorch_grad_cam; the choice of the layer."""

import contextlib

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from _models import Lambda, Net, differences, images, logits_of, state_of, uneven_targets
from torch import Tensor, nn

from segaudit.attribution import SegGradCAM
from segaudit.attribution.cam import candidates, find_layer
from segaudit.target import Targets, TargetSelector

peer = peer_targets = None
with contextlib.suppress(ImportError):  # here, because its import changes the environment
    import pytorch_grad_cam as peer
    import pytorch_grad_cam.utils.model_targets as peer_targets


def slow_cam(model: Net, x: Tensor, targets: Targets, n: int) -> Tensor:
    """Activation of model.features weighed by its mean gradient, by loops; the head is linear, so gradients are known."""
    b, c, region = int(targets.image_index[n]), int(targets.class_index[n]), targets.region[n]
    with torch.no_grad():
        activation = model.features(x[b : b + 1])[0]
    a = activation.clone().requires_grad_(True)
    logits = F.interpolate(model.head(a[None]), size=region.shape, mode="bilinear")[0]
    score = torch.stack([logits[c, y, z] for y, z in np.ndindex(*region.shape) if region[y, z]]).mean()
    (gradient,) = torch.autograd.grad(score, a)
    cam = torch.zeros(activation.shape[1:])
    for y, z in np.ndindex(*cam.shape):
        total = 0.0
        for k in range(len(activation)):
            total += float(gradient[k].sum()) / cam.numel() * float(activation[k, y, z])
        cam[y, z] = max(0.0, total)
    return F.interpolate(cam[None, None], size=region.shape, mode="bilinear")[0, 0]


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("inplace", [False, True])
def test_is_the_slow_reference(stride: int, inplace: bool) -> None:
    model, x = Net(stride=stride, inplace=inplace), images()
    targets = uneven_targets(model, x)
    maps = SegGradCAM("features")(model, x, targets)
    for n in range(len(targets)):
        torch.testing.assert_close(maps[n], slow_cam(model, x, targets, n), rtol=1e-4, atol=1e-6)
    assert bool((maps.flatten(1).amax(dim=1) > 0).any())


@pytest.mark.parametrize("layer", ["features.0", "features.1", "features.4", "features.5", "features", "head"])
def test_layers_before_an_inplace_relu_and_after(layer: str) -> None:
    """The activation is the layer's own output, not what an in-place ReLU makes of it."""
    x = images()
    targets = uneven_targets(Net(), x)
    expected = SegGradCAM(layer)(Net(), x, targets)
    torch.testing.assert_close(SegGradCAM(layer)(Net(inplace=True), x, targets), expected)


@pytest.mark.parametrize("layer", ["features.0", "features.4", "features.5"])
@pytest.mark.parametrize("kind", ["mean", "SemanticSegmentationTarget"])
def test_is_that_of_pytorch_grad_cam(layer: str, kind: str) -> None:
    """At full resolution no resize happens there; both are brought to [0, 1] as it does."""
    if peer is None:
        pytest.skip("pytorch_grad_cam is not installed")
    model, x = Net(), images(size=(12, 12))
    targets = uneven_targets(model, x)
    maps = SegGradCAM(layer)(model, x, targets)
    seen = 0
    for n in range(len(targets)):
        b, c, region = int(targets.image_index[n]), int(targets.class_index[n]), targets.region[n]

        def mean(logits: Tensor, c: int = c, region: Tensor = region) -> Tensor:
            return logits[c][region].mean()

        target = mean if kind == "mean" else peer_targets.SemanticSegmentationTarget(c, region.float().numpy())
        copy = Net()  # the peer leaves gradients behind
        with peer.GradCAM(model=copy, target_layers=[copy.get_submodule(layer)]) as cam:
            theirs = torch.from_numpy(cam(input_tensor=x[b : b + 1].clone(), targets=[target])[0])
        ours = maps[n]
        if float(ours.max()) < 1e-6 or float(ours.max() - ours.min()) < 1e-6:
            continue
        unit = (ours - ours.min()) / (ours.max() - ours.min())
        assert float((unit - theirs).abs().max()) < 1e-5
        seen += 1
    assert seen >= 4


def test_the_unit_is_that_of_the_mean_not_of_the_sum() -> None:
    """Large regions give no larger maps: twice the pixels with the same logits give the same map."""
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.Conv2d(2, 2, 1))
    x = torch.ones(1, 1, 8, 8)
    small, large = torch.zeros(2, 8, 8, dtype=torch.bool).unbind()
    small[0], large[:4] = True, True
    zero = torch.zeros(2, dtype=torch.long)
    for c in range(2):
        maps = SegGradCAM("0")(model, x, Targets(zero, zero + c, torch.stack([small, large])))
        torch.testing.assert_close(maps[0], maps[1])


def sizes_of(model: nn.Module, x: Tensor) -> dict[str, tuple[int, ...]]:
    """Shapes of all modules' outputs, by an independent hook."""
    shapes: dict[str, tuple[int, ...]] = {}
    handles = [
        m.register_forward_hook(
            lambda m, i, o, n=n: shapes.__setitem__(n, tuple(o.shape)) if isinstance(o, Tensor) else None
        )
        for n, m in model.named_modules()
    ]
    with torch.no_grad():
        model(x)
    for handle in handles:
        handle.remove()
    return shapes


def networks() -> dict[str, object]:
    import segmentation_models_pytorch as smp
    import torchvision.models.segmentation as tv

    none = {"weights": None, "weights_backbone": None}
    return {
        "unet": lambda: smp.Unet("resnet18", encoder_weights=None, classes=5),
        "unet_mobile": lambda: smp.Unet("mobilenet_v2", encoder_weights=None, classes=5),
        "lraspp": lambda: tv.lraspp_mobilenet_v3_large(**none, num_classes=5),
        "fcn": lambda: tv.fcn_resnet50(**none, num_classes=5),
        "fcn_aux": lambda: tv.fcn_resnet50(**none, num_classes=5, aux_loss=True),
    }


@pytest.mark.parametrize("name", ["unet", "unet_mobile", "lraspp", "fcn", "fcn_aux"])
def test_find_layer_on_real_networks(name: str) -> None:
    torch.manual_seed(0)
    model = networks()[name]().eval()
    x = images(1, size=(128, 128))
    layer = find_layer(model, x)
    shape = sizes_of(model, x)[layer]
    assert shape[1] > 5  # features, not the five classes' logits
    assert 8 <= shape[2] == shape[3] <= 16  # the bottleneck: 128 / 16 or 128 / 8
    assert "aux" not in layer
    logits = logits_of(model, x)
    targets = TargetSelector(min_area=0)(logits)
    maps = SegGradCAM()(model, x, targets)
    assert torch.equal(maps, SegGradCAM(layer)(model, x, targets))
    assert float(maps.abs().sum()) > 0


def test_find_layer_follows_its_rule() -> None:
    down = lambda k: nn.Sequential(nn.Conv2d(k, 4, 3, padding=1, stride=2), nn.ReLU())  # noqa: E731
    model = nn.Sequential(
        down(3),
        down(4),
        down(4),
        nn.Upsample(scale_factor=2),
        nn.Conv2d(4, 4, 1),
        nn.Upsample(scale_factor=4),
        nn.Conv2d(4, 2, 1),
    )
    # 64 -> 32, 16, 8, 16, 16, 64, 64: the last module at 8x8 is the whole third block.
    assert find_layer(model, images(1, size=(64, 64))) == "2"
    # 32 -> 16, 8, 4, 8, 8, 32, 32: 4x4 is too coarse, the last at 8x8 is the convolution after the upsampling.
    assert find_layer(model, images(1, size=(32, 32))) == "4"
    # 8 -> 4, 2, 1, 2, 2, 8, 8: the last at 8x8 that has not as many channels as there are classes.
    assert find_layer(model, images(1, size=(8, 8))) == "5"
    # Nothing reaches 7 cells along both axes: the lowest of all.
    flat = nn.Sequential(nn.Conv2d(3, 4, 2, stride=2), nn.ReLU(), nn.Upsample(scale_factor=2), nn.Conv2d(4, 2, 1))
    assert find_layer(flat, images(1, size=(20, 6))) == "1"
    # Nothing but logits: better than nothing.
    assert find_layer(nn.Sequential(nn.Conv2d(3, 2, 1)), images(1)) == "0"


def test_find_layer_leaves_no_trace_when_the_model_breaks() -> None:
    model = nn.Sequential(nn.Conv2d(3, 2, 1), Lambda(lambda x: x.reshape(-1)))
    before = state_of(model)
    with pytest.raises(ValueError, match="shape"):
        find_layer(model, images(1))
    assert differences(before, state_of(model)) == []


def test_a_model_without_feature_maps() -> None:
    with pytest.raises(ValueError, match="no module of this model gives a feature map"):
        find_layer(nn.Conv2d(3, 2, 1), images(1))


def test_candidates_are_in_order_and_used() -> None:
    assert candidates(Net(), images(1)) == [*(f"features.{i}" for i in range(6)), "features", "head"]


def test_an_unknown_layer_lists_some_that_exist() -> None:
    model, x = Net(), images()
    targets = uneven_targets(model, x)
    with pytest.raises(ValueError, match=r"no layer 'heads'; some that it has: .*features\.5, head\.") as found:
        SegGradCAM("heads")(model, x, targets)
    assert "\n" not in str(found.value)
    with pytest.raises(ValueError, match=r"no layer '5'; some that it has: features\.5\."):  # the end of a name
        SegGradCAM("5")(model, x, targets)


class Pooling(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.flat, self.pair, self.spare = nn.Conv2d(3, 4, 1), nn.Flatten(), Lambda(lambda x: (x, x)), nn.ReLU()
        self.head = nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.conv(x)
        return self.head(self.pair(hidden)[0] + self.flat(hidden).mean())


@pytest.mark.parametrize(("layer", "what"), [("flat", r"a tensor \(4, 480\)"), ("pair", "a tuple")])
def test_a_layer_that_gives_no_feature_map(layer: str, what: str) -> None:
    model, x = Pooling(), images()
    targets = TargetSelector(min_area=0)(model(x).detach())
    before = state_of(model)
    with pytest.raises(
        ValueError, match=f"the layer '{layer}' gives no feature map .*but {what}; choose one of: conv, head"
    ):
        SegGradCAM(layer)(model, x, targets)
    assert differences(before, state_of(model)) == []


def test_a_layer_that_does_not_run_or_runs_twice() -> None:
    model, x = Pooling(), images()
    targets = TargetSelector(min_area=0)(model(x).detach())
    with pytest.raises(ValueError, match="'spare' ran 0 times"):
        SegGradCAM("spare")(model, x, targets)
    relu = nn.ReLU()
    twice = nn.Sequential(nn.Conv2d(3, 2, 1), relu, nn.Conv2d(2, 2, 1), relu)
    with pytest.raises(ValueError, match="'1' ran 2 times"):
        SegGradCAM("1")(twice, x, targets)
