"""Faults and oddities of networks, explainers and metrics."""

import random
from math import isfinite, isnan
from typing import Any

import numpy as np
import pytest
import torch
from faults.given import GAP, Failing, conv, fit, logged, pictures, update
from faults.table import fault
from integration.tiny import CLASSES, TinyNetwork, adam, loader, quick, task, trainer
from lightning.pytorch import Callback, LightningModule, seed_everything
from lightning.pytorch.callbacks import EMAWeightAveraging, StochasticWeightAveraging, WeightAveraging
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from segaudit import Auditor, Intervention, TargetSelector
from segaudit.attribution import Explainer, Saliency, SegGradCAM
from segaudit.intervention import GridRegions
from segaudit.metrics import OffTargetLeakage
from segaudit.training.task import SegmentationTask


class Spoil(Callback):
    """Writes something into all weights after the first training batch."""

    def __init__(self, value: float) -> None:
        self.value = value

    def on_train_batch_end(self, trainer: Any, pl_module: LightningModule, *_: Any) -> None:
        with torch.no_grad():
            for parameter in pl_module.parameters():
                parameter.fill_(self.value)


@fault("weights that became NaN", "no score, a reason for each target, never a zero; training goes on")
def test_weights_that_became_nan() -> None:
    audited = quick()
    fit(audited, Spoil(float("nan")))
    assert all(isnan(row["faithfulness_gap"]) and row["reason"] for row in audited.records)
    assert isnan(float(audited.values["saliency/faithfulness_gap"]))


class Scaled(nn.Module):
    def __init__(self, factor: float, network: nn.Module | None = None) -> None:
        super().__init__()
        self.network, self.factor = network or conv(), factor

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images) * self.factor


@pytest.mark.parametrize("factor", [1e30, float("inf")])
@fault("logits of 1e30, or infinite ones", "scored, or the reason is told; nothing is NaN without one")
def test_exploding_logits(factor: float) -> None:
    for row in update(Scaled(factor), pictures()).records():
        missing = [name for name in ("deletion_auc", "off_target_leakage", "stability") if isnan(row[name])]
        assert bool(missing) == bool(row["reason"]), row


@fault("a class that is never predicted", "no target of it; the others are scored")
def test_a_class_that_is_never_predicted() -> None:
    model = conv()
    with torch.no_grad():
        model[2].bias[2] = -100
    auditor = update(model, pictures(), selector=TargetSelector(min_area=0, max_per_image=3))
    assert {row["class_index"] for row in auditor.records()} == {0, 1}


class Constant(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return torch.cat([images[:, :1] * 0, images[:, :1] * 0 + 3], dim=1)


@fault("an output that does not depend on the image", "a map of zeros has no score, and the reason is told")
def test_an_output_that_does_not_depend_on_the_image() -> None:
    auditor = update(Constant(), pictures(), explainers=["saliency", "region_effects"])
    assert auditor.records()
    assert all(isnan(row["off_target_leakage"]) and row["reason"] for row in auditor.records())


class Detached(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.network = TinyNetwork()

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images if torch.is_grad_enabled() and self.training else images.detach())


@fault("a forward that detaches its input at rest", "one sentence, before training begins")
def test_a_network_that_detaches_is_told_before_training() -> None:
    loop = trainer(quick())
    with pytest.raises(ValueError, match="no gradient reaches the image"):
        loop.fit(task(network=Detached()), loader(8, train=True), loader(6))
    assert loop.global_step == 0


@fault("one output channel", "a foreground by the sigmoid")
def test_one_output_channel() -> None:
    model = conv(classes=2)
    single = nn.Sequential(model, Difference())
    records = update(single, pictures()).records()
    assert {row["class_index"] for row in records} == {1}
    assert any(not isnan(row["deletion_auc"]) for row in records)


class Difference(nn.Module):
    def forward(self, logits: Tensor) -> Tensor:
        return logits[:, 1:] - logits[:, :1]


@fault("1,000 classes", "scored; a target costs what it costs with three")
def test_a_thousand_classes() -> None:
    class Counting(nn.Module):
        def __init__(self, classes: int) -> None:
            super().__init__()
            self.network, self.images = conv(classes=classes), 0
            with torch.no_grad():
                self.network[2].bias[3:] = -100

        def forward(self, images: Tensor) -> Tensor:
            self.images += len(images)
            return self.network(images)

    few, many = Counting(3), Counting(1000)
    one, other = update(few, pictures()).compute(), update(many, pictures()).compute()
    assert few.images == many.images
    torch.testing.assert_close(other["region_effects/deletion_auc"], one["region_effects/deletion_auc"], atol=1e-3, rtol=0)


@fault("a frozen encoder", "explained all the same; it stays frozen, and its gradients stay none")
def test_a_frozen_encoder() -> None:
    model = task()
    for parameter in model.network.body.parameters():
        parameter.requires_grad_(False)
    loop = fit(quick(), model=model)
    assert loop.callback_metrics[GAP].isfinite()
    assert {p.requires_grad for p in model.network.body.parameters()} == {False}
    assert all(p.grad is None for p in model.network.body.parameters())


@fault("a network of which everything is frozen", "explained all the same")
def test_everything_is_frozen() -> None:
    model = conv().requires_grad_(False)
    assert update(model, pictures()).compute()["saliency/deletion_auc"].isfinite()


class Shared(nn.Module):
    """One convolution, used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.conv = nn.Conv2d(3, 3, 3, padding=1), conv()

    def forward(self, images: Tensor) -> Tensor:
        return self.conv(images + 0.01 * self.inner(self.inner(images)))


@fault("weights that are used twice in a forward pass", "scored by what needs no layer; a layer that runs twice is refused")
def test_shared_weights() -> None:
    assert update(Shared(), pictures(), explainers=["saliency"]).compute()["saliency/deletion_auc"].isfinite()
    with pytest.raises(ValueError, match="ran 2 times in one forward pass; choose one that runs once"):
        update(Shared(), pictures(), explainers=[SegGradCAM("inner")])


@pytest.mark.parametrize("averaging", ["weights", "ema", "swa"])
@fault("averaged weights: WeightAveraging, EMAWeightAveraging, StochasticWeightAveraging", "audited; training is as without")
def test_averaged_weights(averaging: str) -> None:
    make: dict[str, Any] = {
        "weights": WeightAveraging, "ema": EMAWeightAveraging, "swa": lambda: StochasticWeightAveraging(0.01, 1),
    }  # fmt: skip
    weights = []
    for audits in ([quick()], []):
        model = task()
        loop = trainer(*audits, make[averaging](), max_epochs=3)
        seed_everything(0, verbose=False)
        loop.fit(model, loader(8, train=True), loader(6))
        assert loop.state.finished
        weights.append([value.clone() for value in model.state_dict().values()])
    assert all(torch.equal(one, other) for one, other in zip(*weights, strict=True))


@fault("a compiled network", "the figures of the plain one")
def test_a_compiled_network() -> None:
    plain = update(conv(), pictures(), explainers=["saliency", "region_effects"]).compute()
    compiled = torch.compile(conv(), backend="eager")
    found = update(compiled, pictures(), explainers=["saliency", "region_effects"]).compute()
    for name, value in plain.items():
        torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-3, equal_nan=True)


class Tupled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.network = conv()

    def forward(self, images: Tensor) -> Any:
        return self.network(images), None


@fault("an output that is a tuple", "one sentence that says what is understood")
def test_a_tuple_is_no_output() -> None:
    with pytest.raises(ValueError, match="tuple"):
        update(Tupled(), pictures())


@fault("a first layer that changes its input in place", "the figures of one that does not")
def test_a_first_layer_that_works_in_place() -> None:
    plain = nn.Sequential(nn.ReLU(), conv())
    changing = nn.Sequential(nn.ReLU(inplace=True), conv())
    images = pictures() - 0.2
    kept = images.clone()
    kinds = ["region_effects", "saliency", "random"]
    one, other = update(plain, images, explainers=kinds).compute(), update(changing, images, explainers=kinds).compute()
    assert torch.equal(images, kept)
    for name, value in one.items():
        torch.testing.assert_close(other[name], value, rtol=1e-3, atol=1e-3, equal_nan=True)


class Drawing(nn.Module):
    """Draws random numbers in every forward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.network = conv()

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images) + 0 * torch.rand(1)


@fault("a forward that draws random numbers", "the global random states are as before")
def test_a_forward_that_draws_random_numbers() -> None:
    model = Drawing()
    before = torch.get_rng_state()
    update(model, pictures())
    assert torch.equal(torch.get_rng_state(), before)


@fault("batch normalisation and dropout in training mode", "at rest while explained; modes and running statistics as before")
def test_modes_and_running_statistics_stay() -> None:
    network = TinyNetwork().train()
    network.body[3].eval()
    modes = [module.training for module in network.modules()]
    kept = {name: buffer.clone() for name, buffer in network.named_buffers()}
    update(network, pictures(side=16))
    assert [module.training for module in network.modules()] == modes
    assert all(torch.equal(buffer, kept[name]) for name, buffer in network.named_buffers())


@fault("a layer that the network does not have", "one sentence with the nearest names, before training begins")
def test_a_layer_that_does_not_exist_is_told_before_training() -> None:
    loop = trainer(quick(explainers=[SegGradCAM("decoder.block9")]))
    with pytest.raises(ValueError, match=r"the model has no layer 'decoder\.block9'"):
        loop.fit(task(), loader(8, train=True), loader(6))
    assert loop.global_step == 0


class Odd(Explainer):
    """Gives what it is told to."""

    def __init__(self, make: Any) -> None:
        self.make = make

    def attribute(self, probe: Any) -> Tensor:
        return self.make(probe.targets.region.shape)


@fault("an explainer that gives NaN", "its scores are missing, with a reason; another's are there")
def test_an_explainer_that_gives_nan() -> None:
    explainers = {"odd": Odd(lambda shape: torch.full(shape, torch.nan)), "saliency": Saliency()}
    records = update(conv(), pictures(), explainers=explainers).records()
    assert all(isnan(row["off_target_leakage"]) and row["reason"] for row in records if row["explainer"] == "odd")
    assert not any(isnan(row["off_target_leakage"]) for row in records if row["explainer"] == "saliency")


@fault("an explainer that gives maps of another shape", "one sentence with both shapes, before training begins")
def test_an_explainer_that_gives_another_shape() -> None:
    loop = trainer(quick(explainers=[Odd(lambda shape: torch.zeros(1, 2))]))
    with pytest.raises(ValueError, match=r"returned the shape \(1, 2\) for targets of the shape"):
        loop.fit(task(), loader(8, train=True), loader(6))
    assert loop.global_step == 0


@fault("an explainer that fails from the second epoch on", "its audits are lost, the first epoch's stays; training goes on")
def test_an_explainer_that_fails_later() -> None:
    audited = quick(explainers=["saliency", Failing(4)])  # once before training, twice in the first audit
    with pytest.warns(UserWarning, match="4 of 4 images could not be audited.*ArithmeticError: the explainer broke"):
        loop = fit(audited, max_epochs=2)
    assert loop.current_epoch == 2
    assert [epoch["audit/lost"] for epoch in audited.epochs] == [0, 4]
    assert [isnan(epoch[GAP]) for epoch in audited.epochs] == [False, True]


@fault("an explainer that fails once", "the block is audited again, image by image; nothing is lost")
def test_an_explainer_that_fails_once() -> None:
    loop = fit(quick(explainers=["saliency", Failing(2, last=2)]))
    assert logged(loop, "lost", "images") == [0, 4]


class Second(OffTargetLeakage):
    """Fails at its second update."""

    calls = 0

    def update(self, attribution: Tensor, region: Tensor) -> None:
        self.calls += 1
        if self.calls == 2:
            raise ArithmeticError("the metric broke")
        super().update(attribution, region)


@fault("a metric that fails on one batch", "nothing of the batch is half counted: means and records are of the same targets")
def test_a_metric_that_fails_leaves_nothing_half_counted() -> None:
    auditor = Auditor(["saliency"], ["faithfulness_gap", Second()], TargetSelector(min_area=0, max_per_image=2))
    model, images = conv(), pictures(3)
    auditor.update(model, images[:1], sample_ids=["a"])
    with pytest.raises(ArithmeticError):
        auditor.update(model, images[1:2], sample_ids=["b"])
    auditor.update(model, images[2:], sample_ids=["c"])
    records = auditor.records()
    assert {row["sample_id"] for row in records} == {"a", "c"}
    gaps = [row["faithfulness_gap"] for row in records]
    known = [gap for gap in gaps if not isnan(gap)]
    assert float(auditor.compute()["saliency/faithfulness_gap"]) == pytest.approx(sum(known) / len(known), abs=1e-6)
    assert auditor.compute()["images"] == 2


class Small(nn.Module):
    """A network on a device that holds few images."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.network, self.most = TinyNetwork(), most

    def forward(self, images: Tensor) -> Tensor:
        if not self.training and len(images) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        return self.network(images)


@fault(
    "a device that holds a training batch and no more",
    "no pass of an audit has more images; nothing is lost, nothing is said",
)
def test_no_pass_is_larger_than_a_training_batch(recwarn: pytest.WarningsRecorder) -> None:
    loop = fit(quick(explainers=["region_effects", "integrated_gradients"], batch_size=None), model=task(network=Small(4)))
    assert logged(loop, "lost", "images") == [0, 4]
    assert not [one for one in recwarn if "memory ran out" in str(one.message)]


@fault("the memory runs out in masked forwards", "fewer images at a time from then on, said once; nothing is lost")
def test_memory_that_runs_out_in_forwards() -> None:
    with pytest.warns(UserWarning, match="the memory ran out with") as said:
        loop = fit(quick(explainers=["region_effects"]), model=task(network=Small(1)), val=loader(6, batch_size=1))
    assert sum("the memory ran out" in str(one.message) for one in said) == 1
    assert logged(loop, "lost", "images") == [0, 4]


@fault("the memory runs out when a block's gradients are computed", "the block is audited again, image by image")
def test_memory_that_runs_out_in_gradients() -> None:
    error = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
    loop = fit(quick(explainers=["saliency", Failing(2, error, last=2)]))
    assert logged(loop, "lost", "images") == [0, 4]


@fault("the memory runs out whatever is tried", "all images are lost and counted; training goes on")
def test_memory_that_runs_out_whatever_is_tried() -> None:
    error = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
    with pytest.warns(UserWarning, match="4 of 4 images could not be audited.*CUDA out of memory"):
        loop = fit(quick(explainers=["saliency", Failing(2, error)]))
    assert logged(loop, "lost", "images") == [4, 0]
    assert loop.global_step == 2


class Dict(LightningModule):
    """A module of a user's own, with a dictionary as output."""

    def __init__(self) -> None:
        super().__init__()
        self.network = TinyNetwork()

    def forward(self, x: Tensor) -> Any:
        return {"out": self.network(x), "aux": None}

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return nn.functional.cross_entropy(nn.functional.interpolate(self(batch["image"])["out"], (16, 16)), batch["mask"])

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        pass

    def configure_optimizers(self) -> Any:
        return adam(self.parameters())


@fault("a dictionary as output, at half the resolution, in a module of one's own", "audited")
def test_a_module_of_ones_own() -> None:
    assert fit(quick(), model=Dict()).callback_metrics[GAP].isfinite()


@fault("a network on which a loss of NaN was taken", "training is the user's; the audit says reasons and goes on")
def test_a_loss_of_nan() -> None:
    class Lost(SegmentationTask):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            return super().training_step(batch, batch_idx) * float("nan")

    audited = quick()
    fit(audited, model=Lost(TinyNetwork(), class_names=CLASSES))
    assert all(row["reason"] for row in audited.records)


class Lazy(nn.Module):
    """Installs hooks of its own in its first forward pass, as networks of transformers do, and cannot do without them."""

    def __init__(self) -> None:
        super().__init__()
        self.network, self.installed = conv(), False

    def forward(self, images: Tensor) -> Tensor:
        seen: list[Tensor] = []
        self.network[0].seen = seen
        if not self.installed:
            self.network[0].register_forward_hook(lambda module, _, output: module.seen.append(output))
            self.installed = True
        logits = self.network(images)
        assert seen[-1].shape[0] == len(images)
        return logits


@fault(
    "a network that installs hooks in its first forward pass, which is an audit's", "they stay; those of explainers do not"
)
def test_hooks_that_are_the_networks_own_stay() -> None:
    model = Lazy()
    for _ in range(2):
        update(model, pictures())
    model(pictures())
    assert len(model.network[0]._forward_hooks) == 1


class Counts(nn.Module):
    """Counts its forward passes, at rest too: in place, past autograd's eyes, and in a new tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.network = conv()
        for name in ("passes", "hidden", "images"):
            self.register_buffer(name, torch.zeros(()))

    def forward(self, images: Tensor) -> Tensor:
        self.passes += 1
        self.hidden.data += 1
        self.images = self.images + len(images)
        return self.network(images)


@fault("a forward that counts in buffers", "they are as before")
def test_buffers_that_a_forward_changes() -> None:
    model = Counts()
    model(pictures())
    update(model, pictures())
    assert {name: float(buffer) for name, buffer in model.named_buffers()} == {"passes": 1, "hidden": 1, "images": 2}


class Cached(nn.Module):
    """Keeps the rows' numbers of all pixels in a buffer, and elsewhere the size that they are of."""

    def __init__(self, persistent: bool) -> None:
        super().__init__()
        self.network, self.size = conv(), torch.Size()
        self.register_buffer("cache", torch.zeros(0), persistent=persistent)

    def forward(self, images: Tensor) -> Tensor:
        if images.shape[-2:] != self.size:
            self.size = images.shape[-2:]
            self.cache = torch.arange(self.size.numel()) // self.size[-1]
        return self.network(images) + self.cache.view(self.size)


@pytest.mark.parametrize(("persistent", "before"), [(True, 9), (False, 6)])
@fault("a forward that keeps a cache in a buffer, and its size elsewhere", "the cache stays as the last pass needs it")
def test_a_cache_stays_what_the_network_takes_it_for(persistent: bool, before: int) -> None:
    model, images = Cached(persistent), pictures()[..., :6]
    model(images.new_zeros(1, 3, before, 12))  # of as many pixels, or of others
    update(model, images)
    assert torch.equal(model(images), Cached(True)(images))


@fault("a sparse buffer", "audited")
def test_a_sparse_buffer() -> None:
    model = conv()
    model.register_buffer("graph", torch.eye(3).to_sparse())
    assert update(model, pictures()).compute()["saliency/deletion_auc"].isfinite()


@fault("activations that work in place everywhere", "the figures of a network without")
def test_activations_that_work_in_place() -> None:
    plain, changing = conv(), conv()
    changing[1] = nn.ReLU(inplace=True)
    one, other = update(plain, pictures()).records(), update(changing, pictures()).records()
    assert [row["deletion_auc"] for row in one] == pytest.approx([row["deletion_auc"] for row in other], nan_ok=True)


class NoRoomBackwards(torch.autograd.Function):
    """Has room for the gradients of one image."""

    refused = 0

    @staticmethod
    def forward(context: Any, values: Tensor) -> Tensor:
        return values.view_as(values)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        if len(gradient) > 1:
            NoRoomBackwards.refused += 1
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        return gradient


class TightBackwards(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.network = TinyNetwork()

    def forward(self, images: Tensor) -> Tensor:
        logits = self.network(images)
        return logits if self.training else NoRoomBackwards.apply(logits)


@fault("the memory runs out in a backward pass of several images", "audited with fewer; nothing is lost")
def test_memory_that_runs_out_in_a_backward_pass() -> None:
    intervention = Intervention(regions=GridRegions([4]), steps=3, max_batch=64)
    loop = fit(quick(intervention=intervention), model=task(network=TightBackwards()))
    assert NoRoomBackwards.refused
    assert logged(loop, "lost", "images") == [0, 4]
    assert loop.callback_metrics[GAP].isfinite()


@fault("a classifier in place of a segmenter", "one sentence with the shape")
def test_a_classifier() -> None:
    model = nn.Sequential(conv(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(ValueError, match=r"has the shape \(2, 3\).*is this a classifier"):
        update(model, pictures())


class Weightless(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return 20 * (images[:, :2] - 0.5)


@fault("a network without weights", "audited")
def test_a_network_without_weights() -> None:
    values = update(Weightless(), pictures(), explainers=["saliency", "region_effects"]).compute()
    assert values["saliency/deletion_auc"].isfinite()


class KeptAtRest(TinyNetwork):
    """Keeps its batch normalisation at rest, as fine-tuning does."""

    def train(self, mode: bool = True) -> Any:
        super().train(mode)
        self.body[1].eval()
        return self


@fault("a train() that keeps batch normalisation at rest", "modes as before")
def test_a_train_that_keeps_a_part_at_rest() -> None:
    network = KeptAtRest().train()
    before = [module.training for module in network.modules()]
    update(network, pictures(), explainers=["saliency"])
    assert [module.training for module in network.modules()] == before
    assert set(before) == {True, False}


class Within(nn.Module):
    """Another module inside, as in a LightningModule."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images)


@pytest.mark.parametrize("kind", ["script", "trace"])
@fault("a network by torch.jit.script or torch.jit.trace, within a module", "the figures of the plain one")
def test_a_scripted_network(kind: str) -> None:
    plain = TinyNetwork().eval()
    made = torch.jit.script(plain) if kind == "script" else torch.jit.trace(plain, pictures())
    names = ["saliency", "region_effects"]
    one, other = update(plain, pictures(), explainers=names), update(Within(made), pictures(), explainers=names)
    for row, same in zip(one.records(), other.records(), strict=True):
        assert row["deletion_auc"] == pytest.approx(same["deletion_auc"], abs=1e-3, nan_ok=True)


@fault("weights under spectral normalisation", "audited; its power iteration does not go on meanwhile")
def test_spectral_normalisation() -> None:
    model = conv()
    nn.utils.parametrizations.spectral_norm(model[0])
    model.train()
    kept = {name: value.clone() for name, value in model.state_dict().items()}
    auditor = update(model, pictures(), metrics=["deletion_auc", "randomisation_full"])
    assert auditor.compute()["saliency/randomisation_full"].isfinite()
    assert all(torch.equal(value, kept[name]) for name, value in model.state_dict().items())


class Recomputed(nn.Module):
    def __init__(self, reentrant: bool) -> None:
        super().__init__()
        self.network, self.reentrant = TinyNetwork(), reentrant

    def forward(self, images: Tensor) -> Tensor:
        return checkpoint(self.network, images, use_reentrant=self.reentrant and not self.training)


@fault("activations that are computed again in the backward pass", "the figures of a network without")
def test_activations_that_are_computed_again() -> None:
    plain, recomputed = TinyNetwork(), Recomputed(False)
    recomputed.network.load_state_dict(plain.state_dict())
    one, other = (update(model, pictures(), explainers=["saliency"]).records() for model in (plain, recomputed))
    plain_areas, areas = ([row["deletion_auc"] for row in rows] for rows in (one, other))
    assert any(map(isfinite, areas))
    assert plain_areas == pytest.approx(areas, nan_ok=True, abs=0)


@fault("the same by the old way (use_reentrant=True), which gives images no gradient", "an error before training begins")
def test_the_old_way_of_computing_again() -> None:
    loop = trainer(quick())
    with pytest.raises(RuntimeError, match="use_reentrant"):
        loop.fit(task(network=Recomputed(True)), loader(8, train=True), loader(6))
    assert loop.global_step == 0


AUC = "saliency/deletion_auc"


class OwnAutocast(Within):
    def forward(self, images: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return self.network(images)


@fault("a forward that turns on autocast itself", "scored, close to single precision")
def test_a_forward_that_turns_on_autocast() -> None:
    found, plain = (float(update(one, pictures()).compute()[AUC]) for one in (OwnAutocast(conv()), Within(conv())))
    assert found == pytest.approx(plain, abs=0.02)


class NoGradient(Within):
    @torch.inference_mode()
    def forward(self, images: Tensor) -> Tensor:
        return self.network(images)


@fault("a forward under inference_mode or no_grad", "explained by what needs no gradient; else one sentence")
def test_a_forward_without_gradients() -> None:
    values = update(NoGradient(conv()), pictures(), explainers=["region_effects"]).compute()
    assert values["region_effects/deletion_auc"].isfinite()
    with pytest.raises(ValueError, match="no gradient reaches the image"):
        update(NoGradient(conv()), pictures(), explainers=["saliency"])


class NoForward(Dict):
    forward = nn.Module.forward

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return nn.functional.cross_entropy(nn.functional.interpolate(self.network(batch["image"]), (16, 16)), batch["mask"])


@fault("a LightningModule without a forward", "an error that says so, before training begins")
def test_a_module_without_a_forward() -> None:
    loop = trainer(quick())
    with pytest.raises(NotImplementedError, match='missing the required "forward" function'):
        loop.fit(NoForward(), loader(8, train=True), loader(6))
    assert loop.global_step == 0


class NoValidation(Dict):
    validation_step = LightningModule.validation_step


@fault("a LightningModule without a validation_step", "no audit, which is said before training begins; training goes on")
def test_a_module_without_a_validation_step() -> None:
    with pytest.warns(UserWarning, match="nothing will be audited.*the module a validation_step"):
        loop = fit(quick(), model=NoValidation())
    assert loop.global_step == 2


class ByProbe(Odd):
    """The same, by the probe."""

    def attribute(self, probe: Any) -> Any:
        return self.make(probe)


@pytest.mark.parametrize("made", [None, [0.0]])
@fault("an explainer that gives no tensor", "one sentence that names it and the type")
def test_an_explainer_that_gives_no_tensor(made: Any) -> None:
    with pytest.raises(ValueError, match=f"the explainer 'odd' returned no tensor, but the type {type(made).__name__}"):
        update(conv(), pictures(), explainers=[Odd(lambda _: made)])


@fault("an explainer that gives infinite values", "its scores are missing, with a reason")
def test_an_explainer_that_gives_infinity() -> None:
    records = update(conv(), pictures(), explainers=[Odd(lambda shape: torch.full(shape, torch.inf))]).records()
    assert records
    assert all(isnan(row["off_target_leakage"]) and "map not finite" in row["reason"] for row in records)


@pytest.mark.parametrize("part", ["images", "region"])
@fault("an explainer that changes the images or the targets in place", "one sentence: others would explain something else")
def test_an_explainer_that_changes_what_it_is_given(part: str) -> None:
    def spoil(probe: Any) -> Tensor:
        {"images": probe.images, "region": probe.targets.region}[part].zero_()
        return torch.rand(probe.targets.region.shape)

    with pytest.raises(ValueError, match="the explainer 'by_probe' has changed the images or the regions"):
        update(conv(), pictures(), explainers=[ByProbe(spoil), "saliency"])


@fault("an explainer that seeds and draws random numbers", "the global random states are as before")
def test_an_explainer_that_draws_random_numbers() -> None:
    def draw(shape: Any) -> Tensor:
        torch.manual_seed(9), np.random.seed(9), random.seed(9)  # noqa: NPY002
        return torch.rand(shape)

    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002
    update(conv(), pictures(), explainers=[Odd(draw)])
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1].tolist(), random.getstate()) == before[1:]  # noqa: NPY002


class Unfinished(OffTargetLeakage):
    """Fails when the mean is asked for, from the n-th time on."""

    def __init__(self, first: int) -> None:
        super().__init__()
        self.first, self.asked = first, 0

    def compute(self) -> Tensor:
        self.asked += 1
        if self.asked >= self.first:
            raise ArithmeticError("the metric broke")
        return super().compute()


def unfinished(first: int, **options: Any) -> Any:
    return quick(metrics=["faithfulness_gap", Unfinished(first)], **options)


@fault("a metric whose compute fails", "an error before training begins")
def test_a_metric_that_never_computes() -> None:
    loop = trainer(unfinished(1))
    with pytest.raises(ArithmeticError, match="the metric broke"):
        loop.fit(task(), loader(8, train=True), loader(6))
    assert loop.global_step == 0


COMPUTE = "the scores of the audit could not be computed, and training goes on. ArithmeticError: the metric broke"


@fault("a metric whose compute fails later", "told of; means come from the panel's series; training goes on")
def test_a_metric_that_computes_no_more() -> None:
    audited = unfinished(3)  # once before training, once in the first epoch
    with pytest.warns(UserWarning, match=COMPUTE) as said:
        loop = fit(audited, max_epochs=2)
    assert loop.current_epoch == 2
    assert sum("could not be computed" in str(one.message) for one in said) == 1
    assert [isnan(epoch[GAP]) for epoch in audited.epochs] == [False, False]
    assert logged(loop, "images", "targets") == [4, len(audited.records)]


@fault("a metric whose compute fails later, with on_error: raise", "the error ends the run")
def test_a_metric_that_computes_no_more_may_end_the_run() -> None:
    loop = trainer(unfinished(2, on_error="raise"))
    with pytest.raises(ArithmeticError, match="the metric broke"):
        loop.fit(task(), loader(8, train=True), loader(6))
    assert loop.global_step > 0


@fault("a metric whose compute fails where there are no targets, and the first image has none", "training goes on")
def test_a_metric_that_cannot_do_without_targets() -> None:
    with pytest.warns(UserWarning, match=COMPUTE):
        loop = fit(unfinished(1, selector=TargetSelector(min_area=1.0)))
    assert logged(loop, "images", "targets") == [0, 0]
