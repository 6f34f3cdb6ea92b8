"""Builds a W&B workspace that has a place for everything that an audited run logs."""

from collections.abc import Sequence
from typing import Any

from segaudit.formatting import with_arrow
from segaudit.metrics.catalogue import catalogue

_AXIS = "trainer/global_step"


def build_workspace(entity: str, project: str, keys: Sequence[str], prefix: str = "audit", name: str = "segaudit") -> Any:
    """Lay out a workspace with accuracy, a plot for each score, panels, curves and the targets.

    The workspace is built offline. Its ``save()`` sends it to W&B and prints its address; it needs a login.

    Args:
        entity: user or team.
        project: project of the runs.
        keys: keys that a run has logged, such as ``val/iou`` and ``audit/dea/stability``.
        prefix: prefix of the audit's keys.
        name: name of the workspace.

    Returns:
        A ``wandb_workspaces.workspaces.Workspace``.

    Raises:
        ValueError: if wandb-workspaces is not installed, or no key has the prefix.

    """
    try:
        import wandb_workspaces.reports.v2 as wr
        import wandb_workspaces.workspaces as ws
    except ModuleNotFoundError:
        raise ValueError("a workspace needs wandb-workspaces: pip install 'segaudit[workspaces]'.") from None
    logged = [key.split("/") for key in dict.fromkeys(keys) if key.startswith(f"{prefix}/")]
    if not logged:
        raise ValueError(f"no key begins with {prefix}/: name a run that was audited, or its prefix.")
    explainers = list(dict.fromkeys(parts[1] for parts in logged if len(parts) == 3))
    directions = {entry.name: entry.cls.higher_is_better for entry in catalogue()}
    scores: dict[str, list[str]] = {}
    for parts in logged:
        scores.setdefault(parts[-1] if len(parts) == 3 else f"{parts[-1]} (shared)", []).append("/".join(parts))

    def line(title: str, y: list[str]) -> Any:
        return wr.LinePlot(title=title, x=_AXIS, y=y)

    def chart(key: str, spec: str, fields: dict[str, str], title: str) -> Any:
        query = {"summaryTable": {"tableKey": f"{prefix}/{key}_table"}}
        return wr.CustomChart(query=query, chart_name=spec, chart_fields=fields, chart_strings={"title": title})

    classes = [key for key in dict.fromkeys(keys) if key.startswith("val/iou/")]
    series = {"step": "step", "lineKey": "lineKey", "lineVal": "lineVal"}
    faithfulness = next((name for name in ("faithfulness_gap", "insertion_auc", "deletion_auc") if name in scores), None)
    curves = [
        chart(f"curves/{kind}", "wandb/lineseries/v0", series, f"{kind} curves")
        for kind in ("deletion", "insertion")
        if {f"{kind}_auc", "faithfulness_gap"} & set(scores)
    ]
    if faithfulness:
        fields = {"x": "val/iou", "y": faithfulness}
        curves.append(chart("pareto", "wandb/scatter/v0", fields, f"IoU and {faithfulness}"))
    accuracy = [line("val/iou", ["val/iou"]), line("val/loss", ["val/loss"])]
    accuracy += [line("IoU by class", classes)] if classes else []
    sections = [
        ws.Section(name="Accuracy", is_open=True, panels=accuracy),
        ws.Section(
            name="Audit",
            is_open=True,
            panels=[line(with_arrow(score, directions.get(score.split(" ")[0])), own) for score, own in scores.items()],
        ),
        ws.Section(
            name="Panels",
            is_open=True,
            panels=[
                wr.MediaBrowser(title=title, media_keys=[f"{prefix}/{key}"])
                for title, key in [
                    ("prediction and truth", "overlays"),
                    ("all maps", "panels"),
                    *((name, f"panels/{name}") for name in explainers),
                ]
            ],
        ),
        ws.Section(name="Curves", is_open=True, panels=curves),
        ws.Section(
            name="Targets",
            is_open=True,
            panels=[wr.WeavePanelSummaryTable(table_name=f"{prefix}/{key}") for key in ("target_scores", "scores")],
        ),
    ]
    return ws.Workspace(
        entity=entity, project=project, name=name, sections=[section for section in sections if section.panels]
    )
