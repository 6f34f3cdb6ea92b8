"""The program, run in this process (imports take seconds) and once as users run it."""

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from _processes import run as run_apart
from _processes import unread
from lightning.pytorch import Callback, LightningDataModule
from torch import Tensor, nn
from torch.utils.data import DataLoader

from segaudit.attribution.catalogue import catalogue
from segaudit.cli import main
from segaudit.metrics.catalogue import catalogue as score_catalogue
from segaudit.training.task import SegmentationTask

ROOT = Path(__file__).parents[2]


class TinyNetwork(nn.Module):
    def __init__(self, classes: int = 2) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class TinyData(LightningDataModule):
    def __init__(self, root: str = "nowhere", size: int = 8) -> None:
        super().__init__()
        if root == "missing":
            raise ValueError("the folder 'missing' holds no images.")
        self.root, self.size, self.class_names = root, size, ["low", "high"]

    def loader(self) -> Any:
        images = torch.randn(4, 3, self.size, self.size, generator=torch.Generator().manual_seed(0))
        rows = [{"image": x, "mask": (x[0] > 0).long(), "id": f"x{i}"} for i, x in enumerate(images)]
        return DataLoader(rows, batch_size=2)

    train_dataloader = val_dataloader = test_dataloader = predict_dataloader = loader


class Spy(Callback):
    """Hands what the program built to the test."""

    seen: Any = None

    def __init__(self, stop: bool = False) -> None:
        self.stop = stop

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        type(self).seen = trainer
        if self.stop:
            raise FileNotFoundError("no such file: pixels.png")


HERE = __name__  # what the program imports by name is this very module
TINY = {
    "trainer": {
        "accelerator": "cpu", "max_epochs": 2, "enable_progress_bar": False, "enable_model_summary": False,
        "callbacks": [{"class_path": f"{HERE}.Spy"}],
    },
    "model": {"class_path": "SegmentationTask", "init_args": {"network": {"class_path": f"{HERE}.TinyNetwork"}}},
    "data": {"class_path": f"{HERE}.TinyData"},
}  # fmt: skip


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Run in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["segaudit"])
    monkeypatch.delenv("SEGAUDIT_TRACEBACK", raising=False)
    Path("tiny.yaml").write_text(yaml.safe_dump(TINY))
    return tmp_path


def run(*args: str) -> Any:
    assert main(list(args)) is None
    return Spy.seen


def metrics(folder: Path) -> list[str]:
    return (folder / "metrics.csv").read_text().splitlines()


def test_a_saved_configuration_runs_again_as_it_is():
    run("fit", "--config=tiny.yaml", "--model.network.classes=2", "--data.root=here", "--data.size=6")
    first, second = Path("runs/version_0"), Path("runs/version_1")
    saved = yaml.safe_load((first / "config.yaml").read_text())
    assert saved["seed_everything"] == 0
    assert saved["model"]["class_path"] == "segaudit.SegmentationTask"
    assert saved["data"]["init_args"] == {"root": "here", "size": 6}
    assert len(list((first / "checkpoints").iterdir())) == 1

    trainer = run("fit", "--config", str(first / "config.yaml"))
    assert trainer.datamodule.root == "here"
    assert yaml.safe_load((second / "config.yaml").read_text()) == saved
    assert metrics(first) == metrics(second)  # seeded: the same numbers


def test_every_verb():
    run("fit", "--config=tiny.yaml")
    (checkpoint,) = Path("runs/version_0/checkpoints").iterdir()
    scores = {}
    for verb in ("validate", "test", "predict"):
        trainer = run(verb, "--config=runs/version_0/config.yaml", f"--ckpt_path={checkpoint}", "--weights_only=true")
        scores[verb] = dict(trainer.callback_metrics)
    assert scores["validate"]["val/iou"] == scores["test"]["test/iou"]


def test_optimizer_scheduler_loss_and_loggers_by_class_path():
    config = yaml.safe_load(Path("tiny.yaml").read_text())
    config["model"]["init_args"] |= {
        "loss": {
            "class_path": "segmentation_models_pytorch.losses.DiceLoss",
            "init_args": {"mode": "multiclass", "ignore_index": 255},
        },
        "optimizer": {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.5, "momentum": 0.9}},
        "lr_scheduler": {"class_path": "torch.optim.lr_scheduler.StepLR", "init_args": {"step_size": 1, "gamma": 0.5}},
    }
    config["trainer"]["logger"] = [
        {"class_path": "lightning.pytorch.loggers.CSVLogger", "init_args": {"save_dir": "logs", "name": "a"}}
    ]
    Path("all.yaml").write_text(yaml.safe_dump(config))
    trainer = run("fit", "--config=all.yaml")
    (group,) = trainer.optimizers[0].param_groups
    assert isinstance(trainer.optimizers[0], torch.optim.SGD)
    assert (group["initial_lr"], group["lr"], group["momentum"]) == (0.5, 0.125, 0.9)
    assert type(trainer.lightning_module.loss).__name__ == "DiceLoss"
    assert Path("logs/a/version_0/config.yaml").exists()
    assert not Path("runs").exists()


def test_an_audit_with_several_fills_other_perturbations_and_all_scores():
    config = yaml.safe_load(Path("tiny.yaml").read_text())
    constant = {"class_path": "ConstantFill", "init_args": {"value": 2.0}}
    scores = [
        "comprehensiveness", "sufficiency", "monotonicity", "irof", "road", "infidelity", "faithfulness_correlation",
        "sensitivity_n", "randomisation", "randomisation_full", "stability",
    ]  # fmt: skip
    audit = {
        "explainers": ["saliency"],
        "metrics": scores,
        "intervention": {
            "fill": [constant, {"class_path": "segaudit.intervention.NoisyLinearFill"}],
            "regions": {"class_path": "GridRegions", "init_args": {"counts": [9]}},
            "steps": 6,
        },
        "perturbations": [{"class_path": "Shift", "init_args": {"pixels": 1}}, {"class_path": "JPEG"}],
    }
    config["trainer"] |= {"callbacks": [{"class_path": "AttributionAudit", "init_args": audit}], "max_epochs": 1}
    config["trainer"]["callbacks"] += TINY["trainer"]["callbacks"]
    Path("all.yaml").write_text(yaml.safe_dump(config))
    trainer = run("fit", "--config=all.yaml")
    (callback,) = (c for c in trainer.callbacks if type(c).__name__ == "AttributionAudit")
    assert [type(fill).__name__ for fill in callback.auditor.intervention.fills] == ["ConstantFill", "NoisyLinearFill"]
    assert {f"audit/saliency/{score}" for score in scores} <= set(trainer.callback_metrics)


SMP, TORCHVISION = "segmentation_models_pytorch", "torchvision.models.segmentation"


@pytest.mark.parametrize(
    "network",
    [
        {"class_path": "Unet", "init_args": {"encoder_name": "resnet18", "encoder_weights": None, "classes": 2}},
        {"class_path": f"{SMP}.Unet", "init_args": {"encoder_name": "resnet18", "encoder_weights": None, "classes": 2}},
        {
            "class_path": f"{TORCHVISION}.lraspp_mobilenet_v3_large",
            "init_args": {"weights": None, "weights_backbone": None, "num_classes": 2},
        },
        {
            "class_path": f"{TORCHVISION}.deeplabv3_resnet50",
            "init_args": {"weights": None, "weights_backbone": None, "num_classes": 2},
        },
        {"class_path": "torch.nn.Conv2d", "init_args": {"in_channels": 3, "out_channels": 2, "kernel_size": 1}},
    ],
    ids=["short name", "smp", "lraspp", "deeplab", "conv"],
)
def test_networks_by_class_path(network):
    config = yaml.safe_load(Path("tiny.yaml").read_text())
    config["model"]["init_args"]["network"] = network
    Path("network.yaml").write_text(yaml.safe_dump(config))
    trainer = run("validate", "--config=network.yaml", "--data.size=64", "--trainer.limit_val_batches=1")
    name = network["class_path"].rsplit(".", 1)[-1]
    expected = {"lraspp_mobilenet_v3_large": "LRASPP", "deeplabv3_resnet50": "DeepLabV3"}.get(name, name)
    assert isinstance(trainer.lightning_module, SegmentationTask)
    assert type(trainer.lightning_module.network).__name__ == expected
    assert "val/iou" in trainer.callback_metrics
    # What was saved builds the same network again.
    again = run("validate", "--config=runs/version_0/config.yaml", "--trainer.limit_val_batches=1")
    assert again.callback_metrics["val/iou"] == trainer.callback_metrics["val/iou"]


@pytest.mark.parametrize(
    ("args", "ours", "sentence"),
    [
        (["--model.network.classes=5"], True, "segaudit: the network's output has 5 channel(s), but there are 2 class"),
        (["--data.root=missing"], True, "segaudit: the folder 'missing' holds no images."),
        (["--trainer.callbacks.stop=true"], True, "segaudit: no such file: pixels.png"),
        (["--ckpt_path=no.ckpt"], True, "no.ckpt"),
        (["--trainer.devices=0"], True, "segaudit: "),
        (["--trainer.epochs=3"], False, "--trainer.epochs"),
        (["--model.network.clases=5"], False, "clases"),
        (["--data=Nowhere"], False, "Nowhere"),
    ],
)  # fmt: skip
def test_bad_input_is_told_in_one_sentence(args, ours, sentence, capsys):
    with pytest.raises(SystemExit) as info:
        run("validate", "--config=tiny.yaml", *args)
    assert info.value.code == 2
    told = capsys.readouterr().err
    assert sentence in told
    if ours:
        *_, last, hint = told.strip().split("\n")
        assert last.startswith("segaudit: ")
        assert sentence in last
        assert "SEGAUDIT_TRACEBACK=1" in hint


def test_traceback_on_request(monkeypatch):
    monkeypatch.setenv("SEGAUDIT_TRACEBACK", "1")
    with pytest.raises(ValueError, match=r"5 channel"):
        run("validate", "--config=tiny.yaml", "--model.network.classes=5")


def test_a_bug_in_a_library_keeps_its_traceback(monkeypatch):
    monkeypatch.setattr(TinyNetwork, "forward", lambda self, x: nn.functional.interpolate(x, size=3, scale_factor=2))
    with pytest.raises(ValueError, match="size"):
        run("validate", "--config=tiny.yaml")


def program(*args: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "src.cli", *args], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )


def test_explainers_are_listed_a_line_each(capsys):
    main(["explainers"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(catalogue()) + 2
    for entry, line in zip(catalogue(), lines[1:-1], strict=True):
        assert line.split()[0] == entry.name
        assert line.endswith(entry.summary)
    main(["explainers", "dea", "saliency"])
    out = capsys.readouterr().out
    assert "class_path: DEA" in out
    assert "class_path: Saliency" in out
    with pytest.raises(SystemExit) as info:
        main(["explainers", "nix"])
    assert info.value.code == 2
    assert "segaudit: there is no explainer 'nix'. Known: " in capsys.readouterr().err


def test_a_reader_that_has_enough_is_no_error(tmp_path):
    assert run_apart(unread, main, ["scores"], log=tmp_path / "printed") == ""


def test_a_terminal_that_knows_ascii_alone(tmp_path, monkeypatch):
    for run in ("\u00e9", "\u00fc"):
        rows = [
            {"epoch": 0, "sample_id": f"i{n}", "class_index": 0, "explainer": "dea", "deletion_auc": n / 9, "reason": ""}
            for n in range(6)
        ]
        (tmp_path / run / "audit").mkdir(parents=True)
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / run / "audit" / "epoch=000-step=000001.parquet")
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    main(["compare", *map(str, tmp_path.glob("?"))])
    main(["scores", "stability_retention"])
    shown = sys.stdout.buffer.getvalue().decode("ascii")
    assert "deletion_auc" in shown
    assert "\\xe9" in shown or "\\xfc" in shown, shown  # which of them is the first


def test_scores_are_listed_a_line_each(capsys):
    main(["scores"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(score_catalogue()) + 2
    for entry, line in zip(score_catalogue(), lines[1:-1], strict=True):
        assert line.split()[:3] == [entry.name, entry.family, entry.better]
        assert line.endswith(entry.summary)
        assert f" {entry.range} " in line
    main(["scores", "road", "seconds"])
    out = capsys.readouterr().out
    assert "class_path: ROAD\nbetter: high\nrange: -10 to 10\n\nCompute half of how much more" in out
    assert "class_path: Seconds\nbetter: low\nrange: from 0\n\nAverage wall-clock seconds" in out
    with pytest.raises(SystemExit) as info:
        main(["scores", "nix"])
    assert info.value.code == 2
    assert "segaudit: there is no score 'nix'. Known: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["report", "nowhere"], "there is no folder nowhere"),
        (["report", "."], "holds no run"),
        (["compare", "nowhere"], "at least two runs"),
        (["compare", ".", "nowhere"], "holds no records of an audit"),
    ],
)
def test_reports_on_what_is_not_there(words, sentence, capsys):
    with pytest.raises(SystemExit) as info:
        main(words)
    assert info.value.code == 2
    assert f"{sentence}" in capsys.readouterr().err


def test_print_config_as_users_run_it():
    done = program(
        "fit", "--model=SegmentationTask", "--model.network=Unet", "--model.network.encoder_name=resnet18",
        "--model.network.classes=4", "--data=ShortcutScenes", "--trainer.max_epochs=3", "--print_config",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    config = yaml.safe_load(done.stdout)
    assert config["trainer"]["max_epochs"] == 3
    assert config["model"]["init_args"]["network"]["init_args"]["encoder_name"] == "resnet18"
    assert config["model"]["init_args"]["optimizer"]["class_path"] == "torch.optim.AdamW"
    assert config["data"]["class_path"].startswith("segaudit.data.")


def test_help_lists_the_trainers_arguments(capsys):
    with pytest.raises(SystemExit) as info:
        run("fit", "--help")
    assert info.value.code == 0
    out = capsys.readouterr().out
    for name in ("--trainer.max_epochs", "--trainer.logger", "--trainer.default_root_dir", "--trainer.callbacks"):
        assert name in out
