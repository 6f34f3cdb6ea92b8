"""The table of scores."""

import pytest
import torch
from _models import Net, images
from rich.console import Console

from segaudit.attribution import TargetMask
from segaudit.auditor import Auditor
from segaudit.intervention import GridRegions, Intervention
from segaudit.report import score_table
from segaudit.report.table import main_explainer


@pytest.fixture
def auditor() -> Auditor:
    explainers = {"mask": TargetMask(), "saliency": "saliency", "random": "random", "effects": "region_effects"}
    metrics = ["deletion_auc", "insertion_auc", "off_target_leakage", "stability_retention", "cue_mass"]
    return Auditor(explainers, metrics, intervention=Intervention(regions=GridRegions([4]), steps=3))


def rows_of(auditor: Auditor, values: dict[str, torch.Tensor], title: str = "") -> tuple[list[list[str]], str]:
    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    table = score_table(auditor, values, title)
    console.print(table)
    columns = [[str(column.header), *map(str, column.cells)] for column in table.columns]
    return [list(row) for row in zip(*columns, strict=True)], console.export_text()


def test_all_explainers_and_scores_with_controls_apart(auditor: Auditor) -> None:
    x = images()
    auditor.update(Net(), x, cues=torch.ones(4, 12, 10, dtype=torch.long))
    values = auditor.compute()
    (header, *rows), text = rows_of(auditor, values, "the title")
    scores = {
        "deletion auc ↓": "deletion_auc", "insertion auc ↑": "insertion_auc", "off target leakage ↓": "off_target_leakage",
        "cue mass": "cue_mass",
    }  # fmt: skip
    assert (header[0], header[-1]) == ("explainer", "unscored")
    assert set(header[1:-1]) == set(scores)
    assert [row[0] for row in rows] == ["saliency", "effects", "mask (control)", "random (control)"]
    for row in rows:
        name = row[0].removesuffix(" (control)")
        expected = [float(values[f"{name}/{scores[column]}"]) for column in header[1:-1]]
        assert [float(cell) for cell in row[1:-1]] == pytest.approx(expected, abs=5.1e-4, nan_ok=True)
        assert row[-1] == str(int(values[f"{name}/unscored"]))
    lines = text.splitlines()
    saliency, effects, mask = (
        next(i for i, line in enumerate(lines) if f" {n} " in line) for n in ("saliency", "effects", "mask")
    )
    assert effects == saliency + 1
    assert mask == effects + 2  # a rule between them
    assert "the title" in text
    assert f"stability_retention {float(values['stability_retention']):.3f}" in text
    assert "images 4" in text
    assert f"targets {int(values['targets'])}" in text


def test_counts_are_whole_numbers(auditor: Auditor) -> None:
    _, text = rows_of(auditor, auditor.compute() | {"images": torch.tensor(1.0), "lost": torch.tensor(0.0)})
    assert "images 1 · targets 0 · lost 0" in " ".join(text.split())


def test_what_could_not_be_scored_shows_as_nan(auditor: Auditor) -> None:
    (_, *rows), _ = rows_of(auditor, auditor.compute())
    assert all(cell == "nan" for row in rows for cell in row[1:-1])
    assert [row[-1] for row in rows] == ["0"] * 4


def test_the_main_explainer_is_the_named_one_or_dea_or_the_first_that_is_no_control(auditor: Auditor) -> None:
    metrics = ["off_target_leakage"]
    assert main_explainer(auditor) == "saliency"
    assert main_explainer(Auditor(["saliency", "dea"], metrics)) == "dea"
    assert main_explainer(Auditor(["saliency", "dea"], metrics, main="saliency")) == "saliency"
    assert main_explainer(Auditor(["random"], metrics)) == "random"
    with pytest.raises(ValueError, match="main names the explainer 'lime', which is not audited; there are saliency, dea"):
        Auditor(["saliency", "dea"], metrics, main="lime")
