"""IoU against loops over pixels: the same for training, audits and benchmarks."""

import math

import pytest
import torch
from torchmetrics.classification import MulticlassConfusionMatrix

from segaudit.records.iou import confusion_matrix, iou_of_blocks, pooled_iou

CLASSES = 4


@pytest.fixture
def labels():
    draw = torch.Generator().manual_seed(0)
    truth = torch.randint(0, CLASSES, (3, 8, 8), generator=draw)
    truth[0, 0] = 255
    return truth, torch.randint(0, CLASSES, (3, 8, 8), generator=draw)


@pytest.mark.parametrize("ignored", [None, 0, 3, 255])
def test_counts_and_iou_are_those_of_loops(labels, ignored):
    truth, found = labels
    counts = confusion_matrix(found, truth, CLASSES, ignored)
    known = (truth != 255) & (truth != (255 if ignored is None else ignored))
    for t in range(CLASSES):
        for p in range(CLASSES):
            assert counts[t][p] == int(((truth == t) & (found == p) & known).sum())
    mean, each = iou_of_blocks([counts, counts], ignored)
    expected = [
        float(((truth == c) & (found == c) & known).sum() / (((truth == c) | (found == c)) & known).sum())
        for c in range(CLASSES)
        if c != ignored
    ]
    assert [one for c, one in enumerate(each) if c != ignored] == pytest.approx(expected)
    assert ignored not in range(CLASSES) or math.isnan(each[ignored])
    assert mean == pytest.approx(sum(expected) / len(expected))


@pytest.mark.parametrize("ignored", [0, 255])
def test_is_the_same_from_torchmetrics_counts(labels, ignored):
    truth, found = labels
    theirs = MulticlassConfusionMatrix(CLASSES, ignore_index=ignored)(found[1:], truth[1:])
    _, each = iou_of_blocks([confusion_matrix(found[1:], truth[1:], CLASSES, ignored)], ignored)
    assert each == pytest.approx(pooled_iou(theirs, ignored).tolist(), nan_ok=True)


def test_without_masks_there_is_none(labels):
    assert confusion_matrix(labels[1], None, CLASSES) == []
    mean, each = iou_of_blocks([[]])
    assert math.isnan(mean)
    assert each == []
