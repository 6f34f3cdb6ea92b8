"""Every file in configs/ runs, in a small form, and so does the configuration that a run saves."""

import csv
import json
import os
import sys
from functools import wraps
from pathlib import Path
from typing import Any

import pytest
import yaml
from _command_line import only
from _voc import write_sbd, write_voc
from lightning.pytorch import Trainer
from lightning.pytorch.cli import SaveConfigCallback

from segaudit.cli import main
from segaudit.names import snake_case

ROOT = Path(__file__).parents[2]
#: The sweep is for W&B, not for the program: test_sweep.py runs it.
CONFIGS = sorted(path for path in (ROOT / "configs").glob("*.yaml") if path.name != "sweep.yaml")
CONFIGS += sorted((ROOT / "configs" / "models").glob("*.yaml"))
BENCHMARKS = sorted((ROOT / "configs" / "benchmark").glob("*.yaml"))
DATA = Path(os.environ.get("SEGAUDIT_DATA") or ROOT.parent / "shared" / "data")

#: How each configuration's data are made small; under "root", the folder in DATA that stands in for the user's.
SMALL_DATA: dict[str, dict[str, Any]] = {
    "quickstart.yaml": {"size": 32, "train_images": 4, "val_images": 2, "test_images": 2, "batch_size": 2},
    "explainers.yaml": {"size": 32, "train_images": 4, "val_images": 2, "test_images": 2, "batch_size": 2},
    "right_reasons.yaml": {"size": 32, "train_images": 4, "val_images": 2, "test_images": 2, "batch_size": 2},
    "attention.yaml": {"size": 32, "train_images": 4, "val_images": 2, "test_images": 2, "batch_size": 2},
    "selection.yaml": {"size": 32, "train_images": 4, "val_images": 2, "test_images": 2, "batch_size": 2},
    "camvid.yaml": {"root": "camvid", "image_size": [32, 64], "batch_size": 2},
    "smp.yaml": {"size": 32, "train_images": 4, "val_images": 2, "test_images": 2, "batch_size": 2},
    "torchvision.yaml": {"size": 32, "train_images": 4, "val_images": 2, "test_images": 2, "batch_size": 2},
    "hugging_face.yaml": {"size": 32, "train_images": 4, "val_images": 2, "test_images": 2, "batch_size": 2},
    "monai.yaml": {"size": 32, "train_images": 4, "val_images": 2, "test_images": 2, "batch_size": 2},
    "monai_3d.yaml": {"size": 16, "depth": 8, "train_images": 4, "val_images": 2, "test_images": 2, "batch_size": 2},
}
#: Arguments of explainers that say how much they do.
FEW = {"channels": 2, "masks": 8, "samples": 12, "steps": 2}
#: What a configuration needs beside segaudit, and the extra that has it.
EXTRAS = {
    "hugging_face.yaml": ("transformers", "hugging-face"),
    "monai.yaml": ("monai", "monai"),
    "monai_3d.yaml": ("monai", "monai"),
}


def do_less(explainers: list[Any]) -> None:
    for explainer in explainers:
        if isinstance(explainer, dict):
            arguments = explainer.get("init_args", {})
            arguments |= {name: FEW[name] for name in FEW.keys() & arguments.keys()}


def small_benchmark(path: Path, folder: Path) -> dict[str, Any]:
    """The benchmark with less to do; every line of the file still has to be right."""
    config: dict[str, Any] = yaml.safe_load(path.read_text())
    config |= {"accelerator": "cpu", "max_images": 1, "batch_size": 1, "folder": str(folder)}
    arguments = config.setdefault("intervention", {"class_path": "segaudit.Intervention"}).setdefault("init_args", {})
    arguments["steps"] = 2
    arguments.setdefault("regions", {"class_path": "SuperpixelRegions"}).setdefault("init_args", {})["counts"] = [4]
    config["perturbations"] = [{"class_path": "segaudit.intervention.GaussianNoise"}]
    do_less(config["explainers"])
    for network in config["networks"].values():
        if network.get("epochs"):
            network["epochs"] = 1
        if "weights" in network["network"].get("init_args", {}):  # which cannot be downloaded in a test
            network["network"]["init_args"] |= {"weights": None, "weights_backbone": None, "num_classes": 21}
    return config


def small(path: Path) -> dict[str, Any]:
    """The configuration with less to do; nothing is left out, so that every line of the file still has to be right."""
    config: dict[str, Any] = yaml.safe_load(path.read_text())
    if path.name not in SMALL_DATA:
        pytest.fail(f"configs/{path.name} is run by no test: say in SMALL_DATA ({Path(__file__).name}) how its data shrink.")
    if path.name in EXTRAS:
        package, extra = EXTRAS[path.name]
        pytest.importorskip(package, reason=f"{package} is not installed: pip install 'segaudit[{extra}]'")
    data = dict(SMALL_DATA[path.name])
    if "root" in data:
        folder = DATA / data["root"]
        if not folder.is_dir():
            pytest.skip(f"{folder} is missing: real data, which the project doesn't contain (set SEGAUDIT_DATA)")
        data["root"] = str(folder)
    config["data"].setdefault("init_args", {}).update(data)
    config["trainer"] |= {
        "accelerator": "cpu", "max_epochs": 1, "limit_train_batches": 1, "limit_val_batches": 1, "limit_test_batches": 1,
        "log_every_n_steps": 1, "enable_progress_bar": False, "enable_model_summary": False,
    }  # fmt: skip
    for callback in config["trainer"].get("callbacks", []):
        if callback["class_path"].endswith("AttributionAudit"):
            options = callback.setdefault("init_args", {})
            options |= {"every_n_epochs": 1, "max_images": 1, "panels": 1}
            selector = options.setdefault("selector", {"class_path": "segaudit.TargetSelector"})
            selector.setdefault("init_args", {})["max_per_image"] = 1
            do_less(options.get("explainers", []))
            intervention = options.setdefault("intervention", {"class_path": "segaudit.Intervention"})
            intervention = intervention.setdefault("init_args", {})
            intervention["steps"] = 2
            regions = intervention.setdefault("regions", {"class_path": "SuperpixelRegions"})
            regions.setdefault("init_args", {})["counts"] = [4]
    return config


def run(*args: str) -> None:
    assert main(list(args)) is None


def scored(folder: Path) -> dict[str, str]:
    """The last validated epoch's line of metrics.csv, without what a clock gives."""
    with open(folder / "metrics.csv", newline="") as file:
        last = [line for line in csv.DictReader(file) if line["val/iou"]][-1]
    return {name: value for name, value in last.items() if "seconds" not in name}


def built(path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The configuration that a run with this file would save, when all that it names has been built."""
    found = []

    @wraps(Trainer.fit)  # whose arguments are options of the verb
    def fit(trainer: Trainer, *_: Any, **__: Any) -> None:
        (save,) = (one for one in trainer.callbacks if isinstance(one, SaveConfigCallback))
        found.append(yaml.safe_load(save.parser.dump(save.config, skip_none=False)))

    monkeypatch.setattr(Trainer, "fit", fit)
    run("fit", f"--config={path}")
    (config,) = found
    return config


def test_there_are_configurations():
    assert {path.name for path in CONFIGS} >= {"quickstart.yaml"}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_configuration_runs(path, own_folder, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["segaudit"])
    only(monkeypatch, "fit")
    config = small(path)
    Path("small.yaml").write_text(yaml.safe_dump(config))
    run("fit", "--config=small.yaml")
    (first,) = own_folder.glob(f"{config['trainer']['default_root_dir']}/version_0")
    assert {"config.yaml", "metrics.csv", "checkpoints"} <= {entry.name for entry in first.iterdir()}
    assert list(first.glob("checkpoints/*.ckpt"))
    if any(one["class_path"].endswith("AttributionAudit") for one in config["trainer"].get("callbacks", [])):
        assert float(scored(first)["audit/images"]) == 1
        assert sorted(entry.suffix for entry in first.glob("audit/*")) == [".csv", ".parquet", ".png"]

    # What was saved says all that was resolved, and is understood as it is. One run stands for all: equal configurations
    # are equal runs.
    saved = first / "config.yaml"
    if path.stem == "quickstart":
        run("fit", f"--config={saved}")
        second = first.with_name("version_1")
        assert scored(second) == scored(first)
        assert yaml.safe_load((second / "config.yaml").read_text()) == yaml.safe_load(saved.read_text())
    else:
        assert built(saved, monkeypatch) == yaml.safe_load(saved.read_text())


def run_benchmark(config: dict[str, Any]) -> dict[str, Any]:
    """What is in the summary; the benchmark goes through all of its scores for every network and data set."""
    Path("small.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    run("benchmark", "--config=small.yaml")
    folder = Path(config["folder"])
    assert {"results.parquet", "tables.md", "tables.tex", "tables.csv", "report.html"} <= {
        one.name for one in folder.iterdir()
    }
    summary: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    assert [(part["network"], part["data"]) for part in summary["parts"]] == [
        (network, data) for data in config["data"] for network in config["networks"]
    ]
    explainers = [one if isinstance(one, str) else snake_case(one["class_path"]) for one in config["explainers"]]
    for part in summary["parts"]:
        if part["targets"]:
            assert list(dict.fromkeys(row["explainer"] for row in part["scores"])) == explainers
            assert {row["score"] for row in part["scores"]} == set(config["metrics"])
    return summary


def test_the_quick_benchmark_runs(own_folder):
    config = small_benchmark(ROOT / "configs/benchmark/quick.yaml", own_folder / "out")
    config["data"]["planted"]["init_args"] |= {"size": 32, "train_images": 4, "val_images": 2, "batch_size": 2}
    run_benchmark(config)


def test_the_camvid_benchmark_runs(own_folder):
    if not (DATA / "camvid").is_dir():
        pytest.skip(f"{DATA / 'camvid'} is missing: real data, which the project doesn't contain (set SEGAUDIT_DATA)")
    config = small_benchmark(ROOT / "configs/benchmark/camvid.yaml", own_folder / "out")
    root = shortened(DATA / "camvid", own_folder / "camvid", images=4)
    config["data"]["camvid"]["init_args"] |= {"root": str(root), "image_size": [32, 64], "batch_size": 2}
    run_benchmark(config)


@pytest.mark.parametrize("part", ["networks", "explainers"])
def test_the_paper_s_benchmark_runs_but_for_the_downloads(own_folder, part):
    """All networks with some explainers, and one network with all; real images for the latter where they are there."""
    real = DATA / "voc3"
    voc = real if part == "explainers" and real.is_dir() else write_voc(own_folder / "voc")
    config = small_benchmark(ROOT / "configs/benchmark/paper.yaml", own_folder / "out")
    config["data"]["voc2012"]["init_args"] |= {"root": str(voc), "image_size": [32, 32], "download": False}
    config["data"]["sbd"]["init_args"] |= {
        "root": str(write_sbd(own_folder / "sbd")),
        "image_size": [48, 64],
        "download": False,
    }
    if part == "networks":  # what a network can spoil is its layers and their gradients
        config["explainers"] = ["saliency", "seg_grad_cam"]
    else:
        config["networks"] = {"lraspp": config["networks"]["lraspp_mobilenet_v3_large"]}
    summary = run_benchmark(config)
    assert all(part["images"] == 1 for part in summary["parts"])


def shortened(root: Path, folder: Path, images: int) -> Path:
    """A folder data set with fewer images, as links."""
    folder.mkdir()
    (folder / "classes.txt").symlink_to((root / "classes.txt").resolve())
    for split in ("train", "val"):
        for kind in ("images", "masks"):
            (folder / split / kind).mkdir(parents=True)
            for file in sorted((root / split / kind).iterdir())[:images]:
                (folder / split / kind / file.name).symlink_to(file.resolve())
    return folder


def test_every_benchmark_is_run_here():
    assert {path.name for path in BENCHMARKS} == {"quick.yaml", "camvid.yaml", "paper.yaml"}
