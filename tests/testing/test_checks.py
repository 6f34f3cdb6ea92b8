"""Each check lets a stranger's sound class pass, and says of a broken one in a sentence what is wrong."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import segaudit.testing
from segaudit.attribution import Explainer, Saliency
from segaudit.evidence import Ask, evidence, registry
from segaudit.forwards import Probe, target_logit
from segaudit.intervention import Contrast, Fill, Perturbation, Shift
from segaudit.metrics import TargetMean
from segaudit.testing import (
    SmallNet,
    check_evidence,
    check_explainer,
    check_fill,
    check_metric,
    check_perturbation,
    random_evidence,
)
from segaudit.testing.networks import SIZES, differences, images, process_state, uneven_targets


def broken(cases: dict[str, tuple[Any, ...]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", cases.values(), ids=cases.keys())


# Explainers


class Good(Explainer):
    """Gradient times image, of the mean logit, a target at a time."""

    def attribute(self, probe: Probe) -> Tensor:
        maps = []
        for n in range(len(probe.targets)):
            one = probe.targets[torch.tensor([n])]
            x = probe.images[one.image_index].clone().requires_grad_()
            (grad,) = torch.autograd.grad(target_logit(probe.forward(x), one).sum(), x)
            maps.append((grad * x).sum(dim=1)[0])
        return torch.stack(maps)


class OfTheBatch(Good):
    def attribute(self, probe: Probe) -> Tensor:
        maps = super().attribute(probe)
        return maps / maps.abs().max()


class DrawsGlobally(Good):
    def attribute(self, probe: Probe) -> Tensor:
        return super().attribute(probe) + torch.rand(probe.targets.region.shape)


class CountsItsCalls(Good):
    calls = 0

    def attribute(self, probe: Probe) -> Tensor:
        self.calls += 1
        return super().attribute(probe) * (1 if self.calls % 2 else 2)


class NotFinite(Good):
    def attribute(self, probe: Probe) -> Tensor:
        return super().attribute(probe) / 0


class Constant(Explainer):
    def attribute(self, probe: Probe) -> Tensor:
        return torch.ones(probe.targets.region.shape)


class OneMapAnImage(Explainer):
    def attribute(self, probe: Probe) -> Tensor:
        return probe.images[:, 0]


class OfTheImageAlone(Explainer):
    def attribute(self, probe: Probe) -> Tensor:
        return probe.images[:, 0][probe.targets.image_index]


class OfTheClassAndTheModelAlone(Explainer):
    def attribute(self, probe: Probe) -> Tensor:
        place = torch.arange(probe.targets.region[0].numel()).view(probe.targets.region.shape[1:])
        weight = sum(parameter.sum() for parameter in probe.model.parameters())
        return weight * (1.0 + probe.targets.class_index).view(-1, *[1] * place.ndim) * place


class TensorsAlone(Saliency):
    def attribute(self, probe: Probe) -> Tensor:
        return super().attribute(probe) * probe.model(probe.images).shape[1]


class TwoDimensionsAlone(Good):
    def attribute(self, probe: Probe) -> Tensor:
        return super().attribute(probe).transpose(1, 2).transpose(-1, -2)


class OfThePass(Good):
    def attribute(self, probe: Probe) -> Tensor:
        return super().attribute(probe) * min(probe.batching.limit, 7)


class HidesErrors(Good):
    def attribute(self, probe: Probe) -> Tensor:
        try:
            return super().attribute(probe)
        except RuntimeError:
            return torch.zeros(probe.targets.region.shape)


class RunsInTrainMode(Good):
    def attribute(self, probe: Probe) -> Tensor:
        probe.model.train()
        return super().attribute(probe)


class WithoutContext(Good):
    """Calls itself, as strangers do who override ``__call__``, and then does what ``after`` says."""

    def __call__(self, model: nn.Module, images: Tensor, targets: Any, **options: Any) -> Tensor:
        maps = super().__call__(model, images, targets, **options)
        self.after(model, images, targets)
        return maps

    def after(self, model: nn.Module, images: Tensor, targets: Any) -> None:
        pass


class LeavesTrainMode(WithoutContext):
    def after(self, model: nn.Module, images: Tensor, targets: Any) -> None:
        model.eval()


class LeavesAHook(WithoutContext):
    def after(self, model: nn.Module, images: Tensor, targets: Any) -> None:
        model.register_forward_hook(lambda *_: None)


class LeavesGradients(WithoutContext):
    def after(self, model: nn.Module, images: Tensor, targets: Any) -> None:
        for parameter in model.parameters():
            parameter.grad = torch.zeros_like(parameter)


class LeavesNumbersDrawn(WithoutContext):
    def after(self, model: nn.Module, images: Tensor, targets: Any) -> None:
        random.random()


class ChangesImages(WithoutContext):
    def after(self, model: nn.Module, images: Tensor, targets: Any) -> None:
        if model.training:
            images.requires_grad_()


class ChangesWeights(WithoutContext):
    def after(self, model: nn.Module, images: Tensor, targets: Any) -> None:
        if model.training:
            next(model.parameters()).data.mul_(1.001)


class UnderTheCallersModes(Good):
    def __call__(self, model: nn.Module, images: Tensor, targets: Any, **options: Any) -> Tensor:
        maps = super().__call__(model, images, targets, **options)
        return maps * (model(images)[0].float().abs().mean() if torch.is_autocast_enabled("cpu") else 1)


@broken(
    {
        "batch": (OfTheBatch, "the map of of_the_batch depends on the other images"),
        "random": (DrawsGlobally, "depends on the other images|gives another map"),
        "state": (CountsItsCalls, "gives another map when it is called again"),
        "not finite": (NotFinite, "gives maps that are not finite"),
        "constant": (Constant, "gives constant maps alone"),
        "shape": (OneMapAnImage, r"fails with a batch of four images \(.*\): .*one map a target"),
        "model": (OfTheImageAlone, "does not change with the model: leave 'model' out of depends_on"),
        "image": (OfTheClassAndTheModelAlone, "does not change with the image"),
        "class": (OfTheImageAlone, "does not change with the class", {"depends_on": ["class"]}),
        "output": (TensorsAlone, "fails with a network whose output is a dict"),
        "dims": (TwoDimensionsAlone, r"fails with .*dims=1", {"dims": (2, 1)}),
        "pass": (OfThePass, "depends on max_batch, of 1 or 1000"),
        "error": (HidesErrors, "hides an error of the model"),
        "train mode inside": (RunsInTrainMode, "depends on the other images|gives another map"),
        "modes": (LeavesTrainMode, "leaves the model or the process changed: modes"),
        "hook": (LeavesAHook, "leaves the model or the process changed: hooks"),
        "gradients": (LeavesGradients, "leaves the model or the process changed: grads"),
        "process": (LeavesNumbersDrawn, "leaves the model or the process changed: python"),
        "images": (ChangesImages, "changes the images: work on a clone"),
        "weights": (ChangesWeights, "leaves the model or the process changed: values"),
        "autocast": (UnderTheCallersModes, "the caller's autocast to torch.bfloat16 reaches the map"),
    }
)
def test_a_broken_explainer_is_caught(case: tuple[Any, ...]) -> None:
    make, sentence, options = (*case, {})[:3]
    before = process_state()
    with pytest.raises(AssertionError, match=sentence):
        check_explainer(make, **options)
    assert differences(before, process_state()) == []  # the check itself leaves no trace


def test_a_sound_explainer_passes() -> None:
    check_explainer(Good)
    check_explainer(Good(), channels=(1, 4), dims=(3, 1), classes=(4, 1))


@pytest.mark.parametrize(
    "case", [{}, {"classes": 1}, {"channels": 1}, {"channels": 5}, {"stride": 2}, {"dims": 1}, {"dims": 3}]
)
def test_targets_are_uneven(case: dict[str, int]) -> None:
    model, x = SmallNet(**case), images(4, case.get("channels", 3), SIZES[case.get("dims", 2)])
    counts = torch.bincount(uneven_targets(model, x).image_index, minlength=4)
    assert counts[1] == 0
    assert counts.max() > 1
    assert len(counts.unique()) > 2


# Metrics


class Inside(TargetMean):
    """Share of the absolute map inside the region."""

    higher_is_better = True
    plot_lower_bound = 0.0
    plot_upper_bound = 1.0

    def update(self, attribution: Tensor, region: Tensor) -> None:
        self.add(self.share(attribution.float().abs(), region))

    def share(self, sizes: Tensor, region: Tensor) -> Tensor:
        return (sizes * region).flatten(1).sum(dim=1) / sizes.flatten(1).sum(dim=1)


class MeanOfMeans(Inside):
    def compute(self) -> Tensor:
        return torch.stack([values.nanmean() for values in self.values]).mean() if self.values else torch.tensor(torch.nan)


class ZeroForNaN(Inside):
    def share(self, sizes: Tensor, region: Tensor) -> Tensor:
        return super().share(sizes, region).nan_to_num(0)


class RelativeToTheBatch(Inside):
    def share(self, sizes: Tensor, region: Tensor) -> Tensor:
        return super().share(sizes, region) / len(sizes)


class ChangesEvidence(Inside):
    def update(self, attribution: Tensor, region: Tensor) -> None:
        self.add(self.share(attribution.abs_(), region))


class OutOfRange(Inside):
    def share(self, sizes: Tensor, region: Tensor) -> Tensor:
        return 100 * super().share(sizes, region)


class NoRange(TargetMean):
    def update(self, attribution: Tensor, region: Tensor) -> None:
        self.add((attribution.abs() * region).flatten(1).sum(dim=1))


class Infinite(Inside):
    plot_upper_bound = None

    def share(self, sizes: Tensor, region: Tensor) -> Tensor:
        return 1 / (super().share(sizes, region) > 0)


class OneValueABatch(Inside):
    def share(self, sizes: Tensor, region: Tensor) -> Tensor:
        return super().share(sizes, region).nanmean(dim=0, keepdim=True)


class UnknownEvidence(Inside):
    def update(self, saliency: Tensor, region: Tensor) -> None:  # type: ignore[override]
        self.add(self.share(saliency, region))


class InHalf(Inside):
    def update(self, attribution: Tensor, region: Tensor) -> None:
        self.add(self.share(attribution.abs(), region))


class RemembersItself(Inside):
    def __init__(self) -> None:
        super().__init__()
        self.seen = 0

    def share(self, sizes: Tensor, region: Tensor) -> Tensor:
        self.seen += len(sizes)
        return super().share(sizes, region)

    def compute(self) -> Tensor:
        values = self.per_target
        return values.nanmean() if len(values) == self.seen or not len(values) else values.nanmean() * 2


class NotPickled(Inside):
    def __init__(self) -> None:
        super().__init__()
        self.then = lambda values: values


class OfAllMaps(Inside):
    """NaN in one map makes it NaN for all."""

    def share(self, sizes: Tensor, region: Tensor) -> Tensor:
        return super().share(sizes, region) + 0 * sizes.nan_to_num(7).amax().where(sizes.isfinite().any(), torch.nan)


def slow_inside(attribution: Any, region: Any) -> float:
    sizes = abs(attribution)
    return float((sizes * region).sum() / sizes.sum())


@broken(
    {
        "mean of means": (MeanOfMeans, "MeanOfMeans is not the mean over all its targets"),
        "zero": (ZeroForNaN, "must give NaN where 'attribution' is NaN, or name it in optional: got 0.0"),
        "batch": (RelativeToTheBatch, "gives targets other values in other batches"),
        "evidence": (ChangesEvidence, "changes the evidence 'attribution': work on a copy"),
        "range": (OutOfRange, r"outside of its declared range 0.0 to 1.0"),
        "no range": (NoRange, "does not declare its range: set plot_lower_bound"),
        "infinite": (Infinite, "gives infinite values: give NaN"),
        "one value": (OneValueABatch, r"must add 12 values, got the shape \(1,\)"),
        "unknown": (UnknownEvidence, "asks for saliency, which is no evidence"),
        "half": (InHalf, "loses precision with evidence in torch.bfloat16"),
        "forward": (RemembersItself, r"forward\(\) of RemembersItself|RemembersItself forgets|RemembersItself keeps"),
        "pickle": (NotPickled, "cannot be pickled"),
        "reference": (Inside, "Inside is not its reference", lambda attribution, region: slow_inside(attribution, ~region)),
    }
)
def test_a_broken_metric_is_caught(case: tuple[Any, ...]) -> None:
    make, sentence, reference = (*case, None)[:3]
    with pytest.raises(AssertionError, match=sentence):
        check_metric(make, reference=reference)


def test_a_sound_metric_passes() -> None:
    check_metric(Inside, reference=slow_inside)
    check_metric(Inside(), random_evidence(9, (3, 4, 2), seed=4), slow_inside)


def test_too_little_evidence_is_told() -> None:
    with pytest.raises(AssertionError, match="at least 5 targets, got 4"):
        check_metric(Inside, random_evidence(4))
    with pytest.raises(AssertionError, match=r"evidence for Inside lacks \{'region'\}"):
        check_metric(Inside, {"attribution": torch.rand(9, 5)})


# Fills and perturbations


class Grey(Fill):
    """Mean over channels and pixels."""

    def __call__(self, images: Tensor) -> Tensor:
        return images.mean(tuple(range(1, images.ndim)), keepdim=True).expand_as(images).clone()


def fill(function: Callable[[Tensor], Tensor], base: type[Any] = Fill) -> Callable[[], Any]:
    return type("Broken", (base,), {"__call__": lambda self, images: function(images)})


def removing(function: Callable[[Any, Tensor, Tensor, Tensor], Tensor]) -> type[Fill]:
    return type("Broken", (Grey,), {"remove": function})


def two_axes(x: Tensor) -> Tensor:
    return x.mean((2, 3), keepdim=True).expand_as(x).clone()


CHANGES: dict[str, tuple[Any, ...]] = {
    "input": (lambda x: x.mul_(0.5), "changes the images that it is given: work on a copy"),
    "batch": (lambda x: x - x.mean(), "gives an image another result in another batch"),
    "random": (lambda x: x + torch.rand(x.shape), "draws from the global random state of torch: take segaudit.randomness"),
    "dtype": (lambda x: x.float() * 2, "must return images .* of torch.float64, got torch.float32"),
    "shape": (lambda x: x.mean(dim=1, keepdim=True), "must return images .*, got the shape"),
    "nothing": (lambda x: x.clone(), "returns the images as they are"),
    "not finite": (lambda x: x / 0, "returns values that are not finite"),
    "dims": (two_axes, r"fails with images \(3, 3, 30\)"),
}


@broken(
    {
        **{name: (fill(function), sentence) for name, (function, sentence) in CHANGES.items()},
        "one pixel": (
            fill(lambda x: x.std(tuple(range(2, x.ndim)), keepdim=True) + 0 * x),
            "is not finite for an image of one pixel",
        ),
        "left": (removing(lambda self, x, removed, filled: filled), "remove changes pixels that are not removed"),
        "shape of remove": (removing(lambda self, x, removed, filled: x[:1]), "remove must return images like those given"),
        "share": (
            removing(lambda self, x, removed, filled: torch.where(removed[:, None] > 0, filled, x)),
            "remove must mix each pixel with its fill by the share",
        ),
        "given": (
            removing(lambda self, x, removed, filled: x.lerp_(filled, removed[:, None].to(x))),
            "remove changes what it is",
        ),
        "batch of remove": (
            removing(lambda self, x, removed, filled: torch.lerp(x, filled.mean() + 0 * x, removed[:, None].to(x))),
            "remove depends on the batch",
        ),
        "everything": (
            removing(lambda self, x, removed, filled: torch.lerp(x, 2 * filled, removed[:, None].to(x))),
            "must give the filled image where everything is removed",
        ),
    }
)
def test_a_broken_fill_is_caught(case: tuple[Any, ...]) -> None:
    with pytest.raises(AssertionError, match=case[1]):
        check_fill(case[0])


def test_a_sound_fill_passes() -> None:
    check_fill(Grey)
    check_fill(Grey(), channels=2, dims=2)


@broken(
    {
        **{name: (fill(function, Perturbation), sentence) for name, (function, sentence) in CHANGES.items()},
        "back": (
            type("Broken", (Shift,), {"back": lambda self, maps: maps}),
            "back does not take back what Broken.move moves",
        ),
        "move": (
            type("Broken", (Contrast,), {"move": lambda self, maps: maps.float()}),
            "move must keep the shape and the dtype",
        ),
        "given": (type("Broken", (Contrast,), {"move": lambda self, maps: maps.zero_()}), "move changes what it is given"),
    }
)
def test_a_broken_perturbation_is_caught(case: tuple[Any, ...]) -> None:
    with pytest.raises(AssertionError, match=case[1]):
        check_perturbation((lambda: case[0](1)) if issubclass(case[0], Shift) else case[0])


def test_a_sound_perturbation_passes() -> None:
    check_perturbation(Contrast(1.2))
    check_perturbation(lambda: Shift(1), dims=(1, 2))


# Evidence


@pytest.fixture
def own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_EVIDENCE", dict(registry._EVIDENCE))


def never(ask: Ask) -> Tensor:
    return torch.zeros(len(ask.targets), dtype=torch.bool)


def sound(ask: Ask) -> Tensor:
    """Mean of the map in the region."""
    return (ask.attribution * ask.targets.region).flatten(1).sum(dim=1) / ask.targets.region.flatten(1).sum(dim=1)


def of_images(ask: Ask) -> Tensor:
    return ask.probe.images.flatten(1).mean(dim=1)


def of_the_batch(ask: Ask) -> Tensor:
    return ask.probe.confidence - ask.probe.confidence.mean()


def same_for_all_explainers(ask: Ask) -> Tensor:
    return ask.probe.confidence + 0 * len(ask.attribution)


def changes_the_map(ask: Ask) -> Tensor:
    return ask.attribution.abs_().flatten(1).sum(dim=1)


def changes_the_region(ask: Ask) -> Tensor:
    return ask.targets.region.logical_not_().float().flatten(1).mean(dim=1)


def draws_globally(ask: Ask) -> Tensor:
    return torch.rand(len(ask.targets))


def reads_the_map_by_another_name(ask: Ask) -> Tensor:
    return getattr(ask, "attri" + "bution").flatten(1).sum(dim=1)


def no_tensor(ask: Ask) -> Any:
    return ask.probe.confidence.tolist()


def of_other_maps(ask: Ask) -> Tensor:
    return sound(ask).nan_to_num(0).cumsum(dim=0)


@broken(
    {
        "rows": (of_images, "must have a row for each of 8 targets, got the shape"),
        "batch": (of_the_batch, "depends on the other images of the batch"),
        "explainer": (same_for_all_explainers, "depends on the explainer, but is the same for two"),
        "map": (changes_the_map, "changes the map: work on a copy"),
        "region": (changes_the_region, "changes the regions: work on a copy"),
        "random": (draws_globally, "depends on the other images of the batch"),
        "hidden": (reads_the_map_by_another_name, "fails on a small network: evidence asks for the explainer's map through"),
        "no tensor": (no_tensor, "fails on a small network: .* gave no tensor"),
        "other maps": (of_other_maps, "depends on the other images|changes with the maps of others"),
        "reason": (sound, "the reason 'no luck' .* must give one boolean a target", lambda ask: ask.probe.confidence),
    }
)
@pytest.mark.usefixtures("own_registry")
def test_broken_evidence_is_caught(case: tuple[Any, ...]) -> None:
    function, sentence, reason = (*case, never)[:3]
    registered = evidence(missing={"no luck": reason})(function)
    with pytest.raises(AssertionError, match=sentence):
        check_evidence(registered)


@pytest.mark.usefixtures("own_registry")
def test_evidence_that_is_not_registered_is_told() -> None:
    with pytest.raises(AssertionError, match=r"there is no evidence 'sound'.*the decorator segaudit.evidence.evidence"):
        check_evidence(sound)
    evidence()(sound)

    def other(ask: Ask) -> Tensor:
        return sound(ask)

    other.__name__ = "sound"
    with pytest.raises(AssertionError, match="the evidence 'sound' is another function"):
        check_evidence(other)


class Sound(TargetMean):
    higher_is_better = None
    plot_lower_bound = None
    plot_upper_bound = None

    def update(self, sound: Tensor) -> None:
        self.add(sound)


@pytest.mark.usefixtures("own_registry")
def test_sound_evidence_passes_and_serves_a_metric_of_its_own() -> None:
    registered = evidence(missing={"no luck": never})(sound)
    check_evidence(registered, dims=(1, 2, 3))
    check_metric(Sound, reference=float)  # its evidence is computed on a small network


def test_no_check_needs_pytest() -> None:
    (folder,) = segaudit.testing.__path__
    assert not any("import pytest" in path.read_text() for path in Path(folder).glob("*.py"))
