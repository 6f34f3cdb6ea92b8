"""Local means and shuffles by slow references; linear interpolation by a dense solver and by pytorch-grad-cam's imputer."""

from itertools import product

import pytest
import torch
from _models import images
from pytorch_grad_cam.metrics.road import NoisyLinearImputer
from torch import Tensor

from segaudit.intervention import ConstantFill, LocalMeanFill, MeanFill, NoisyLinearFill, ShuffleFill
from segaudit.intervention.linear import interpolate

SIZES = [(30,), (1, 20), (2, 2), (30, 2), (9, 14), (17, 24), (5, 6, 7)]


def holes(size: tuple[int, ...], share: float, n: int = 3) -> Tensor:
    """Which pixels are removed, at random; of the last image the first half and all but one pixel of the rest."""
    generator = torch.Generator().manual_seed(len(size))
    removed = torch.rand(n, *size, generator=generator) < share
    flat = removed.view(n, -1)
    flat[:, -1] = False
    flat[-1] = True
    flat[-1, flat.shape[1] // 2] = False
    return removed


def solved(image: Tensor, removed: Tensor) -> Tensor:
    """One image: an equation a pixel, written down and solved densely in double precision."""
    size = removed.shape
    pixels = list(product(*map(range, size)))
    number = {pixel: i for i, pixel in enumerate(pixels)}
    matrix = torch.eye(len(pixels), dtype=torch.float64)
    right = image.double().flatten(1).T.clone()
    direct, diagonal = {1: (1 / 2, 0), 2: (1 / 6, 1 / 12), 3: (4 / 56, 2 / 56)}[len(size)]
    for pixel in filter(lambda p: bool(removed[p]), pixels):
        weights = {}
        for offset in product((-1, 0, 1), repeat=len(size)):
            off = sum(map(abs, offset))
            neighbour = tuple(p + o for p, o in zip(pixel, offset, strict=True))
            if off and neighbour in number:
                weights[neighbour] = (direct, diagonal, 1 / 56)[off - 1]
        for neighbour, weight in weights.items():
            matrix[number[pixel], number[neighbour]] = -weight / sum(weights.values())
        right[number[pixel]] = 0
    return torch.linalg.solve(matrix, right).T.view(image.shape)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
@pytest.mark.parametrize("size", SIZES)
def test_interpolation_is_the_solution_of_the_system(size: tuple[int, ...], share: float) -> None:
    x, removed = images(3, size=size), holes(size, share)
    result = interpolate(x, removed)
    expected = torch.stack([solved(*pair) for pair in zip(x, removed, strict=True)])
    spread = x.std(dim=tuple(range(1, x.ndim)), correction=0)
    assert bool(((result - expected).abs().flatten(1).amax(dim=1) < 5e-4 * spread).all())
    known = ~removed[:, None].expand_as(x)
    assert torch.equal(result[known], x[known])
    for n in range(3):
        torch.testing.assert_close(interpolate(x[n : n + 1], removed[n : n + 1])[0], result[n], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("scale", [1e-30, 1, 1e30])
def test_a_few_bright_pixels_of_a_dark_image(scale: float) -> None:
    """The largest deviation is many standard deviations; squares of the very small and large ones leave the range."""
    size = (40, 36)
    generator = torch.Generator().manual_seed(5)
    x = 1 + 0.01 * torch.randn(2, 1, *size, generator=generator)
    x[:, :, 20, 7] = 1000
    removed = torch.rand(2, *size, generator=generator) < 0.6
    removed[:, 20, 7] = False
    expected = torch.stack([solved(*pair) for pair in zip(x, removed, strict=True)])
    error = (interpolate(scale * x, removed).double() / scale - expected).abs().flatten(1).amax(dim=1)
    assert bool((error < 5e-4 * x.flatten(1).std(dim=1)).all())


@pytest.mark.parametrize("shape", [(20, 25), (48, 40)])
def test_interpolation_is_road_s(shape: tuple[int, int]) -> None:
    x, removed = images(3, size=shape), holes(shape, 0.7)
    removed[1] = False
    removed[1, 3:17, 5:22] = True  # a hole in one piece
    filled = NoisyLinearFill(noise=0)
    result = filled.remove(x, removed, filled(x))
    imputer = NoisyLinearImputer(noise=0)
    for image, hole, found in zip(x, removed, result, strict=True):
        torch.testing.assert_close(found, imputer(image, (~hole).float()), rtol=0, atol=5e-4)


def test_large_holes_of_large_images() -> None:
    """A linear ramp solves the equations inside an image; far from its borders nothing else is known to the solver."""
    ramp = torch.arange(200.0)[:, None] + 2 * torch.arange(260.0) - 1000
    removed = torch.zeros(1, 200, 260, dtype=torch.bool)
    removed[:, 1:-1, 1:-1] = True
    found = interpolate(ramp.expand(1, 2, -1, -1), removed)[0]
    assert bool(((found - ramp).abs() < 1e-3 * ramp.std()).all())


@pytest.mark.parametrize("size", [(400,), (150, 170), (24, 20, 30)])
def test_one_known_pixel_is_the_whole_image(size: tuple[int, ...]) -> None:
    x, removed = images(1, size=size), torch.ones(1, *size, dtype=torch.bool)
    place = tuple(length // 3 for length in size)
    removed[(0, *place)] = False
    error = interpolate(x, removed) - x[(0, slice(None), *place)].view(1, -1, *[1] * len(size))
    assert bool((error.abs().flatten(2).amax(dim=2) < 1e-3 * x.flatten(2).std(dim=2)).all())


def test_nothing_of_a_removed_pixel_is_used() -> None:
    x, removed = images(3, size=(16, 18)), holes((16, 18), 0.6)
    other = torch.where(removed[:, None], 50 * torch.randn(x.shape, generator=torch.Generator().manual_seed(1)), x)
    torch.testing.assert_close(interpolate(other, removed), interpolate(x, removed), rtol=0, atol=3e-3)
    fill = NoisyLinearFill(noise=0)
    for share in (0.999, 0.3):
        soft = removed * share
        expected = torch.lerp(x, interpolate(x, removed), soft[:, None])
        torch.testing.assert_close(fill.remove(x, soft, fill(x)), expected, rtol=1e-5, atol=1e-5)


def test_all_or_nothing_removed() -> None:
    x = images(3, size=(8, 9))
    fill = NoisyLinearFill()
    everything = torch.ones(3, 8, 9, dtype=torch.bool)
    torch.testing.assert_close(fill.remove(x, everything, fill(x)), fill(x), rtol=0, atol=1e-6)
    assert torch.equal(fill.remove(x, ~everything, fill(x)), x)
    torch.testing.assert_close(NoisyLinearFill(noise=0)(x), MeanFill()(x))
    half = everything.clone()
    half[1] = False
    half[2, 2:] = False
    mixed = fill.remove(x, half, fill(x))  # images of each kind beside one another
    for n in range(3):
        one = slice(n, n + 1)
        torch.testing.assert_close(fill.remove(x[one], half[one], fill(x[one])), mixed[one], rtol=0, atol=1e-6)


def test_noise_of_the_interpolation() -> None:
    x = images(2, size=(60, 70)) * torch.tensor([1.0, 30.0]).view(2, 1, 1, 1)
    removed = holes((60, 70), 0.8, 2)
    fill, bare = NoisyLinearFill(noise=0.05), NoisyLinearFill(noise=0)
    grain = fill.remove(x, removed, fill(x)) - bare.remove(x, removed, bare(x))
    for n in range(2):
        values = grain[n][:, removed[n]]
        assert float(values.std() / x[n].std()) == pytest.approx(0.05, rel=0.03)
        assert abs(float(values.mean())) < 4 * float(values.std()) / values.numel() ** 0.5
        assert not bool(grain[n][:, ~removed[n]].any())
    assert not torch.equal(NoisyLinearFill(seed=1)(x), NoisyLinearFill(seed=2)(x))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("channels", [1, 5])
def test_interpolation_in_other_precisions(dtype: torch.dtype, channels: int) -> None:
    x, removed = images(3, channels, (11, 10)).to(dtype), holes((11, 10), 0.5)
    fill = NoisyLinearFill()
    for mask in (removed, removed * 0.5):
        result = fill.remove(x, mask, fill(x))
        assert result.dtype is dtype
        expected = fill.remove(x.float(), mask, fill(x.float()))
        torch.testing.assert_close(result.float(), expected, rtol=0, atol=max(1e-4, 8 * torch.finfo(dtype).eps))


def test_other_fills_stand_where_pixels_are_removed() -> None:
    x, removed = images(2, size=(3, 4)), holes((3, 4), 0.5, 2)
    filled = ConstantFill(7.0)(x)
    hard, soft = ConstantFill().remove(x, removed, filled), ConstantFill().remove(x, removed * 0.25, filled)
    for n, k, i, j in product(range(2), range(3), range(3), range(4)):
        gone = bool(removed[n, i, j])
        assert float(hard[n, k, i, j]) == (7.0 if gone else float(x[n, k, i, j]))
        assert float(soft[n, k, i, j]) == pytest.approx(float(x[n, k, i, j]) * (0.75 if gone else 1) + (1.75 if gone else 0))


@pytest.mark.parametrize("window", [0.1, 0.5, 1.0, 4.0])
@pytest.mark.parametrize("size", [(1,), (7,), (5, 8), (2, 3, 4)])
def test_local_mean(size: tuple[int, ...], window: float) -> None:
    x = images(2, 2, size)
    reaches = [max(1, round(window * s / 2)) for s in size]
    result = LocalMeanFill(window)(x)
    for n, k in product(range(2), range(2)):
        for pixel in product(*map(range, size)):
            box = product(*(range(max(0, p - r), min(s, p + r + 1)) for p, r, s in zip(pixel, reaches, size, strict=True)))
            values = [float(x[(n, k, *other)]) for other in box]
            assert float(result[(n, k, *pixel)]) == pytest.approx(sum(values) / len(values), abs=1e-5)


def test_shuffle_moves_whole_pixels_everywhere() -> None:
    x = images(2, size=(6, 7))
    result = ShuffleFill()(x)
    for before, after in zip(x, result, strict=True):
        assert sorted(before.flatten(1).T.tolist()) == sorted(after.flatten(1).T.tolist())
    assert not torch.equal(ShuffleFill(1)(x), ShuffleFill(2)(x))
    # Where the pixels of 2000 images come from: each place equally often from each, about.
    places = torch.arange(8.0).view(1, 1, 8) + torch.arange(2000).view(-1, 1, 1) * 8
    came = (ShuffleFill()(places)[:, 0] % 8).long()
    counts = torch.stack([torch.bincount(came[:, place], minlength=8) for place in range(8)])
    assert bool(((counts - 250).abs() < 5 * 250**0.5).all())
