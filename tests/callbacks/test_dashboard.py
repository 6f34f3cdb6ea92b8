"""What reaches W&B, TensorBoard and MLflow; an offline run of W&B is read back from its file."""

import json
from math import isnan, nan
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import wandb
from _wandb_file import OfflineRun, read_run
from integration.tiny import CLASSES, audit, loader, quick, task, trainer
from lightning.pytorch.loggers import Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from segaudit.auditor import DEFAULT_EXPLAINERS
from segaudit.callbacks import AttributionAudit
from segaudit.callbacks.dashboard import MOST_ROWS, View, define_directions, log_audit, log_epochs, tradeoff
from segaudit.callbacks.loggers import log_checkpoint

EPOCHS, DRAWN = 2, 3


def offline(folder: Path, **options: Any) -> WandbLogger:
    return WandbLogger(project="test", save_dir=folder, offline=True, **options)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> tuple[OfflineRun, AttributionAudit]:
    """A run with the default explainers and scores, beside TensorBoard, which is always there."""
    folder = tmp_path_factory.mktemp("run")
    audited = audit(panels=DRAWN)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_DATA_DIR", str(folder / "data"))
        patch.setenv("WANDB_CACHE_DIR", str(folder / "cache"))
        loop = trainer(audited, logger=offline(folder), folder=folder, max_epochs=EPOCHS)
        loop.fit(task(), loader(8, train=True), loader(6))
        wandb.finish()
    return read_run(folder), audited


def test_every_key_has_its_direction_before_anything_is_logged(fitted):
    run, audited = fitted
    expected = {"val/iou": "max", "val/loss": "min"}
    for explainer in DEFAULT_EXPLAINERS:
        for score, better in audited.auditor.directions.items():
            key = f"audit/{score}" if score in audited.auditor.shared else f"audit/{explainer}/{score}"
            expected[key] = {True: "max", False: "min", None: "last"}[better]
        expected[f"audit/{explainer}/unscored"] = "last"
    expected |= dict.fromkeys(("audit/images", "audit/targets", "audit/seconds"), "last")
    expected |= dict.fromkeys(("audit/lost", "audit/not_learnt"), "min")
    said = {}
    for key, metric in run.metrics.items():
        kept = {name for name in ("min", "max", "last") if getattr(metric.summary, name)}
        if kept:
            assert metric.step_metric == "trainer/global_step", key
            assert "last" in kept, key
            (said[key],) = kept - {"last"} or kept
    assert said == expected
    assert 0 < run.defined < run.first_log
    # All that was logged as a number is defined, but for what is no business of the audit.
    numbers = {key for row in run.history for key, value in row.items() if isinstance(value, int | float) and "." not in key}
    assert {key for key in numbers if key.startswith("audit/")} == {key for key in said if key.startswith("audit/")}
    for key in ("audit/dea/deletion_auc", "val/iou"):
        values, summary = run.logged(key), run.summary[key]
        assert len(values) == EPOCHS
        assert summary == {expected[key]: {"max": max, "min": min}[expected[key]](values), "last": values[-1]}


def test_masks_with_the_names_of_their_classes_lie_over_the_images(fitted):
    run, _ = fitted
    shown = run.logged("audit/overlays")
    assert [one["count"] for one in shown] == [DRAWN] * EPOCHS
    assert all(caption.startswith("square-") for one in shown for caption in one["captions"])
    for masks in shown[-1]["all_masks"]:
        assert set(masks) == {"prediction", "ground_truth"}
        for mask in masks.values():
            pixels = np.asarray(Image.open(run.folder / mask["path"]))
            assert pixels.shape == (16, 16)
            assert set(np.unique(pixels)) <= {0, 1, 2}
            assert pixels.any()
    labels = run.class_labels["audit/overlays", "prediction"]
    assert [labels[str(i)] for i in range(3)] == CLASSES


@pytest.mark.parametrize("explainer", DEFAULT_EXPLAINERS)
def test_every_explainer_has_a_panel(fitted, explainer):
    run, _ = fitted
    shown = run.logged(f"audit/panels/{explainer}")
    assert [one["count"] for one in shown] == [DRAWN] * EPOCHS
    for file in shown[-1]["filenames"]:
        pixels = np.asarray(Image.open(run.folder / file))
        assert pixels.shape == (128, 128, 3)
        assert len(np.unique(pixels)) > 10
    assert run.logged("audit/panels")[-1]["count"] == 1


def test_the_table_has_a_row_a_target_and_explainer_with_pictures_first(fitted):
    run, audited = fitted
    table = run.table("audit/target_scores")
    scores = list(audited.auditor.directions)
    assert table["columns"] == ["sample_id", "class", "explainer", "picture", *scores, "reason"]
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
    assert len(rows) == len(audited.records) == 8 * len(DEFAULT_EXPLAINERS)
    known = {(r["sample_id"], CLASSES[r["class_index"]], r["explainer"]): r for r in audited.records}
    for row in rows:
        record = known.pop((row["sample_id"], row["class"], row["explainer"]))
        assert row["reason"] == record["reason"]
        for score in scores:
            assert row[score] is None if isnan(record[score]) else row[score] == pytest.approx(record[score])
    assert not known
    drawn = [row["picture"] is not None for row in rows]
    assert drawn == sorted(drawn, reverse=True)
    assert sum(drawn) == DRAWN * len(DEFAULT_EXPLAINERS)
    (artifact, *_) = [one for one in run.artifacts if "target_scores" in one.name]
    assert sum(one.path.endswith(".png") for one in artifact.manifest.contents) >= DRAWN
    assert run.table("audit/scores")["columns"] == ["explainer", *scores]
    assert {row[0] for row in run.table("audit/scores")["data"]} == set(DEFAULT_EXPLAINERS)


@pytest.mark.parametrize("kind", ["deletion", "insertion"])
def test_curves_are_a_chart_from_the_image_to_what_the_fill_leaves(fitted, kind):
    run, _ = fitted
    chart = run.charts[f"audit/curves/{kind}"]
    assert chart["panelDefId"] == "wandb/lineseries/v0"
    table = run.table(f"audit/curves/{kind}_table")
    assert table["columns"] == ["step", "lineKey", "lineVal"]
    for explainer in DEFAULT_EXPLAINERS:
        x, y = zip(*[(x, y) for x, name, y in table["data"] if name == explainer], strict=True)
        assert (x[0], x[-1], len(x)) == (0.0, 1.0, 51)
        ends = (y[0], y[-1]) if kind == "deletion" else (y[-1], y[0])
        assert ends == pytest.approx((1.0, run.logged("audit/fill_residual")[-1]))
        assert np.trapezoid(y, x) == pytest.approx(run.logged(f"audit/{explainer}/{kind}_auc")[-1], abs=0.06)


def test_iou_and_faithfulness_of_all_epochs_are_a_chart(fitted):
    run, _ = fitted
    chart = run.charts["audit/pareto"]
    assert chart["panelDefId"] == "wandb/scatter/v0"
    assert chart["fieldSettings"] == {"x": "val/iou", "y": "faithfulness_gap"}
    table = run.table("audit/pareto_table")
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
    assert len(run.table("audit/pareto_table", 0)["data"]) == len(DEFAULT_EXPLAINERS)
    assert len(rows) == EPOCHS * len(DEFAULT_EXPLAINERS)
    for row in rows:
        assert row["val/iou"] == pytest.approx(run.logged("val/iou")[row["epoch"]])
        gap = run.logged(f"audit/{row['explainer']}/faithfulness_gap")[row["epoch"]]
        assert row["faithfulness_gap"] == pytest.approx(gap)


def test_the_front_is_what_no_epoch_beats():
    epochs = [
        {"epoch": 0.0, "val/iou": 0.5, "audit/dea/deletion_auc": 0.2},
        {"epoch": 1.0, "val/iou": 0.6, "audit/dea/deletion_auc": 0.3},
        {"epoch": 2.0, "val/iou": 0.5, "audit/dea/deletion_auc": 0.25},
        {"epoch": 3.0, "val/iou": 0.9, "audit/dea/deletion_auc": nan},
    ]
    score, rows = tradeoff("audit", epochs, ["dea"], {"audit/dea/deletion_auc": False})
    assert score == "deletion_auc"
    assert {row["epoch"]: row["front"] for row in rows} == {0: True, 1: True, 2: False}
    assert tradeoff("audit", epochs, ["dea"], {"audit/dea/sparseness": True}) == ("", [])


def test_a_nan_does_not_spoil_the_best_value(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "data"))
    logger, directions = offline(tmp_path, prefix="mine"), {"audit/dea/stability": True, "val/loss": False}
    define_directions([logger], directions)
    epochs = []
    for epoch, (up, down) in enumerate([(nan, 3.0), (0.7, 2.0), (0.4, 1.0)]):
        epochs.append({"epoch": epoch, "audit/dea/stability": up, "val/loss": down})
        logger.log_metrics({"audit/dea/stability": up, "val/loss": down}, epoch)
        log_epochs([logger], "audit", epoch, epochs, ["dea"], directions)
    wandb.finish()
    run = read_run(tmp_path)
    assert run.summary["mine-audit/dea/stability"] == {"max": 0.7, "last": 0.4}  # W&B alone would say NaN
    assert run.summary["mine-val/loss"] == {"min": 1.0, "last": 1.0}


def test_a_long_table_is_cut():
    records = [
        {"sample_id": str(i), "class_index": 1, "explainer": "dea", "stability": nan, "reason": "x"} for i in range(500)
    ]
    shown: dict[str, Any] = {}
    logger = MLflow(shown)
    log_audit([logger], View("audit", 3, CLASSES, ["dea"], ["stability"], {}, records, [], [], None))
    table = shown["audit/target_scores/step=000003.json"]
    assert len(table["sample_id"]) == MOST_ROWS
    assert table["class"][0] == "red"
    assert table["stability"][0] is None


class Client:
    """The methods of MlflowClient (3.17) that we call, with its signatures; notes what it is given."""

    def __init__(self, shown: dict[str, Any]) -> None:
        self.shown = shown

    def log_image(self, run_id, image, artifact_file=None, key=None, step=None, timestamp=None, synchronous=None):
        assert image.dtype == np.uint8
        self.shown.setdefault(key, []).append((step, image.shape))

    def log_table(self, run_id, data, artifact_file):
        self.shown[artifact_file] = json.loads(json.dumps(data))


class MLflow(MLFlowLogger):
    """Lightning's logger with another client; MLflow is no dependency of ours."""

    def __init__(self, shown: dict[str, Any]) -> None:
        Logger.__init__(self)
        self.client = Client(shown)

    experiment = property(lambda self: self.client)
    run_id = name = version = save_dir = "."

    def log_metrics(self, metrics, step=None): ...

    def log_hyperparams(self, params): ...

    def finalize(self, status="success"): ...


def pictures(explainers: Any) -> set[str]:
    return {"audit/panels", "audit/overlays", "audit/curves", "audit/pareto", *(f"audit/panels/{e}" for e in explainers)}


def test_mlflow_gets_the_same_pictures_and_tables():
    shown: dict[str, Any] = {}
    loop = trainer(audit(panels=2), logger=MLflow(shown), max_epochs=2)
    loop.fit(task(), loader(8, train=True), loader(6))
    assert {key for key in shown if "step=" not in key} == pictures(DEFAULT_EXPLAINERS)
    assert [step for step, _ in shown["audit/panels/dea"]] == [step for step, _ in shown["audit/pareto"]] == [2, 4]
    assert shown["audit/panels/dea"][0][1] == (128, 256, 3)
    table = shown["audit/target_scores/step=000004.json"]
    assert "picture" not in table
    assert len(table["sample_id"]) == 8 * len(DEFAULT_EXPLAINERS)
    assert set(shown["audit/scores/step=000002.json"]["explainer"]) == set(DEFAULT_EXPLAINERS)


def test_mlflow_itself_takes_them(tmp_path, monkeypatch):
    pytest.importorskip("mlflow", reason="MLflow is no dependency of ours")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    logger = MLFlowLogger(tracking_uri=f"sqlite:///{tmp_path}/mlflow.db", artifact_location=str(tmp_path / "files"))
    trainer(audit(panels=2), logger=logger).fit(task(), loader(8, train=True), loader(6))
    files = [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("artifacts/**/*") if path.is_file()]
    for key in pictures(DEFAULT_EXPLAINERS):
        assert any(f"artifacts/images/{key.replace('/', '~')}+step+2" in file for file in files), key
    assert any(file.endswith("artifacts/audit/target_scores/step=000002.json") for file in files)


def test_tensorboard_gets_the_same_pictures(tmp_path):
    logger = TensorBoardLogger(tmp_path, name="", version="")
    trainer(audit(panels=2), logger=logger, max_epochs=2).fit(task(), loader(8, train=True), loader(6))
    events = EventAccumulator(str(tmp_path), size_guidance={"images": 0}).Reload()
    assert set(events.Tags()["images"]) == pictures(DEFAULT_EXPLAINERS)
    for key in pictures(DEFAULT_EXPLAINERS):
        assert [one.step for one in events.Images(key)] == [2, 4]
    assert (events.Images("audit/panels/dea")[0].height, events.Images("audit/panels/dea")[0].width) == (128, 256)


def test_without_curves_or_pictures_there_is_the_rest():
    shown: dict[str, Any] = {}
    audited = quick(metrics=["off_target_leakage"], panels=0)
    trainer(audited, logger=MLflow(shown)).fit(task(), loader(8, train=True), loader(6))
    assert set(shown) == {"audit/scores/step=000002.json", "audit/target_scores/step=000002.json"}


def test_the_epochs_so_far_survive_a_resume(tmp_path):
    shown: dict[str, Any] = {}
    first, second = quick(), quick()
    loop = trainer(first, logger=MLflow(shown), max_epochs=2)
    loop.fit(task(), loader(8, train=True), loader(6))
    loop.save_checkpoint(tmp_path / "end.ckpt")
    loop = trainer(second, logger=MLflow(shown), max_epochs=3)
    loop.fit(task(), loader(8, train=True), loader(6), ckpt_path=tmp_path / "end.ckpt", weights_only=True)
    assert [row["epoch"] for row in second.epochs] == [0, 1, 2]
    assert second.epochs[:2] == first.epochs
    assert second.epochs[2]["val/iou"] == float(loop.callback_metrics["val/iou"])


@pytest.fixture
def checkpoint(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "data"))
    path = tmp_path / "epoch=1.ckpt"
    path.write_bytes(b"weights")
    return path


def test_a_checkpoint_is_an_artifact_with_the_audit_s_scores(tmp_path, checkpoint):
    logger, scores = offline(tmp_path), {"audit/dea/off_target_leakage": 0.25, "val/iou": 0.75, "epoch": 1}
    log_checkpoint([logger], str(checkpoint), scores, ["best"])  # nobody asked
    log_checkpoint([logger], str(checkpoint), scores, ["best"], always=True)
    log_checkpoint([logger], str(checkpoint), scores, ["best"], always=True)  # as it was
    wandb.finish()
    (artifact,) = read_run(tmp_path).artifacts
    assert artifact.type == "model"
    assert set(artifact.aliases) == {"latest", "best"}
    assert json.loads(artifact.metadata) == scores | {"original_filename": "epoch=1.ckpt"}
    (content,) = artifact.manifest.contents
    assert (content.path, Path(content.local_path).read_bytes()) == ("model.ckpt", b"weights")


@pytest.mark.parametrize("log_model", [True, "all"])
def test_what_log_model_asks_for_is_logged_once(tmp_path, checkpoint, log_model):
    logger = offline(tmp_path)
    logger._log_model = log_model  # which an online logger takes
    log_checkpoint([logger], str(checkpoint), {"val/iou": 0.5}, [])
    path = str(checkpoint)
    saver = SimpleNamespace(
        best_model_path=path, last_model_path=path, best_model_score=None, current_score=None, save_top_k=1
    )
    logger.after_save_checkpoint(saver)
    logger.finalize("success")
    wandb.finish()
    (artifact,) = read_run(tmp_path).artifacts
    assert json.loads(artifact.metadata)["val/iou"] == 0.5
