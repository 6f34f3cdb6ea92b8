"""The worst targets and the curves, however the images are split."""

import numpy as np
import pytest
from _models import Net, images

from segaudit.auditor import AuditedBatch, Auditor
from segaudit.intervention import GridRegions, Intervention
from segaudit.report.curves import GRID
from segaudit.report.gallery import Gallery


@pytest.fixture
def batches():
    auditor = Auditor(
        ["saliency", "random"], ["deletion_auc", "faithfulness_gap", "unsupported_leakage"],
        intervention=Intervention(regions=GridRegions([4]), steps=6),
    )  # fmt: skip
    x = images()
    return [auditor.update(Net(), x[i : i + 1], sample_ids=[f"i{i}"]) for i in range(len(x))], auditor


def test_the_worst_are_kept_in_order(batches):
    found, auditor = batches
    gallery = Gallery("saliency", auditor.directions, most=3)
    for batch in found:
        gallery.add(batch)
    rows = [row for row in auditor.records() if row["explainer"] == "saliency" and not np.isnan(row["faithfulness_gap"])]
    rows.sort(key=lambda row: row["faithfulness_gap"])
    assert [(p.sample_id, p.class_index) for p in gallery.worst] == [(r["sample_id"], r["class_index"]) for r in rows[:3]]
    assert all(panel.effect is not None for panel in gallery.worst)


def test_curves_are_means_over_targets(batches):
    found, auditor = batches
    gallery = Gallery("saliency", auditor.directions)
    for batch in found:
        gallery.add(batch)
    rows = [row for row in gallery.curves() if (row["explainer"], row["kind"]) == ("saliency", "deletion")]
    curves = []
    for batch in found:
        evidence = batch.evidence.get("saliency", {})
        if evidence:
            values, places = evidence["deletion_curve"], evidence["deletion_fractions"]
            curves += [np.interp(GRID, p, v) for p, v in zip(places.numpy(), values.numpy(), strict=True)]
    curves = np.array([curve for curve in curves if not np.isnan(curve).any()])
    assert [row["mean"] for row in rows] == pytest.approx(curves.mean(axis=0))
    assert [row["lower"] for row in rows] == pytest.approx(np.quantile(curves, 0.25, axis=0))
    assert rows[0]["mean"] == pytest.approx(1.0)
    assert {row["targets"] for row in rows} == {len(curves)}


def test_several_processes_find_what_one_does(batches):
    found, auditor = batches
    one, parts = (
        Gallery("saliency", auditor.directions, most=3),
        [Gallery("saliency", auditor.directions, most=3) for _ in "ab"],
    )
    for place, batch in enumerate(found):
        one.add(batch)
        parts[place % 2].add(batch)
    merged = parts[0].merge(parts)
    assert [p.sample_id for p in merged.worst] == [p.sample_id for p in one.worst]
    key = lambda row: (row["explainer"], row["kind"], row["fraction"])  # noqa: E731
    assert sorted(merged.curves(), key=key) == sorted(one.curves(), key=key)


def test_nothing_to_show(batches):
    (first, *_), auditor = batches
    gallery = Gallery("saliency", auditor.directions)
    gallery.add(AuditedBatch([], first.images[:0], first.prediction[:0], None, first.targets[:0]))
    assert gallery.worst == []
    assert gallery.curves() == []
