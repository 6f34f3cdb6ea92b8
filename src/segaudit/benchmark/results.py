"""Writes the results of a benchmark from its blocks, for people and for programs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from segaudit.auditor import Auditor
from segaudit.records.blocks import Block, rows_of
from segaudit.records.files import atomic_write
from segaudit.records.iou import iou_of_blocks
from segaudit.records.provenance import data_hash, provenance
from segaudit.records.summary import class_name, part, write_summary
from segaudit.report.page import write_report
from segaudit.report.plots import draw_plots
from segaudit.report.tables import write_tables

_KEYS = ("sample_id", "group", "class_index", "area", "fill", "explainer", "reason")


def write_results(
    folder: Path,
    blocks: Mapping[tuple[str, str], Sequence[Block]],
    auditor: Auditor,
    class_names: Mapping[str, Sequence[str]],
    weights: Mapping[str, str],
) -> dict[str, Any]:
    """Write ``results.parquet``, ``summary.json``, the tables, the plots and the report.

    Args:
        folder: folder of all files.
        blocks: blocks by data set and network, in the order of the images.
        auditor: the auditor that made the blocks.
        class_names: class names by data set.
        weights: hash of each network's weights.

    Returns:
        The content of ``summary.json``.

    """
    controls = [name for name, explainer in auditor.explainers.items() if explainer.control]
    long: list[dict[str, Any]] = []
    parts, samples = [], dict[str, dict[str, str]]()
    for (data, network), found in blocks.items():
        records = rows_of(found, auditor.provisional)
        long += _long(data, network, records, class_names[data])
        iou = _iou(found, class_names[data])
        samples[data] = {name: digest for block in found for name, digest in block.samples.items()}
        parts.append(part(data, network, records, class_names[data], iou, len(samples[data]), controls))
    with atomic_write(folder / "results.parquet") as draft:
        pq.write_table(pa.Table.from_pylist(long), draft)
    origin = provenance(weights=dict(weights), data={name: data_hash(of) for name, of in samples.items()})
    summary = write_summary(
        folder / "summary.json", "benchmark", parts, auditor.directions, auditor.shared, controls, origin
    )
    write_tables(folder, summary)
    draw_plots(folder, summary)
    write_report([folder], folder / "report.html")
    return summary


def _iou(blocks: Sequence[Block], names: Sequence[str]) -> dict[str, float]:
    mean, each = iou_of_blocks(block.confusion for block in blocks)
    return {"mean": mean} | {class_name(names, index): value for index, value in enumerate(each)}


def _long(data: str, network: str, records: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[dict[str, Any]]:
    return [
        {
            "data": data,
            "network": network,
            "sample_id": row["sample_id"],
            "group": row.get("group", ""),  # blocks of earlier versions have none
            "class": class_name(names, row["class_index"]),
            "area": row["area"],
            "fill": row.get("fill", ""),
            "explainer": row["explainer"],
            "score": score,
            "value": value,
            "reason": row["reason"] if value is None or value != value else "",
        }
        for row in records
        for score, value in row.items()
        if score not in _KEYS
    ]
