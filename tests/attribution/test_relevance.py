"""LRP against its rules written out, and the law that it must obey: relevance is neither lost nor made."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from _models import Lambda, Net, differences, images, logits_of, state_of, uneven_targets
from torch import Tensor, nn

from segaudit.attribution import attribution_context
from segaudit.forwards.target import Targets, TargetSelector

pytest.importorskip("zennit", reason="zennit is not installed: pip install 'segaudit[lrp]'")

from segaudit.attribution.relevance import LRP, _check


def matrix(layer: Callable[[Tensor], Tensor], shape: tuple[int, ...]) -> Tensor:
    """The matrix ``(inputs, outputs)`` of a linear map, a column of the identity at a time."""
    size = torch.Size(shape).numel()
    zero = layer(torch.zeros(1, *shape)).flatten()
    return torch.stack([layer(unit.view(1, *shape)).flatten() - zero for unit in torch.eye(size)])


def without_bias(conv: nn.Conv2d, weight: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda x: F.conv2d(x, weight, None, conv.stride, conv.padding)


def slow_lrp(model: Net, x: Tensor, class_index: int, region: Tensor) -> Tensor:
    """One image, one target: explicit matrices, batch norm merged by hand, a loop over the layers."""
    first, norm, _, _, second, _ = model.features
    with torch.no_grad():
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()
        hidden1 = F.relu(norm(first(x[None])))
        hidden2 = F.relu(second(hidden1))
        # The start: each feature's term in the mean logit.
        to_logits = matrix(
            lambda h: F.interpolate(without_bias(model.head, model.head.weight)(h), region.shape, mode="bilinear"),
            hidden2.shape[1:],
        )
        weights = torch.zeros(model.head.out_channels, *region.shape)
        weights[class_index] = region / region.sum()
        relevance = hidden2.flatten() * (to_logits @ weights.flatten())
        # z+: the share of each positive contribution among the positive ones.
        w = matrix(without_bias(second, second.weight), hidden1.shape[1:])
        z = (hidden1.flatten()[:, None] * w).clamp_min(0)
        relevance = (z / z.sum(0).clamp_min(1e-12)) @ relevance
        # flat: every input that a feature sees gets the same.
        assert scale.abs().min() > 0
        seen = matrix(without_bias(first, torch.ones_like(first.weight)), x.shape)
        relevance = (seen / seen.sum(0)) @ relevance
    return relevance.view(x.shape).sum(0)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("inplace", [False, True])
def test_is_the_slow_reference(stride: int, inplace: bool) -> None:
    model, x = Net(stride=stride, inplace=inplace), images()
    targets = uneven_targets(model, x)
    maps = LRP()(model, x, targets)
    for n in range(len(targets)):
        expected = slow_lrp(model, x[targets.image_index[n]], int(targets.class_index[n]), targets.region[n])
        torch.testing.assert_close(maps[n], expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


def without_head_bias(model: nn.Module, head: nn.Module, x: Tensor, targets: Targets) -> Tensor:
    """Mean logit of each target, less what the last layer's bias gives to it."""
    kept = head.bias.data.clone()
    head.bias.data.zero_()
    logits = logits_of(model, x)[targets.image_index]
    head.bias.data.copy_(kept)
    chosen = logits[torch.arange(len(targets)), targets.class_index]
    return torch.stack([values[region].mean() for values, region in zip(chosen, targets.region, strict=True)])


class Parts(nn.Module):
    """All that must hand relevance on: additions of three kinds, concatenation, interpolation, pooling, a shared ReLU."""

    def __init__(self) -> None:
        super().__init__()
        conv = lambda i, o, k=3, s=1, g=1: nn.Conv2d(i, o, k, s, k // 2, groups=g)  # noqa: E731
        self.stem, self.down, self.same, self.norm = conv(3, 8), conv(8, 8, s=2), conv(8, 8), nn.BatchNorm2d(8)
        self.depthwise, self.pointwise = nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False), conv(8, 8, 1)
        self.relu, self.pool, self.drop = nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(2), nn.Dropout(0.5)
        self.max, self.up, self.mix, self.head = nn.MaxPool2d(2), nn.ConvTranspose2d(8, 8, 2, 2), conv(24, 8), conv(8, 3, 1)
        self.norm.running_mean.normal_()
        self.norm.running_var.uniform_(0.5, 2)

    def forward(self, x: Tensor) -> Tensor:
        stem = self.relu(self.stem(x))
        low = self.relu(self.down(stem))
        residual = self.norm(self.same(low))
        residual += low
        low = self.relu(residual)
        low = self.drop(F.relu(torch.add(self.pointwise(self.depthwise(low)), low)))
        pooled = F.interpolate(self.pool(low), size=low.shape[2:], mode="bilinear")
        fine = self.relu(self.up(low) + stem)
        coarse = F.interpolate(torch.cat([self.max(fine), pooled, low], dim=1), scale_factor=2, mode="nearest")
        return self.head(self.relu(self.mix(coarse)))


def parts(seed: int = 0) -> Parts:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Parts().eval()


def test_relevance_is_kept_by_all_parts() -> None:
    model, x = parts(), images(size=(16, 12))
    targets = TargetSelector(min_area=0)(logits_of(model, x))
    maps = LRP()(model, x, targets)
    expected = without_head_bias(model, model.head, x, targets)
    size = maps.abs().flatten(1).sum(1)
    assert bool(((maps.flatten(1).sum(1) - expected).abs() < 1e-4 * size).all())
    assert bool((maps.flatten(1).amax(1) > maps.flatten(1).amin(1)).all())


def networks() -> dict[str, Callable[[], nn.Module]]:
    import segmentation_models_pytorch as smp
    import torchvision.models.segmentation as tv

    none = {"weights": None, "weights_backbone": None}
    return {
        "unet": lambda: smp.Unet("resnet18", encoder_weights=None, classes=4),
        "unet_vgg": lambda: smp.Unet("vgg11_bn", encoder_weights=None, classes=4),
        "unet_timm": lambda: smp.Unet("tu-resnet18", encoder_weights=None, classes=4),
        "deeplab": lambda: smp.DeepLabV3Plus("resnet18", encoder_weights=None, classes=4),
        "torchvision": lambda: tv.deeplabv3_resnet50(**none, num_classes=4, aux_loss=True),
    }


@pytest.mark.parametrize("name", ["unet", "unet_vgg", "unet_timm", "deeplab", "torchvision"])
def test_relevance_is_kept_by_real_networks(name: str) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = networks()[name]().train()
    x = images(4, size=(64, 64))
    for _ in range(2):
        model(x)  # batch norm learns the scale of things
    model.eval()
    zero = torch.zeros(3, dtype=torch.long)
    region = torch.zeros(3, 64, 64, dtype=torch.bool)
    region[:2, 8:30, 8:30], region[2, 40:, 40:] = True, True
    targets = Targets(zero, torch.tensor([0, 1, 1]), region)
    before = state_of(model)
    maps = LRP()(model, x, targets)
    assert differences(before, state_of(model)) == []
    head = [m for n, m in model.named_modules() if isinstance(m, nn.Conv2d) and m.out_channels == 4 and "aux" not in n][-1]
    expected, size = without_head_bias(model, head, x, targets), maps.abs().flatten(1).sum(1)
    assert bool(((maps.flatten(1).sum(1) - expected).abs() < 1e-3 * size).all())
    assert maps.isfinite().all()
    similar = F.cosine_similarity(maps[[0, 1]].flatten(1), maps[[1, 2]].flatten(1)).abs()
    assert bool((similar < 0.999).all())  # another class, another region: another map


def refused(model: nn.Module) -> str:
    x = images(2)
    targets = TargetSelector(min_area=0)(logits_of(model, x))
    before = state_of(model)
    with pytest.raises(ValueError, match="LRP") as found:
        LRP()(model, x, targets)
    assert differences(before, state_of(model)) == []
    assert "\n" not in str(found.value)
    return str(found.value)


def conv(i: int, o: int) -> nn.Conv2d:
    return nn.Conv2d(i, o, 3, padding=1)


class Gate(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features, self.gate, self.head = conv(3, 8), conv(3, 8), nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).relu() * self.gate(x).sigmoid())


class TwoHeads(Gate):
    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x)) + self.head2(self.gate(x))

    def __init__(self) -> None:
        super().__init__()
        self.head2 = nn.Conv2d(8, 2, 1)


def test_what_the_rules_do_not_cover_is_refused() -> None:
    torch.manual_seed(0)
    assert "does not hold in this network" in refused(Gate().eval())
    assert "not all of the logits pass through one" in refused(TwoHeads().eval())
    assert "no convolution or linear layer leads to" in refused(Lambda(lambda x: x[:, :2] * 2))
    group = nn.Sequential(conv(3, 4), nn.GroupNorm(2, 4), nn.ReLU(), conv(4, 2))
    assert "no rule for '1' (GroupNorm)" in refused(group)
    for inplace in (False, True):  # in place, the tensor after the ReLU is the one before it
        late = nn.Sequential(conv(3, 4), nn.ReLU(inplace), nn.BatchNorm2d(4), conv(4, 2)).eval()
        assert "no rule for '2' (BatchNorm2d) in its place" in refused(late)
    bare = nn.Sequential(conv(3, 4), nn.BatchNorm2d(4, affine=False), nn.ReLU(), conv(4, 2)).eval()
    assert "no rule for '1' (BatchNorm2d) in its place" in refused(bare)
    shared = conv(3, 3)
    assert "'0': it runs 2 times" in refused(nn.Sequential(shared, nn.ReLU(), shared, nn.ReLU(), conv(3, 2)))


def test_relevance_that_is_lost_or_made_is_refused_and_negative_relevance_is_not() -> None:
    start = torch.tensor([[0.4, -1.2, 0.2]])  # more against than for: the sum is negative, the relevance is not small
    _check(start, torch.tensor([[-0.5, -0.1]]))
    for changed in (-0.2, 0.2):
        with pytest.raises(ValueError, match="11% of a target's relevance is lost or made"):
            _check(start, torch.tensor([[-0.6, changed]]))


def test_a_mistake_of_a_peer_midway_is_undone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batch norm is merged into the model's own weights: they come back, whatever happens in between."""
    from zennit.canonizers import NamedMergeBatchNorm

    model, x = Net(), images()
    targets = uneven_targets(model, x)

    def fail(self: object) -> None:
        raise RuntimeError("the peer broke")

    monkeypatch.setattr(NamedMergeBatchNorm, "remove", fail)
    before = state_of(model)
    with pytest.raises(RuntimeError, match="the peer broke"):
        LRP()(model, x, targets)
    assert differences(before, state_of(model)) == []


def test_positive_everywhere_for_a_positive_network() -> None:
    """Nonnegative weights and images without bias: all relevance is positive, and a silent image half gets the start's."""
    model = nn.Sequential(conv(1, 4), nn.ReLU(), conv(4, 4), nn.ReLU(), nn.Conv2d(4, 2, 1))
    for parameter in model.parameters():
        parameter.data.abs_()
    x = images(1, 1).abs()
    targets = Targets(torch.tensor([0]), torch.tensor([1]), torch.zeros(1, 12, 10, dtype=torch.bool))
    targets.region[0, 2, 2] = True
    maps = LRP()(model, x, targets)[0]
    assert float(maps.min()) >= 0
    reach = torch.zeros(12, 10, dtype=torch.bool)
    reach[:5, :5] = True  # two convolutions of 3x3 about (2, 2)
    assert bool((maps[reach] > 0).all())
    assert float(maps[~reach].abs().max()) == 0
    with attribution_context(model):
        expected = without_head_bias(model, model[4], x, targets)
    torch.testing.assert_close(maps.sum(), expected[0], rtol=1e-5, atol=0)
