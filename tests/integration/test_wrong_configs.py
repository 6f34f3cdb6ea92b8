# ruff: noqa: E501 -- a table, a line each
"""Wrong configurations: each shipped file with one thing broken ends in one sentence that names it, and the status 2."""

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from _command_line import only

from segaudit.cli import main

CONFIGS = Path(__file__).parents[2] / "configs"
GONE = object()
AUDIT = "trainer.callbacks.0.init_args"
NETWORK = "model.init_args.network"

#: File, what is changed in it, to what, and what the sentence must say.
MUTATIONS: list[tuple[str, str, Any, str]] = [
    # what is missing
    ("quickstart", "model", GONE, "model is missing"),
    ("quickstart", "data", GONE, "data is missing"),
    ("quickstart", NETWORK, GONE, "SegmentationTask: network is missing"),
    # keys that do not exist
    ("quickstart", "traner", {"max_epochs": 3}, "'traner.max_epochs'"),
    ("quickstart", "trainer.max_epoch", 3, "no option 'trainer.max_epoch'"),
    ("quickstart", f"{AUDIT}.max_image", 3, "no option 'max_image'. Did you mean 'max_images'?"),
    ("quickstart", f"{AUDIT}.explainers.1.init_args", {"step": 8}, "no option 'step'. Did you mean 'steps'?"),
    ("quickstart", f"{NETWORK}.init_args.encoder_nam", "resnet18", "no option 'encoder_nam'. Did you mean 'encoder_name'?"),
    ("quickstart", "data.init_args.shortcuts", 1.0, "ShortcutScenes: there is no option 'shortcuts'. Did you mean 'shortcut'?"),
    ("selection", "trainer.callbacks.1.init_args.rules", "Tolerant", "no option 'rules'. Did you mean 'rule'?"),
    # types
    ("quickstart", "trainer.max_epochs", "many", "trainer.max_epochs: expected int, got 'many'"),
    ("quickstart", f"{AUDIT}.max_images", "all", "max_images: expected int, got 'all'"),
    ("quickstart", f"{AUDIT}.explainers.1.init_args", {"steps": "eight"}, "steps: expected int, got 'eight'"),
    ("quickstart", f"{AUDIT}.selector.init_args", {"region": "everything"}, "region: expected one of 'predicted', 'ground_truth'"),
    ("quickstart", f"{AUDIT}.intervention.init_args.steps", 2.5, "steps: expected int, got '2.5'"),
    ("explainers", "data.init_args.batch_size", "two", "batch_size: expected int, got 'two'"),
    # classes and names
    ("quickstart", "trainer.callbacks.0.class_path", "AttributionAudits", "Did you mean 'AttributionAudit'?"),
    ("quickstart", f"{AUDIT}.explainers", ["saliencies"], "there is no Explainer 'saliencies'. Did you mean 'saliency'?"),
    ("quickstart", f"{AUDIT}.explainers.1.class_path", "IntegratedGradient", "Did you mean 'IntegratedGradients'?"),
    ("quickstart", f"{AUDIT}.metrics", ["deletion_au"], "there is no Metric 'deletion_au'. Did you mean 'deletion_auc'?"),
    ("quickstart", f"{AUDIT}.intervention.init_args.fill", "BlurryFill", "fill: there is no class 'BlurryFill'. Did you mean 'BlurFill'?"),
    ("quickstart", f"{AUDIT}.perturbations.0.class_path", "segaudit.intervention.GaussianNois", "Did you mean 'GaussianNoise'?"),
    ("quickstart", f"{NETWORK}.class_path", "segmentation_models_pytorch.UNet", "has no 'UNet'. Did you mean 'Unet'?"),
    ("quickstart", f"{NETWORK}.init_args.encoder_name", "resnet19", "Wrong encoder name `resnet19`"),
    ("quickstart", "model.init_args.loss.class_path", "DiseLoss", "loss: there is no class 'DiseLoss'"),
    ("selection", "model.init_args.optimizer.class_path", "torch.optim.AdamV", "optimizer: torch.optim has no 'AdamV'"),
    ("quickstart", "data.class_path", "ShortcutScene", "Did you mean 'ShortcutScenes'?"),
    ("camvid", "data.init_args.train_transforms.0.class_path", "albumentations.HorizontalFlop", "Did you mean 'HorizontalFlip'?"),
    ("selection", "trainer.callbacks.1.init_args.rule", "Tolerance", "there is no class 'Tolerance'. Did you mean 'Tolerant'?"),
    ("quickstart", "trainer.accelerator", "tpux", "`accelerator='tpux'`"),
    # values
    ("quickstart", f"{AUDIT}.explainers.1.init_args", {"steps": 0}, "steps must be at least 1, got 0"),
    ("quickstart", f"{AUDIT}.explainers", ["dea", "dea"], "dea appears more than once"),
    ("quickstart", f"{AUDIT}.explainers.2", {"class_path": "SegGradCAM", "init_args": {"layer": "no.where"}}, "no layer 'no.where'"),
    ("quickstart", f"{AUDIT}.metrics", [], "at least one explainer and one metric"),
    ("quickstart", f"{AUDIT}.time_budget", -1, "time_budget is a share of the epoch's training time above 0"),
    ("quickstart", f"{AUDIT}.max_images", 0, "max_images must be at least 1, got 0"),
    ("quickstart", f"{AUDIT}.every_n_epochs", 0, "every_n_epochs must be at least 1, got 0"),
    ("quickstart", f"{AUDIT}.selector.init_args", {"min_area": 2}, "min_area is a share of the image"),
    ("quickstart", f"{AUDIT}.selector.init_args", {"classes": [9]}, "classes [9] do not exist"),
    ("quickstart", f"{AUDIT}.intervention.init_args.max_batch", 0, "max_batch must be at least 1"),
    ("quickstart", f"{AUDIT}.intervention.init_args.regions.init_args.counts", [-3], "counts needs at least one scale"),
    ("quickstart", f"{NETWORK}.init_args.encoder_depth", 9, "depth should be in range [1, 5], got 9"),
    ("quickstart", f"{NETWORK}.init_args.classes", 3, "classes [3] do not exist: the model has the classes 0 to 2"),
    ("selection", "model.init_args.optimizer.init_args.lr", -1.0, "Invalid learning rate: -1.0"),
    ("quickstart", "data.init_args.shortcut", 1.5, "shortcut is 1.5, but it must lie in 0..1"),
    ("quickstart", "data.init_args.batch_size", 0, "batch_size should be a positive integer"),
    ("camvid", "data.init_args.train_transforms.0.init_args", {"p": 3}, "p: Input should be less than or equal to 1"),
    ("camvid", "data.init_args.root", "/no/where", "/no/where"),
    ("selection", "trainer.callbacks.1.init_args.rule", {"class_path": "Constrained"}, "Constrained needs a bound"),
    ("selection", "trainer.callbacks.1.init_args.save_top_k", 0, "save_top_k must be at least 1, or -1 for all"),
    # what does not fit together
    ("quickstart", "trainer.callbacks.1", {"class_path": "ModelCheckpoint", "init_args": {"monitor": "audit/dea/deletion"}}, "which is not audited. Did you mean 'audit/dea/deletion_auc'?"),
    ("selection", "trainer.callbacks.0", GONE, "no AttributionAudit is among the callbacks"),
    ("benchmark/quick", "max_images", -1, "max_images"),
    ("benchmark/quick", "explainers", ["saliencies"], "Did you mean 'saliency'?"),
    ("benchmark/quick", "networks", GONE, "networks is missing"),
]  # fmt: skip


def mutated(config: Any, path: str, value: Any) -> Any:
    """A copy in which the place has another value, or is gone."""
    config = copy.deepcopy(config)
    *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    place = config
    for part in parents:
        place = place[part]
    if value is GONE:
        del place[last]
    else:
        place[last] = value
    return config


@pytest.mark.parametrize(
    ("file", "path", "value", "says"), MUTATIONS, ids=[f"{file}-{path}-{i}" for i, (file, path, *_) in enumerate(MUTATIONS)]
)
def test_one_sentence_names_what_is_wrong(file, path, value, says, tmp_path, monkeypatch, capsys):
    config = yaml.safe_load((CONFIGS / f"{file}.yaml").read_text())
    if "trainer" in config:
        config["trainer"] |= {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "max_epochs": 1}
        config["trainer"]["default_root_dir"] = str(tmp_path)
    if config.get("data", {}).get("class_path") == "ShortcutScenes":
        config["data"]["init_args"] |= {"train_images": 8, "val_images": 4, "test_images": 4, "size": 32, "batch_size": 4}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(mutated(config, path, value)))
    monkeypatch.chdir(tmp_path)
    only(monkeypatch, "fit")
    verb = "benchmark" if file.startswith("benchmark") else "fit"
    with pytest.raises(SystemExit) as left:
        main([verb, "--config", "config.yaml"])
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("segaudit: ")]
    assert left.value.code == 2
    assert len(told) == 1
    assert says in told[0]
    assert len(told[0]) < 600
