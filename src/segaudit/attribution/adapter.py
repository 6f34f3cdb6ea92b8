"""Adapts explainers of other libraries: the methods of captum.attr and of pytorch_grad_cam."""

import copy
import importlib
import inspect
import random
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from segaudit import randomness
from segaudit.attribution.base import Explainer
from segaudit.attribution.context import restored
from segaudit.attribution.layer import layer_of
from segaudit.forwards import Probe
from segaudit.forwards.batching import GRADIENT_WEIGHT
from segaudit.forwards.output import logits_of, resize
from segaudit.forwards.target import Targets, target_logit

__all__ = ["Captum", "PytorchGradCAM"]

Reduction = Literal["sum", "abs_max"]

#: Methods that draw random numbers, or that take one image at a time: their targets are explained one by one.
_ONE_BY_ONE = {"DeepLiftShap", "GradientShap", "LimeBase", "NoiseTunnel", "RandomCAM", "ShapleyValueSampling"}
#: Methods that keep each module's input of the last forward pass, and fail where a module runs twice.
_WITHOUT_REUSE = {"DeepLift", "LRP"}


class Captum(Explainer):
    """Run a method of ``captum.attr`` that attributes to the input or to a layer, on each target's mean logit.

    The method's forward function takes images ``(M, channels, *S)`` and gives the mean logit ``(M,)`` of each row's target.
    Classes and regions go with the rows wherever the method repeats them. The method's baselines are the audit's fill, and
    its feature mask is the coarsest of the audit's partitions, so that KernelShap and its like remove what our own
    explainers remove. ``call`` can name others.

    Deterministic methods take as many targets at once as fit into a pass. Random ones take one at a time and draw
    from a generator that is seeded by the image's content and the class, so that a map is the same in every batch.

    When to use:
        To audit any method of captum beside ours.

    Args:
        method: dotted path of the class.
        arguments: for its constructor, beside the model and the layer. For NoiseTunnel, ``attribution_method`` is the
            dotted path of the method that it smooths.
        call: for its ``attribute``; lists become tuples, as YAML has none.
        channels: how the input's channels become one map: their ``sum``, or their largest absolute value, ``abs_max``.
        layer: for layer methods, the module or its name. Defaults to the one that
            :func:`segaudit.attribution.layer.find_layer` finds. Maps are interpolated linearly to the image's size.
        seed: of the random numbers.

    Raises:
        ImportError: if captum is not installed.
        ValueError: if the method does not exist or explains something else than the target.

    """

    cost = "T · the method's"

    def __init__(
        self,
        method: str = "captum.attr.DeepLift",
        arguments: Mapping[str, Any] | None = None,
        call: Mapping[str, Any] | None = None,
        channels: Reduction = "sum",
        layer: str | nn.Module | None = None,
        seed: int = 0,
    ) -> None:
        if channels not in get_args(Reduction):
            raise ValueError(f"channels must be one of {', '.join(get_args(Reduction))}, got {channels!r}.")
        self.method = method
        self.arguments = dict(arguments or {})
        self.call = {name: tuple(value) if isinstance(value, list) else value for name, value in (call or {}).items()}
        self.channels = channels
        self.layer = layer
        self.seed = seed
        self._class = _peer(method, "captum", "captum.attr", "attribute")
        self._names = _names(self._class)
        if "NoiseTunnel" in self._names:  # it takes another method where the others take the model
            smoothed = self.arguments.pop("attribution_method", "captum.attr.Saliency")
            self._smoothed = _peer(smoothed, "captum", "captum.attr", "attribute")
            self._names |= _names(self._smoothed)
        self._takes = dict(inspect.signature(self._class.attribute).parameters)
        self._check()

    def attribute(self, probe: Probe) -> Tensor:
        """Run the method for every target; it costs what the method costs."""
        with restored(probe.model):
            if _WITHOUT_REUSE & self._names:
                _split_reused(probe)
            model = _TargetLogits(probe.model)
            return _in_turns(probe, self._names, self.seed, lambda rows: self._explain(probe, model, rows))

    def _explain(self, probe: Probe, model: nn.Module, rows: Tensor) -> Tensor:
        arguments, call = dict(self.arguments), dict(self.call)
        wants = inspect.signature(self._class).parameters
        if "layer" in wants:
            arguments["layer"] = layer_of(probe, self.layer).module
        explain = self._class(self._smoothed(model) if "NoiseTunnel" in self._names else model, **arguments)
        targets = probe.targets[rows]
        image = targets.image_index
        if "baselines" in self._takes:
            call.setdefault("baselines", probe.filled[probe.fill_index[rows], image])
        if "feature_mask" in self._takes and "feature_mask" not in call:
            labels = probe.partitions[0][image]
            # Labels without gaps, where one image allows it: an unused one would count as a segment that changes nothing.
            call["feature_mask"] = (labels.unique(return_inverse=True)[1] if len(labels) == 1 else labels)[:, None]
        most = probe.batching.limit
        sizes = {
            "perturbations_per_eval": max(1, most // len(targets)),
            "internal_batch_size": max(1, most // GRADIENT_WEIGHT),
        }
        for name, value in {**sizes, "nt_samples_batch_size": most}.items():
            if name in self._takes:
                call.setdefault(name, value)
        images = probe.images[image].requires_grad_(True)
        found = explain.attribute(images, additional_forward_args=(targets.class_index, targets.region), **call)
        if not isinstance(found, Tensor) or found.ndim != images.ndim or len(found) != len(images):
            what = f"the shape {tuple(found.shape)}" if isinstance(found, Tensor) else f"a {type(found).__name__}"
            raise ValueError(f"{self.method} returned {what}; one map (channels, *S) a target can be audited.")
        found = found.detach()
        return resize(found.sum(1, True) if self.channels == "sum" else found.abs().amax(1, True), images.shape[2:])[:, 0]

    def _check(self) -> None:
        """Raise where the method explains no input, or needs arguments that it was not given."""
        by_us = {"self", "inputs", "baselines", "additional_forward_args", *self.call}
        if "DeepLiftShap" in self._names:  # one fill is no distribution
            by_us -= {"baselines"} - set(self.call)
        missing = [p.name for p in self._takes.values() if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
        missing = [name for name in missing if name not in by_us]
        if "neuron_selector" in missing:
            raise ValueError(f"{self.method} explains a neuron of a layer, not a target; choose a method without 'Neuron'.")
        if "additional_forward_args" not in self._takes and "kwargs" not in self._takes:
            raise ValueError(f"{self.method} cannot be told which target to explain; choose another method.")
        if self._class.__name__ == "FeaturePermutation":
            raise ValueError(f"{self.method} swaps pixels between the images of a batch, so its maps depend on the batch.")
        if missing:
            raise ValueError(f"{self.method} needs {', '.join(missing)}: give it in call={{...}}.")


class PytorchGradCAM(Explainer):
    """Run a class activation map of ``pytorch_grad_cam`` on each target's mean logit, for 2-D images and 3-D volumes.

    Its maps are in [0, 1]: the positive part of each target's map, scaled by its smallest and largest value. It works on
    the model itself. The model's modes, gradients and hooks are restored afterwards.

    When to use:
        To audit any CAM of pytorch-grad-cam beside ours.

    Args:
        method: dotted path of the class.
        layer: the module whose output is weighed, or its name. Defaults to the one that
            :func:`segaudit.attribution.layer.find_layer` finds.
        arguments: for its constructor, beside the model and the layers: ``reshape_transform`` for transformers.
        call: for its call, ``aug_smooth`` or ``eigen_smooth``.

    Raises:
        ImportError: if pytorch_grad_cam is not installed.
        ValueError: if the class does not exist or is no class activation map.

    """

    cost = "T · the method's"

    def __init__(
        self,
        method: str = "pytorch_grad_cam.GradCAM",
        layer: str | nn.Module | None = None,
        arguments: Mapping[str, Any] | None = None,
        call: Mapping[str, Any] | None = None,
    ) -> None:
        self.method = method
        self.layer = layer
        self.arguments = dict(arguments or {})
        self.call = dict(call or {})
        self._class = _peer(method, "grad-cam", "pytorch_grad_cam", "get_cam_image")

    def attribute(self, probe: Probe) -> Tensor:
        """Run the method for every target; it costs what the method costs."""
        if probe.images.ndim not in (4, 5):
            raise ValueError(
                f"{self.method} takes 2-D images and 3-D volumes, got {probe.images.ndim - 2} spatial dimension(s); "
                "choose one of segaudit's own explainers."
            )
        layer = layer_of(probe, self.layer).module
        with restored(probe.model):
            return _in_turns(probe, _names(self._class), 0, lambda rows: self._explain(probe, layer, probe.targets[rows]))

    def _explain(self, probe: Probe, layer: nn.Module, targets: Targets) -> Tensor:
        model = _Logits(probe.model)
        cam = self._class(model=model, target_layers=[layer], **self.arguments)
        # What follows the layer may change its output in place; the peer keeps that, not a copy.
        handle = layer.register_forward_hook(lambda _, __, output: output.clone())
        wanted = [_wanted(targets[n : n + 1]) for n in range(len(targets))]
        images = probe.images[targets.image_index].requires_grad_(True)
        try:
            found = cam(input_tensor=images, targets=wanted, **self.call)
        finally:  # not `with`: on its way out, the peer swallows an IndexError of the model
            handle.remove()
            cam.activations_and_grads.release()
        return torch.as_tensor(found, device=images.device)


class _Logits(nn.Module):
    """Wraps a network of any form of output, and gives logits ``(M, C, *S)`` of the images' size."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return logits_of(self.model(images), images.shape[2:])

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Do nothing, so that a peer cannot drop the gradients of training."""


class _TargetLogits(nn.Module):
    """Gives the mean logit ``(M,)`` of each row's class over its region."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor, class_index: Tensor, region: Tensor) -> Tensor:
        logits = logits_of(self.model(images), images.shape[2:])
        # captum's LRP hands everything on as a number.
        return target_logit(logits, Targets(torch.zeros_like(class_index), class_index, region.bool()))


class _InTurn(nn.Module):
    """Holds a copy of a module for each of the times that a forward pass uses it."""

    def __init__(self, module: nn.Module, uses: int) -> None:
        super().__init__()
        self.copies = nn.ModuleList(copy.deepcopy(module) for _ in range(uses))
        self.turn = 0

    def forward(self, x: Tensor) -> Any:
        chosen = self.copies[self.turn % len(self.copies)]
        self.turn += 1
        return chosen(x)


def _split_reused(probe: Probe) -> None:
    """Give each use of a module without parameters (a ReLU, say) a module of its own, inside :func:`restored` only.

    The blocks of a ResNet use one ReLU several times, and methods that remember each module's input fail there.
    """
    uses: Counter[nn.Module] = Counter()
    leaves = [m for m in probe.model.modules() if not (*m.children(), *m.parameters(False), *m.buffers(False))]
    handles = [leaf.register_forward_hook(lambda module, *_: uses.update([module])) for leaf in leaves]
    try:
        with torch.no_grad():
            probe.forward(probe.images[:1])
    finally:
        for handle in handles:
            handle.remove()
    split = {module: _InTurn(module, count) for module, count in uses.items() if count > 1}
    for parent in list(probe.model.modules()):
        for name, child in parent.named_children():
            setattr(parent, name, split.get(child, child))


def _wanted(target: Targets) -> Callable[[Tensor], Tensor]:
    """Return a function from one image's logits ``(C, *S)`` to the mean logit of one target."""
    return lambda logits: target_logit(logits[None], target)[0]


def _in_turns(probe: Probe, names: set[str], seed: int, explain: Callable[[Tensor], Tensor]) -> Tensor:
    """Return the maps ``(N, *S)`` of all targets.

    Targets are explained in chunks. Where random numbers are drawn, each is explained alone, with numbers of its own.
    """
    targets = probe.targets
    one_by_one = bool(_ONE_BY_ONE & names)
    # DeepLift runs the baselines beside the images.
    weight = probe.batching.limit if one_by_one else GRADIENT_WEIGHT * (2 if "DeepLift" in names else 1)
    keys = randomness.combine(randomness.image_keys(probe.images, seed)[targets.image_index], targets.class_index)

    def turn(rows: Tensor) -> Tensor:
        if one_by_one:
            key = int(keys[rows])  # the context around every explainer gives the global generators back
            torch.manual_seed(key)
            random.seed(key)
            np.random.seed(key % 2**32)  # noqa: NPY002
        return explain(rows)

    return torch.cat(probe.run(len(targets), turn, weight))


def _names(cls: type[Any]) -> set[str]:
    """Return the names of a class and of all that it derives from."""
    return {base.__name__ for base in cls.__mro__}


def _peer(path: str, extra: str, package: str, ability: str) -> type[Any]:
    """Return the class at a dotted path of an optional package; it must have the method ``ability``."""
    try:
        importlib.import_module(package)
    except ImportError as error:
        raise ImportError(f"{package} is not installed: run pip install 'segaudit[{extra}]'.") from error
    module, _, name = path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError):
        found = None
    if not inspect.isclass(found) or not hasattr(found, ability):
        raise ValueError(f"{path!r} is no attribution method; give the path of a class, {package}.Name say.")
    return found
