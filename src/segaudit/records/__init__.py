"""Records: writes and reads the files that an audit leaves in a run folder."""

from segaudit.records.blocks import Block
from segaudit.records.files import atomic_write, sha256
from segaudit.records.iou import confusion_matrix, pooled_iou
from segaudit.records.provenance import provenance
from segaudit.records.run import Run, read_records, read_run
from segaudit.records.summary import read_summary

__all__ = [
    "Block",
    "Run",
    "atomic_write",
    "confusion_matrix",
    "pooled_iou",
    "provenance",
    "read_records",
    "read_run",
    "read_summary",
    "sha256",
]
