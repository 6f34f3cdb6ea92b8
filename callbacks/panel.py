"""Draws the panel of a training: the targets that all of its audits explain."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_warn

from segaudit.auditor import AuditedBatch, gather
from segaudit.callbacks.images import AuditImages
from segaudit.forwards.batch import Sample
from segaudit.forwards.panel import Panel, balanced
from segaudit.forwards.target import TargetSelector

#: Images are read until there are this many times as many as the panel may have.
_READ = 4
#: A model that calls more of an image one class has hardly learnt to tell classes apart.
_NEARLY_ALL = 0.9
#: Share of the images in which a model must tell classes apart before its predictions make a panel.
_ENOUGH = 0.8


class PanelDrawer:
    """Draws panels from masks, or from predictions where there are no masks.

    Args:
        selector: says which classes may be targets, how small a region may be and how many an image may have.
        max_images: largest number of images.
        seed: seed of the order in which images are read.

    """

    def __init__(self, selector: TargetSelector, max_images: int, seed: int) -> None:
        self.selector, self.max_images, self.seed = selector, max_images, seed

    def settings(self, images: AuditImages) -> str:
        """Return what the panel depends on, as text; a run that resumes under other settings needs a panel of its own."""
        chosen = self.selector
        return (
            f"seed {self.seed}, max_images {self.max_images}, max_per_image {chosen.max_per_image}, "
            f"min_area {chosen.min_area:g}, classes {chosen.classes or 'all'}, {len(images)} images in the data set"
        )

    def from_masks(
        self, trainer: Trainer, images: AuditImages, unpack: Callable[[Any], Sample], classes: int, channels: int
    ) -> Panel | None:
        """Draw a panel from the ground truth; None where there are no masks.

        All processes read the same images, and take the panel of the first.

        Args:
            trainer: the run's Trainer.
            images: reads the images.
            unpack: takes masks out of a batch.
            classes: number of classes.
            channels: number of channels of the logits.

        """
        allowed = self.selector.allowed(classes, channels)
        areas: dict[int, dict[int, float]] = {}
        regions: dict[tuple[int, int], torch.Tensor] = {}
        names: dict[int, str] = {}
        for index, name, mask in self._masks(images, unpack):
            names[index] = name
            counts = torch.bincount(mask[(mask >= 0) & (mask < classes)].long().flatten(), minlength=classes)
            areas[index] = {one: int(counts[one]) / mask.numel() for one in allowed if counts[one]}
            regions |= {(index, one): mask == one for one in areas[index]}
        if not areas:
            return None
        pairs = balanced(areas, self.max_images, self.selector.max_per_image, self.selector.min_area)
        if not pairs:
            rank_zero_warn(
                f"no class that may be a target covers {self.selector.min_area:.1%} of any validation mask, so nothing will "
                "be audited: lower the selector's min_area, or name other classes."
            )
        panel = self._panel(pairs, [regions[pair] for pair in pairs], names, "masks", images)
        return trainer.strategy.broadcast(panel)

    def from_predictions(
        self, images: AuditImages, audited: Sequence[tuple[int, int, torch.Tensor, str]], count: int
    ) -> Panel | None:
        """Make a panel of the targets of an audit; None while the model tells classes apart in too few images.

        Args:
            images: reads the images.
            audited: what :func:`targets_of` returns for each batch of the audit, of this process.
            count: number of images that were audited, of all processes.

        """
        found = sorted((target for part in gather(list(audited)) for target in part), key=lambda target: target[:2])
        apart = {image for image, _, region, _ in found if region.float().mean() < _NEARLY_ALL}
        if not count or len(apart) < _ENOUGH * count:
            return None
        order = {image: place for place, image in enumerate(images.order(None, self.seed))}
        found.sort(key=lambda target: (order[target[0]], target[1]))
        names = {image: name for image, _, _, name in found}
        pairs, regions = [target[:2] for target in found], [target[2] for target in found]
        return self._panel(pairs, regions, names, "predictions", images)

    def _masks(self, images: AuditImages, unpack: Callable[[Any], Sample]) -> Iterator[tuple[int, str, torch.Tensor]]:
        """Yield the number, the name and the mask of images, in the seeded order; passes over an unreadable one."""
        failed, read = 0, 0
        for index in images.order(None, self.seed):
            if read >= _READ * self.max_images:
                break
            try:
                sample = unpack(images.batch([index]))
            except Exception:  # the audit itself will say why; here another image will do
                failed += 1
                if failed > self.max_images:
                    break
                continue
            if sample.masks is None:
                break
            read += 1
            yield index, str(index if sample.ids is None else sample.ids[0]), sample.masks[0].cpu()

    def _panel(
        self,
        pairs: Sequence[tuple[int, int]],
        regions: list[torch.Tensor],
        names: Mapping[int, str],
        origin: str,
        images: AuditImages,
    ) -> Panel:
        numbers = torch.tensor(list(pairs), dtype=torch.long).view(-1, 2)
        sample_ids = [names[image] for image, _ in pairs]
        return Panel(numbers[:, 0], numbers[:, 1], regions, sample_ids, origin, self.settings(images))


def targets_of(audited: AuditedBatch, numbers: Sequence[int]) -> list[tuple[int, int, torch.Tensor, str]]:
    """Return the number of the image, the class, the region and the image's name of each target of a batch.

    Args:
        audited: the batch.
        numbers: number of each of its images in the data set.

    """
    targets = audited.targets.to("cpu")
    places = zip(targets.image_index.tolist(), targets.class_index.tolist(), targets.region, strict=True)
    return [
        (numbers[image], class_index, region.clone(), audited.sample_ids[image]) for image, class_index, region in places
    ]


def warn_if_random(images: AuditImages, unpack: Callable[[Any], Sample], panel: Panel, prefix: str) -> None:
    """Warn if an image of the panel is not the same when it is read twice: its targets would not be fixed."""
    if not len(panel):
        return
    first, second = (unpack(images.batch(panel.order[:1])).images for _ in range(2))
    if first.shape != second.shape or not torch.equal(first.nan_to_num(), second.nan_to_num()):
        rank_zero_warn(
            f"{prefix}: image {panel.order[0]} of the validation data is another one each time that it is read, so epochs "
            "cannot be compared on fixed targets: leave random transforms out of validation."
        )
