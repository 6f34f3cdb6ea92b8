"""FolderDataModule: images and masks in folders."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from segaudit.data.datamodule import SegmentationDataModule, Split
from segaudit.data.error import DataError
from segaudit.data.pairs import PairDataset, match_pairs
from segaudit.data.pipeline import IGNORE_INDEX


class FolderDataModule(SegmentationDataModule):
    """Loads images and masks under `root/{train,val,test}/{images,masks}`, matched by stem.

    `root/classes.txt` has one class name per line; the index of a class is the number of its line, from 0. Masks are 8-bit
    grey or palette PNG (or TIFF) files of class indices, 255 = ignore. `test` may be missing as long as nothing uses it.

    Args:
        root: Folder that holds the splits and classes.txt.
        group: Regular expression that finds what an image belongs to (a patient, a sequence, a site) in its path below
            `root`, such as `val/images/0016E5_07959.jpg`; its part in round brackets is the group. For example,
            `images/([^_]+)_` takes what stands before the first underscore. Statistics of audits count a group as one
            unit. None if all images are independent.
        **kwargs: See `SegmentationDataModule`.
    """

    def __init__(self, root: str | Path, group: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.root = Path(root)
        self.group = _pattern(group)
        self.class_names = read_class_names(self.root / "classes.txt")

    def dataset(self, split: Split) -> PairDataset:
        """Build the dataset of one split."""
        folder = self.root / split
        if not folder.is_dir():
            raise DataError(f"Folder {folder} doesn't exist: create it with the folders images and masks in it.")
        images, masks = match_pairs(folder / "images", folder / "masks")
        return PairDataset(images, masks, self.num_classes, self.pipeline(split), groups=self._groups(images))

    def _groups(self, images: Sequence[Path]) -> list[str] | None:
        if self.group is None:
            return None
        paths = [image.relative_to(self.root).as_posix() for image in images]
        found = [self.group.search(path) for path in paths]
        for path, match in zip(paths, found, strict=True):
            if match is None or not match[1]:
                raise DataError(
                    f"The pattern {self.group.pattern!r} finds no group in {path}: change `group`, or leave it out if all "
                    "images are independent."
                )
        return [match[1] for match in found if match is not None]


def _pattern(group: str | None) -> re.Pattern[str] | None:
    if group is None:
        return None
    try:
        pattern = re.compile(group)
    except re.error as error:
        raise DataError(f"`group` is {group!r}, which is no regular expression ({error}).") from None
    if pattern.groups != 1:
        raise DataError(
            f"`group` is {group!r}, which has {pattern.groups} parts in round brackets: put exactly the part that names the "
            "group into round brackets."
        )
    return pattern


def read_class_names(file: Path) -> list[str]:
    """Read one class name per line. Blank lines may only be at the end, since the line gives the index."""
    if not file.parent.is_dir():
        raise DataError(
            f"Folder {file.parent} doesn't exist: set `root` to the folder that holds train, val and classes.txt."
        )
    if not file.is_file():
        raise DataError(
            f"File {file} doesn't exist: create it with one class name a line, in the order of the class indices."
        )
    names = [line.strip() for line in file.read_text(encoding="utf-8-sig").rstrip().splitlines()]
    if not names or not all(names):
        raise DataError(f"File {file} has an empty line or no line at all: write one class name on each line.")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(f"File {file} names {twice!r} twice: give every class a name of its own.")
    if len(names) > IGNORE_INDEX:
        raise DataError(f"File {file} names {len(names)} classes, but an 8-bit mask can tell {IGNORE_INDEX} apart.")
    return names
