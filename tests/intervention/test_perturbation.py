"""What each perturbation does, by slow references and peers; shape, dtype and batch are tested in test_fill.py."""

from itertools import product

import albumentations as A
import cv2
import numpy as np
import pytest
import torch
from _models import images
from jsonargparse import ArgumentParser
from scipy import ndimage

from segaudit.intervention import JPEG, Albumentations, Brightness, Contrast, GaussianBlur, Perturbation, Shift


def test_contrast_scales_about_each_channels_mean() -> None:
    x = images(2) + torch.tensor([0.0, 5.0, -3.0]).view(3, 1, 1)
    result = Contrast(0.4)(x)
    for n, k in product(range(2), range(3)):
        mean = sum(x[n, k].flatten().tolist()) / x[n, k].numel()
        for before, after in zip(x[n, k].flatten().tolist(), result[n, k].flatten().tolist(), strict=True):
            assert after == pytest.approx(mean + 0.4 * (before - mean), abs=1e-5)
    # The same picture whatever the normalisation.
    scale, shift = torch.tensor([2.0, 0.5, 7.0]).view(3, 1, 1), torch.tensor([1.0, 2.0, 3.0]).view(3, 1, 1)
    torch.testing.assert_close(Contrast(0.4)(x * scale + shift), result * scale + shift)


@pytest.mark.parametrize("sigma", [0.7, 1.0, 2.0])
@pytest.mark.parametrize("size", [(30,), (9, 14), (3, 2), (5, 6, 7)])
def test_blur_is_scipys(size: tuple[int, ...], sigma: float) -> None:
    x = images(2, size=size).double()
    result = GaussianBlur(sigma)(x).numpy()
    for n, k in product(range(2), range(3)):
        expected = ndimage.gaussian_filter(x[n, k].numpy(), sigma, mode="nearest", radius=round(3 * sigma))
        np.testing.assert_allclose(result[n, k], expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("pixels", [2, -1, 0])
@pytest.mark.parametrize("size", [(7,), (5, 6), (3, 4, 5)])
def test_shift(size: tuple[int, ...], pixels: int) -> None:
    x, shift = images(2, 2, size), Shift(pixels)
    maps = x[:, 0]
    shifted, moved, back = shift(x), shift.move(maps), shift.back(maps)
    assert torch.equal(shifted[:, 0], moved)
    for n in range(2):
        for pixel in product(*map(range, size)):
            there = tuple(min(max(p - pixels, 0), s - 1) for p, s in zip(pixel, size, strict=True))
            here = tuple(min(max(p + pixels, 0), s - 1) for p, s in zip(pixel, size, strict=True))
            assert float(moved[(n, *pixel)]) == float(maps[(n, *there)])
            assert float(back[(n, *pixel)]) == float(maps[(n, *here)])
    stays = (..., *(slice(max(0, -pixels), s - max(0, pixels)) for s in size))
    assert torch.equal(shift.back(shift.move(maps))[stays], maps[stays])
    region = maps > 0
    assert torch.equal(shift.back(shift.move(region)), shift.back(shift.move(maps)) > 0)
    assert shift.move(region).dtype is torch.bool
    assert torch.equal(shift.move(region.long()), shift.move(region).long())


def test_a_map_of_what_each_pixel_holds_comes_back_aligned() -> None:
    x, shift = images(2, 1, (10, 12)), Shift(3)
    there = shift.back(shift(x)[:, 0].square())[:, :-3, :-3]
    assert torch.equal(there, x[:, 0].square()[:, :-3, :-3])


def test_what_does_not_move_changes_no_map() -> None:
    maps = images(2)[:, 0]
    for perturbation in (Brightness(), JPEG(), Contrast()):
        assert perturbation.move(maps) is maps
        assert perturbation.back(maps) is maps


@pytest.mark.parametrize("quality", [10, 60, 95])
@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_is_opencvs(channels: int, quality: int) -> None:
    x = 3 * images(3, channels, (37, 50)) - 1
    result = JPEG(quality)(x)
    for image, found in zip(x, result, strict=True):
        low, span = float(image.min()), float(image.max() - image.min())
        levels = np.round((image.double().numpy() - low) / span * 255).astype(np.uint8).transpose(1, 2, 0)
        _, stream = cv2.imencode(".jpg", levels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
        decoded = cv2.imdecode(stream, cv2.IMREAD_UNCHANGED).reshape(37, 50, channels)[..., ::-1]
        expected = low + span / 255 * decoded.astype(np.float64).transpose(2, 0, 1)
        # The two libraries may round differently, here and there by a level or two.
        np.testing.assert_allclose(found, expected, atol=2.01 * span / 255)
        assert np.abs(found.numpy() - expected).mean() < 0.1 * span / 255
        # The range may be mapped anywhere: the picture is the same.
        torch.testing.assert_close(JPEG(quality)(image[None] * 4 + 8)[0], found * 4 + 8, rtol=0, atol=0.02 * span * 4)


def test_a_better_jpeg_changes_less() -> None:
    x = images(2, 1, (40, 40))  # one channel: the best quality thins out colours as well
    change = [float((JPEG(quality)(x) - x).abs().mean()) for quality in (5, 30, 70, 100)]
    assert change == sorted(change, reverse=True)
    assert change[-1] < 0.1 * change[0]


@pytest.mark.parametrize("transform", [A.GaussNoise, A.RandomBrightnessContrast, A.Equalize, A.ISONoise, A.RandomFog])
def test_albumentations_bring_their_own_transforms(transform: type[A.ImageOnlyTransform]) -> None:
    x = images(3, size=(20, 24))
    given = transform(p=0.0)
    perturbation, state = Albumentations(given), given.random_generator
    result = perturbation(x)
    assert given.random_generator is state  # the user's own is left alone
    assert not torch.equal(result, x)  # whatever its p
    assert torch.equal(perturbation(x[1:2]), result[1:2])
    assert torch.equal(perturbation(x), result)  # nothing is left of the call before
    again = Albumentations(transform(), seed=1)(x)
    assert transform is A.Equalize or not torch.equal(again, result)


def test_albumentations_see_bytes_and_each_image_its_own_choice() -> None:
    x = torch.rand(2, 3, 6, 8, generator=torch.Generator().manual_seed(0)) * 9 - 4
    given = A.RandomBrightnessContrast(brightness_limit=(0.2, 0.2), contrast_limit=(0.0, 0.0), brightness_by_max=True)
    result = Albumentations(given)(x)
    for image, found in zip(x, result, strict=True):
        low, span = float(image.min()), float(image.max() - image.min())
        levels = ((image - low) / span * 255).round()
        expected = low + (levels + 51).clamp(max=255) / 255 * span  # a fifth of the bytes' range more
        torch.testing.assert_close(found, expected, rtol=0, atol=1.01 * span / 255)
    noisy = Albumentations(A.RandomBrightnessContrast(contrast_limit=(0.0, 0.0)))(x)
    shifts = ((noisy - x).flatten(1).median(dim=1).values / x.flatten(1).amax(dim=1)).tolist()
    assert abs(shifts[0] - shifts[1]) > 1e-3


@pytest.mark.parametrize("transform", [A.HorizontalFlip(), A.Affine(), A.Compose([A.GaussNoise()]), object()])
def test_what_moves_pixels_is_refused(transform: object) -> None:
    with pytest.raises(ValueError, match="is no pixel-level transform"):
        Albumentations(transform)  # type: ignore[arg-type]


def test_perturbations_in_yaml() -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--perturbations", type=list[Perturbation])
    text = """
    - class_path: Shift
      init_args: {pixels: 2}
    - class_path: segaudit.intervention.Albumentations
      init_args:
        transform:
          class_path: albumentations.RandomGamma
          init_args: {gamma_limit: [70, 130]}
    """
    found = parser.instantiate_classes(parser.parse_args([f"--perturbations={text}"])).perturbations
    assert found[0].pixels == 2
    assert type(found[1].transform) is A.RandomGamma
    assert found[1](images(2)).shape == images(2).shape
