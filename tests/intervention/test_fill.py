"""Fills: what they are, and that an image's fill depends on nothing but the image. A new one is found by its class."""

from collections.abc import Callable
from typing import Any

import albumentations as A
import numpy as np
import pytest
import torch
from _models import images

from segaudit.intervention import (
    JPEG,
    Albumentations,
    BlurFill,
    Brightness,
    ConstantFill,
    Contrast,
    Fill,
    GaussianBlur,
    GaussianNoise,
    LocalMeanFill,
    MeanFill,
    NoiseFill,
    NoisyLinearFill,
    Perturbation,
    RangeFill,
    Shift,
)
from segaudit.intervention.catalogue import catalogue
from segaudit.names import subclasses
from segaudit.testing import check_fill, check_perturbation

#: Every fill with its default arguments, and some with others.
FILLS: dict[str, Callable[[], Fill]] = {entry.cls.__name__: entry.cls for entry in catalogue()} | {
    "ConstantFill": lambda: ConstantFill(0.3),
    "RangeFill 2": lambda: RangeFill(0.8),
    "RangeFill 3": lambda: RangeFill(1.5),
    "BlurFill 2": lambda: BlurFill(0.6),
    "LocalMeanFill 2": lambda: LocalMeanFill(3.0),
}
OURS = [cls for cls in subclasses(Perturbation) if cls.__module__.startswith("segaudit.")]
PERTURBATIONS: dict[str, Callable[[], Perturbation]] = {cls.__name__: cls for cls in OURS} | {
    "Brightness 2": lambda: Brightness(-0.4),
    "Contrast 2": lambda: Contrast(1.5),
    "Shift": lambda: Shift(1),
    "Shift 2": lambda: Shift(-1),
    "Albumentations": lambda: Albumentations(A.GaussNoise(p=0.1)),
}
#: What they know alone.
OPTIONS: dict[str, dict[str, Any]] = {"JPEG": {"dims": 2, "channels": (3, 1)}, "Albumentations": {"dims": 2}}
SIZES = {1: (30,), 2: (9, 14), 3: (5, 6, 7)}


@pytest.mark.parametrize("name", FILLS)
def test_fill(name: str) -> None:
    check_fill(FILLS[name], **OPTIONS.get(name, {}))


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_perturbation(name: str) -> None:
    check_perturbation(PERTURBATIONS[name], **OPTIONS.get(name, {}))


@pytest.mark.parametrize("make", [JPEG, PERTURBATIONS["Albumentations"]])
@pytest.mark.parametrize("dims", [1, 3])
def test_some_know_two_dimensions_alone(make: Callable[[], Perturbation], dims: int) -> None:
    with pytest.raises(ValueError, match=r"knows images \(B, channels, H, W\) alone, got \(3, 3"):
        make()(images(3, size=SIZES[dims]))


def test_jpeg_knows_grey_and_colour_alone() -> None:
    with pytest.raises(ValueError, match="1 or 3 channels, got 5"):
        JPEG()(images(2, 5))


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("name", [*FILLS, *PERTURBATIONS])
def test_a_constant_image(name: str, dims: int) -> None:
    if dims == 2 or "dims" not in OPTIONS.get(name, {}):
        result = (FILLS | PERTURBATIONS)[name]()(torch.full((2, 3, *SIZES[dims]), 0.3))
        assert result.allclose(torch.full((), 0.3), atol=1e-6)


@pytest.mark.parametrize("name", [name for name in PERTURBATIONS if not name.startswith("Shift")])
def test_perturbations_of_an_image_of_one_pixel(name: str) -> None:
    assert bool(PERTURBATIONS[name]()(torch.randn(2, 3, 1, 1)).isfinite().all())


def test_constant_and_mean() -> None:
    x = images(2, size=(3, 5))
    assert torch.equal(ConstantFill(-1.5)(x), torch.full_like(x, -1.5))
    filled = MeanFill()(x)
    for b in range(2):
        for k in range(3):
            mean = sum(x[b, k].flatten().tolist()) / 15
            assert filled[b, k].flatten().tolist() == pytest.approx([mean] * 15, abs=1e-6)


@pytest.mark.parametrize("place", [0.0, 0.25, 1.0, 1.5])
def test_a_place_in_the_range_of_each_channel(place: float) -> None:
    x = images(2, size=(3, 5))
    filled = RangeFill(place)(x)
    moved = RangeFill(place)(x * 3 - 2)
    for b in range(2):
        for k in range(3):
            values = x[b, k].flatten().tolist()
            expected = min(values) + place * (max(values) - min(values))
            assert filled[b, k].flatten().tolist() == pytest.approx([expected] * 15, abs=1e-6)
            assert moved[b, k].flatten().tolist() == pytest.approx([expected * 3 - 2] * 15, abs=1e-5)  # in any units


@pytest.mark.parametrize("sigma", [0.02, 0.1, 0.37, 1.0])
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_blur_is_scipys(dims: int, sigma: float) -> None:
    ndimage = pytest.importorskip("scipy.ndimage")
    x = images(2, size=SIZES[dims]).double()
    filled = BlurFill(sigma)(x).numpy()
    for b in range(2):
        for k in range(3):
            sigmas = [sigma * s for s in SIZES[dims]]
            radius = [max(1, round(3 * s)) for s in sigmas]  # scipy's rounding of truncate=3, but at least one neighbour
            expected = ndimage.gaussian_filter(x[b, k].numpy(), sigmas, mode="nearest", truncate=3.0, radius=radius)
            np.testing.assert_allclose(filled[b, k], expected, rtol=1e-6, atol=1e-9)
    if sigma == 0.1:
        expected = ndimage.gaussian_filter(x[0, 0].numpy(), [sigma * s for s in SIZES[dims]], mode="nearest", truncate=3.0)
        if dims < 3:  # there, 3 sigma is no half-integer in any axis
            np.testing.assert_allclose(filled[0, 0], expected, rtol=1e-6, atol=1e-9)


def test_blur_removes_contrast_and_keeps_the_level() -> None:
    x = images(3, size=(40, 40))
    filled = BlurFill(0.2)(x)
    assert bool((filled.std((2, 3)) < 0.5 * x.std((2, 3))).all())
    ramp = torch.linspace(0, 1, 101).expand(1, 1, 7, 101)
    assert torch.allclose(BlurFill(0.05)(ramp)[..., 20:-20], ramp[..., 20:-20], atol=1e-6)  # symmetric, sums to one


def test_noise_has_each_channels_own_moments() -> None:
    scale, shift = torch.tensor([0.5, 2.0, 7.0]).view(1, 3, 1, 1), torch.tensor([-3.0, 0.0, 40.0]).view(1, 3, 1, 1)
    x = images(2, size=(120, 120)) * scale + shift
    filled = NoiseFill()(x)
    for b in range(2):
        for k in range(3):
            values, own = filled[b, k].flatten(), x[b, k]
            assert abs(float(values.mean() - own.mean())) < 4 * float(own.std()) / 120
            assert float(values.std() / own.std()) == pytest.approx(1, abs=4 / (120 * 2**0.5))
            unit = (values - values.mean()) / values.std()
            assert abs(float((unit**3).mean())) < 4 * (6 / 14400) ** 0.5
            assert float((unit**4).mean()) == pytest.approx(3, abs=4 * (24 / 14400) ** 0.5)
            assert abs(float(torch.corrcoef(torch.stack([values, own.flatten()]))[0, 1])) < 4 / 120  # nothing of the image
    assert not torch.equal(NoiseFill(seed=1)(x), filled)
    assert abs(float(torch.corrcoef(filled.flatten(2)[0])[0, 1])) < 4 / 120  # channels apart


def test_noise_perturbation_has_the_level_it_says() -> None:
    x = images(2, size=(100, 100)) * torch.tensor([1.0, 5.0]).view(2, 1, 1, 1) + 9
    for level in (0.1, 0.5):
        change = (GaussianNoise(level)(x) - x).flatten(1)
        spread = x.flatten(1).std(dim=1)
        assert torch.allclose(change.std(dim=1) / spread, torch.full((2,), level), rtol=0.03)
        assert bool((change.mean(dim=1).abs() < 4 * level * spread / 30000**0.5).all())
    assert not torch.equal(GaussianNoise(seed=1)(x), GaussianNoise(seed=2)(x))


def test_brightness_adds_one_number_an_image() -> None:
    x = images(3)
    change = (Brightness(0.2)(x) - x).flatten(1)
    expected = 0.2 * torch.tensor([float(np.std(image.numpy().ravel())) for image in x])
    torch.testing.assert_close(change, expected[:, None].expand_as(change), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: BlurFill(0), "sigma is a share"),
        (lambda: LocalMeanFill(0), "window is a share"),
        (lambda: RangeFill(11.0), "place is a number in"),
        (lambda: NoisyLinearFill(-1), "noise must not be negative"),
        (lambda: GaussianNoise(0), "level must be above 0"),
        (lambda: GaussianBlur(0), "sigma must be above 0 pixels"),
        (lambda: Contrast(0), "factor must be above 0"),
        (lambda: JPEG(0), "quality must be from 1 to 100"),
        (lambda: Shift(3)(images(1, size=(3, 9))), "leaves nothing of an image"),
        (lambda: Albumentations(A.HorizontalFlip()), "HorizontalFlip is no pixel-level transform"),
        (lambda: Albumentations(A.ToFloat())(images(1)), "ToFloat turns uint8"),
    ],
)
def test_wrong_arguments(make: Callable[[], object], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        make()
