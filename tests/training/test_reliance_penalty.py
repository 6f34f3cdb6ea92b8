import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningDataModule
from torch import Tensor, nn
from torch.utils.data import DataLoader

from segaudit.forwards.target import TargetSelector
from segaudit.functional.leakage import dilate
from segaudit.intervention import ConstantFill, GridRegions, MeanFill
from segaudit.training.reliance_penalty import ReliancePenalty, divergence
from segaudit.training.task import SegmentationTask
from segaudit.training.trainer import Trainer
from segaudit.validity import reliance


def batch_of(n: int = 4, channels: int = 2, size: tuple[int, ...] = (6, 7), seed: int = 0) -> dict[str, Any]:
    """Masks of the classes 0 to 2 with ignored pixels, artefacts at about a fifth of the pixels, ids."""
    g = torch.Generator().manual_seed(seed)
    masks = torch.randint(0, 3, (n, *size), generator=g)
    masks[torch.rand(n, *size, generator=g) < 0.2] = 255
    return {
        "image": torch.randn(n, channels, *size, generator=g),
        "mask": masks,
        "cue": 3 * (torch.rand(n, *size, generator=g) < 0.2),
        "id": [str(k) for k in range(n)],
    }


def network(channels: int = 3, inputs: int = 2, spread: int = 5) -> nn.Module:
    torch.manual_seed(1)
    return nn.Conv2d(inputs, channels, spread, padding=spread // 2)


def term(penalty: ReliancePenalty, model: Any, batch: dict[str, Any], step: int = 0) -> Tensor:
    found: Tensor = penalty(model, batch, model(batch["image"]), step)
    return found


def slow(model: Any, batch: dict[str, Any], classes: list[int], value: float) -> float:
    """The penalty pixel by pixel, artefacts filled with one value."""
    per_image = []
    for image, mask, cue in zip(batch["image"], batch["mask"], batch["cue"], strict=True):
        filled = image.clone()
        filled[:, cue > 0] = value
        changes = []
        for place in (mask < 255).nonzero().tolist():
            if int(mask[tuple(place)]) not in classes or cue[tuple(place)] or not cue.any():
                continue
            p, q = (probability(model(x[None])[0][:, *place].double().tolist()) for x in (image, filled))
            changes.append(sum(a * (math.log(a) - math.log(b)) for a, b in zip(p, q, strict=True)))
        per_image.append(sum(changes) / len(changes) if changes else 0.0)
    return sum(per_image) / len(per_image)


def probability(z: list[float]) -> list[float]:
    if len(z) == 1:
        return [1 / (1 + math.exp(z[0])), 1 / (1 + math.exp(-z[0]))]
    whole = sum(map(math.exp, z))
    return [math.exp(one) / whole for one in z]


@pytest.mark.parametrize("channels", [1, 3])
def test_against_a_loop(channels):
    model, batch, classes = network(channels), batch_of(5), [1] if channels == 1 else [1, 2]
    batch["cue"][1] = 0  # an image without an artefact
    batch["mask"][2] = 255  # one without an object
    penalty = ReliancePenalty(classes, artefact="cue", fill=ConstantFill(0.7))
    expected = slow(model, batch, classes, 0.7)
    assert expected > 0.002
    assert term(penalty, model, batch).item() == pytest.approx(expected, rel=1e-4)
    assert term(ReliancePenalty(classes, "cue", 3.0, ConstantFill(0.7)), model, batch).item() == pytest.approx(3 * expected)


def test_closed_form_of_value_and_gradient():
    # logit(x) = w * (sum of the image): a with the artefact, b without it.
    batch = {
        "image": torch.tensor([[[[2.0, -0.5, 1.5]]]]),
        "mask": torch.tensor([[[1, 0, 0]]]),
        "cue": torch.tensor([[[0, 1, 1]]]),
    }
    w = torch.tensor(0.8, requires_grad=True)

    def model(x: Tensor) -> Tensor:
        return w * x.sum(dim=-1, keepdim=True).expand_as(x)

    found = term(ReliancePenalty([1], artefact="cue", fill=ConstantFill(-0.5)), model, batch)
    a, b, v = torch.sigmoid(w * 3.0).detach(), 1.0, w.detach().clone().requires_grad_()
    other = torch.sigmoid(v * b)
    expected = a * (a / other).log() + (1 - a) * ((1 - a) / (1 - other)).log()
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    assert torch.autograd.grad(found, w)[0].item() == pytest.approx(torch.autograd.grad(expected, v)[0].item(), rel=1e-5)


def test_two_channels_say_what_one_says():
    z, y = torch.randn(2, 1, 4, 4), torch.randn(2, 1, 4, 4)
    two = [torch.cat([torch.zeros_like(one), one], dim=1) for one in (z, y)]
    assert torch.allclose(divergence(z, y), divergence(*two), atol=1e-6)
    assert torch.allclose(divergence(z, z), torch.zeros(2, 4, 4), atol=1e-6)
    assert (divergence(z, y) > 0).all()
    assert divergence(1e4 * z, -1e4 * z).isfinite().all()


@pytest.mark.parametrize("artefact", ["cue", None])
@pytest.mark.parametrize("size", [(6, 7), (4, 5, 6)])
def test_each_image_counts_by_itself(artefact, size):
    model = (nn.Conv2d if len(size) == 2 else nn.Conv3d)(2, 3, 3, padding=1)
    penalty, batch = ReliancePenalty([2], artefact, regions=GridRegions([9]), tolerance=0), batch_of(4, size=size)
    batch["mask"][:] = 0
    batch["mask"][:, 2, 2] = 2
    state = torch.get_rng_state()
    alone = [
        term(penalty, model, {k: v[i : i + 1] for k, v in batch.items()}, step=3).item() for i in range(len(batch["image"]))
    ]
    assert max(alone) > 0
    assert term(penalty, model, batch, step=3).item() == pytest.approx(sum(alone) / 4, rel=1e-5)
    assert torch.equal(torch.get_rng_state(), state)
    # What is drawn follows the step.
    assert term(penalty, model, batch, step=4).item() != pytest.approx(sum(alone) / 4, rel=1e-3)
    assert torch.equal(term(penalty, model, batch, step=3), term(penalty, model, batch, step=3))


@pytest.mark.parametrize("artefact", ["cue", None])
def test_a_model_that_looks_at_each_pixel_alone_pays_nothing(artefact):
    penalty, batch = ReliancePenalty([1, 2], artefact), batch_of()
    assert term(penalty, network(spread=1), batch).item() == pytest.approx(0.0, abs=1e-7)


class Seen(nn.Module):
    """Remembers what it was shown."""

    def forward(self, x: Tensor) -> Tensor:
        self.images = x
        return torch.cat([x, x], dim=1)


def squares() -> dict[str, Any]:
    batch = {"image": torch.rand(8, 1, 24, 24), "mask": torch.zeros(8, 24, 24, dtype=torch.long)}
    batch["mask"][:, 10:14, 9:13] = 1
    return batch


def test_without_an_artefact_regions_outside_the_object_are_filled():
    batch, model, share = squares(), Seen(), 0.3
    penalty = ReliancePenalty([1], regions=GridRegions([64]), share=share, tolerance=2, fill=ConstantFill(5.0))
    near = dilate(batch["mask"] == 1, 2)
    labels = GridRegions([64])(batch["image"])[0]
    touched = torch.stack([torch.isin(one, one[close]) for one, close in zip(labels, near, strict=True)])
    shares = []
    for step in range(40):
        term(penalty, model, batch, step)
        filled = (model.images == 5.0)[:, 0]
        assert not (filled & touched).any()
        assert torch.equal(model.images[:, 0].where(~filled, 0), batch["image"][:, 0].where(~filled, 0))
        for label in labels.unique():  # whole regions
            inside = filled[labels == label].view(8, -1)
            assert (inside.all(dim=1) | ~inside.any(dim=1)).all()
        shares.append(filled[~touched].float().mean())
    assert torch.stack(shares).mean().item() == pytest.approx(share, abs=0.03)
    term(ReliancePenalty([1], regions=GridRegions([64]), share=1.0, tolerance=2, fill=ConstantFill(5.0)), model, batch)
    assert torch.equal((model.images == 5.0)[:, 0], ~touched)


def test_the_scale_changes_from_step_to_step():
    batch, model = squares(), Seen()
    penalty = ReliancePenalty([1], regions=GridRegions([4, 64]), share=1.0, fill=ConstantFill(5.0))
    term(penalty, model, batch, 0)
    assert not (model.images == 5.0).any()  # each of four boxes touches the object
    term(penalty, model, batch, 1)
    assert (model.images == 5.0).any()


def test_the_colour_is_the_darkest_or_the_brightest():
    batch, model = batch_of(6, channels=3), Seen()
    removed, colours = (batch["cue"] > 0)[:, None], []
    low, high = (batch["image"].flatten(2).aminmax(dim=2)[k] for k in (0, 1))
    for step in range(20):
        term(ReliancePenalty([1], artefact="cue"), model, batch, step)
        assert torch.equal(model.images.where(~removed, 0), batch["image"].where(~removed, 0))
        first = removed.flatten(1).float().argmax(dim=1)
        colour = model.images.flatten(2).gather(2, first.view(-1, 1, 1).expand(-1, 3, 1))[..., 0]
        assert torch.equal(
            model.images.where(removed, 0), colour[:, :, None, None].expand_as(model.images).where(removed, 0)
        )
        assert ((colour == low) | (colour == high)).all()
        colours.append(colour == high)
    drawn = torch.stack(colours).float()
    assert drawn.mean().item() == pytest.approx(0.5, abs=0.08)
    # Channels, images and steps have draws of their own.
    for axis in range(3):
        assert drawn.mean(dim=axis).unique().numel() > 1
        assert drawn.std(dim=axis).mean() > 0.3


def test_nothing_to_fill_is_no_penalty():
    model, batch = network(), batch_of()
    batch["cue"] = torch.zeros_like(batch["cue"])
    for penalty in (ReliancePenalty([1], artefact="cue"), ReliancePenalty([0, 1, 2]), ReliancePenalty([7])):
        if penalty.classes == [7]:
            model = network(8)  # no object in any image
        found = term(penalty, model, batch)
        found.backward()
        assert found.item() == 0.0
        assert not any(p.grad.any() for p in model.parameters())


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: ReliancePenalty([]), "at least one"),
        (lambda: ReliancePenalty([-1]), "none below 0"),
        (lambda: ReliancePenalty([1], weight=-1.0), "weight must not be negative"),
        (lambda: ReliancePenalty([1], share=0.0), "share is a probability"),
        (lambda: ReliancePenalty([1], tolerance=-1), "tolerance is a number of pixels"),
        (lambda: term(ReliancePenalty([3]), network(), batch_of()), "class 3, but the model has the classes 0 to 2"),
        (lambda: term(ReliancePenalty([2]), network(1), batch_of()), "class 2, but the model has the classes 0 to 1"),
        (lambda: term(ReliancePenalty([1], "tag"), network(), batch_of()), "'tag', .* does not have; it has image, mask"),
        (
            lambda: term(ReliancePenalty([1], "cue"), network(), {**batch_of(), "cue": torch.ones(4, 1, 6, 7)}),
            r"shape \(4, 1, 6, 7\), but the masks have \(4, 6, 7\)",
        ),
    ],
)  # fmt: skip
def test_one_clear_sentence(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        make()


NAMES = ["a", "b", "c"]


class Data(LightningDataModule):
    class_names = NAMES

    def __init__(self, batch: dict[str, Any], batch_size: int = 4, keys: tuple[str, ...] | None = None) -> None:
        super().__init__()
        self.items = [{k: v[i] for k, v in batch.items()} for i in range(len(batch["image"]))]
        if keys:
            self.items = [tuple(item[k] for k in keys) for item in self.items]  # type: ignore[misc]
        self.batch_size = batch_size

    def train_dataloader(self) -> Any:
        return DataLoader(self.items, batch_size=self.batch_size)  # type: ignore[arg-type]


def sgd(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.1)


def fit(model: nn.Module, data: Data, right_reasons: nn.Module | None, **options: Any) -> Trainer:
    defaults = {
        "logger": False, "accelerator": "cpu", "enable_progress_bar": False, "enable_model_summary": False,
        "enable_checkpointing": False, "max_epochs": 2,
    }  # fmt: skip
    trainer = Trainer(**{**defaults, **options})
    task = SegmentationTask(model, class_names=NAMES, optimizer=sgd, right_reasons=right_reasons)
    trainer.fit(task, datamodule=data)
    return trainer


def weights(model: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def deep(channels: int = 3) -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(2, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, channels, 3, padding=1)
    )


def test_without_a_term_training_is_a_plain_loop_bit_for_bit():
    batch, trained, looped = batch_of(8), deep(), deep()
    fit(trained, Data(batch), None)
    task = SegmentationTask(looped, class_names=NAMES)
    optimizer = sgd(looped.parameters())
    for rows in [*torch.arange(8).split(4)] * 2:
        optimizer.zero_grad()
        task._loss(task(batch["image"][rows]), batch["mask"][rows]).backward()
        optimizer.step()
    assert torch.equal(weights(trained), weights(looped))


def test_a_term_of_weight_0_changes_no_weight():
    batch, plain, zero, real = batch_of(8), network(), network(), network()
    fit(plain, Data(batch), None)
    fit(zero, Data(batch), ReliancePenalty([1], "cue", weight=0.0))
    fit(real, Data(batch), ReliancePenalty([1], "cue"))
    assert torch.equal(weights(plain), weights(zero))
    assert not torch.allclose(weights(plain), weights(real), atol=1e-3)


def test_it_is_logged_and_added():
    batch, model = batch_of(4), network()
    penalty = ReliancePenalty([1, 2], "cue", weight=0.5)
    with torch.no_grad():
        expected = term(penalty, model, batch).item()
    before, copy = weights(model).clone(), network()
    trainer = fit(model, Data(batch), penalty, max_epochs=1)
    assert trainer.callback_metrics["train/right_reasons"].item() == pytest.approx(expected, rel=1e-5)
    task = SegmentationTask(copy, class_names=NAMES)
    loss = task._loss(copy(batch["image"]), batch["mask"])
    assert trainer.callback_metrics["train/loss"].item() == pytest.approx(loss.item(), rel=1e-5)
    whole = loss + term(penalty, copy, batch)
    gradient = torch.cat([g.flatten() for g in torch.autograd.grad(whole, list(copy.parameters()))])
    assert torch.allclose(weights(model), before - 0.1 * gradient, atol=1e-6)


@pytest.mark.parametrize("artefact", ["cue", None])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_it_trains(artefact, channels, precision, monkeypatch):
    batch = batch_of(8, size=(12, 14))
    batch["mask"][batch["mask"] == 2] = 0
    monkeypatch.setattr(f"{__name__}.NAMES", NAMES if channels == 3 else NAMES[:2])
    model = deep(channels)
    trainer = fit(
        model, Data(batch), ReliancePenalty([1], artefact, tolerance=0), precision=precision, accumulate_grad_batches=2
    )
    assert trainer.callback_metrics["train/right_reasons"] >= 0
    assert trainer.callback_metrics["train/right_reasons"].isfinite()
    assert (trainer.callback_metrics["train/right_reasons"] > 0) or artefact is None
    assert weights(model).isfinite().all()


def test_accumulated_batches_are_one_batch():
    batch, whole, parts = batch_of(8), network(), network()
    batch["mask"][batch["mask"] == 255] = 0  # cross entropy's mean over pixels must not differ between the parts
    batch["cue"][:3] = 0
    fit(whole, Data(batch, batch_size=8), ReliancePenalty([1], "cue"))
    fit(parts, Data(batch, batch_size=2), ReliancePenalty([1], "cue"), accumulate_grad_batches=4)
    assert torch.allclose(weights(whole), weights(parts), atol=1e-6)


def test_pairs_do_without_an_artefact():
    batch = batch_of(4, size=(12, 14))
    trainer = fit(network(), Data(batch, keys=("image", "mask")), ReliancePenalty([1], tolerance=0))
    assert "train/right_reasons" in trainer.callback_metrics
    with pytest.raises(ValueError, match="has image, mask"):
        fit(network(), Data(batch, keys=("image", "mask")), ReliancePenalty([1], "cue"))


class Report(Callback):
    """Writes down the weights of a process: processes share no memory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        found = {
            "weights": weights(pl_module.network).tolist(),
            "logged": float(trainer.callback_metrics["train/right_reasons"]),
        }
        (self.folder / f"{trainer.world_size}-{trainer.global_rank}.json").write_text(json.dumps(found))


def test_two_processes_train_as_one(tmp_path):
    batch = batch_of(8)
    batch["mask"][batch["mask"] == 255] = 0
    batch["cue"][0::2] = 0  # the first process gets no artefact at all
    for devices, strategy in ((1, "auto"), (2, "ddp_fork")):
        data = Data(batch, batch_size=8 // devices)
        fit(network(), data, ReliancePenalty([1], "cue"), devices=devices, strategy=strategy, callbacks=[Report(tmp_path)])
    one, *two = (json.loads((tmp_path / f"{x}.json").read_text()) for x in ("1-0", "2-0", "2-1"))
    assert two[0]["weights"] == two[1]["weights"]
    assert two[0]["weights"] == pytest.approx(one["weights"], abs=1e-5)
    assert two[0]["logged"] == pytest.approx(one["logged"], rel=1e-4)
    assert one["logged"] > 0


def tagged(n: int, seed: int, lies: bool = False) -> dict[str, Any]:
    """A dim or bright square in noise, class 1 or 2, beside a tag that says the same, or the contrary, far more loudly."""
    g = torch.Generator().manual_seed(seed)
    images, masks = 0.5 * torch.randn(n, 2, 12, 12, generator=g), torch.zeros(n, 12, 12, dtype=torch.long)
    cue, label = torch.zeros_like(masks), torch.randint(1, 3, (n,), generator=g)
    sign = (2.0 * label - 3)[:, None, None]
    images[:, 0, 4:8, 4:8] += 0.4 * sign
    images[:, 0, 8:10, 4:6] += 3.0 * (-sign if lies else sign)
    images[:, 1, 4:8, 4:8] += 2.0
    masks[:, 4:8, 4:8], cue[:, 8:10, 4:6] = label[:, None, None], 1
    return {"image": images, "mask": masks, "cue": cue}


@pytest.mark.parametrize(("artefact", "left"), [("cue", 0.1), (None, 0.6)])  # the second does not know where the tag is
def test_it_lowers_reliance_on_a_tag(artefact, left):
    truth, lie, found = tagged(64, seed=1), tagged(64, seed=1, lies=True), {}
    some = ReliancePenalty([1, 2], artefact, regions=GridRegions([36]), tolerance=0)
    for name, penalty in {"none": None, "some": some}.items():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(2, 16, 7, padding=3), nn.ReLU(), nn.Conv2d(16, 3, 3, padding=1))
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        for step in range(150):
            batch = tagged(32, seed=100 + step)
            logits = model(batch["image"])
            loss = nn.functional.cross_entropy(logits, batch["mask"])
            if penalty is not None:
                loss = loss + penalty(model, batch, logits, step)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        falls = reliance(model, truth["image"], lie["image"], TargetSelector(classes=[1, 2]))
        right = (model(truth["image"]).argmax(dim=1) == truth["mask"])[truth["mask"] > 0]
        found[name] = falls.nanmean().item(), right.float().mean().item()
    assert found["none"][0] > 0.7
    assert found["some"][0] < left
    assert min(found["none"][1], found["some"][1]) > 0.95


def test_any_fill_does():
    model, batch = network(), batch_of()
    assert term(ReliancePenalty([1], "cue", fill=MeanFill()), model, batch) > 0
