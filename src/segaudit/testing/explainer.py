"""Checks what must hold for every explainer, whatever it computes."""

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from segaudit.attribution import Explainer, attribution_context
from segaudit.attribution.context import isolate_rng
from segaudit.forwards import Probe, Targets
from segaudit.intervention import GridRegions, Intervention, SuperpixelRegions
from segaudit.testing.expectation import apart, expect
from segaudit.testing.networks import SIZES, Breaks, SmallNet, cues_of, differences, images, state_of, uneven_targets

_GRID = Intervention(regions=GridRegions([3, 8]), max_batch=7)


def check_explainer(
    explainer: Explainer | Callable[[], Explainer],
    *,
    channels: int | Sequence[int] = 3,
    dims: int | Sequence[int] = 2,
    classes: int | Sequence[int] = (3, 1),
    depends_on: Collection[str] | None = None,
    network: Callable[[int], nn.Module] | None = None,
    cues: bool = False,
    device: str | None = None,
    tolerance: float = 1e-5,
) -> None:
    """Check an explainer on small networks.

    Maps have one value a pixel and are finite. They do not depend on the other images of the batch, on the global random
    state, on the size of a pass or on the caller's modes. The model, the images and the process are as before, after an
    error too.

    Args:
        explainer: to be checked. A class, or a function that makes a new explainer for each map, finds more faults.
        channels: of the images. Of several numbers here and below, the first serves all checks, and the others serve those
            of the shape and the batch.
        dims: spatial dimensions of the images, 1 to 3.
        classes: channels of the logits; 1 for a network that tells one class from the background.
        depends_on: what must change the map, of ``model``, ``image`` and ``class``. Defaults to all three, and for controls
            to nothing.
        network: makes a network from a seed, for an explainer that takes special networks alone. Defaults to small
            convolutional networks with several kinds of output.
        cues: whether the explainer needs planted cues.
        device: on which maps must be those of the CPU up to 1e-3, ``cuda`` say. Defaults to none.
        tolerance: largest difference between maps that must be equal up to rounding, as a share of the map's largest
            absolute value.

    Raises:
        AssertionError: if something does not hold. The message says what.

    Example:
        >>> from segaudit.attribution import Saliency
        >>> check_explainer(Saliency)

    """
    several = [[one] if isinstance(one, int) else list(one) for one in (channels, classes, dims)]
    usual: dict[str, Any] = dict(zip(("channels", "classes", "dims"), (one[0] for one in several), strict=True))
    make = explainer if not isinstance(explainer, Explainer) else lambda: explainer
    with isolate_rng():
        suite = _Suite(make, network, usual, cues, tolerance)
        suite.does_not_depend_on_the_batch()
        suite.is_the_same_again()
        suite.has_no_map_without_targets()
        suite.depends_on(depends_on if depends_on is not None else () if make().control else ("model", "image", "class"))
        suite.does_not_depend_on_the_callers_modes()
        suite.leaves_no_trace()
        suite.leaves_no_trace_when_the_model_breaks()
        suite.does_not_depend_on_the_size_of_a_pass()
        if network is None:
            suite.takes_any_output()
            others = [usual | {name: n} for name, (_, *rest) in zip(usual, several, strict=True) for n in rest]
            for case in [usual | {"stride": 2}, *others]:
                _Suite(make, None, case, cues, tolerance).works_in_a_batch()
        if device is not None:
            suite.is_the_same_on(device)


class _Suite:
    """Holds one network, images and targets in them, and the explainer's map of these; each method is one check."""

    def __init__(
        self,
        make: Callable[[], Explainer],
        network: Callable[[int], nn.Module] | None,
        case: dict[str, Any],
        cues: bool,
        tolerance: float,
    ) -> None:
        self.make, self.special, self.case, self.cues, self.tolerance = make, network, case, cues, tolerance
        self.name, self.classes = make().name, max(2, case["classes"])
        self.model, self.size = self.network(0), SIZES[case["dims"]]
        self.x = images(4, case["channels"], self.size)
        self.targets = uneven_targets(self.model, self.x)
        self.where = ", ".join(f"{name}={value}" for name, value in case.items())
        self.map = self.explain("a batch of four images", self.model)

    def network(self, seed: int) -> nn.Module:
        return self.special(seed) if self.special else SmallNet(**self.case, seed=seed)

    def explain(
        self,
        what: str,
        model: nn.Module,
        x: Tensor | None = None,
        targets: Targets | None = None,
        by: Explainer | None = None,
        intervention: Intervention = _GRID,
    ) -> Tensor:
        x, targets = self.x if x is None else x, self.targets if targets is None else targets
        try:
            return self.run(by or self.make(), model, x, targets, intervention)
        except Exception as error:
            raise AssertionError(f"{self.name} fails with {what} ({self.where}): {error}") from error

    def run(
        self, explainer: Explainer, model: nn.Module, x: Tensor, targets: Targets, intervention: Intervention = _GRID
    ) -> Tensor:
        if not self.cues:
            return explainer(model, x, targets, intervention=intervention)
        with attribution_context(model):
            return explainer.explain(Probe(model, x, targets, intervention, cues=cues_of(x)))

    def close(self, found: Tensor, expected: Tensor, sentence: str, tolerance: float | None = None) -> None:
        share = apart(found, expected)
        sentence = f"{sentence} ({self.where}): it differs by {share:.1e} of its largest value."
        expect(share <= (self.tolerance if tolerance is None else tolerance), sentence)

    def equal(self, found: Tensor, sentence: str) -> None:
        self.close(found, self.map, sentence, 0.0)

    def works_in_a_batch(self, chosen: Iterable[int] | None = None) -> None:
        shape = tuple(self.targets.region.shape)
        expect(
            tuple(self.map.shape) == shape,
            f"{self.name} must give one map a target, of the shape {shape}, but gives {tuple(self.map.shape)}.",
        )
        expect(self.map.dtype == torch.float32, f"{self.name} must give float32 maps, but gives {self.map.dtype}.")
        expect(not self.map.requires_grad, f"{self.name} must give maps without gradients: detach them.")
        expect(bool(self.map.isfinite().all()), f"{self.name} gives maps that are not finite ({self.where}).")
        flat = self.map.flatten(1)
        says = bool((flat.amax(dim=1) > flat.amin(dim=1)).any())
        expect(says, f"{self.name} gives constant maps alone, which say nothing ({self.where}).")
        for n in chosen or (len(self.targets) // 2, len(self.targets) - 1):
            b = self.targets.image_index[n : n + 1]
            one = Targets(torch.zeros_like(b), self.targets.class_index[n : n + 1], self.targets.region[n : n + 1])
            alone = self.explain("one image and one target", self.model, self.x[b], one)
            sentence = f"the map of {self.name} depends on the other images or targets of the batch"
            self.close(self.map[n : n + 1], alone, sentence)

    def does_not_depend_on_the_batch(self) -> None:
        self.works_in_a_batch(range(len(self.targets)))

    def is_the_same_again(self) -> None:
        explainer = self.make()
        first = self.explain("the same images again", self.model, by=explainer)
        torch.manual_seed(99)
        self.equal(
            first, f"a new {self.name} gives another map of the same images: draw random numbers from a seed of its own"
        )
        sentence = f"{self.name} gives another map when it is called again: it must not draw from the global random state"
        self.equal(self.explain("the same images again", self.model, by=explainer), sentence)

    def has_no_map_without_targets(self) -> None:
        none = torch.zeros(0, dtype=torch.long)
        region = torch.zeros(0, *self.size, dtype=torch.bool)
        found = self.explain("no targets", self.model, targets=Targets(none, none, region))
        right = found.shape == region.shape and found.dtype == torch.float32
        expect(right, f"{self.name} must give an empty map {tuple(region.shape)} without targets, got {tuple(found.shape)}.")

    def depends_on(self, what: Collection[str]) -> None:
        t = self.targets
        turned = Targets(t.image_index, (t.class_index + 1) % self.classes, t.region)
        others = {
            "model": lambda: self.explain("another model", self.network(5)),
            "image": lambda: self.explain("other images", self.model, images(4, self.case["channels"], self.size, seed=5)),
            "class": lambda: self.explain("other classes", self.model, targets=turned),
        }
        for one in what:
            changed = not torch.allclose(others[one](), self.map)
            sentence = (
                f"the map of {self.name} does not change with the {one}: leave {one!r} out of depends_on if it need not."
            )
            expect(changed, sentence)

    def does_not_depend_on_the_callers_modes(self) -> None:
        for mode in (torch.no_grad, torch.inference_mode):
            with mode():  # the two loops of Lightning
                x = self.x * 1
                found = self.explain(f"images made under {mode.__name__}", self.model, x, uneven_targets(self.model, x))
                expect(not torch.is_grad_enabled(), f"{self.name} leaves gradients on under {mode.__name__}.")
            self.equal(found, f"{self.name} gives another map under {mode.__name__}")
        for dtype in (torch.bfloat16, torch.float16):
            with torch.autocast("cpu", dtype=dtype):
                found = self.explain("autocast", self.model)
                expect(torch.is_autocast_enabled("cpu"), f"{self.name} leaves the caller's autocast off.")
            self.equal(found, f"the caller's autocast to {dtype} reaches the map of {self.name}")
        frozen = self.network(0).requires_grad_(False)
        self.equal(self.explain("frozen parameters", frozen), f"{self.name} gives another map when parameters are frozen")
        thawed = any(parameter.requires_grad for parameter in frozen.parameters())
        expect(not thawed, f"{self.name} leaves frozen parameters with gradients.")

    def leaves_no_trace(self) -> None:
        for training, mode in ((None, "mixed modes"), (True, "train mode"), (False, "evaluation mode")):
            model, x, region = _marked(self.network(0), training), self.x.clone(), self.targets.region.clone()
            before = state_of(model)
            found = self.explain(f"a model in {mode}", model)
            self.untouched(before, model)
            expect(torch.equal(self.x, x) and not self.x.requires_grad, f"{self.name} changes the images: work on a clone.")
            expect(torch.equal(self.targets.region, region), f"{self.name} changes the targets' regions: work on a clone.")
            sentence = f"{self.name} gives another map of a model in {mode}: dropout or batch statistics reach it"
            self.close(found, self.map, sentence)

    def leaves_no_trace_when_the_model_breaks(self) -> None:
        model = Breaks(10**9, self.network(0))
        _marked(model, None)
        before = state_of(model)
        for _ in range(2):  # the first finds a CAM's layer, once a model
            model.calls = 0
            self.explain("a model that draws random numbers", model)
            self.untouched(before, model)
        passes = model.calls
        for nth in sorted({1, 1 + round((passes - 1) / 2), passes}) if passes else ():
            model.nth, model.calls = nth, 0
            with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
                before, broke = state_of(model), False
                try:
                    self.run(self.make(), model, self.x, self.targets)
                except Exception:
                    broke = True
                expect(broke, f"{self.name} hides an error of the model, and gives a map all the same.")
                expect(model.calls == model.nth, f"{self.name} goes on with a model that has raised an error.")
                self.untouched(before, model, ", after an error of the model")

    def untouched(self, before: dict[str, object], model: nn.Module, when: str = "") -> None:
        changed = ", ".join(differences(before, state_of(model)))
        expect(not changed, f"{self.name} leaves the model or the process changed{when}: {changed}.")

    def does_not_depend_on_the_size_of_a_pass(self) -> None:
        regions = SuperpixelRegions([3, 8])
        few, some, many = (
            self.explain(f"max_batch={size}", self.model, intervention=Intervention(regions=regions, max_batch=size))
            for size in (1, 7, 1000)
        )
        for size, found in ((1, few), (7, some)):
            self.close(found, many, f"the map of {self.name} depends on max_batch, of {size} or 1000")

    def takes_any_output(self) -> None:
        for form in ("dict", "logits"):
            found = self.explain(f"a network whose output is a {form}", SmallNet(**self.case, form=form))
            self.equal(found, f"{self.name} gives another map where the output is a {form}: read it with probe.forward")
        found = self.explain("layers that work in place", SmallNet(**self.case, inplace=True))
        self.close(found, self.map, f"{self.name} gives another map of layers that work in place")

    def is_the_same_on(self, device: str) -> None:
        t = self.targets
        there = Targets(t.image_index.to(device), t.class_index.to(device), t.region.to(device))
        found = self.explain(f"the device {device}", self.network(0).to(device), self.x.to(device), there)
        expect(found.device.type == torch.device(device).type, f"{self.name} gives its map of {device} on {found.device}.")
        self.close(found.cpu(), self.map, f"{self.name} gives another map on {device}", 1e-3)


def _marked(model: nn.Module, training: bool | None) -> nn.Module:
    """Give a model mixed modes or one, a frozen parameter, a gradient and hooks of its user."""
    modules, parameters = list(model.modules()), list(model.parameters())
    for place, module in enumerate(modules):
        module.training = place % 2 == 0 if training is None else training
    for parameter in parameters[-2:-1]:
        parameter.requires_grad_(False)
    for parameter in parameters[-1:]:
        parameter.grad = torch.full_like(parameter, 3.0)
    leaf = next(module for module in modules if not list(module.children()))
    leaf.register_forward_hook(lambda *_: None)
    leaf.register_forward_pre_hook(lambda *_: None)
    return model
