"""Finds the layer that a CAM reads, reads its output as a feature map, and takes gradients down to it."""

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from math import prod
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from segaudit.attribution.gradient import target_gradients
from segaudit.forwards import Probe
from segaudit.forwards.output import logits_of

#: A map coarser than this along an axis says little; classification CAMs are 7x7 as well.
_MIN_SIDE = 7
#: Class, distillation and register tokens in front of those of the grid; no known network has more.
_MAX_PREFIX = 8
#: At rest their output is their input, or attention weights (B, heads, L, L), which look like a feature map.
_NO_FEATURES = (nn.modules.dropout._DropoutNd, nn.Identity, nn.Softmax)
#: Results of :func:`find_layer`, by an image's shape and the modules' names and types: weights do not change them.
_FOUND: WeakKeyDictionary[nn.Module, dict[Hashable, str]] = WeakKeyDictionary()


class Reading(NamedTuple):
    """Says how a layer's output is read as a feature map ``(B, K, *T)``.

    Attributes:
        grid: the sizes ``*T``.
        axis: of the channels: 1, or -1 for tokens ``(B, L, K)`` and channels-last outputs ``(B, *T, K)``.
        prefix: how many tokens stand in front of those of the grid.

    """

    grid: tuple[int, ...]
    axis: int = 1
    prefix: int = 0

    def features(self, output: Tensor) -> Tensor:
        """Return ``(B, K, *T)`` from an output or its gradient."""
        if self.axis == 1:
            return output
        tokens = output.flatten(1, -2)[:, self.prefix :]
        return tokens.mT.reshape(len(output), -1, *self.grid)

    def over_channels(self, values: Tensor, output: Tensor) -> Tensor:
        """View values ``(B, K)`` so that they broadcast to the output."""
        between = [1] * (output.ndim - 2)
        return values.view(len(values), *between, -1) if self.axis == -1 else values.view(*values.shape, *between)


class Layer(NamedTuple):
    """Holds a module of the model and its name, which is empty for the model itself."""

    name: str
    module: nn.Module

    def __str__(self) -> str:
        return f"the layer {self.name!r}" if self.name else "the model itself as a layer"


def layer_of(probe: Probe, layer: str | nn.Module | None) -> Layer:
    """Return the layer that is named or given, or the one that :func:`find_layer` finds, once a model and size of image.

    Raises:
        ValueError: if the model has no such layer.

    """
    modules = dict(probe.model.named_modules(remove_duplicate=False))
    if layer is None:
        found = _FOUND.setdefault(probe.model, {})
        structure = probe.images.shape[1:], tuple((name, type(module)) for name, module in modules.items())
        if structure not in found:
            with probe.measure_cost():  # charged to nobody: it happens once a model, to the explainer that comes first
                found[structure] = find_layer(probe.model, probe.images[:1])
        layer = found[structure]
    if isinstance(layer, nn.Module):
        if names := [name for name, module in modules.items() if module is layer]:
            return Layer(names[0], layer)
        raise ValueError(
            f"the layer given as a module ({type(layer).__name__}) is no part of this model, as after a copy: give its "
            "name instead."
        )
    if layer not in modules:
        inner = [known for known in modules if known]
        ends = [known for known in inner if known.endswith(layer)] or inner[-8:]
        has = f"some that it has: {', '.join(ends)}." if ends else "it is one single module; leave the layer out."
        raise ValueError(f"the model has no layer {layer!r}; {has}")
    return Layer(layer, modules[layer])


def layer_activation(probe: Probe, layer: str | nn.Module | None) -> Tensor:
    """Return the activation ``(B, K, *T)`` of a layer, without gradients; all who ask share one forward a batch.

    Raises:
        ValueError: if the layer gives no feature map, or does not run exactly once.

    """
    where = layer_of(probe, layer)

    @torch.no_grad()
    def make() -> Tensor:
        def part(rows: Tensor) -> Tensor:
            output, reading, _ = _start_at(probe, where, probe.images[rows])
            return reading.features(output)

        return torch.cat(probe.run(len(probe.images), part))

    return probe.once(("layer_activation", where.module), make)


def layer_gradients(probe: Probe, layer: str | nn.Module | None) -> tuple[Tensor, Tensor]:
    """Return the activation ``(B, K, *T)`` of a layer and its gradient ``(N, K, *T)`` of each target's mean logit.

    The graph starts at the layer's output, and the backward passes go no further down. It takes one forward of the batch
    and one backward for each target of the fullest image, which all who ask share.

    Raises:
        ValueError: if the layer gives no feature map, does not run exactly once, or the logits do not depend on it.

    """
    where = layer_of(probe, layer)

    def make() -> tuple[Tensor, Tensor]:
        output, reading, logits = _start_at(probe, where, probe.images)
        if not logits.requires_grad:
            raise ValueError(f"the logits do not depend on {where}; choose one of: {_choice(probe)}.")
        gradient = target_gradients(logits, output, probe.targets)
        return reading.features(output.detach()), reading.features(gradient)

    return probe.once(("layer_gradients", where.module), make)


@contextmanager
def hook(module: nn.Module, function: Callable[[nn.Module, Any, Any], Tensor | None]) -> Iterator[None]:
    """Let a function see a module's output, and change it, for a while."""
    handle = module.register_forward_hook(function)
    try:
        yield
    finally:
        handle.remove()


def find_layer(model: nn.Module, images: Tensor) -> str:
    """Name the last module that runs at the lowest resolution of at least 7 places along each axis.

    In an encoder-decoder this is where the most context has been gathered at a resolution that still tells places apart.
    Layers with as many channels as there are classes are left out: logits hardly leave the target's own region. A network
    that is one single module is itself the layer, under the empty name.

    Args:
        model: any network of feature maps, tokens or both.
        images: ``(B, channels, *S)``; one image is enough.

    Raises:
        ValueError: if no module gives a feature map, or no gradient reaches the image.

    """
    shapes, classes = _feature_maps(model, images)
    if not shapes:
        raise ValueError("no module of this model gives a feature map (B, K, *T); name a layer yourself.")
    sizes = {name: size for name, (channels, *size) in shapes.items() if channels != classes}
    sizes = sizes or {name: size for name, (_, *size) in shapes.items()}
    fine_enough = {name: size for name, size in sizes.items() if min(size) >= _MIN_SIDE} or sizes
    lowest = min(prod(size) for size in fine_enough.values())
    return [name for name, size in fine_enough.items() if prod(size) == lowest][-1]


def candidates(model: nn.Module, images: Tensor) -> list[str]:
    """List the modules that give feature maps on which the logits depend, in the order in which they finish."""
    return list(_feature_maps(model, images)[0])


def read(output: Any, images: Sequence[int]) -> Reading | None:
    """Tell how a module's output is read as a feature map of images ``(B, channels, *S)``; None where it is none.

    Channels come first wherever that is possible. They come last where only then the sizes are in the image's
    proportions. Tokens of images of two or more dimensions are laid out in its proportions; the extra ones in front are
    left out.

    Example:
        >>> images = 2, 3, 64, 96
        >>> read(torch.zeros(2, 24, 8, 12), images)
        Reading(grid=(8, 12), axis=1, prefix=0)
        >>> read(torch.zeros(2, 8, 12, 24), images)
        Reading(grid=(8, 12), axis=-1, prefix=0)
        >>> read(torch.zeros(2, 97, 24), images)
        Reading(grid=(8, 12), axis=-1, prefix=1)

    """
    if not isinstance(output, Tensor) or not output.is_floating_point() or output.shape[:1] != images[:1]:
        return None
    size = tuple(images[2:])
    if output.ndim == len(images):
        first, last = tuple(output.shape[2:]), tuple(output.shape[1:-1])
        return Reading(last, axis=-1) if _in_proportion(last, size) and not _in_proportion(first, size) else Reading(first)
    return _token_grid(output.shape[1], size) if output.ndim == 3 else None


def _in_proportion(grid: Sequence[int], size: Sequence[int]) -> bool:
    """Tell whether one stride explains the sizes along all axes, give or take one place for padding."""
    least = max(s / (t + 1) for t, s in zip(grid, size, strict=True))
    most = min(s / (t - 1) if t > 1 else float("inf") for t, s in zip(grid, size, strict=True))
    return least < most


@lru_cache(maxsize=1024)
def _token_grid(tokens: int, size: tuple[int, ...]) -> Reading | None:
    strides = range(1, max(size) + 1)
    grids = [tuple(s // t for s in size) for t in strides] + [tuple(-(-s // t) for s in size) for t in strides]
    readings = [Reading(grid, axis=-1, prefix=tokens - prod(grid)) for grid in grids if prod(grid)]
    readings = [reading for reading in readings if 0 <= reading.prefix <= _MAX_PREFIX]
    return min(readings, key=lambda reading: reading.prefix, default=None)


def _start_at(probe: Probe, where: Layer, images: Tensor) -> tuple[Tensor, Reading, Tensor]:
    """Return a layer's output, where the graph starts if gradients are on, how it is read, and logits ``(B, C, *S)``."""
    runs: list[tuple[Tensor, Reading]] = []
    wrong: list[str] = []

    def start_here(_: nn.Module, __: Any, output: Any) -> Tensor | None:
        reading = read(output, images.shape)
        if reading is None:
            wrong.append(f"a tensor {tuple(output.shape)}" if isinstance(output, Tensor) else f"a {type(output).__name__}")
            return None
        start = output.detach().requires_grad_(torch.is_grad_enabled())
        runs.append((start, reading))
        copy: Tensor = start.clone()
        return copy  # may be changed in place by a ReLU that follows

    with hook(where.module, start_here):
        logits = probe.forward(images)
    if wrong:
        raise ValueError(
            f"{where} gives no feature map (B, K, *T) and no tokens (B, L, K), but {wrong[0]}; choose one of: "
            f"{_choice(probe)}."
        )
    if len(runs) != 1:
        raise ValueError(f"{where} ran {len(runs)} times in one forward pass; choose one that runs once.")
    return *runs[0], logits


def _choice(probe: Probe) -> str:
    return ", ".join(candidates(probe.model, probe.images[:1]))


@torch.enable_grad()
def _feature_maps(model: nn.Module, images: Tensor) -> tuple[dict[str, tuple[int, ...]], int]:
    """Return the shapes ``(K, *T)`` of the modules' feature maps by name, and the number of the model's classes."""
    outputs: dict[str, tuple[Tensor, tuple[int, ...]]] = {}
    handles = []
    for name, module in model.named_modules():

        def note(module: nn.Module, _: Any, output: Any, name: str = name) -> None:
            reading = read(output, images.shape)
            if reading and not isinstance(module, _NO_FEATURES):
                outputs.pop(name, None)  # a module that runs twice counts where it ran last
                outputs[name] = output, (output.shape[reading.axis], *reading.grid)

        handles.append(module.register_forward_hook(note))
    try:
        logits = logits_of(model(images.detach().requires_grad_(True).clone()), images.shape[2:])
    finally:
        for handle in handles:
            handle.remove()
    if not logits.requires_grad:
        raise ValueError("no gradient reaches the image: does the model's forward detach its input or its output?")
    # An auxiliary head of a training loss gives maps too, but the logits know nothing of them.
    maps = {name: output for name, (output, _) in outputs.items() if output.requires_grad}
    gradients = torch.autograd.grad(logits.sum(), list(maps.values()), allow_unused=True) if maps else ()
    used = {name: outputs[name][1] for name, g in zip(maps, gradients, strict=True) if g is not None}
    # The model's own output is its logits, and of use only where there is nothing else.
    used = {name: shape for name, shape in used.items() if name} or used
    fitting = {name: shape for name, shape in used.items() if _in_proportion(shape[1:], images.shape[2:])}
    return fitting or used, logits.shape[1]
