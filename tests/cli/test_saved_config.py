"""The configuration that one verb has saved can be given to every other."""

from pathlib import Path

import pytest
import yaml

from segaudit.cli import main

CONFIG = """
trainer:
  accelerator: cpu
  max_epochs: 1
  enable_progress_bar: false
  enable_model_summary: false
  default_root_dir: runs
  callbacks:
    - class_path: AttributionAudit
      init_args: {explainers: [saliency], metrics: [off_target_leakage]}
model:
  class_path: SegmentationTask
  init_args: {network: {class_path: torch.nn.Conv2d, init_args: {in_channels: 3, out_channels: 4, kernel_size: 1}}}
data:
  class_path: ShortcutScenes
  init_args: {size: 32, train_images: 4, val_images: 2, test_images: 2, batch_size: 2}
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folders of a fit and of an audit of its checkpoint, each with the configuration that it saved."""
    folder = tmp_path_factory.mktemp("saved")
    (folder / "config.yaml").write_text(CONFIG)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        main(["fit", "--config", "config.yaml"])
        fit = folder / "runs" / "version_0"
        (checkpoint,) = fit.glob("checkpoints/*.ckpt")
        main(["audit", "--config", str(fit / "config.yaml"), "--ckpt_path", str(checkpoint), "--max_images", "1"])
    return {"fit": fit, "audit": folder / "runs" / "version_1", "checkpoint": checkpoint}


def test_an_audit_takes_that_of_a_fit(runs: dict[str, Path]) -> None:
    assert "weights_only" in yaml.safe_load((runs["fit"] / "config.yaml").read_text())  # which `audit` does not have
    assert (runs["audit"] / "audit" / "summary.json").is_file()


@pytest.mark.parametrize("verb", ["fit", "validate", "test", "predict"])
def test_every_verb_takes_that_of_an_audit(runs: dict[str, Path], verb: str, tmp_path: Path) -> None:
    saved = runs["audit"] / "config.yaml"
    assert yaml.safe_load(saved.read_text())["max_images"] == 1  # which only `audit` has
    main([verb, "--config", str(saved), "--ckpt_path", "null", "--trainer.default_root_dir", str(tmp_path)])
    assert (tmp_path / "version_0").is_dir()


def test_an_option_that_no_verb_has_is_still_refused(
    runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = yaml.safe_load((runs["fit"] / "config.yaml").read_text()) | {"max_image": 3}
    (tmp_path / "wrong.yaml").write_text(yaml.safe_dump(wrong))
    with pytest.raises(SystemExit) as info:
        main(["audit", "--config", str(tmp_path / "wrong.yaml")])
    assert info.value.code == 2
    assert "there is no option 'max_image'" in capsys.readouterr().err
