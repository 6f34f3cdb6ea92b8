"""ShortcutScenes: procedural scenes with a planted shortcut, on which an audit can be checked against the truth."""

from typing import Any

import numpy as np
from torch.utils.data import Dataset

from segaudit.data.datamodule import Item, SegmentationDataModule, Split
from segaudit.data.pipeline import Pipeline
from segaudit.data.scene import SHAPES, Scene, draw_scene

SPLITS: tuple[Split, ...] = ("train", "val", "test")
_BYTES_A_PIXEL = 5  # of image, mask and cue
_MOST_BYTES = 64 * 2**20


class ShortcutScenes(SegmentationDataModule):
    """Draws objects whose class is their shape, each beside a coloured tag that may give the class away.

    Nothing is downloaded: a scene is a pure function of (seed, split, index). Texture, area, place and brightness say
    nothing about the class. A tag's colour names the class of its object with probability
    `shortcut + (1 - shortcut) / 3`, otherwise one of the two other classes. So 1 means always, and 0 means that the colour
    carries no information. A network trained with `shortcut=1` reads the tag and looks good on val, which has the same
    tags. The test split, with `test_shortcut=0`, reveals it.

    Items have one more entry, `cue` (H, W) int64: 0 = no tag, c = pixels of a tag whose colour names class c. In the
    mask, tags are background.

    Args:
        size: Height and width of a scene in pixels.
        train_images: Number of training scenes.
        val_images: Number of validation scenes.
        test_images: Number of test scenes.
        shortcut: Strength of the shortcut in train, 0..1.
        val_shortcut: Strength of the shortcut in val, 0..1; defaults to that of train.
        test_shortcut: Strength of the shortcut in test, 0..1.
        max_objects: Largest number of objects in a scene.
        binary: Two classes, background and object. Only discs are objects. Squares and triangles are distractors,
            labelled background. The cue is the tag in the disc's colour.
        depth: Slices of a volume; None for images. Items of volumes have the sizes (D, H, W): objects and tags are solids
            that extend over as many slices as they are wide.
        seed: Seed of the scenes, the training order and the random transforms.
        **kwargs: See `SegmentationDataModule`.
    """

    def __init__(
        self,
        size: int = 64,
        train_images: int = 512,
        val_images: int = 128,
        test_images: int = 128,
        shortcut: float = 1.0,
        val_shortcut: float | None = None,
        test_shortcut: float = 0.0,
        max_objects: int = 1,
        binary: bool = False,
        depth: int | None = None,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(seed=seed, **kwargs)
        val_shortcut = shortcut if val_shortcut is None else val_shortcut
        for name, value in (("shortcut", shortcut), ("val_shortcut", val_shortcut), ("test_shortcut", test_shortcut)):
            if not 0 <= value <= 1:
                raise ValueError(f"{name} is {value}, but it must lie in 0..1.")
        if size < 16:
            raise ValueError(f"size is {size}, but an object and its tag need at least 16 pixels.")
        if depth is not None and depth < 1:
            raise ValueError(f"depth is {depth}, but a volume needs at least one slice.")
        self.size = size
        self.depth = depth
        self.counts: dict[Split, int] = {"train": train_images, "val": val_images, "test": test_images}
        self.shortcuts: dict[Split, float] = {"train": shortcut, "val": val_shortcut, "test": test_shortcut}
        self.max_objects = max_objects
        self.binary = binary
        self.class_names = ["background", "object"] if binary else ["background", *SHAPES]

    def dataset(self, split: Split) -> "SceneDataset":
        """Build the dataset of one split."""
        agreement = self.shortcuts[split] + (1 - self.shortcuts[split]) / len(SHAPES)
        return SceneDataset(
            split,
            self.counts[split],
            self.size,
            agreement,
            self.max_objects,
            self.binary,
            self.seed,
            self.pipeline(split),
            self.depth,
        )


class SceneDataset(Dataset[Item]):
    """Draws the scenes of one split of `ShortcutScenes`; an item's id is the split and the index.

    A split that takes at most 64 MiB is drawn once and kept: drawing takes longer than a small network's step.

    Args:
        split: Name of the split.
        count: Number of scenes.
        size: Height and width of a scene.
        agreement: Probability that a tag's colour names the class of its object.
        max_objects: Largest number of objects in a scene.
        binary: See `ShortcutScenes`.
        seed: Seed of the scenes.
        pipeline: Turns arrays into tensors.
        depth: Slices of a volume; None for images.
    """

    def __init__(
        self,
        split: Split,
        count: int,
        size: int,
        agreement: float,
        max_objects: int,
        binary: bool,
        seed: int,
        pipeline: Pipeline,
        depth: int | None = None,
    ) -> None:
        self.split = split
        self.count = count
        self.size = size
        self.agreement = agreement
        self.max_objects = max_objects
        self.binary = binary
        self.seed = seed
        self.pipeline = pipeline
        self.depth = depth
        self._drawn: dict[int, Scene] = {}
        self._kept = count * (depth or 1) * size**2 * _BYTES_A_PIXEL <= _MOST_BYTES

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Item:
        scene = self._drawn.get(index) or self.scene(index)
        if self._kept:
            self._drawn[index] = scene
        # Copies, because a transform may change its arrays in place.
        return self.pipeline(scene.image.copy(), f"{self.split}-{index:05d}", mask=scene.mask.copy(), cue=scene.cue.copy())

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what can be drawn again."""
        return self.__dict__ | {"_drawn": {}}

    def scene(self, index: int, shift: int = 0) -> Scene:
        """Draw one scene; the same index always gives the same scene.

        Args:
            index: Number of the scene.
            shift: Number of classes by which the tags' colours are rotated; nothing else changes. The change of a network's
                output then shows its reliance on the tags.
        """
        if not 0 <= index < self.count:
            raise IndexError(f"scene {index} of {self.count}")  # ends iteration over the dataset
        rng = np.random.default_rng([self.seed, SPLITS.index(self.split), index])
        scene = draw_scene(rng, self.size, self.agreement, self.max_objects, shift, self.depth)
        if self.binary:
            scene.mask = (scene.mask == 1).astype(np.uint8)
            scene.cue = (scene.cue == 1).astype(np.uint8)
        return scene
