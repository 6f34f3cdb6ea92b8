"""SegmentationTask: the LightningModule that trains any segmentation network."""

from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import LightningCLI, LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torch.optim import AdamW
from torch.utils.data import DistributedSampler
from torchmetrics.classification import MulticlassConfusionMatrix

from segaudit.forwards.batch import unpack
from segaudit.forwards.output import logits_of, predict
from segaudit.records.iou import pooled_iou

Batch = Mapping[str, Any] | tuple[Tensor, Tensor] | list[Tensor] | Tensor


class SegmentationTask(LightningModule):
    """Trains and validates a segmentation network.

    A batch is a dict ``{"image": (B, C, *S) float, "mask": (B, *S) integer}``, which may have more keys (``"id"`` is a list
    of B strings), a pair ``(image, mask)``, or anything else that :func:`segaudit.forwards.unpack` understands. The task
    logs ``train/loss``, and for ``val`` and ``test`` the loss, ``iou`` and ``iou/<class>``: intersection over union, pooled
    over all pixels of the epoch. A class that occurs neither in the truth nor in the prediction has the IoU NaN and does
    not count in the mean.

    Args:
        network: maps images to logits ``(B, K, *S')``, in any form that :func:`segaudit.forwards.logits_of` understands. A
            network with one channel separates foreground from background.
        loss: called as ``loss(logits (B, K, *S), mask (B, *S) int64)``; for a one-channel network, and for MONAI's losses,
            the mask has a channel, ``(B, 1, *S)`` float. A loss without an ``ignore_index`` of its own gets the n pixels
            that aren't ignored, laid out as one image ``(1, K, 1, n)``. Defaults to cross entropy, binary for one channel.
        ignore_index: the mask's value for pixels that count nowhere.
        class_names: one name per class; two, background first, for a one-channel network. Defaults to the datamodule's
            ``class_names``.
        optimizer: makes the optimizer from the parameters.
        lr_scheduler: makes the scheduler from the optimizer; it steps once an epoch.
        right_reasons: term to add to the training loss, such as :class:`segaudit.ReliancePenalty`, logged as
            ``train/right_reasons``; called as ``right_reasons(model, batch, logits, step)``.

    """

    def __init__(
        self,
        network: nn.Module,
        loss: nn.Module | None = None,
        ignore_index: int = 255,
        class_names: list[str] | None = None,
        optimizer: OptimizerCallable = AdamW,
        lr_scheduler: LRSchedulerCallable | None = None,
        right_reasons: nn.Module | None = None,
    ) -> None:
        super().__init__()
        # 1.3 to 1.8x faster forwards on a CPU
        self.network = nn.utils.convert_conv2d_weight_memory_format(network, torch.channels_last)
        self.loss = loss
        self.ignore_index = ignore_index
        self.class_names = list(class_names or [])
        self.optimizer = optimizer
        self.lr_scheduler = lr_scheduler
        self.right_reasons = right_reasons

    def setup(self, stage: str) -> None:
        """Look up the class names, which the scores need.

        Raises:
            ValueError: if neither the task nor the datamodule names the classes.

        """
        if stage == "predict":
            return
        if not self.class_names:
            self.class_names = list(getattr(getattr(self.trainer, "datamodule", None), "class_names", None) or [])
        if not self.class_names:
            raise ValueError(
                "the classes have no names: give SegmentationTask class_names, or the datamodule a class_names."
            )
        self.confusion = MulticlassConfusionMatrix(
            len(self.class_names), ignore_index=self.ignore_index, validate_args=False
        )

    def configure_optimizers(self) -> Any:
        """Make the optimizer and, where there is one, the scheduler."""
        optimizer = self.optimizer(self.parameters())
        scheduler = self.lr_scheduler(optimizer) if self.lr_scheduler else None
        return LightningCLI.configure_optimizers(self, optimizer, scheduler)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits ``(B, K, *S)`` of images ``(B, C, *S)``, at the images' size."""
        return logits_of(self.network(images), images.shape[2:])

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of one batch."""
        images, masks = _images_and_masks(batch)
        logits = self(images)
        self._check(logits, masks, batch_idx)
        loss = self._loss(logits, masks)
        self.log("train/loss", loss, on_step=True, on_epoch=True, batch_size=len(images), sync_dist=True)
        if self.right_reasons is None:
            return loss
        entries = {**(batch if isinstance(batch, Mapping) else {}), "image": images, "mask": masks}
        term: Tensor = self.right_reasons(self, entries, logits, self.global_step)
        self.log("train/right_reasons", term, on_step=True, on_epoch=True, batch_size=len(images), sync_dist=True)
        return loss + term

    def on_validation_epoch_start(self) -> None:
        """Forget the pixels of the last epoch."""
        self.confusion.reset()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Add one batch to the scores."""
        self._evaluate(batch, batch_idx, "val")

    def on_validation_epoch_end(self) -> None:
        """Log the IoU of the epoch."""
        self._log_iou("val")

    def on_test_epoch_start(self) -> None:
        """Forget the pixels of the last epoch."""
        self.confusion.reset()

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Add one batch to the scores."""
        self._evaluate(batch, batch_idx, "test")

    def on_test_epoch_end(self) -> None:
        """Log the IoU of the epoch."""
        self._log_iou("test")

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        """Return the class maps of one batch: ``{"id": B strings, "mask": (B, *S) int64}``."""
        sample = unpack(batch)
        ids = sample.ids or [f"{batch_idx}-{i}" for i in range(len(sample.images))]
        return {"id": ids, "mask": predict(self(sample.images))}

    def _evaluate(self, batch: Batch, batch_idx: int, stage: str) -> None:
        images, masks = _images_and_masks(batch)
        logits = self(images)
        self._check(logits, masks, batch_idx)
        loaders = self.trainer.val_dataloaders if stage == "val" else self.trainer.test_dataloaders
        own = _images_of_this_process(loaders, batch_idx, len(images))
        masks = masks.index_fill(0, torch.arange(own, len(images), device=masks.device), self.ignore_index)
        self.log(f"{stage}/loss", self._loss(logits, masks), batch_size=own, sync_dist=True)
        self.confusion.update(predict(logits), masks)

    def _log_iou(self, stage: str) -> None:
        iou = pooled_iou(self.confusion.compute(), self.ignore_index)
        self.log(f"{stage}/iou", iou.nanmean(), prog_bar=True, sync_dist=True)
        self.log_dict({f"{stage}/iou/{name}": x for name, x in zip(self.class_names, iou, strict=True)}, sync_dist=True)

    def _loss(self, logits: Tensor, masks: Tensor) -> Tensor:
        one = logits.shape[1] == 1
        loss = self.loss if self.loss is not None else nn.BCEWithLogitsLoss() if one else nn.CrossEntropyLoss()
        theirs = getattr(loss, "ignore_index", None)
        ignored = masks == self.ignore_index
        if theirs is not None:
            ignored = ignored | (masks == theirs)
        # Without a pixel that counts, most losses are 0/0. Such a batch gets a class that counts, and its loss is multiplied
        # by 0. No weight becomes NaN, and unlike an `if` this does not make the GPU wait.
        some = ~ignored.all()
        stand_in = int(0 in (self.ignore_index, theirs))
        masks, ignored = torch.where(some, masks, stand_in), ignored & some
        logits = logits.float()
        if theirs is None:
            logits = logits.movedim(1, -1)[~ignored].T[None, :, None]
            masks = masks[~ignored][None, None]
        else:
            masks = masks.masked_fill(ignored, theirs)
        # MONAI's losses, and losses composed of them, take class indices with a channel.
        channel = one or any(hasattr(part, "to_onehot_y") for part in loss.modules())
        value: Tensor = loss(logits, masks[:, None].float() if channel else masks)
        return value * some

    def _check(self, logits: Tensor, masks: Tensor, batch_idx: int) -> None:
        channels, classes = logits.shape[1], len(self.class_names)
        names = ", ".join(self.class_names)
        if classes != max(2, channels):
            need = f"set the network's number of classes to {classes}" if classes > 1 else "name the background too"
            raise ValueError(
                f"the network's output has {channels} channel(s), but there are {classes} class names ({names}): {need}."
            )
        if isinstance(self.loss, nn.CrossEntropyLoss if channels == 1 else nn.BCEWithLogitsLoss):
            raise ValueError(
                f"{type(self.loss).__name__} doesn't fit a network with {channels} channel(s): use BCEWithLogitsLoss for "
                "one channel and CrossEntropyLoss for more."
            )
        if masks.shape != logits[:, 0].shape:
            raise ValueError(
                f"the masks have the shape {tuple(masks.shape)}, but class indices of the shape "
                f"{tuple(logits[:, 0].shape)} are needed, like the images."
            )
        if batch_idx and masks.is_cuda:
            return  # reading values makes the GPU wait, so only the first batch is checked
        wrong = masks[(masks != self.ignore_index) & ((masks < 0) | (masks >= classes))]
        if len(wrong):
            raise ValueError(
                f"the masks hold the class {int(wrong[0])}, but there are {classes} classes, 0 to {classes - 1} ({names}), "
                f"and ignored pixels have {self.ignore_index}."
            )


def _images_and_masks(batch: Batch) -> tuple[Tensor, Tensor]:
    sample = unpack(batch)
    if sample.masks is None:
        raise ValueError("a batch has images but no masks, which training and validation need.")
    return sample.images, sample.masks.long()


def _images_of_this_process(loader: Any, batch_idx: int, batch_size: int) -> int:
    """Return the number of images before the repeats that a sampler adds, so that all processes have as many images."""
    sampler = getattr(loader, "sampler", None)
    if not isinstance(sampler, DistributedSampler):
        return batch_size
    own = len(range(sampler.rank, len(sampler.dataset), sampler.num_replicas))  # type: ignore[arg-type]
    before: int = batch_idx * loader.batch_size
    return min(batch_size, max(0, own - before))
