"""The layer a CAM reads: which is found, how outputs of all kinds are read, and what is said where it cannot be."""

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from _models import Counting, Lambda, Net, differences, images, logits_of, state_of, uneven_targets
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
from segaudit.attribution.layer import candidates, find_layer, read
from segaudit.forwards import Probe
from segaudit.forwards.target import TargetSelector
from segaudit.intervention import Intervention

GRADIENT_CAMS = [SegGradCAM, GradCAMPlusPlus, XGradCAM, HiResCAM, LayerCAM, SegXResCAM]
CAMS = [*GRADIENT_CAMS, EigenCAM, ScoreCAM, AblationCAM]


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


def networks() -> dict[str, Callable[[], nn.Module]]:
    import segmentation_models_pytorch as smp
    import torchvision.models.segmentation as tv

    bare = {"encoder_weights": None, "classes": 5}
    none = {"weights": None, "weights_backbone": None, "num_classes": 5}
    return {
        "unet": lambda: smp.Unet("resnet18", **bare),
        "unet_mobile": lambda: smp.Unet("mobilenet_v2", **bare),
        "fpn": lambda: smp.FPN("resnet18", **bare),
        "deeplabv3plus": lambda: smp.DeepLabV3Plus("resnet18", **bare),
        "segformer": lambda: smp.Segformer("mit_b0", **bare),
        "upernet_convnext": lambda: smp.UPerNet("tu-convnext_atto", **bare),
        "upernet_swin": lambda: smp.UPerNet("tu-swin_tiny_patch4_window7_224", **bare, img_size=128),
        "dpt_vit": lambda: smp.DPT("tu-vit_tiny_patch16_224", **bare, dynamic_img_size=True),
        "lraspp": lambda: tv.lraspp_mobilenet_v3_large(**none),
        "fcn_aux": lambda: tv.fcn_resnet50(**none, aux_loss=True),
        "deeplabv3": lambda: tv.deeplabv3_resnet50(**none),
    }


@cache
def network(name: str) -> nn.Module:
    """Built once; explainers leave it as it is."""
    torch.manual_seed(0)
    return networks()[name]().eval()


@pytest.mark.parametrize("name", networks())
def test_find_layer_on_real_networks(name: str) -> None:
    model = network(name)
    x = images(1, size=(128, 128))
    layer = find_layer(model, x)
    grid = read(torch.zeros(sizes_of(model, x)[layer]), x.shape)
    assert grid is not None
    assert 8 <= grid.grid[0] == grid.grid[1] <= 16  # the bottleneck: 128 / 16 or 128 / 8
    assert sizes_of(model, x)[layer][grid.axis] > 5  # features, not the five classes' logits
    assert "aux" not in layer
    targets = TargetSelector(min_area=0)(logits_of(model, x))
    maps = SegGradCAM()(model, x, targets)
    assert torch.equal(maps, SegGradCAM(layer)(model, x, targets))
    assert torch.equal(maps, SegGradCAM(model.get_submodule(layer))(model, x, targets))
    assert float(maps.abs().sum()) > 0


@pytest.mark.parametrize(
    ("name", "layer", "grid"),
    [
        ("segformer", "encoder.block3.1", 8),  # tokens
        ("segformer", "encoder.block3.1.mlp.fc1", 8),
        ("segformer", "encoder.norm3", 8),
        ("dpt_vit", "encoder.model.blocks.5", 8),  # a class token and 64 others
        ("upernet_swin", "encoder.model.layers_1", 16),  # channels last
    ],
)
def test_tokens_and_channels_last_in_real_networks(name: str, layer: str, grid: int) -> None:
    model, x = network(name), images(2, size=(128, 128))
    targets = TargetSelector(min_area=0)(logits_of(model, x))
    assert layer in candidates(model, x[:1])
    assert read(torch.zeros(sizes_of(model, x)[layer]), x.shape).grid == (grid, grid)
    for explainer in (HiResCAM(layer), EigenCAM(layer), AblationCAM(layer, channels=2)):
        maps = explainer(model, x, targets)
        assert maps.isfinite().all()
        assert bool((maps.flatten(1).std(dim=1) > 0).any())


class Form(nn.Module):
    """One network whose layer ``form`` gives its features in one of several forms; prefix tokens are thrown away."""

    def __init__(self, form: str, dims: int = 2, prefix: int = 0) -> None:
        super().__init__()
        net = Net(stride=2, dims=dims)
        self.features, self.head, self.kind, self.prefix = net.features, net.head, form, prefix
        self.form = Lambda(self.there)
        self.eval()

    def there(self, x: Tensor) -> Tensor:
        if self.kind == "tokens":
            tokens = x.flatten(2).mT
            return torch.cat([9 + torch.zeros_like(tokens[:, :1]).expand(-1, self.prefix, -1), tokens], dim=1)
        return x.movedim(1, -1) if self.kind == "last" else x

    def forward(self, x: Tensor) -> Tensor:
        features = self.features(x)
        there = self.form(features)
        if self.kind == "tokens":
            there = there[:, self.prefix :].mT.reshape(features.shape)
        return self.head(there.movedim(-1, 1) if self.kind == "last" else there)


@pytest.mark.parametrize(
    ("form", "dims", "prefix"),
    [("last", 2, 0), ("tokens", 2, 0), ("tokens", 2, 1), ("tokens", 2, 5), ("last", 3, 0), ("tokens", 3, 1)],
)
@pytest.mark.parametrize("make", CAMS)
def test_the_form_of_the_output_does_not_matter(make: Callable[[str], Explainer], form: str, dims: int, prefix: int) -> None:
    x = images(size=(24, 20) if dims == 2 else (12, 10, 14))
    targets = uneven_targets(Form("first", dims), x)
    few = Intervention(max_batch=7)
    expected = make("form")(Form("first", dims), x, targets, intervention=few)
    maps = make("form")(Form(form, dims, prefix), x, targets, intervention=few)
    assert float(expected.abs().max()) > 0
    torch.testing.assert_close(maps, expected, rtol=1e-5, atol=1e-6 * float(expected.abs().max()))


@pytest.mark.parametrize(
    ("shape", "size", "expected"),
    [
        ((2, 96, 56, 56), (224, 224), ((56, 56), 1, 0)),
        ((2, 56, 56, 96), (224, 224), ((56, 56), -1, 0)),
        ((2, 8, 8, 8), (64, 64), ((8, 8), 1, 0)),  # both would do: channels first
        ((2, 17, 24, 40), (100, 163), ((24, 40), 1, 0)),  # unpadded convolutions
        ((2, 5, 7, 9, 64), (40, 56, 72), ((5, 7, 9), -1, 0)),
        ((2, 197, 192), (224, 224), ((14, 14), -1, 1)),
        ((2, 201, 192), (224, 224), ((14, 14), -1, 5)),
        ((2, 9, 64), (80, 80), ((3, 3), -1, 0)),  # padded to 96
        ((2, 7 * 11, 64), (100, 163), ((7, 11), -1, 0)),  # padded to 112 x 176
        ((2, 2 * 3 * 4 + 1, 64), (32, 48, 64), ((2, 3, 4), -1, 1)),
        ((2, 120, 192), (224, 224), None),  # no grid of a square image
        ((1, 196, 192), (224, 224), None),  # a row is no image, as in windows of attention
        ((2, 196), (224, 224), None),
        ((2, 5, 20), (40,), ((20,), 1, 0)),
    ],
)
def test_read(shape: tuple[int, ...], size: tuple[int, ...], expected: object) -> None:
    reading = read(torch.zeros(shape), (2, 3, *size))
    assert (reading and tuple(reading)) == expected
    if reading:
        assert reading.features(torch.zeros(shape)).shape == (shape[0], shape[reading.axis], *reading.grid)
    assert read(torch.zeros(shape, dtype=torch.long), (2, 3, *size)) is None


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


class Attention(nn.Module):
    """Self-attention over 3x3 tokens: its weights (B, 4 heads, 9, 9) have the proportions of a feature map."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.drop, self.soft = nn.Conv2d(3, 8, 4, stride=4), nn.Dropout(0.1), nn.Softmax(dim=-1)
        self.down, self.norm, self.head = nn.MaxPool2d(4), nn.LayerNorm(2), nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        features = self.embed(x)
        tokens = self.down(features).flatten(2).mT.unflatten(2, (4, 2)).transpose(1, 2)
        tokens = self.norm(tokens)  # (B, 4 heads, 9, 2)
        tokens = (self.drop(self.soft(tokens @ tokens.mT)) @ tokens).transpose(1, 2).flatten(2).mT.unflatten(2, (3, 3))
        return self.head(features + nn.functional.interpolate(tokens, (12, 12)))


def test_attention_weights_are_no_feature_map() -> None:
    model, x = Attention().eval(), images(1, size=(48, 48))
    assert sizes_of(model, x)["drop"] == (1, 4, 9, 9)
    assert sizes_of(model, x)["norm"] == (1, 4, 9, 2)  # out of the image's proportions
    assert find_layer(model, x) == "embed"
    assert candidates(model, x) == ["embed", "down", "head"]


def test_a_network_of_one_single_module() -> None:
    model, x = nn.Conv2d(3, 2, 1), images()
    targets = TargetSelector(min_area=0)(model(x).detach())
    assert find_layer(model, x[:1]) == ""
    for make in CAMS:
        assert make()(model, x, targets).shape == targets.region.shape
    # The gradient of the mean logit is 1 / |R| at the pixels of R and the class's channel.
    maps = HiResCAM()(model, x, targets)
    for n, (b, c) in enumerate(zip(targets.image_index, targets.class_index, strict=True)):
        region = targets.region[n]
        torch.testing.assert_close(maps[n], region * model(x)[b, c].detach() / region.sum())
    with pytest.raises(ValueError, match="no layer 'features'; it is one single module; leave the layer out"):
        SegGradCAM("features")(model, x, targets)


def test_a_model_is_searched_once_for_each_size_and_again_when_it_is_rebuilt() -> None:
    stem = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, stride=2, padding=1))
    model = Counting(nn.Sequential(stem, nn.Upsample(scale_factor=4), nn.Conv2d(4, 2, 1)))

    def explain(x: Tensor, layer: str | None = None) -> tuple[int, Tensor]:
        targets = TargetSelector(min_area=0)(logits_of(model, x))
        before = len(model.batches)
        maps = SegGradCAM(layer)(model, x, targets)
        return len(model.batches) - before, maps

    x, wide = images(2, size=(64, 64)), images(2, size=(64, 80))
    named, expected = explain(x, "model.0.2")
    assert named == 1
    for image, forwards in [(x, 2), (x, 1), (wide, 2), (wide, 1), (x, 1)]:
        found, maps = explain(image)
        assert found == forwards
        assert image is wide or torch.equal(maps, expected)
    stem.append(nn.Conv2d(4, 4, 1))
    found, maps = explain(x)
    assert found == 2
    assert torch.equal(maps, explain(x, "model.0.3")[1])


def test_find_layer_leaves_no_trace_when_the_model_breaks() -> None:
    model = nn.Sequential(nn.Conv2d(3, 2, 1), Lambda(lambda x: x.reshape(-1)))
    before = state_of(model)
    with pytest.raises(ValueError, match="shape"):
        find_layer(model, images(1))
    assert differences(before, state_of(model)) == []


def test_a_model_without_feature_maps() -> None:
    with pytest.raises(ValueError, match="no module of this model gives a feature map"):
        find_layer(Lambda(lambda x: {"out": x}), images(1))


def test_a_model_that_cuts_the_gradient_has_no_layer_to_be_found() -> None:
    model, x = nn.Sequential(Net(), Lambda(lambda x: x.detach())), images()
    targets = uneven_targets(model, x)
    for layer in (None, "0.features"):
        with pytest.raises(ValueError, match="no gradient reaches the image"):
            SegGradCAM(layer)(model, x, targets)
    # Explainers without gradients need none where the layer is named.
    expected = EigenCAM("features")(Net(), x, targets)
    assert torch.equal(EigenCAM("0.features")(model, x, targets), expected)


def test_candidates_are_in_order_and_used() -> None:
    # features.3 is a dropout layer, which gives its input.
    assert candidates(Net(), images(1)) == [*(f"features.{i}" for i in (0, 1, 2, 4, 5)), "features", "head"]


def test_an_unknown_layer_lists_some_that_exist() -> None:
    model, x = Net(), images()
    targets = uneven_targets(model, x)
    with pytest.raises(ValueError, match=r"no layer 'heads'; some that it has: .*features\.5, head\.") as found:
        SegGradCAM("heads")(model, x, targets)
    assert "\n" not in str(found.value)
    with pytest.raises(ValueError, match=r"no layer '5'; some that it has: features\.5\."):  # the end of a name
        SegGradCAM("5")(model, x, targets)


@pytest.mark.parametrize("make", CAMS)
def test_a_layer_is_named_or_given(make: Callable[[Any], Explainer]) -> None:
    model, x = Net(), images()
    targets = uneven_targets(model, x)
    named = make("features.2")(model, x, targets)
    assert torch.equal(make(model.features[2])(model, x, targets), named)
    with pytest.raises(ValueError, match=r"the layer given as a module \(ReLU\) is no part of this model.*give its name"):
        make(Net().features[2])(model, x, targets)


def test_a_shared_module_goes_by_either_name() -> None:
    model, x = Net(), images()
    targets = uneven_targets(model, x)
    expected = SegGradCAM("features.4")(model, x, targets)
    model.alias = model.features[4]
    assert torch.equal(SegGradCAM("alias")(model, x, targets), expected)
    assert torch.equal(SegGradCAM("features.4")(model, x, targets), expected)


class Pooling(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.flat, self.pair, self.spare = nn.Conv2d(3, 4, 1), nn.Flatten(), Lambda(lambda x: (x, x)), nn.ReLU()
        self.head, self.aux = nn.Conv2d(4, 2, 1), nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        hidden = self.conv(x)
        return {"out": self.head(self.pair(hidden)[0] + self.flat(hidden).mean()), "aux": self.aux(hidden)}


@pytest.mark.parametrize(("layer", "what"), [("flat", r"a tensor \(4, 480\)"), ("pair", "a tuple")])
@pytest.mark.parametrize("make", [SegGradCAM, EigenCAM])
def test_a_layer_that_gives_no_feature_map(make: Callable[[str], Explainer], layer: str, what: str) -> None:
    model, x = Pooling(), images()
    targets = TargetSelector(min_area=0)(logits_of(model, x))
    before = state_of(model)
    with pytest.raises(
        ValueError, match=f"the layer '{layer}' gives no feature map .*but {what}; choose one of: conv, head"
    ):
        make(layer)(model, x, targets)
    assert differences(before, state_of(model)) == []


@pytest.mark.parametrize("make", [SegGradCAM, AblationCAM])
def test_a_layer_that_does_not_run_or_runs_twice(make: Callable[[str], Explainer]) -> None:
    model, x = Pooling(), images()
    targets = TargetSelector(min_area=0)(logits_of(model, x))
    with pytest.raises(ValueError, match="'spare' ran 0 times"):
        make("spare")(model, x, targets)
    relu = nn.ReLU()
    twice = nn.Sequential(nn.Conv2d(3, 2, 1), relu, nn.Conv2d(2, 2, 1), relu)
    with pytest.raises(ValueError, match="'1' ran 2 times"):
        make("1")(twice, x, targets)


def test_a_layer_that_the_logits_do_not_know() -> None:
    model, x = Pooling(), images()
    targets = TargetSelector(min_area=0)(logits_of(model, x))
    with pytest.raises(ValueError, match=r"the logits do not depend on the layer 'aux'; choose one of: conv, head\.$"):
        SegGradCAM("aux")(model, x, targets)


def test_all_cams_of_a_batch_share_the_passes() -> None:
    model, x = Counting(Net()), images()
    targets = uneven_targets(model, x)
    model.batches.clear()
    with attribution_context(model):
        probe = Probe(model, x, targets, Intervention(max_batch=3))
        for make in GRADIENT_CAMS:
            make().explain(probe)
        assert model.batches == [1, 4]  # one finds the layer
        model.batches.clear()
        EigenCAM().explain(probe)
        EigenCAM(center=False).explain(probe)
        assert model.batches == [3, 1]
