"""Faults and oddities of networks, explainers and metrics."""

from math import isnan
from typing import Any

import pytest
import torch
from faults.given import GAP, Failing, conv, fit, logged, pictures, update
from faults.table import fault
from integration.tiny import CLASSES, TinyNetwork, adam, loader, quick, task, trainer
from lightning.pytorch import Callback, LightningModule, seed_everything
from lightning.pytorch.callbacks import EMAWeightAveraging, StochasticWeightAveraging, WeightAveraging
from torch import Tensor, nn

from segaudit import Auditor, TargetSelector
from segaudit.attribution import Explainer, Saliency, SegGradCAM
from segaudit.metrics import OffTargetLeakage
from segaudit.task import SegmentationTask


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
