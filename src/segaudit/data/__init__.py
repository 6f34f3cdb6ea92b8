"""Data: Lightning datamodules whose batches have the keys `image`, `mask` and `id`."""

from segaudit.data.datamodule import SegmentationDataModule
from segaudit.data.error import DataError
from segaudit.data.folder import FolderDataModule
from segaudit.data.pairs import PairDataset
from segaudit.data.pipeline import IGNORE_INDEX, Pipeline
from segaudit.data.scene import Scene
from segaudit.data.scenes import SceneDataset, ShortcutScenes
from segaudit.data.voc import SBDDataModule, VOCDataModule

__all__ = [
    "IGNORE_INDEX",
    "DataError",
    "FolderDataModule",
    "PairDataset",
    "Pipeline",
    "SBDDataModule",
    "Scene",
    "SceneDataset",
    "SegmentationDataModule",
    "ShortcutScenes",
    "VOCDataModule",
]
