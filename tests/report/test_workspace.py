"""The W&B workspace is built without a network, and what it shows is what a run logs."""

import sys
from typing import Any

import pytest

from segaudit.cli import main
from segaudit.report.workspace import build_workspace

KEYS = ["val/loss", "val/iou", "val/iou/red", "audit/images", "audit/fill_residual"]
KEYS += [f"audit/{name}/{score}" for name in ("dea", "random") for score in ("faithfulness_gap", "stability", "unscored")]


def build(keys: list[str] = KEYS, **options: Any) -> Any:
    pytest.importorskip("wandb_workspaces")
    return build_workspace("me", "cells", keys, **options)


def test_every_section_shows_what_is_logged():
    workspace = build()
    assert (workspace.entity, workspace.project, workspace.name) == ("me", "cells", "segaudit")
    sections = {one.name: one.panels for one in workspace.sections}
    assert list(sections) == ["Accuracy", "Audit", "Panels", "Curves", "Targets"]
    lines = {panel.title: panel.y for name in ("Accuracy", "Audit") for panel in sections[name]}
    assert {key for keys in lines.values() for key in keys} == set(KEYS)
    assert lines["stability ↑"] == ["audit/dea/stability", "audit/random/stability"]
    assert lines["fill_residual (shared) ↓"] == ["audit/fill_residual"]
    assert all(panel.x == "trainer/global_step" for name in ("Accuracy", "Audit") for panel in sections[name])
    media = [key for panel in sections["Panels"] for key in panel.media_keys]
    assert media == ["audit/overlays", "audit/panels", "audit/panels/dea", "audit/panels/random"]
    tables = [panel.query["summaryTable"]["tableKey"] for panel in sections["Curves"]]
    assert tables == ["audit/curves/deletion_table", "audit/curves/insertion_table", "audit/pareto_table"]
    assert [panel.table_name for panel in sections["Targets"]] == ["audit/target_scores", "audit/scores"]


def test_what_would_be_sent_is_whole():
    text = build()._to_model().model_dump_json(by_alias=True)  # what save() sends
    for key in ("audit/dea/stability", "audit/panels/random", "audit/pareto_table", "audit/target_scores"):
        assert f'"{key}"' in text


def test_without_curves_that_section_is_left_out():
    keys = ["val/iou", "other/dea/off_target_leakage"]
    assert [one.name for one in build(keys, prefix="other").sections] == ["Accuracy", "Audit", "Panels", "Targets"]


def test_what_is_wrong_is_told(monkeypatch):
    with pytest.raises(ValueError, match="no key begins with audit/"):
        build(["val/iou"])
    monkeypatch.setitem(sys.modules, "wandb_workspaces.reports.v2", None)
    with pytest.raises(ValueError, match=r"pip install 'segaudit\[workspaces\]'"):
        build_workspace("me", "cells", KEYS)


def test_the_program_saves_it(own_folder, monkeypatch):
    pytest.importorskip("wandb_workspaces")
    import wandb_workspaces.workspaces as ws

    saved: list[Any] = []
    monkeypatch.setattr(ws.Workspace, "save", lambda self: saved.append(self))
    (own_folder / "metrics.csv").write_text("epoch,val/iou,audit/dea/stability\n0,0.5,0.9\n")
    main(["workspace", str(own_folder), "--entity=me", "--project=cells"])
    assert [one.name for one in saved[0].sections] == ["Accuracy", "Audit", "Panels", "Targets"]
