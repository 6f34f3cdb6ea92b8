"""Attention rollout against explicit matrices; what it keeps, and what it cannot see."""

import pytest
import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from _models import Counting, Net, differences, images, state_of
from torch import Tensor, nn

from segaudit.attribution.attention import AttentionRollout
from segaudit.forwards.target import Targets, TargetSelector


class Attention(nn.Module):
    """One head pair over a grid of tokens, keys pooled in windows; what it passes on is added to its input."""

    def __init__(self, width: int, window: int) -> None:
        super().__init__()
        self.window = window
        self.q, self.k = nn.Linear(width, width), nn.Linear(width, width)
        self.attn_drop = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(2).mT
        pooled = F.avg_pool2d(x, self.window).flatten(2).mT
        q, k = (layer(t).unflatten(2, (2, -1)).transpose(1, 2) for layer, t in ((self.q, tokens), (self.k, pooled)))
        attention = self.attn_drop((3 * q @ k.mT).softmax(dim=-1))
        out = attention @ pooled.unflatten(2, (2, -1)).transpose(1, 2)
        return x + out.transpose(1, 2).flatten(2).mT.view_as(x)


class Stages(nn.Module):
    """Two stages: cells of 2 pixels with keys pooled 2x2, two blocks; then cells of 4 pixels, one block."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.embed1, self.embed2 = nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 4, 3, 2, 1)
            self.blocks = nn.ModuleList([Attention(4, 2), Attention(4, 2), Attention(4, 1)])
            self.head = nn.Conv2d(4, 3, 1)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed2(self.blocks[1](self.blocks[0](self.embed1(x))))
        return self.head(self.blocks[2](x))


def matrices(model: nn.Module, x: Tensor) -> list[Tensor]:
    """Every attention, mean over the heads, from an independent hook."""
    kept: list[Tensor] = []
    handles = [
        m.register_forward_hook(lambda m, i, o: kept.append(i[0].mean(1)))
        for n, m in model.named_modules()
        if n.endswith("attn_drop")
    ]
    with torch.no_grad():
        model(x)
    for handle in handles:
        handle.remove()
    return kept


def pools(fine: tuple[int, int], coarse: tuple[int, int], ratio: int) -> Tensor:
    """``(coarse cells, fine cells)``: each row spreads one evenly over what the cell covers, by loops."""
    matrix = torch.zeros(coarse[0] * coarse[1], fine[0] * fine[1])
    for y in range(fine[0]):
        for z in range(fine[1]):
            if y // ratio < coarse[0] and z // ratio < coarse[1]:
                matrix[(y // ratio) * coarse[1] + z // ratio, y * fine[1] + z] = 1
    return matrix / matrix.sum(1, keepdim=True)


def slow_rollout(model: Stages, x: Tensor, region: Tensor) -> Tensor:
    """One image, one target: the product of explicit matrices over all cells."""
    height, width = region.shape
    grid1, grid2 = ((-(-height // s), -(-width // s)) for s in (2, 4))
    a1, a2, a3 = (a[0] for a in matrices(model, x[None]))
    keys1 = pools(grid1, (grid1[0] // 2, grid1[1] // 2), 2)
    eye1, eye2 = torch.eye(grid1[0] * grid1[1]), torch.eye(grid2[0] * grid2[1])
    start = torch.zeros(grid2)
    for y in range(height):
        for z in range(width):
            start[y // 4, z // 4] += float(region[y, z])
    row = (start / start.sum()).flatten() @ (0.5 * a3 + 0.5 * eye2)
    row = row @ pools(grid1, grid2, 2)
    row = row @ (0.5 * a2 @ keys1 + 0.5 * eye1)
    row = row @ (0.5 * a1 @ keys1 + 0.5 * eye1)
    return (row @ pools((height, width), grid1, 2)).view(height, width)


def some_targets(n: int, size: tuple[int, int]) -> Targets:
    region = F.interpolate(torch.rand(n, 1, 3, 3, generator=torch.Generator().manual_seed(3)), size=size)[:, 0] > 0.6
    return Targets(torch.tensor([0, 0, 2])[:n], torch.tensor([0, 1, 1])[:n], region)


@pytest.mark.parametrize("size", [(16, 24), (18, 13)])  # 13 and 18 leave cells over, in both kinds of pooling
def test_is_the_slow_reference(size: tuple[int, int]) -> None:
    model, x = Stages(), images(3, size=size)
    targets = some_targets(3, size)
    maps = AttentionRollout()(model, x, targets)
    for n in range(3):
        expected = slow_rollout(model, x[int(targets.image_index[n])], targets.region[n])
        torch.testing.assert_close(maps[n], expected, rtol=1e-5, atol=1e-9)


def segformer() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return smp.Segformer("mit_b0", encoder_weights=None, classes=4)


def test_segformer() -> None:
    model, x = segformer(), images(2, size=(64, 96))
    model.train()  # at rest inside: attention dropout would change the maps
    targets = Targets(torch.tensor([0, 0, 1]), torch.tensor([0, 1, 2]), torch.zeros(3, 64, 96, dtype=torch.bool))
    # Whole cells of the last stage.
    targets.region[0, :32, :32], targets.region[1, 32:, 64:], targets.region[2, :32] = True, True, True
    before = state_of(model)
    maps = AttentionRollout()(model, x, targets)
    assert differences(before, state_of(model)) == []
    torch.testing.assert_close(maps.flatten(1).sum(1), torch.ones(3))  # all mass arrives, none is made
    assert float(maps.min()) >= 0
    assert not torch.allclose(maps[0], maps[1], rtol=1e-2, atol=0)  # one image, two regions
    alone = AttentionRollout()(model, x[1:], Targets(torch.tensor([0]), torch.tensor([2]), targets.region[2:]))
    torch.testing.assert_close(maps[2:], alone, rtol=1e-5, atol=1e-5 * float(alone.max()))
    other = AttentionRollout()(model, images(2, size=(64, 96), seed=9), targets)
    assert not torch.allclose(maps, other, rtol=1e-3, atol=0)


def test_uniform_attention_is_known() -> None:
    """With zero queries every key gets the same: half stays, half spreads over the image, block by block."""
    model, x = Stages(), images(1, size=(16, 16))
    for block in model.blocks:
        nn.init.zeros_(block.q.weight)
        nn.init.zeros_(block.q.bias)
    region = torch.zeros(1, 16, 16, dtype=torch.bool)
    region[:, 4:8, 8:12] = True  # one cell of the last stage
    maps = AttentionRollout()(model, x, Targets(torch.tensor([0]), torch.tensor([1]), region))
    torch.testing.assert_close(maps[~region], torch.full((240,), (1 - 1 / 8) / 256))
    torch.testing.assert_close(maps[region], torch.full((16,), 1 / 8 / 16 + (1 - 1 / 8) / 256))


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_one_forward_in_any_mode(mode: type) -> None:
    model, size = Counting(Stages()), (16, 24)
    expected = AttentionRollout()(model, images(3, size=size), some_targets(3, size))
    assert model.batches == [3]
    with mode():
        x = images(3, size=size) * 1
        targets = some_targets(3, size)
        assert torch.equal(AttentionRollout()(model, x, targets), expected)
    none = Targets(targets.image_index[:0], targets.class_index[:0], targets.region[:0])
    assert AttentionRollout()(model, x, none).shape == (0, *size)


def test_a_network_without_attention_is_told_what_to_do() -> None:
    model, x = Net(), images()
    targets = TargetSelector(min_area=0)(model(x).detach())
    before = state_of(model)
    with pytest.raises(ValueError, match=r"no attention is to be seen: .*set_fused_attn\(False\).*another explainer"):
        AttentionRollout()(model, x, targets)
    assert differences(before, state_of(model)) == []


class Tokens(nn.Module):
    """Attention of any shape, on the way to logits that do not mind."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.shape, self.attn_drop, self.head = shape, nn.Dropout(), nn.Conv2d(3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        self.attn_drop(torch.ones(self.shape))
        return self.head(x)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((3, 2, 17, 17), r"attention over 17 tokens is no grid over an image of \(16, 16\).*without class tokens"),
        ((12, 2, 16, 16), "attends within windows"),
        ((3, 2, 16, 7), r"7 keys for a grid of \(4, 4\) cells"),
    ],
)
def test_attention_that_cannot_be_followed(shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AttentionRollout()(Tokens(*shape), images(3, size=(16, 16)), some_targets(3, (16, 16)))
