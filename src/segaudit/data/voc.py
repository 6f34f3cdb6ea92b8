"""VOCDataModule and SBDDataModule: load Pascal VOC and the Semantic Boundaries Dataset."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.io import loadmat
from torchvision.datasets import SBDataset, VOCSegmentation

from segaudit.data.datamodule import SegmentationDataModule, Split
from segaudit.data.error import DataError
from segaudit.data.pairs import PairDataset

VOC_CLASSES = (
    "background",
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)


class VOCDataModule(SegmentationDataModule):
    """Loads Pascal VOC's segmentation task.

    The test annotations of most years were never published, so the test split **is the val split**: test figures are val
    figures.

    Args:
        root: Folder that holds, or will hold, VOCdevkit.
        year: Year of the challenge.
        download: Download the dataset when it isn't there.
        **kwargs: See `SegmentationDataModule`. Images differ in size, so batches of more than one need `image_size`.
    """

    def __init__(
        self,
        root: str | Path,
        year: Literal["2007", "2008", "2009", "2010", "2011", "2012"] = "2012",
        download: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.root = Path(root)
        self.year = year
        self.download = download
        self.class_names = list(VOC_CLASSES)

    def prepare_data(self) -> None:
        """Download the dataset if `download` is set and it isn't there."""
        if self.download and not _is_there(lambda: self._files("val")):
            VOCSegmentation(self.root, self.year, "val", download=True)

    def dataset(self, split: Split) -> PairDataset:
        """Build the dataset of one split."""
        files = _found(lambda: self._files(split), f"Pascal VOC {self.year}", self.root)
        images, masks = [Path(file) for file in files.images], [Path(file) for file in files.masks]
        return PairDataset(images, masks, self.num_classes, self.pipeline(split))

    def _files(self, split: Split) -> VOCSegmentation:
        return VOCSegmentation(self.root, self.year, "train" if split == "train" else "val")


class SBDDataModule(SegmentationDataModule):
    """Loads the Semantic Boundaries Dataset: VOC 2011's images with more segmentation masks and the same classes.

    Its splits differ from VOC's: some of its training images are in VOC's val. The test split **is the val split**.

    Args:
        root: Folder that holds, or will hold, img, cls, train.txt and val.txt.
        download: Download the dataset when it isn't there.
        **kwargs: See `SegmentationDataModule`. Images differ in size, so batches of more than one need `image_size`.
    """

    def __init__(self, root: str | Path, download: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.root = Path(root)
        self.download = download
        self.class_names = list(VOC_CLASSES)

    def prepare_data(self) -> None:
        """Download the dataset if `download` is set and it isn't there."""
        if self.download and not _is_there(lambda: self._files("val")):
            SBDataset(self.root, "val", mode="segmentation", download=True)

    def dataset(self, split: Split) -> PairDataset:
        """Build the dataset of one split."""
        files = _found(lambda: self._files(split), "SBD", self.root)
        images, masks = [Path(file) for file in files.images], [Path(file) for file in files.masks]
        return PairDataset(images, masks, self.num_classes, self.pipeline(split), read_sbd_mask)

    def _files(self, split: Split) -> SBDataset:
        return SBDataset(self.root, "train" if split == "train" else "val", mode="segmentation")


def read_sbd_mask(file: Path) -> NDArray[np.uint8]:
    """Read class indices from one of SBD's .mat files."""
    if not file.is_file():
        raise DataError(f"File {file} doesn't exist: put it there, or take it off the list of the split.")
    try:
        return np.asarray(loadmat(file)["GTcls"][0]["Segmentation"][0], dtype=np.uint8)
    except Exception as error:  # scipy's reader fails in many ways on a broken file
        raise DataError(f"File {file} is not one of SBD's masks, or broken: download it again.") from error


def _is_there(make: Callable[[], Any]) -> bool:
    try:
        make()
    except (RuntimeError, OSError):
        return False
    return True


def _found(make: Callable[[], Any], name: str, root: Path) -> Any:
    try:
        found = make()
    except (RuntimeError, OSError):
        raise DataError(
            f"{name} is missing or incomplete in {root}: set `download: true`, or set `root` to the folder that holds it."
        ) from None
    if not found.images:
        raise DataError(f"{name} in {root} lists no images for this split: download it again, or set `root` right.")
    return found
