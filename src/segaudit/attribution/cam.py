"""Explainers that weigh a layer's activations by gradients of the target's mean logit."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from segaudit.attribution.base import Explainer
from segaudit.attribution.gradient import target_gradients
from segaudit.intervention import Probe
from segaudit.output import logits_of, resize

#: A map coarser than this along an axis says little; classification CAMs are 7x7 as well.
_MIN_SIDE = 7


class SegGradCAM(Explainer):
    """Seg-Grad-CAM (Vinogradova, Dibrov, Myers 2020): activations weighted by their mean gradient, positive part.

    The map is interpolated linearly to the image's size; units are arbitrary.

    Args:
        layer: name of the module whose output is weighed, as in ``model.named_modules()``. None: the last module that
            runs at the lowest resolution of at least 7 cells an axis, see :func:`find_layer`.

    """

    def __init__(self, layer: str | None = None) -> None:
        self.layer = layer

    def attribute(self, probe: Probe) -> Tensor:
        """One forward and, for each target of the fullest image, one backward pass down to the layer."""
        activation, gradient = layer_gradients(probe, self.layer)
        weights = gradient.flatten(2).mean(dim=2)
        cam = torch.einsum("nk,nk...->n...", weights, activation[probe.targets.image_index]).relu()
        return resize(cam[:, None], probe.images.shape[2:])[:, 0]


def layer_gradients(probe: Probe, layer: str | None) -> tuple[Tensor, Tensor]:
    """Activation ``(B, K, *T)`` of a layer and its gradient ``(N, K, *T)`` of each target's mean logit.

    The graph starts at the layer's output, so the backward pass goes no further down than that.
    """
    name = find_layer(probe.model, probe.images[:1]) if layer is None else layer
    module = _named(probe.model, name)
    kept: list[Tensor] = []
    wrong: list[str] = []

    def start_here(_: nn.Module, __: Any, output: Any) -> Tensor | None:
        if not isinstance(output, Tensor) or output.ndim != probe.images.ndim:
            wrong.append(_describe(output))
            return None
        kept.append(output.detach().requires_grad_(True))
        return kept[-1].clone()  # the clone may be changed in place by a ReLU that follows

    with _hook(module, start_here):
        logits = probe.forward(probe.images)
    if wrong:
        raise ValueError(
            f"the layer {name!r} gives no feature map (B, K, *T), but {wrong[0]}; choose one of: "
            f"{', '.join(candidates(probe.model, probe.images[:1]))}."
        )
    if len(kept) != 1:
        raise ValueError(f"the layer {name!r} ran {len(kept)} times in one forward pass; choose one that runs once.")
    return kept[0].detach(), target_gradients(logits, kept[0], probe.targets)


def find_layer(model: nn.Module, images: Tensor) -> str:
    """Name the last module that runs at the lowest resolution of at least 7 cells along each axis.

    In an encoder-decoder this is where the most context has been gathered at a resolution that still tells places apart.
    Layers with as many channels as there are classes are left out: logits hardly leave the target's own region.

    Args:
        model: any network of feature maps.
        images: ``(B, channels, *S)``; one image is enough.

    Raises:
        ValueError: if no module gives a feature map.

    """
    shapes, classes = _feature_maps(model, images)
    if not shapes:
        raise ValueError("no module of this model gives a feature map (B, K, *T); name a layer yourself.")
    sizes = {name: size for name, (channels, *size) in shapes.items() if channels != classes}
    sizes = sizes or {name: size for name, (_, *size) in shapes.items()}
    fine_enough = {name: size for name, size in sizes.items() if min(size) >= _MIN_SIDE} or sizes
    lowest = min(torch.Size(size).numel() for size in fine_enough.values())
    return [name for name, size in fine_enough.items() if torch.Size(size).numel() == lowest][-1]


def candidates(model: nn.Module, images: Tensor) -> list[str]:
    """Names of the modules that give feature maps on which the logits depend, in the order in which they finish."""
    return list(_feature_maps(model, images)[0])


def _feature_maps(model: nn.Module, images: Tensor) -> tuple[dict[str, tuple[int, ...]], int]:
    """Shapes ``(K, *T)`` of those modules' outputs by name, and the number of the model's classes."""
    outputs: dict[str, Tensor] = {}
    handles = []
    for name, module in model.named_modules():

        def note(module: nn.Module, _: Any, output: Any, name: str = name) -> None:
            if name and isinstance(output, Tensor) and output.ndim == images.ndim:
                outputs.pop(name, None)  # a module that runs twice counts where it ran last
                outputs[name] = output

        handles.append(module.register_forward_hook(note))
    try:
        with torch.enable_grad():
            logits = logits_of(model(images.detach().requires_grad_(True).clone()), images.shape[2:])
    finally:
        for handle in handles:
            handle.remove()
    # An auxiliary head of a training loss gives maps too, but the logits know nothing of them.
    maps = {name: output for name, output in outputs.items() if output.requires_grad}
    gradients = torch.autograd.grad(logits.sum(), list(maps.values()), allow_unused=True) if maps else ()
    used = {name: tuple(m.shape[1:]) for (name, m), g in zip(maps.items(), gradients, strict=True) if g is not None}
    return used, logits.shape[1]


def _named(model: nn.Module, name: str) -> nn.Module:
    modules: dict[str, nn.Module] = dict(model.named_modules())
    if name not in modules:
        ends = [known for known in modules if known.endswith(name)] or [known for known in modules if known][-8:]
        raise ValueError(f"the model has no layer {name!r}; some that it has: {', '.join(ends)}.")
    return modules[name]


@contextmanager
def _hook(module: nn.Module, function: Any) -> Iterator[None]:
    handle = module.register_forward_hook(function)
    try:
        yield
    finally:
        handle.remove()


def _describe(output: Any) -> str:
    return f"a tensor {tuple(output.shape)}" if isinstance(output, Tensor) else f"a {type(output).__name__}"
