"""PairDataset: reads pairs of image and mask files and checks them."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import Dataset

from segaudit.data.datamodule import Item
from segaudit.data.error import DataError
from segaudit.data.pipeline import IGNORE_INDEX, Pipeline

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
MASK_SUFFIXES = (".png", ".tif", ".tiff")
EIGHT_BIT_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")
INDEX_MODES = ("1", "L", "P")

MaskReader = Callable[[Path], NDArray[np.uint8]]


class PairDataset(Dataset[Item]):
    """Makes items from pairs of files; an item's id is the image file's stem.

    Args:
        images: Image files.
        masks: Mask files, in the same order.
        num_classes: Number of classes; a mask has the values 0..num_classes-1, and 255 for "ignore".
        pipeline: Turns arrays into tensors.
        read_mask: Reads one mask file.
        groups: What each image belongs to, such as a patient; an item then has the key `group`.
    """

    def __init__(
        self,
        images: Sequence[Path],
        masks: Sequence[Path],
        num_classes: int,
        pipeline: Pipeline,
        read_mask: MaskReader | None = None,
        groups: Sequence[str] | None = None,
    ) -> None:
        self.pairs = list(zip(images, masks, strict=True))
        self.num_classes = num_classes
        self.pipeline = pipeline
        self.read_mask = read_mask or read_index_mask
        self.groups = None if groups is None else list(groups)

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Item:
        image_file, mask_file = self.pairs[index]
        image = read_image(image_file)
        mask = self.read_mask(mask_file)
        if image.shape[:2] != mask.shape:
            raise DataError(
                f"Mask {mask_file} is {_size(mask)} but its image {image_file} is {_size(image)}: save the mask at the "
                "size of its image."
            )
        beyond = np.unique(mask[(mask >= self.num_classes) & (mask != IGNORE_INDEX)])
        if beyond.size:
            raise DataError(
                f"Mask {mask_file} holds {beyond.tolist()[:5]}, but with {self.num_classes} classes the values are "
                f"0..{self.num_classes - 1} and {IGNORE_INDEX} (ignore): add the missing classes, or set these pixels "
                f"to {IGNORE_INDEX}."
            )
        item = self.pipeline(image, image_file.stem, mask=mask)
        return item if self.groups is None else item | {"group": self.groups[index]}


def match_pairs(image_folder: Path, mask_folder: Path) -> tuple[list[Path], list[Path]]:
    """List the images of one folder and, in the same order, the masks of the same stem in the other."""
    images = _by_stem(image_folder, IMAGE_SUFFIXES)
    masks = _by_stem(mask_folder, MASK_SUFFIXES)
    for stem, file in images.items():
        if stem not in masks:
            raise DataError(
                f"Image {file} has no mask: put {stem}.png (or .tif) into {mask_folder}, or take the image away."
            )
    for stem, file in masks.items():
        if stem not in images:
            raise DataError(f"Mask {file} has no image: put {stem}.jpg (or .png, .tif) into {image_folder}.")
    return list(images.values()), [masks[stem] for stem in images]


def read_image(file: Path) -> NDArray[np.uint8]:
    """Read an image as (H, W, 3)."""
    image = _loaded(file)
    if image.mode not in EIGHT_BIT_MODES:
        raise DataError(f"Image {file} is not 8-bit (its mode is {image.mode}): save it as 8-bit RGB or grey.")
    return np.asarray(image.convert("RGB"))


def read_index_mask(file: Path) -> NDArray[np.uint8]:
    """Read an 8-bit grey or palette image as class indices."""
    image = _loaded(file)
    if image.mode not in INDEX_MODES:
        raise DataError(
            f"Mask {file} holds colours or other values (its mode is {image.mode}) rather than class indices: save it "
            "as an 8-bit grey or palette PNG in which each pixel's value is its class."
        )
    return np.asarray(image).astype(np.uint8)


def _loaded(file: Path) -> Image.Image:
    try:
        with Image.open(file) as image:
            image.load()
            return image
    except FileNotFoundError:
        raise DataError(f"File {file} doesn't exist: put it there, or take it off the list of the split.") from None
    except (OSError, SyntaxError, ValueError) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise DataError(f"File {file} is broken or cut short ({reason}): copy or download it again.") from error


def _by_stem(folder: Path, suffixes: tuple[str, ...]) -> dict[str, Path]:
    if not folder.is_dir():
        raise DataError(f"Folder {folder} doesn't exist: create it and put the {folder.name} of the split into it.")
    found: dict[str, Path] = {}
    for file in sorted(folder.iterdir()):
        if file.name.startswith(".") or not file.is_file():
            continue
        if file.suffix.lower() not in suffixes:
            raise DataError(f"File {file} is none of {', '.join(suffixes)}: convert it, or take it away.")
        if file.stem in found:
            raise DataError(f"Files {found[file.stem]} and {file} have the same stem: delete one of them.")
        found[file.stem] = file
    if not found:
        raise DataError(f"Folder {folder} is empty: put files into it ({', '.join(suffixes)}).")
    return found


def _size(array: NDArray[np.uint8]) -> str:
    return f"{array.shape[1]}x{array.shape[0]}"
