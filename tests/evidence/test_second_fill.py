"""The gap under a second fill: that of an audit with the other fill, NaN with a reason where it says nothing."""

from math import isnan

import pytest
import torch
from _models import Counting, Net, images
from torch import Tensor, nn

from segaudit import Auditor, Probe, TargetSelector
from segaudit.attribution import Random
from segaudit.attribution.context import attribution_context
from segaudit.evidence.second_fill import without_second_fill
from segaudit.functional import faithfulness_gap
from segaudit.intervention import ConstantFill, Fill, GridRegions, Intervention, MeanFill, RangeFill

SCORES = ["faithfulness_gap", "second_fill_gap"]


def few(fills: list[Fill] | None = None, steps: int = 9) -> Intervention:
    return Intervention(fills or [RangeFill(0.0), RangeFill(1.0)], GridRegions([4]), steps)


def test_it_is_the_gap_of_the_other_fill() -> None:
    model, x = Net(), images()
    batch = Auditor([Random()], ["second_fill_gap"], intervention=few()).update(model, x)
    maps = batch.attributions["random"]
    with attribution_context(model):
        first = Probe(model, x, batch.targets, few()).fill_index
        assert 0 < int(first.sum()) < len(first)
        other = Probe(model, x, batch.targets, few(), fill_index=1 - first)
        deletion, insertion = other.deletion_curve(maps, 6), other.insertion_curve(maps, 6)
    expected = faithfulness_gap(deletion.values, deletion.fractions, insertion.values, insertion.fractions)
    found = batch.scores["random"]["second_fill_gap"]
    torch.testing.assert_close(found, expected, equal_nan=True, rtol=1e-4, atol=1e-5)
    assert 0 < int(found.isfinite().sum()) < len(found)
    assert [isnan(row["second_fill_gap"]) for row in batch.records()] == [
        row["reason"] == "second fill too weak" for row in batch.records()
    ]


def test_of_three_fills_it_is_the_next() -> None:
    x = torch.full((1, 1, 4, 4), 0.2)
    x[..., 2:] = 0.3
    fills = [ConstantFill(0.25), ConstantFill(1.0), ConstantFill(0.7)]
    targets = TargetSelector(min_area=0)(torch.cat([1 - x, x], dim=1))
    probe = Probe(nn.Identity(), x, targets, few(fills), logits=torch.cat([1 - x, x], dim=1))
    assert probe.fill_index.tolist() == [1]
    assert probe.with_second_fill().fill_index.tolist() == [2]
    given = Probe(nn.Identity(), x, targets, few(fills), probe.logits, fill_index=torch.tensor([2]))
    assert given.with_second_fill().fill_index.tolist() == [1]
    with pytest.raises(ValueError, match="one fill only"):
        Probe(nn.Identity(), x, targets, few([MeanFill()])).with_second_fill()


def test_with_one_fill_there_is_none() -> None:
    auditor = Auditor([Random()], SCORES, intervention=few([ConstantFill(4.0)]))
    records = auditor.update(Net(), images()).records()
    assert all(isnan(row["second_fill_gap"]) for row in records)
    assert all("no second fill" in row["reason"].split("; ") for row in records)


def test_what_it_costs() -> None:
    x = images()
    found = []
    for scores in (["faithfulness_gap"], SCORES):
        model = Counting(Net())
        batch = Auditor([Random()], scores, intervention=few()).update(model, x)
        found.append(model.images)
    scenes = len({*zip(batch.targets.image_index.tolist(), batch.fills, strict=True)})
    assert found[1] - found[0] == scenes + 2 * 6 * len(batch.targets)


def test_a_second_fill_is_no_reason_to_count_a_target_as_unscored() -> None:
    auditor = Auditor([Random()], ["off_target_leakage", "second_fill_gap"], intervention=few())
    records = auditor.update(Net(), images()).records()
    assert any(row["reason"] for row in records)
    assert float(auditor.counts()["random/unscored"]) == 0
    assert without_second_fill("fill too weak; second fill too weak") == ["fill too weak"]
    assert without_second_fill("") == []


@pytest.mark.parametrize(("scores", "fills", "added"), [
    (["faithfulness_gap"], None, True),
    (["deletion_auc"], None, False),
    (["faithfulness_gap"], [RangeFill()], False),
])  # fmt: skip
def test_an_offline_audit_adds_it_where_it_means_something(scores: list[str], fills: list[Fill] | None, added: bool) -> None:
    auditor = Auditor([Random()], scores, intervention=few(fills))

    def audited() -> Tensor | None:
        return auditor.update(Net(), images()).scores["random"].get("second_fill_gap")

    for wanted in (True, True, False, True):
        auditor.score_second_fill(wanted)
        assert ("second_fill_gap" in auditor.directions) == (added and wanted)
        assert (audited() is not None) == (added and wanted)
    own = Auditor([Random()], SCORES, intervention=few())
    own.update(Net(), images())
    own.score_second_fill(False)
    assert own.records()
    assert "second_fill_gap" in own.directions
