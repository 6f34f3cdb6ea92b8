"""The panel in a real Trainer: the same targets in every epoch, whatever the model predicts."""

import copy
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from integration.scripted import Scripted, known
from integration.tiny import Squares, adam, loader, quick, still, task, trainer
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import EarlyStopping
from torch import nn
from torch.utils.data import DataLoader, Dataset

from segaudit import TargetSelector
from segaudit.callbacks import AuditCheckpoint
from segaudit.selection import Tolerant
from segaudit.training.task import SegmentationTask

LEAKAGE = "audit/saliency/off_target_leakage"


class Untrained(nn.Module):
    """Starts without knowing anything, and calls everything background at first."""

    def __init__(self, bias: float = 9.0) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 3, 3, padding=1))
        with torch.no_grad():
            self.body[2].bias.copy_(torch.tensor([bias, 0.0, 0.0]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x)


def fast(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=0.02)


def places(rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return sorted((row["sample_id"], row["class_index"], row["area"]) for row in rows)


class Watch(Callback):
    """Notes the rows and the logged values of each audit."""

    def __init__(self) -> None:
        self.rows: list[list[dict[str, Any]]] = []
        self.logged: list[dict[str, float]] = []

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        (audited,) = [one for one in trainer.callbacks if hasattr(one, "panel")]
        self.rows.append(copy.deepcopy(audited.records))
        self.logged.append({name: float(value) for name, value in trainer.callback_metrics.items()})


def test_targets_are_those_of_the_masks_in_every_epoch(tmp_path):
    watch, audited = Watch(), quick(max_images=6)
    trainer(audited, watch, folder=tmp_path, max_epochs=4).fit(
        task(network=Untrained(), optimizer=fast), loader(16, train=True), loader(6)
    )
    first, *others = [places(rows) for rows in watch.rows]
    assert all(other == first for other in others)
    for name, one, area in first:
        mask = Squares(6)[int(name.removeprefix("square-"))]["mask"]
        assert area == pytest.approx(float((mask == one).float().mean()))
    kinds = [one for _, one, _ in first]
    assert {kinds.count(one) for one in (1, 2)} == {3}
    (panel,) = tmp_path.glob("version_0/audit/panel.csv")
    assert len(panel.read_text().splitlines()) == 1 + len(first)
    stored = [pq.read_table(path).to_pylist() for path in sorted(tmp_path.glob("version_0/audit/epoch*.parquet"))]
    assert all(row["protocol"] == 2 and row["image_iou"] >= 0 for rows in stored for row in rows)


class Learns(Callback):
    """Background alone in the first epoch, red too in the second, green in the third, and green no more in the last."""

    BIASES = ([50.0, 0.0, 0.0], [4.0, 0.0, -50.0], [4.0, 0.0, 0.0], [4.0, 0.0, -50.0])

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        with torch.no_grad():
            pl_module.network.head.bias.copy_(torch.tensor(self.BIASES[trainer.current_epoch]))


def test_a_class_counts_from_the_epoch_in_which_it_has_been_learnt(capsys):
    watch, audited = Watch(), quick(max_images=6)
    trainer(audited, watch, Learns(), max_epochs=4).fit(task(optimizer=still), loader(4), loader(6))
    assert [logged["audit/not_learnt"] for logged in watch.logged] == [3, 2, 0, 0]
    assert audited.series.joined == {0: 2, 1: 1, 2: 2}
    finite = [logged[LEAKAGE] == logged[LEAKAGE] for logged in watch.logged]
    assert finite == [False, True, True, False]  # at last less than 80 % could be scored
    out = capsys.readouterr().out
    assert "not learnt yet: background, red, green" in out
    assert "not learnt yet: background, green" in out  # in half of the images everything is background
    red = [row["off_target_leakage"] for row in watch.rows[1] if row["class_index"] == 1]
    assert watch.logged[1][LEAKAGE] == pytest.approx(sum(red) / len(red), abs=1e-6)
    three = [row["off_target_leakage"] for row in watch.rows[2]]
    assert watch.logged[2][LEAKAGE] == pytest.approx(sum(three) / len(three), abs=1e-6)


def test_a_first_validation_after_several_epochs_draws_from_masks_too():
    watch, audited = Watch(), quick(max_images=6, every_n_epochs=2)
    trainer(audited, watch, max_epochs=4, check_val_every_n_epoch=2).fit(task(), loader(8, train=True), loader(6))
    assert audited.panel.origin == "masks"
    assert audited.series.audits == [1, 3]
    assert places(watch.rows[0]) == places(watch.rows[1])


class NoMasks(Dataset[Any]):
    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> torch.Tensor:
        return Squares(6)[index]["image"]


class Blind(SegmentationTask):
    """Its validation has images alone."""

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val/iou", 0.5)

    def on_validation_epoch_end(self) -> None:
        pass


def blind(network: nn.Module, optimizer: Any = adam) -> Blind:
    torch.manual_seed(0)
    return Blind(network, class_names=["background", "red", "green"], optimizer=optimizer)


def test_without_masks_the_panel_waits_until_the_model_tells_classes_apart(capsys):
    watch, audited = Watch(), quick(max_images=6)
    loop = trainer(audited, watch, max_epochs=8)
    loop.fit(blind(Untrained(), fast), loader(16, train=True), DataLoader(NoMasks(), batch_size=3))
    assert audited.panel is not None
    assert audited.panel.origin == "predictions"
    finite = [logged[LEAKAGE] == logged[LEAKAGE] for logged in watch.logged]
    assert finite[0] is False
    assert finite[-1] is True
    first = finite.index(True)
    assert all(places(rows) == places(watch.rows[first]) for rows in watch.rows[first:])
    assert audited.series.audits == list(range(first, 8))
    assert "not compared yet" in capsys.readouterr().out


def run(folder: Any, epochs: int, ckpt_path: Any = None, **options: Any) -> tuple[Any, Any, Any]:
    audited, keep = quick(**options), AuditCheckpoint(Tolerant(LEAKAGE))
    loop = trainer(audited, keep, folder=folder, max_epochs=epochs, enable_checkpointing=True)
    loop.fit(task(), loader(8, train=True), loader(6), ckpt_path=ckpt_path, weights_only=True)
    return audited, keep, loop


def test_a_resumed_run_keeps_its_panel_and_another_panel_starts_again(tmp_path, recwarn):
    before, keep, _ = run(tmp_path / "one", 2)
    again, kept, _ = run(tmp_path / "two", 3, keep.last_model_path)
    assert again.panel.state_dict().__repr__() == before.panel.state_dict().__repr__()
    assert again.series.audits == [0, 1, 2]
    assert [one.epoch for one in kept.candidates] == [0, 1, 2]
    assert not [one for one in recwarn if "new series starts" in str(one.message)]

    with pytest.warns(UserWarning, match=r"another panel \(seed 1.*\) than the checkpoint has \(seed 0.*new series starts"):
        other, kept, _ = run(tmp_path / "three", 3, keep.last_model_path, seed=1)
    assert other.series.audits == [2]
    assert [one.epoch for one in kept.candidates] == [2]


def test_the_audits_of_an_older_protocol_are_left_out():
    audited = quick()
    with pytest.warns(UserWarning, match="older rules .*a new series starts"):
        audited.load_state_dict({"epochs": [{"epoch": 0.0, LEAKAGE: 0.1}]})
    assert audited.epochs == []


class Jittered(Squares):
    """Its transforms draw from a generator of their own."""

    def __init__(self, own: bool) -> None:
        super().__init__(6)
        self.draw = torch.Generator().manual_seed(0) if own else None

    def __getitem__(self, index: int) -> dict[str, Any]:
        item = super().__getitem__(index)
        return item | {"image": item["image"] + 0.1 * torch.randn(1, generator=self.draw)}


def test_random_transforms_of_global_generators_are_the_same_at_every_audit(recwarn):
    watch = Watch()
    model = task(optimizer=still)
    model.network.eval()
    trainer(quick(), watch, max_epochs=3).fit(model, loader(4), DataLoader(Jittered(False), batch_size=3))
    assert not [one for one in recwarn if "another one each time" in str(one.message)]
    confidence = [[row["confidence"] for row in rows] for rows in watch.rows]
    assert confidence[1] == pytest.approx(confidence[2], abs=1e-2)  # batch norm's statistics move a little


def test_random_transforms_that_cannot_be_held_are_told_of():
    with pytest.warns(UserWarning, match="is another one each time that it is read"):
        trainer(quick()).fit(task(), loader(4), DataLoader(Jittered(True), batch_size=3))


def test_early_stopping_that_would_stop_at_nan_is_told_of():
    with pytest.warns(UserWarning, match=r"ends the training at NaN: give it check_finite=False"):
        trainer(quick(), EarlyStopping(LEAKAGE)).fit(task(), loader(4), loader(4))


def test_masks_without_a_region_that_is_large_enough():
    with pytest.warns(UserWarning, match=r"no class that may be a target covers 99.0% of any validation mask"):
        trainer(quick(selector=TargetSelector(min_area=0.99))).fit(task(), loader(4), loader(4))


def test_the_logged_mean_is_adjusted_and_an_epoch_with_few_targets_is_nan():
    nan = float("nan")
    leakage = [[0.1, 0.2, 0.3, 0.4, 0.9], [0.2, 0.3, 0.4, 0.5, nan], [0.1, 0.1, nan, nan, nan]]
    audited = Scripted(leakage)
    trainer(audited, max_epochs=3).fit(known([0.5] * 3), loader(4, train=True), loader(4))
    means, share = audited.series.means("saliency/off_target_leakage")
    assert means[:2].tolist() == pytest.approx([0.38, 0.48])
    assert means[2] != means[2]
    assert share.tolist() == pytest.approx([1.0, 0.8, 0.4])
