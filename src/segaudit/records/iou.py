"""Computes the intersection over union, pooled over pixels, for training, audits and benchmarks."""

from collections.abc import Iterable

import torch
from torch import Tensor


def confusion_matrix(
    prediction: Tensor, masks: Tensor | None, classes: int, ignore_index: int | None = None
) -> list[list[int]]:
    """Count pixels by true and predicted class, as nested lists ``(C, C)``; empty without masks.

    Pixels whose label is ``ignore_index`` or no class do not count.

    Args:
        prediction: class indices ``(B, *S)``.
        masks: class indices ``(B, *S)``, or None.
        classes: C.
        ignore_index: the label of pixels that count nowhere.

    Example:
        >>> confusion_matrix(torch.tensor([[0, 1, 1]]), torch.tensor([[0, 0, 255]]), classes=2)
        [[1, 1], [0, 0]]

    """
    if masks is None:
        return []
    counted = (masks >= 0) & (masks < classes)
    if ignore_index is not None:
        counted &= masks != ignore_index
    pairs = masks[counted].long() * classes + prediction[counted]
    counts: list[list[int]] = torch.bincount(pairs, minlength=classes**2).view(classes, classes).tolist()
    return counts


def pooled_iou(confusion: Tensor, ignore_index: int | None = None) -> Tensor:
    """Return the intersection over union of each class, ``(C,)`` in [0, 1], from counts ``(C, C)``.

    It is NaN for a class that does not occur, and for the ignored class: its pixels are left out, so only its false
    positives are known.

    Args:
        confusion: numbers of pixels by true and predicted class.
        ignore_index: the label of pixels that count nowhere.

    Example:
        >>> pooled_iou(torch.tensor([[3, 1, 0], [0, 4, 0], [0, 0, 0]]))
        tensor([0.7500, 0.8000,    nan])

    """
    hits = confusion.diagonal()
    iou = hits / (confusion.sum(0) + confusion.sum(1) - hits)
    if ignore_index is not None and 0 <= ignore_index < len(iou):
        iou[ignore_index] = torch.nan
    return iou


def image_iou(prediction: Tensor, masks: Tensor, classes: int, ignore_index: int | None = None) -> Tensor:
    """Return the mean IoU of each image over the classes that occur in its mask or prediction, ``(B,)`` in [0, 1].

    NaN for an image without a labelled pixel.

    Args:
        prediction: class indices ``(B, *S)``.
        masks: class indices ``(B, *S)``.
        classes: number of classes.
        ignore_index: the label of pixels that count nowhere.

    Example:
        >>> image_iou(torch.tensor([[0, 1, 1, 1]]), torch.tensor([[0, 0, 1, 1]]), classes=3).round(decimals=4)
        tensor([0.5833])

    """
    predicted, truth = prediction.flatten(1).long(), masks.to(prediction.device).flatten(1).long()
    counted = (truth >= 0) & (truth < classes)
    if ignore_index is not None:
        counted &= truth != ignore_index
    pairs = (truth * classes + predicted).where(counted, classes**2)
    counts = torch.zeros(len(pairs), classes**2 + 1, device=pairs.device)
    counts = counts.scatter_add_(1, pairs, torch.ones_like(pairs, dtype=counts.dtype))[:, :-1].view(-1, classes, classes)
    hits = counts.diagonal(dim1=1, dim2=2)
    return (hits / (counts.sum(dim=1) + counts.sum(dim=2) - hits)).nanmean(dim=1)


def iou_of_blocks(confusions: Iterable[list[list[int]]], ignore_index: int | None = None) -> tuple[float, list[float]]:
    """Return the mean IoU and the IoU of each class over several blocks; NaN and an empty list without masks.

    Example:
        >>> mean, each = iou_of_blocks([[[3, 1], [0, 4]]])
        >>> round(mean, 4), [round(iou, 4) for iou in each]
        (0.775, [0.75, 0.8])

    """
    tables = [torch.tensor(confusion) for confusion in confusions if confusion]
    if not tables:
        return float("nan"), []
    each = pooled_iou(torch.stack(tables).sum(dim=0).double(), ignore_index)
    return float(each.nanmean()), each.tolist()
