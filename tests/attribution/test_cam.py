"""CAMs against loops over the papers' equations, closed forms and pytorch_grad_cam."""

from collections.abc import Callable
from itertools import product
from math import exp, prod
from typing import Any

import numpy as np
import pytest
import pytorch_grad_cam as peer
import pytorch_grad_cam.utils.model_targets as peer_targets
import pytorch_grad_cam.utils.svd_on_activations as peer_svd
import torch
from _models import Counting, Lambda, Net, images, logits_of, uneven_targets
from torch import Tensor, nn

from segaudit.attribution import (
    AblationCAM,
    EigenCAM,
    Explainer,
    GradCAMPlusPlus,
    HiResCAM,
    LayerCAM,
    ScoreCAM,
    SegGradCAM,
    SegXResCAM,
    XGradCAM,
    attribution_context,
)
from segaudit.attribution.layer import layer_gradients
from segaudit.forwards import Probe
from segaudit.forwards.output import resize
from segaudit.forwards.target import Targets, TargetSelector, target_logit
from segaudit.intervention import ConstantFill, Intervention, MeanFill

#: Behind a ReLU, where the equations of all papers hold; the last one has the resolution of the logits.
RELUS = ["features.2", "features.5"]


def close(ours: Tensor, theirs: Tensor) -> None:
    """Equal up to 1e-5 of the largest value."""
    assert ours.shape == theirs.shape
    assert float((ours - theirs).abs().max()) <= 1e-5 * float(theirs.abs().max())


def window_of(values: np.ndarray, place: tuple[int, ...], window: int) -> list[float]:
    """Those values of one channel that lie in the window of a place."""
    starts = [p // window * window for p in place]
    ranges = [range(start, min(start + window, size)) for start, size in zip(starts, values.shape, strict=True)]
    return [float(values[p]) for p in product(*ranges)]


def slow_map(kind: str, a: np.ndarray, g: np.ndarray, window: int = 2) -> np.ndarray:
    """A paper's equation by loops over the channels and places of ``(K, *T)`` activations and gradients, in float64."""
    out = np.zeros(a.shape[1:])
    places, cells = list(np.ndindex(*out.shape)), prod(out.shape)
    for k in range(len(a)):
        total = sum(a[k][q] for q in places)
        weight = 0.0
        for p in places:
            if kind == "seg_grad_cam":
                weight += g[k][p] / cells
            elif kind == "x_grad_cam" and total:
                weight += g[k][p] * a[k][p] / total
            elif kind == "grad_cam_plus_plus" and g[k][p]:
                weight += g[k][p] ** 2 / (2 * g[k][p] ** 2 + total * g[k][p] ** 3) * max(g[k][p], 0)
        for p in places:
            if kind == "hi_res_cam":
                weight = g[k][p]
            elif kind == "layer_cam":
                weight = max(g[k][p], 0)
            elif kind in ("mean", "max"):
                weight = (np.mean if kind == "mean" else max)(window_of(g[k], p, window))
            out[p] += weight * a[k][p]
    return out if kind == "hi_res_cam" else np.maximum(out, 0)


def slow_gradient(model: Net, x: Tensor, targets: Targets, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Activation and gradient at model.features, in float64: the model in float64, the score by a loop over pixels."""
    b, c, region = int(targets.image_index[n]), int(targets.class_index[n]), targets.region[n]
    with torch.no_grad():
        a = model.features(x[b : b + 1].double())[0]
    a = a.clone().requires_grad_(True)
    logits = resize(model.head(a[None]), region.shape)[0]
    score = torch.stack([logits[(c, *p)] for p in np.ndindex(*region.shape) if region[p]]).mean()
    return a.detach().numpy(), torch.autograd.grad(score, a)[0].numpy()


GRADIENT_CAMS: dict[str, Callable[[str], Explainer]] = {
    "seg_grad_cam": SegGradCAM,
    "grad_cam_plus_plus": GradCAMPlusPlus,
    "x_grad_cam": XGradCAM,
    "hi_res_cam": HiResCAM,
    "layer_cam": LayerCAM,
    "mean": SegXResCAM,
    "max": lambda layer: SegXResCAM(layer, pool="max"),
}


@pytest.mark.parametrize(("dims", "stride"), [(1, 1), (2, 1), (2, 2), (3, 2)])
@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("kind", GRADIENT_CAMS)
def test_gradient_cams_are_the_papers_equations(kind: str, inplace: bool, dims: int, stride: int) -> None:
    x = images(size=((40,), (12, 10), (6, 7, 8))[dims - 1])
    model, exact = Net(stride=stride, inplace=inplace, dims=dims), Net(stride=stride, dims=dims).double()
    targets = uneven_targets(model, x)
    maps = GRADIENT_CAMS[kind]("features")(model, x, targets)
    assert int((maps.flatten(1).amax(dim=1) > 0).sum()) >= 3
    for n in range(len(targets)):
        slow = torch.from_numpy(slow_map(kind, *slow_gradient(exact, x, targets, n)))
        expected = resize(slow[None, None], x.shape[2:])[0, 0].float()
        # Channels cancel in HiResCAM, which magnifies float32's rounding.
        torch.testing.assert_close(maps[n], expected, rtol=1e-4, atol=1e-5 * float(maps.abs().max()))


@pytest.mark.parametrize("layer", ["features.0", "features.1", "features.4", "features.5", "features", "head"])
def test_layers_before_an_inplace_relu_and_after(layer: str) -> None:
    """The activation is the layer's own output, not what an in-place ReLU makes of it."""
    x = images()
    targets = uneven_targets(Net(), x)
    expected = SegGradCAM(layer)(Net(), x, targets)
    torch.testing.assert_close(SegGradCAM(layer)(Net(inplace=True), x, targets), expected)


def their_map(
    method: str, layer: str, x: Tensor, targets: Targets, n: int, change: Callable[[Any], None] | None = None
) -> Tensor:
    """pytorch_grad_cam's map ``(h, w)`` of the mean logit, before it is cut at 0 and scaled."""
    b, c, region = int(targets.image_index[n]), int(targets.class_index[n]), targets.region[n]
    kept: list[np.ndarray] = []
    copy = Net()  # the peer leaves gradients behind
    with getattr(peer, method)(model=copy, target_layers=[copy.get_submodule(layer)]) as cam:
        if change:
            change(cam)
        image_of = cam.get_cam_image
        cam.get_cam_image = lambda *arguments: kept.append(image_of(*arguments)) or kept[-1]
        cam(input_tensor=x[b : b + 1].clone(), targets=[lambda logits: logits[c][region].mean()])
    return torch.from_numpy(kept[0][0]).float()


@pytest.mark.parametrize("layer", ["features.0", *RELUS, "features.4"])
@pytest.mark.parametrize(
    ("method", "make"),
    [("GradCAM", SegGradCAM), ("HiResCAM", HiResCAM), ("LayerCAM", LayerCAM), ("XGradCAM", XGradCAM)],
)
def test_gradient_cams_are_those_of_pytorch_grad_cam(method: str, make: Callable[[str], Explainer], layer: str) -> None:
    """Unit and all; it cuts every method at 0 in the end, we leave HiResCAM its sign."""
    model, x = Net(), images()
    targets = uneven_targets(model, x)
    maps = make(layer)(model, x, targets)
    for n in range(len(targets)):
        theirs = their_map(method, layer, x, targets, n)
        close(maps[n], theirs if method == "HiResCAM" else theirs.relu())
    assert float(maps.abs().max()) > 0


@pytest.mark.parametrize("layer", RELUS)
def test_grad_cam_plus_plus_is_that_of_pytorch_grad_cam_but_for_its_constant(layer: str) -> None:
    """It adds 1e-6 to a square of gradients. Gradients c times as large and activations c times as small rid it of that."""
    model, x = Net(), images()
    targets = uneven_targets(model, x)
    maps = GradCAMPlusPlus(layer)(model, x, targets)

    def large(cam: Any, c: float = 1e4) -> None:
        weights_of = cam.get_cam_weights
        cam.get_cam_weights = lambda *rest: weights_of(*rest[:3], np.float64(rest[3]) / c, np.float64(rest[4]) * c) / c

    off = 0.0
    for n in range(len(targets)):
        close(maps[n], their_map("GradCAMPlusPlus", layer, x, targets, n, large).relu())
        off = max(off, float((maps[n] - their_map("GradCAMPlusPlus", layer, x, targets, n).relu()).abs().max()))
    assert off > 1e-4  # what the constant does


@pytest.mark.parametrize("layer", ["features.0", "features.4", "features.5"])
def test_seg_grad_cam_has_the_scaled_map_of_their_segmentation_target(layer: str) -> None:
    """What its users call; at full resolution no resize happens there, and both are brought to [0, 1] as it does."""
    model, x = Net(), images(size=(12, 12))
    targets = uneven_targets(model, x)
    maps = SegGradCAM(layer)(model, x, targets)
    seen = 0
    for n in range(len(targets)):
        b, c, region = int(targets.image_index[n]), int(targets.class_index[n]), targets.region[n]
        target = peer_targets.SemanticSegmentationTarget(c, region.float().numpy())
        copy = Net()
        with peer.GradCAM(model=copy, target_layers=[copy.get_submodule(layer)]) as cam:
            theirs = torch.from_numpy(cam(input_tensor=x[b : b + 1].clone(), targets=[target])[0])
        ours = maps[n]
        if float(ours.max() - ours.min()) < 1e-6:
            continue
        unit = (ours - ours.min()) / (ours.max() - ours.min())
        assert float((unit - theirs).abs().max()) < 1e-5
        seen += 1
    assert seen >= 4


def test_tokens_are_read_as_their_reshape_transform_does() -> None:
    timm = pytest.importorskip("timm")

    class Vit(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.vit = timm.create_model("vit_tiny_patch16_224", img_size=64, depth=3, num_classes=0)
            self.head = nn.Conv2d(192, 3, 1)

        def forward(self, x: Tensor) -> Tensor:
            return resize(self.head(self.vit.forward_features(x)[:, 1:].mT.unflatten(2, (4, 4))), x.shape[2:])

    model, x = Vit().eval(), images(2, size=(64, 64))
    targets = TargetSelector(min_area=0)(logits_of(model, x))
    for method, make in (("GradCAM", SegGradCAM), ("LayerCAM", LayerCAM)):
        maps = make("vit.blocks.1")(model, x, targets)
        for n in range(len(targets)):
            b, c, region = int(targets.image_index[n]), int(targets.class_index[n]), targets.region[n]
            kept: list[np.ndarray] = []
            copy, transform = Vit().eval(), lambda t: t[:, 1:].mT.unflatten(2, (4, 4))
            with getattr(peer, method)(copy, [copy.vit.blocks[1]], reshape_transform=transform) as cam:
                image_of = cam.get_cam_image
                cam.get_cam_image = lambda *a, image_of=image_of, kept=kept: kept.append(image_of(*a)) or kept[-1]
                cam(x[b : b + 1].clone(), [lambda logits, c=c, region=region: logits[c][region].mean()])
            close(maps[n], resize(torch.from_numpy(kept[0])[None].relu(), (64, 64))[0, 0])


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


@pytest.mark.parametrize("classes", [1, 3])
def test_hi_res_cam_is_complete_behind_a_linear_head(classes: int) -> None:
    """Its sum over the layer is the mean logit less the bias; so it must keep its sign."""
    model, x = Net(classes=classes), images()
    targets = uneven_targets(model, x)
    maps = HiResCAM("features")(model, x, targets)
    logit = target_logit(logits_of(model, x)[targets.image_index], targets)
    bias = torch.cat([-model.head.bias, model.head.bias]) if classes == 1 else model.head.bias
    torch.testing.assert_close(maps.flatten(1).sum(dim=1), logit - bias.detach()[targets.class_index], atol=1e-4, rtol=1e-4)
    assert float(maps.min()) < 0


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_windows_lead_from_hi_res_cam_to_seg_grad_cam(dims: int) -> None:
    model, x = Net(dims=dims), images(size=((40,), (12, 10), (6, 7, 8))[dims - 1])
    targets = uneven_targets(model, x)
    cam = lambda window: SegXResCAM("features", window=window)(model, x, targets)  # noqa: E731
    close(cam(1), HiResCAM("features")(model, x, targets).relu())
    close(cam(max(x.shape)), SegGradCAM("features")(model, x, targets))
    close(cam(max(x.shape) + 9), SegGradCAM("features")(model, x, targets))
    assert not torch.allclose(cam(2), cam(1))


@pytest.mark.parametrize("pool", ["mean", "max"])
@pytest.mark.parametrize("window", [2, 3, 5, 7])
def test_windows_that_do_not_fit_are_smaller_at_the_border(pool: str, window: int) -> None:
    model, x = Net(), images(size=(11, 13))
    targets = uneven_targets(model, x)
    maps = SegXResCAM("features", window, pool)(model, x, targets)
    for n in range(len(targets)):
        slow = slow_map(pool, *slow_gradient(Net().double(), x, targets, n), window=window)
        torch.testing.assert_close(maps[n], torch.from_numpy(slow).float(), rtol=1e-4, atol=1e-5 * float(maps.max()))


def test_windows_and_channels_are_checked() -> None:
    with pytest.raises(ValueError, match="window must be at least 1, got 0"):
        SegXResCAM(window=0)
    with pytest.raises(ValueError, match="pool must be one of mean, max, got 'median'"):
        SegXResCAM(pool="median")
    for make in (ScoreCAM, AblationCAM):
        with pytest.raises(ValueError, match="channels must be at least 1, or None for all, got 0"):
            make(channels=0)


def test_gradient_cams_of_silent_channels_are_finite() -> None:
    """Where a channel is 0 all over, XGrad-CAM's weight is 0 / 0; where gradients are, Grad-CAM++'s."""
    model, x = Net(), images()
    with torch.no_grad():
        model.features[4].bias[:2] = -100.0
    targets = uneven_targets(model, x)
    for make in GRADIENT_CAMS.values():
        assert make("features.5")(model, x, targets).isfinite().all()


def first_component(activation: Tensor, center: bool) -> Tensor:
    """Map ``(h, w)`` of ``(K, h, w)``, by NumPy's decomposition in float64; the larger end is positive."""
    values = activation.detach().double().flatten(1).T.numpy()
    values = values - values.mean(axis=0) * center
    projection = values @ np.linalg.svd(values)[2][0]
    projection = projection if projection.max() >= -projection.min() else -projection
    return torch.from_numpy(projection).float().view(activation.shape[1:])


@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("size", [(12, 10), (2, 2)])  # more places than channels, and fewer
@pytest.mark.parametrize("layer", ["features.0", "features.5"])
def test_eigen_cam_is_the_first_component(layer: str, size: tuple[int, int], center: bool) -> None:
    model, x = Net(), images()
    targets = uneven_targets(model, x)
    if size == (2, 2):
        x = images(size=size)
        region = torch.ones(2, *size, dtype=torch.bool)
        targets = Targets(torch.tensor([0, 3]), torch.tensor([1, 0]), region)
    maps = EigenCAM(layer, center=center)(model, x, targets)
    activation = {"features.0": model.features[0], "features.5": model.features}[layer](x)
    for n in range(len(targets)):
        close(maps[n], first_component(activation[targets.image_index[n]], center))


@pytest.mark.parametrize("layer", ["features.0", *RELUS])
def test_eigen_cam_is_that_of_pytorch_grad_cam(layer: str) -> None:
    """Its own sign is whatever the decomposition gives; its corrected one is ours."""
    model, x = Net(), images()
    targets = uneven_targets(model, x)
    maps = EigenCAM(layer)(model, x, targets)
    with torch.no_grad():
        activation = model.features[: int(layer[-1]) + 1](x).numpy()
    corrected = torch.from_numpy(peer_svd.get_2d_projection_with_sign_correction(activation))
    for n in range(len(targets)):
        theirs = their_map("EigenCAM", layer, x, targets, n)
        close(maps[n], theirs if float((maps[n] * theirs).sum()) > 0 else -theirs)
        close(maps[n], corrected[targets.image_index[n]])


def test_eigen_cam_of_one_pattern_in_all_channels() -> None:
    """Activations w_k m(x): without centring, the map is |w| m."""
    model, x = nn.Sequential(nn.Conv2d(1, 7, 1, bias=False), nn.Conv2d(7, 2, 1)), images(channels=1).abs()
    targets = TargetSelector(min_area=0)(logits_of(model, x))
    maps = EigenCAM("0", center=False)(model, x, targets)
    torch.testing.assert_close(maps, model[0].weight.norm().detach() * x[targets.image_index, 0])


def slow_score_cam(model: Net, x: Tensor, targets: Targets, n: int, fill: float = 0.0, channels: int = 99) -> Tensor:
    """A channel, an image, a forward at a time."""
    b = targets.image_index[n : n + 1]
    with torch.no_grad():
        activation = model.features(x[b])
        strength = activation[0].flatten(1).abs().mean(dim=1).tolist()
        chosen = sorted(range(len(strength)), key=lambda k: -strength[k])[:channels]
        scores = {}
        for k in chosen:
            mask = resize(activation[:, k : k + 1], x.shape[2:])
            mask = (mask - mask.min()) / (mask.max() - mask.min())
            scores[k] = float(target_logit(logits_of(model, x[b] * mask + fill * (1 - mask)), targets[n : n + 1]))
        total = sum(exp(score) for score in scores.values())
        cam = sum(exp(score) / total * activation[:, k : k + 1] for k, score in scores.items())
        return resize(cam.relu(), x.shape[2:])[0, 0]


@pytest.mark.parametrize("channels", [1, 3, None])
@pytest.mark.parametrize("fill", [0.0, 0.6])
@pytest.mark.parametrize("stride", [1, 2])
def test_score_cam_is_the_slow_reference(stride: int, fill: float, channels: int | None) -> None:
    model, x = Net(stride=stride), images()
    targets = uneven_targets(model, x)
    few = Intervention(fill=ConstantFill(fill), max_batch=4)
    maps = ScoreCAM("features", channels)(model, x, targets, intervention=few)
    for n in range(len(targets)):
        close(maps[n], slow_score_cam(model, x, targets, n, fill, channels or 99))


@pytest.mark.parametrize("layer", ["features.0", *RELUS])
def test_score_cam_is_that_of_pytorch_grad_cam(layer: str) -> None:
    """At full resolution: it interpolates masks with aligned corners, we as everywhere else."""
    model, x = Net(), images()
    targets = uneven_targets(model, x)
    maps = ScoreCAM(layer)(model, x, targets, intervention=Intervention(ConstantFill(0.0)))
    for n in range(len(targets)):
        close(maps[n], their_map("ScoreCAM", layer, x, targets, n).relu())


def test_score_cam_uses_the_fill() -> None:
    model, x = Net(), images()
    targets = uneven_targets(model, x)
    other = ScoreCAM()(model, x, targets, intervention=Intervention(fill=MeanFill()))
    assert not torch.allclose(other, ScoreCAM()(model, x, targets))


def slow_ablation_cam(model: Net, x: Tensor, targets: Targets, n: int, channels: int = 99) -> Tensor:
    b = targets.image_index[n : n + 1]
    with torch.no_grad():
        activation = model.features(x[b])
        strength = activation[0].flatten(1).abs().mean(dim=1).tolist()
        chosen = sorted(range(len(strength)), key=lambda k: -strength[k])[:channels]
        score = lambda a: target_logit(resize(model.head(a), x.shape[2:]), targets[n : n + 1])  # noqa: E731
        cam = torch.zeros_like(activation[:, :1])
        for k in chosen:
            without = activation.clone()
            without[:, k] = 0
            cam += (score(activation) - score(without)) * activation[:, k : k + 1]
        return resize(cam.relu(), x.shape[2:])[0, 0]


@pytest.mark.parametrize("channels", [2, 3, None])
@pytest.mark.parametrize(("stride", "inplace"), [(1, False), (2, False), (1, True)])
def test_ablation_cam_is_the_slow_reference(stride: int, inplace: bool, channels: int | None) -> None:
    model, x = Net(stride=stride, inplace=inplace), images()
    targets = uneven_targets(model, x)
    maps = AblationCAM("features", channels)(model, x, targets, intervention=Intervention(max_batch=4))
    assert float(maps.max()) > 0
    for n in range(len(targets)):
        torch.testing.assert_close(
            maps[n], slow_ablation_cam(model, x, targets, n, channels or 99), rtol=1e-4, atol=2e-5 * float(maps[n].max())
        )


@pytest.mark.parametrize("layer", RELUS)
def test_ablation_cam_is_that_of_pytorch_grad_cam(layer: str) -> None:
    """It divides by the score; and behind no ReLU it puts a huge negative number in place of the paper's 0."""
    model, x = Net(), images()
    targets = uneven_targets(model, x)
    maps = AblationCAM(layer)(model, x, targets)
    scores = target_logit(logits_of(model, x)[targets.image_index], targets)
    for n in range(len(targets)):
        theirs = (their_map("AblationCAM", layer, x, targets, n) * scores[n]).relu()
        torch.testing.assert_close(maps[n], theirs, rtol=1e-4, atol=2e-5 * float(theirs.max()))


def test_ablation_cam_behind_a_linear_head_is_gradient_times_activation() -> None:
    """Without a channel the mean logit falls by Σ g·A over its places, exactly."""
    model, x = Net(), images()
    targets = uneven_targets(model, x)
    with attribution_context(model):
        a, g = layer_gradients(Probe(model, x, targets, Intervention()), "features")
    weights = (g * a[targets.image_index]).flatten(2).sum(dim=2)
    expected = torch.einsum("nk,nkhw->nhw", weights, a[targets.image_index]).relu()
    maps = AblationCAM("features")(model, x, targets)
    torch.testing.assert_close(maps, expected, rtol=1e-4, atol=1e-5 * float(expected.max()))


def test_what_one_forward_a_channel_costs() -> None:
    """All targets of an image share it; images without targets, silent channels and channels left out cost nothing."""
    net, x = Net(), images()
    with torch.no_grad():
        net.features[4].bias[2] = -100.0
    targets = uneven_targets(net, x)
    model = Counting(net)

    def passes(explainer: Explainer) -> list[int]:
        model.batches.clear()
        explainer(model, x, targets, intervention=Intervention(ConstantFill(), max_batch=8))
        return model.batches

    layer = "model.features"  # five channels, the third of them silent; three images with targets
    assert passes(ScoreCAM(layer)) == [4, 8, 7]
    assert passes(ScoreCAM(layer, channels=2)) == [4, 6]
    assert passes(AblationCAM(layer)) == [4, 8, 7]
    assert passes(AblationCAM(layer, channels=2)) == [4, 8, 1]
    assert passes(EigenCAM(layer)) == [4]


def test_ablation_leaves_the_output_of_other_layers_alone() -> None:
    """An identity between the layer and the head sees what the layer gives with one channel less."""
    seen: list[Tensor] = []
    model, x = nn.Sequential(Net().features, Lambda(lambda a: seen.append(a) or a), Net().head).eval(), images(1)
    targets = TargetSelector(min_area=0)(logits_of(model, x))
    seen.clear()
    AblationCAM("0")(model, x, targets)
    whole, ablated = seen[0][0], seen[1]
    torch.testing.assert_close(ablated[-1], whole)
    for k in range(5):
        assert not ablated[k, k].any()
        rest = torch.arange(5) != k
        torch.testing.assert_close(ablated[k, rest], whole[rest])
