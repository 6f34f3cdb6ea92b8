"""Writes the folder of an offline audit: blocks while it runs, then the results for people and programs."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from segaudit.auditor import AuditedBatch, Auditor, gather
from segaudit.records.blocks import Block, rows_of
from segaudit.records.files import atomic_write
from segaudit.records.iou import confusion_matrix, iou_of_blocks
from segaudit.records.provenance import data_hash, provenance, sample_hash
from segaudit.records.summary import class_name, number, part, write_summary
from segaudit.report.gallery import Gallery
from segaudit.report.gate import Rule
from segaudit.report.page import write_report
from segaudit.report.picture import Panel, draw_leakage, draw_panels
from segaudit.report.table import main_explainer
from segaudit.report.tables import write_tables


class AuditFolder:
    """Writes an audit: ``targets.parquet``, ``curves.parquet``, ``summary.json``, tables, ``worst/`` and ``report.html``.

    Each block of images is written to ``blocks/`` as soon as it is audited. It stays there if the audit does not finish.

    Args:
        folder: folder to write to.
        auditor: explains and scores.
        max_images: limits the number of audited images; None audits all.
        ignore_index: label of the pixels that count nowhere, as in the task.

    """

    def __init__(
        self, folder: Path, auditor: Auditor, max_images: int | None = None, ignore_index: int | None = None
    ) -> None:
        self.folder, self.auditor = folder, auditor
        self.max_images, self.ignore_index = max_images, ignore_index
        self.main = main_explainer(auditor)
        self.gallery = Gallery(self.main, auditor.directions)
        self._blocks: dict[int, Block] = {}

    def add(self, start: int, batch: AuditedBatch) -> None:
        """Add a block of images; ``start`` is the number of its first image."""
        self.gallery.add(batch)
        masks = batch.masks
        hashes = {
            name: sample_hash(batch.images[i], None if masks is None else masks[i])
            for i, name in enumerate(batch.sample_ids)
        }
        counts = confusion_matrix(batch.prediction, masks, batch.classes, self.ignore_index)
        self._blocks[start] = Block(batch.records(), counts, hashes, batch.likeness)
        self._blocks[start].write(self.folder / "blocks" / f"{start:05d}.parquet")

    def gather(self) -> None:
        """Collect the blocks of all ranks. Every rank must call it."""
        blocks = {start: block for of in gather(self._blocks) for start, block in of.items()}
        self._blocks = dict(sorted(blocks.items()))
        self.gallery = self.gallery.merge(gather(self.gallery))

    def write(
        self,
        data: str,
        network: str,
        names: Sequence[str],
        logged: Mapping[str, float],
        rules: Sequence[Rule] = (),
        **origin: Any,
    ) -> dict[str, Any]:
        """Write the results. Only one rank may call it.

        Args:
            data: name of the data.
            network: name of the model.
            names: class names by index.
            logged: other figures of the run, such as the loss.
            rules: what must not hold of the scores.
            origin: further entries of the provenance.

        Returns:
            The content of ``summary.json``.

        """
        blocks = list(self._blocks.values())
        records = rows_of(blocks, self.auditor.provisional)
        samples = {name: digest for block in blocks for name, digest in block.samples.items()}
        rows = [{"class": class_name(names, row["class_index"])} | row for row in records]
        with atomic_write(self.folder / "targets.parquet") as draft:
            pq.write_table(pa.Table.from_pylist(rows), draft)
        with atomic_write(self.folder / "curves.parquet") as draft:
            pq.write_table(pa.Table.from_pylist(self.gallery.curves()), draft)
        mean, each = iou_of_blocks([block.confusion for block in blocks], self.ignore_index)
        iou = {"mean": mean} | {class_name(names, index): value for index, value in enumerate(each)}
        worst = self._draw(names)
        controls = [name for name, explainer in self.auditor.explainers.items() if explainer.control]
        found = part(data, network, records, names, iou, len(samples), controls, self.main, self.auditor.ranges)
        summary = write_summary(
            self.folder / "summary.json",
            "audit",
            [found],
            self.auditor.directions,
            self.auditor.shared,
            controls,
            provenance(data_sha256=data_hash(samples), **origin),
            main=self.main,
            worst={"score": self.gallery.score, "targets": worst},
            logged={name: number(value) for name, value in logged.items()},
            gate=[{"rule": rule.text, "failed": rule.broken(found)} for rule in rules],
        )
        write_tables(self.folder, summary)
        write_report([self.folder], self.folder / "report.html")
        shutil.rmtree(self.folder / "blocks", ignore_errors=True)
        return summary

    def _draw(self, names: Sequence[str]) -> list[dict[str, Any]]:
        controls = {name for name, explainer in self.auditor.explainers.items() if explainer.control}
        rows = []
        for place, panel in enumerate(self.gallery.worst):
            pictures = {"maps": draw_panels([panel], names)}
            if panel.effect is not None:
                shown = [name for name in panel.attributions if name not in controls] or list(panel.attributions)
                pictures["leakage"] = draw_leakage(panel, shown)
            files = {}
            for kind, picture in pictures.items():
                files[kind] = f"worst/{place:02d}_{kind}.png"
                with atomic_write(self.folder / files[kind]) as draft:
                    Image.fromarray(picture).save(draft, format="PNG")
            rows.append(_about(panel, self.main, names) | {"pictures": files})
        return rows


def _about(panel: Panel, explainer: str, names: Sequence[str]) -> dict[str, Any]:
    scores = panel.scores.get("", {}) | panel.scores.get(explainer, {})
    known = {name: value for name, value in scores.items() if value == value}
    return {"sample_id": panel.sample_id, "class": class_name(names, panel.class_index), "scores": known}
