"""Pascal VOC and SBD in their real layouts, with three small images."""

from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

STEMS = {"train": ["2007_1", "2007_2"], "val": ["2007_3"]}


def values() -> np.ndarray:
    mask = np.zeros((8, 10), dtype=np.uint8)
    mask[2:4, 2:6] = 20
    mask[0] = 255
    return mask


def write_voc(folder: Path) -> Path:
    base = folder / "VOCdevkit" / "VOC2012"
    _image_sets(base / "ImageSets" / "Segmentation")
    (base / "SegmentationClass").mkdir()
    for stem in [*STEMS["train"], *STEMS["val"]]:
        _image(base / "JPEGImages" / f"{stem}.jpg")
        mask = Image.fromarray(values())
        mask.putpalette([c % 256 for c in range(768)])
        mask.save(base / "SegmentationClass" / f"{stem}.png")
    return folder


def write_sbd(folder: Path) -> Path:
    _image_sets(folder)
    (folder / "cls").mkdir()
    for stem in [*STEMS["train"], *STEMS["val"]]:
        _image(folder / "img" / f"{stem}.jpg")
        savemat(folder / "cls" / f"{stem}.mat", {"GTcls": {"Segmentation": values(), "Boundaries": 0}})
    return folder


def _image(file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (10, 8), (200, 10, 10)).save(file)


def _image_sets(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for split, stems in STEMS.items():
        (folder / f"{split}.txt").write_text("".join(f"{stem}\n" for stem in stems))
