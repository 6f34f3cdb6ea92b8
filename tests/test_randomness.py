"""Random numbers from keys: as random as they should be, and no more."""

import itertools
import math
import struct

import pytest
import torch

from segaudit.randomness import combine, image_keys, normal, uniform

stats = pytest.importorskip("scipy.stats")
MASK = (1 << 64) - 1


def mix(x: int) -> int:
    """The finaliser of SplitMix64 in Python's unbounded integers."""
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)


def slow_uniform(key: int, n: int) -> list[float]:
    """SplitMix64 started at the key: its outputs' upper 24 bits."""
    return [((mix((key + 0x9E3779B97F4A7C15 * (i + 1)) & MASK) >> 40) + 0.5) / (1 << 24) for i in range(n)]


@pytest.mark.parametrize("key", [0, 1, -1, 123456789, -(1 << 63), (1 << 63) - 1])
def test_uniform_is_splitmix64(key: int) -> None:
    assert uniform(torch.tensor([key]), (20,))[0].tolist() == pytest.approx(slow_uniform(key, 20), abs=1e-7)


def test_splitmix64s_published_first_output() -> None:
    """Of the seed 1234567: 6457827717110365317 (Vigna's splitmix64.c, as many test suites quote it)."""
    assert mix((1234567 + 0x9E3779B97F4A7C15) & MASK) == 6457827717110365317
    expected = (6457827717110365317 >> 40) / (1 << 24)
    assert float(uniform(torch.tensor([1234567]), (1,))) == pytest.approx(expected, abs=1e-7)


def test_figures_are_the_same_everywhere() -> None:
    """Fixed numbers: what a report said last year on another machine, it says today."""
    keys = torch.tensor([0, 42])
    assert uniform(keys, (3,)).flatten().tolist() == pytest.approx([*slow_uniform(0, 3), *slow_uniform(42, 3)], abs=1e-7)
    assert uniform(keys[:1], (3,)).flatten().tolist() == pytest.approx([0.8833108, 0.4315279, 0.0264337], abs=1e-6)
    x = torch.arange(12, dtype=torch.float32).view(1, 1, 3, 4)
    assert image_keys(x).tolist() == [514833640676748073]
    assert combine(torch.tensor([7]), 3).tolist() == [-6436482751737924159]
    assert normal(torch.tensor([5]), (3,)).flatten().tolist() == pytest.approx([0.9003855, 0.3166923, -0.3422252], abs=1e-5)


def test_keys_and_normal_numbers_are_what_their_formulas_say() -> None:
    bits = [struct.unpack("<i", struct.pack("<f", v))[0] for v in range(12)]
    golden = 0x9E3779B97F4A7C15
    for seed in (0, 5):
        total = sum(mix((b + golden * (place + 1)) & MASK) for place, b in enumerate(bits)) + mix(seed + 1)
        expected = mix(total & MASK)
        x = torch.arange(12, dtype=torch.float32).view(1, 1, 3, 4)
        assert int(image_keys(x, seed)) & MASK == expected
    radius, angle = (slow_uniform(mix((5 * 3 + golden * (extra + 1)) & MASK), 50) for extra in (1, 2))
    slow = [math.sqrt(-2 * math.log(u)) * math.cos(2 * math.pi * v) for u, v in zip(radius, angle, strict=True)]
    assert normal(torch.tensor([5]), (50,))[0].tolist() == pytest.approx(slow, abs=1e-5)


@pytest.mark.parametrize("key", [0, 1, 2, 10**12, -5])
def test_uniform_is_uniform_and_normal_is_normal(key: int) -> None:
    keys = torch.tensor([key])
    u, z = uniform(keys, (200, 100)).flatten(), normal(keys, (200, 100)).flatten()
    assert float(u.min()) > 0
    assert float(u.max()) < 1
    assert stats.kstest(u.double().numpy(), "uniform").pvalue > 1e-4
    assert stats.kstest(z.double().numpy(), "norm").pvalue > 1e-4
    assert bool(z.isfinite().all())
    for values in (u, z):  # nothing of the neighbour, along both axes
        for lag in (1, 100):
            assert abs(stats.pearsonr(values[lag:].numpy(), values[:-lag].numpy()).statistic) < 4 / 20000**0.5


def test_neighbouring_keys_and_places_share_nothing() -> None:
    keys = torch.arange(40)
    for draw in (uniform, normal):
        rows = draw(keys, (4000,))
        correlation = torch.corrcoef(rows) - torch.eye(40)
        assert float(correlation.abs().max()) < 5 / 4000**0.5
        # A generator that only shifts its sequence by the key passes the test above.
        for shift in (1, 2, 3):
            for a, b in itertools.pairwise(rows):
                assert abs(float(torch.corrcoef(torch.stack([a[shift:], b[:-shift]]))[0, 1])) < 6 / 4000**0.5
        # Across keys at one place: what a class index or a seed changes.
        across = draw(torch.arange(20000), (1,)).flatten().double().numpy()
        assert stats.kstest(across, "uniform" if draw is uniform else "norm").pvalue > 1e-4


def test_extras_and_seeds_give_keys_apart() -> None:
    keys = torch.arange(50)
    table = torch.stack([combine(keys, extra) for extra in range(50)])
    assert len(table.unique()) == 2500
    assert torch.equal(combine(keys, keys), table.diagonal())
    x = torch.rand(1, 3, 8, 8)
    seeds = torch.cat([image_keys(x, seed) for seed in range(-3, 200)])
    assert len(seeds.unique()) == 203
    rows = uniform(seeds[:20], (4000,))
    assert float((torch.corrcoef(rows) - torch.eye(20)).abs().max()) < 5 / 4000**0.5


@pytest.mark.parametrize("size", [(9,), (4, 5), (2, 3, 4)])
def test_keys_follow_the_image_not_the_batch(size: tuple[int, ...]) -> None:
    x = torch.randn(4, 2, *size, generator=torch.Generator().manual_seed(0))
    keys = image_keys(x)
    assert len(keys.unique()) == 4
    assert torch.equal(image_keys(x[[2, 0]]), keys[[2, 0]])
    for draw in (uniform, normal):
        assert torch.equal(draw(keys[[2, 0]], size), draw(keys, size)[[2, 0]])
        assert draw(keys, size).shape == (4, *size)
        assert draw(keys, size).dtype == torch.float32


def test_keys_see_every_pixel_its_place_and_its_last_bit() -> None:
    x = torch.rand(1, 3, 6, 6)
    key = image_keys(x)
    for place in ((0, 0, 0), (2, 5, 5), (1, 3, 2)):
        changed = x.clone()
        changed[(0, *place)] = torch.nextafter(changed[(0, *place)], torch.tensor(9.0))
        assert not torch.equal(image_keys(changed), key)
    for moved in (x.flip(1), x.flip(3), x.transpose(2, 3), x.roll(1, 2)):
        assert not torch.equal(image_keys(moved), key)
    assert torch.equal(image_keys(x.to(memory_format=torch.channels_last)), key)
    assert torch.equal(image_keys(x.double()), key)


def test_the_global_generator_neither_matters_nor_moves() -> None:
    state = torch.get_rng_state()
    first = normal(image_keys(torch.ones(2, 1, 5)), (9,))
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(1234)
    assert torch.equal(normal(image_keys(torch.ones(2, 1, 5)), (9,)), first)
