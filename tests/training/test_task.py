"""SegmentationTask against slow references, on networks that take milliseconds."""

import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
from lightning.pytorch import Callback, LightningDataModule
from lightning.pytorch.cli import ReduceLROnPlateau
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchmetrics.classification import MulticlassConfusionMatrix

from segaudit.training.task import SegmentationTask, pooled_iou
from segaudit.training.trainer import Trainer

NAMES = ["sky", "road", "car"]


def network(classes: int = 3) -> nn.Module:
    torch.manual_seed(1)
    return nn.Conv2d(3, classes, 1)


def samples(n: int = 5, classes: int = 2, seed: int = 0) -> list[dict[str, Any]]:
    """Masks with classes 0 .. classes - 1 and ignored pixels."""
    g = torch.Generator().manual_seed(seed)
    images, masks = torch.randn(n, 3, 6, 7, generator=g), torch.randint(0, classes, (n, 6, 7), generator=g)
    masks[torch.rand(n, 6, 7, generator=g) < 0.2] = 255
    return [{"image": images[i], "mask": masks[i], "id": f"s{i}"} for i in range(n)]


class Data(LightningDataModule):
    def __init__(self, items: list[Any], class_names: list[str] | None = None, batch_size: int = 2) -> None:
        super().__init__()
        self.items, self.batch_size = items, batch_size
        if class_names:
            self.class_names = class_names

    def loader(self) -> Any:
        return DataLoader(self.items, batch_size=self.batch_size)

    train_dataloader = val_dataloader = test_dataloader = predict_dataloader = loader


def trainer(**kwargs: Any) -> Trainer:
    defaults = {
        "logger": False, "accelerator": "cpu", "enable_progress_bar": False, "enable_model_summary": False,
        "enable_checkpointing": False, "max_epochs": 1,
    }  # fmt: skip
    return Trainer(**{**defaults, **kwargs})


def slow_iou(predicted: np.ndarray, truth: np.ndarray, classes: int) -> list[float]:
    """IoU pixel by pixel, pooled over everything."""
    hits, union = [0] * classes, [0] * classes
    for p, t in zip(predicted.ravel().tolist(), truth.ravel().tolist(), strict=True):
        if t == 255:
            continue
        if p == t:
            hits[t] += 1
            union[t] += 1
        else:
            union[p] += 1
            union[t] += 1
    return [h / u if u else math.nan for h, u in zip(hits, union, strict=True)]


def slow_cross_entropy(logits: Tensor, mask: Tensor) -> float:
    total, count = 0.0, 0
    for b, y, x in itertools.product(*map(range, mask.shape)):
        if mask[b, y, x] == 255:
            continue
        z = logits[b, :, y, x].double().numpy()
        if len(z) == 1:
            z = np.array([0.0, z[0]])
        total += math.log(np.exp(z).sum()) - z[mask[b, y, x]]
        count += 1
    return total / count


def loss_of(task: SegmentationTask, logits: Tensor, mask: Tensor) -> float:
    return task._loss(logits, mask).item()


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    items = samples(2, classes=3)
    return torch.stack([i["image"] for i in items]), torch.stack([i["mask"] for i in items])


@pytest.mark.parametrize("stage", ["val", "test"])
def test_iou_is_pooled_and_an_absent_class_does_not_count(stage):
    net = network(4)
    with torch.no_grad():
        net.bias[3] = -1e3  # never predicted, and in no mask
    items, task = samples(), SegmentationTask(net)
    runner = trainer()
    run = runner.validate if stage == "val" else runner.test
    (scores,) = run(task, datamodule=Data(items, [*NAMES, "dog"]), verbose=False)

    images, masks = torch.stack([i["image"] for i in items]), torch.stack([i["mask"] for i in items])
    with torch.no_grad():
        logits = task(images)
    expected = slow_iou(logits.argmax(1).numpy(), masks.numpy(), 4)
    assert math.isnan(expected[3])
    assert math.isnan(scores[f"{stage}/iou/dog"])
    for name, value in zip(NAMES, expected, strict=False):
        assert scores[f"{stage}/iou/{name}"] == pytest.approx(value, abs=1e-6)
    assert scores[f"{stage}/iou"] == pytest.approx(np.nanmean(expected), abs=1e-6)
    per_batch = [slow_cross_entropy(logits[i : i + 2], masks[i : i + 2]) for i in (0, 2, 4)]
    assert scores[f"{stage}/loss"] == pytest.approx(np.average(per_batch, weights=[2, 2, 1]), abs=1e-5)


def test_an_ignored_class_of_the_range_does_not_count():
    confusion = MulticlassConfusionMatrix(3, ignore_index=0, validate_args=False)
    confusion.update(torch.tensor([0, 1, 2, 0]), torch.tensor([0, 1, 2, 1]))
    iou = pooled_iou(confusion.compute(), ignore_index=0)
    assert math.isnan(iou[0])
    assert iou[1:].tolist() == [0.5, 1.0]


def test_every_epoch_starts_anew():
    task, data = SegmentationTask(network(), class_names=NAMES, optimizer=frozen), Data(samples())
    fit = trainer(max_epochs=3)
    fit.fit(task, datamodule=data)
    once = trainer().validate(task, datamodule=data, verbose=False)[0]
    assert fit.callback_metrics["val/iou"] == pytest.approx(once["val/iou"])
    assert {"train/loss", "val/loss", "val/iou", "val/iou/sky"} <= set(fit.callback_metrics)
    trainer(max_epochs=1).fit(task, datamodule=data)  # states of the inference-mode loop don't get in the way


def frozen(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.0)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("explicit", [False, True])
def test_loss_against_a_loop(batch, channels, explicit):
    images, masks = batch
    if channels == 1:
        masks[masks == 2] = 0
    # torch's own CrossEntropyLoss ignores -100 unless told: the task translates.
    loss = (nn.BCEWithLogitsLoss() if channels == 1 else nn.CrossEntropyLoss()) if explicit else None
    task = SegmentationTask(network(channels), loss=loss)
    logits = task(images).detach()
    assert loss_of(task, logits, masks) == pytest.approx(slow_cross_entropy(logits, masks), rel=1e-5)


LOSSES = [
    (None, 3), (None, 1),
    (nn.CrossEntropyLoss(), 3), (nn.CrossEntropyLoss(ignore_index=255, label_smoothing=0.1), 3),
    (nn.BCEWithLogitsLoss(), 1),
    (smp.losses.DiceLoss("multiclass"), 3), (smp.losses.DiceLoss("multiclass", ignore_index=255), 3),
    (smp.losses.DiceLoss("binary"), 1), (smp.losses.DiceLoss("binary", ignore_index=255), 1),
    (smp.losses.FocalLoss("multiclass"), 3), (smp.losses.FocalLoss("binary"), 1),
    (smp.losses.JaccardLoss("multiclass"), 3), (smp.losses.JaccardLoss("binary"), 1),
    (smp.losses.TverskyLoss("multiclass"), 3), (smp.losses.LovaszLoss("multiclass"), 3),
    (smp.losses.SoftBCEWithLogitsLoss(ignore_index=255), 1), (smp.losses.SoftCrossEntropyLoss(smooth_factor=0.1), 3),
]  # fmt: skip


@pytest.mark.parametrize(("loss", "channels"), LOSSES, ids=lambda x: type(x).__name__ if x is None else str(x))
def test_ignored_pixels_have_no_say_and_an_ignored_batch_no_gradient(batch, loss, channels):
    images, masks = batch
    if channels == 1:
        masks[masks == 2] = 0
    task = SegmentationTask(network(channels), loss=loss)

    logits = task(images).detach().requires_grad_()
    value = task._loss(logits, masks)
    (grad,) = torch.autograd.grad(value, logits)
    assert value > 0
    assert grad.isfinite().all()
    assert not grad.movedim(1, -1)[masks == 255].any()
    assert grad.movedim(1, -1)[masks != 255].any()
    changed = torch.where(masks[:, None] == 255, logits + 3 * torch.randn_like(logits), logits)
    assert loss_of(task, changed, masks) == pytest.approx(value.item(), rel=1e-4)

    nothing = task._loss(task(images), torch.full_like(masks, 255))
    nothing.backward()
    assert nothing.item() == 0.0
    assert all(p.grad is not None and not p.grad.any() for p in task.network.parameters())


def test_ignored_batch_where_class_0_is_ignored(batch):
    task = SegmentationTask(network(), ignore_index=0)
    loss = task._loss(task(batch[0]), torch.zeros_like(batch[1]))
    loss.backward()
    assert loss.item() == 0.0
    assert not any(p.grad.any() for p in task.network.parameters())


def test_one_channel():
    items, names = samples(classes=2), ["background", "tumour"]
    task = SegmentationTask(network(1))
    (scores,) = trainer().validate(task, datamodule=Data(items, names), verbose=False)
    images, masks = torch.stack([i["image"] for i in items]), torch.stack([i["mask"] for i in items])
    expected = slow_iou((task(images)[:, 0] > 0).numpy(), masks.numpy(), 2)
    assert [scores[f"val/iou/{n}"] for n in names] == pytest.approx(expected)


class DictNetwork(nn.Module):
    """Half resolution, as torchvision's networks return it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 2, stride=2)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"out": self.conv(x)}


def test_dict_output_and_pairs():
    task = SegmentationTask(DictNetwork(), class_names=NAMES)
    loader = DataLoader([(i["image"], i["mask"]) for i in samples()], batch_size=2)
    runner = trainer()
    runner.fit(task, loader, loader)
    assert runner.callback_metrics["val/iou"] > 0
    first = runner.predict(task, loader)[0]
    assert first["id"] == ["0-0", "0-1"]
    assert first["mask"].shape == (2, 6, 7)


def test_predict_needs_no_names():
    items = [{k: v for k, v in i.items() if k != "mask"} for i in samples()]
    task = SegmentationTask(network())
    out = trainer().predict(task, datamodule=Data(items))
    assert [x for o in out for x in o["id"]] == ["s0", "s1", "s2", "s3", "s4"]
    image = items[3]["image"][None]
    assert torch.equal(out[1]["mask"][1:], task(image).argmax(1))


class Classifier(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))


def broken(mask_value: int) -> list[dict[str, Any]]:
    items = samples()
    items[0]["mask"][0, 0] = mask_value
    return items


@pytest.mark.parametrize(
    ("net", "loss", "items", "names", "sentence"),
    [
        (network(), None, samples(), None, "no names"),
        (network(), None, samples(), ["a", "b"], r"output has 3 channel.s., but there are 2 class names \(a, b\)"),
        (network(1), None, samples(), ["a"], "name the background too"),
        (network(1), nn.CrossEntropyLoss(), samples(), ["a", "b"], "CrossEntropyLoss doesn't fit"),
        (network(), nn.BCEWithLogitsLoss(), samples(), NAMES, "BCEWithLogitsLoss doesn't fit"),
        (network(), None, broken(7), NAMES, r"hold the class 7, but there are 3 classes, 0 to 2 \(sky, road, car\)"),
        (network(), None, broken(-1), NAMES, "hold the class -1"),
        (Classifier(), None, samples(), NAMES, "dense prediction"),
        (network(), None, [{**i, "mask": i["image"]} for i in samples()], NAMES, r"shape \(2, 3, 6, 7\)"),
        (network(), None, [{"image": i["image"]} for i in samples()], NAMES, "has images but no masks"),
    ],
)  # fmt: skip
def test_one_clear_sentence(net, loss, items, names, sentence):
    with pytest.raises(ValueError, match=sentence):
        trainer().validate(SegmentationTask(net, loss=loss), datamodule=Data(items, names), verbose=False)


def test_it_learns_and_the_checkpoint_holds_nothing_but_weights(tmp_path):
    items = samples(classes=2)
    for item in items:
        item["mask"] = (item["image"][0] > 0).long()  # what a 1x1 convolution can learn
    task = SegmentationTask(network(2), optimizer=lambda p: torch.optim.Adam(p, lr=0.1))
    runner = trainer(max_epochs=30)
    runner.fit(task, datamodule=Data(items, ["low", "high"]))
    assert runner.callback_metrics["val/iou"] > 0.9

    path = tmp_path / "x.ckpt"
    runner.save_checkpoint(path)
    assert set(torch.load(path, weights_only=True)["state_dict"]) == {"network.weight", "network.bias"}
    again = SegmentationTask.load_from_checkpoint(path, network=network(2), class_names=["low", "high"], weights_only=True)
    (scores,) = trainer().validate(again, datamodule=Data(items), verbose=False)
    assert scores["val/iou"] == pytest.approx(float(runner.callback_metrics["val/iou"]))


def test_scheduler_steps_once_an_epoch():
    task = SegmentationTask(
        network(), class_names=NAMES, lr_scheduler=lambda o: torch.optim.lr_scheduler.StepLR(o, 1, gamma=0.5)
    )
    runner = trainer(max_epochs=2)
    runner.fit(task, datamodule=Data(samples()))
    assert runner.optimizers[0].param_groups[0]["lr"] == pytest.approx(1e-3 / 4)


def test_plateau_scheduler_watches_its_monitor():
    task = SegmentationTask(
        network(), class_names=NAMES, optimizer=frozen,
        lr_scheduler=lambda o: ReduceLROnPlateau(o, "val/iou", mode="max", patience=0, factor=0.5),
    )  # fmt: skip
    runner = trainer(max_epochs=3)
    runner.fit(task, datamodule=Data(samples()))
    assert runner.lr_scheduler_configs[0].monitor == "val/iou"
    assert runner.lr_scheduler_configs[0].scheduler.num_bad_epochs == 0  # it has just cut the rate
    assert runner.lr_scheduler_configs[0].scheduler.best == pytest.approx(float(runner.callback_metrics["val/iou"]))


class Report(Callback):
    """Writes down what a process knows at the end: processes share no memory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        scores = {k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith("val/")}
        (self.folder / f"{trainer.world_size}-{trainer.global_rank}.json").write_text(json.dumps(scores))


@pytest.mark.parametrize("n", [5, 8])
def test_two_processes_score_as_one(tmp_path, n):
    data = Data(samples(n, classes=3), NAMES)  # of five images, the sampler repeats one
    for devices, strategy in ((1, "auto"), (2, "ddp_fork")):
        runner = trainer(devices=devices, strategy=strategy, callbacks=[Report(tmp_path)])
        runner.validate(SegmentationTask(network()), datamodule=data, verbose=False)
    one, *two = (json.loads((tmp_path / f"{x}.json").read_text()) for x in ("1-0", "2-0", "2-1"))
    assert two[0] == two[1]
    for name in ("val/iou", *(f"val/iou/{x}" for x in NAMES)):
        assert two[0][name] == pytest.approx(one[name], abs=1e-6)
    truth = torch.stack([i["mask"] for i in data.items])
    predicted = SegmentationTask(network())(torch.stack([i["image"] for i in data.items])).argmax(1)
    assert one["val/iou"] == pytest.approx(np.mean(slow_iou(predicted.numpy(), truth.numpy(), 3)), abs=1e-6)


def test_channels_last():
    assert SegmentationTask(nn.Conv2d(3, 4, 3)).network.weight.is_contiguous(memory_format=torch.channels_last)


def test_a_network_of_volumes_keeps_its_layout_and_trains():
    torch.manual_seed(0)
    g = torch.Generator().manual_seed(0)
    items = [{"image": torch.randn(3, 4, 5, 6, generator=g)} for _ in range(4)]
    items = [{**item, "mask": (item["image"][0] > 0).long()} for item in items]
    network = nn.Sequential(nn.Conv3d(3, 4, 1), nn.ReLU(), nn.Conv3d(4, 2, 1))
    task = SegmentationTask(network, class_names=["low", "high"], optimizer=lambda p: torch.optim.Adam(p, lr=0.1))
    runner = trainer(max_epochs=30)
    runner.fit(task, datamodule=Data(items))
    assert runner.callback_metrics["val/iou"] > 0.9
    with torch.no_grad():
        predicted = task(torch.stack([i["image"] for i in items])).argmax(1)
    expected = slow_iou(predicted.numpy(), torch.stack([i["mask"] for i in items]).numpy(), 2)
    assert float(runner.callback_metrics["val/iou"]) == pytest.approx(np.mean(expected))


@pytest.mark.parametrize("name", ["DiceLoss", "DiceCELoss", "FocalLoss", "TverskyLoss"])
@pytest.mark.parametrize("dims", [2, 3])
def test_losses_of_monai_get_the_channel_that_they_ask_for(name, dims):
    losses = pytest.importorskip("monai.losses", reason="MONAI is not installed: its losses are not tried (segaudit[monai])")
    softmax = {"use_softmax": True} if name == "FocalLoss" else {"softmax": True}
    loss = getattr(losses, name)(to_onehot_y=True, **softmax)
    g = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, *(4, 5, 6)[:dims], generator=g)
    masks = torch.randint(0, 3, (2, *(4, 5, 6)[:dims]), generator=g)
    masks[0, 0] = 255
    kept = masks != 255
    chosen = torch.stack([logits[:, c][kept] for c in range(3)])[None]
    expected = loss(chosen, masks[kept][None, None].float())
    assert loss_of(SegmentationTask(network(), loss=loss), logits, masks) == pytest.approx(expected.item(), rel=1e-5)
