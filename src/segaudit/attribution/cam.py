"""Explains by weighing a layer's activations: by gradients, by a principal component, or by the logit without them."""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segaudit.attribution.base import Explainer
from segaudit.attribution.layer import hook, layer_activation, layer_gradients, layer_of, read
from segaudit.forwards import Probe
from segaudit.forwards.output import resize
from segaudit.forwards.target import target_logit

__all__ = [
    "AblationCAM",
    "EigenCAM",
    "GradCAMPlusPlus",
    "HiResCAM",
    "LayerCAM",
    "ScoreCAM",
    "SegGradCAM",
    "SegXResCAM",
    "XGradCAM",
]

_POOLS: dict[str, dict[int, Callable[..., Tensor]]] = {
    "mean": {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d},
    "max": {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d},
}


class _GradientCAM(Explainer):
    """Reads the gradient of each target's mean logit at a layer; all such CAMs of one batch share the passes."""

    cost = "F + T·B"

    def __init__(self, layer: str | nn.Module | None = None) -> None:
        self.layer = layer

    @abstractmethod
    def cam(self, activation: Tensor, gradient: Tensor) -> Tensor:
        """Return maps ``(N, *T)`` of activations and gradients ``(N, K, *T)``, a row a target."""

    def attribute(self, probe: Probe) -> Tensor:
        """Take one forward and, for each target of the fullest image, one backward pass down to the layer."""
        activation, gradient = layer_gradients(probe, self.layer)
        return _to_image(self.cam(activation[probe.targets.image_index], gradient), probe)


class SegGradCAM(_GradientCAM):
    """Weigh a layer's activations by their mean gradient (Seg-Grad-CAM; Vinogradova, Dibrov, Myers 2020).

    The map is the positive part of their sum, interpolated linearly to the image's size; units are arbitrary.

    When to use:
        To see where in the context the evidence lies, at the layer's resolution. A layer near the output hardly leaves the
        object.

    Args:
        layer: name of the module whose output is weighed, as in ``model.named_modules()``, or the module itself. Its
            output is a feature map ``(B, K, *T)`` or ``(B, *T, K)``, or tokens ``(B, L, K)``. Defaults to the last module
            that runs at the lowest resolution of at least 7 places an axis, see
            :func:`~segaudit.attribution.layer.find_layer`.

    """

    def cam(self, activation: Tensor, gradient: Tensor) -> Tensor:
        """Return the positive part of the channels' sum, weighed by their mean gradient."""
        return _weighed(activation, gradient.flatten(2).mean(dim=2)).relu()


class GradCAMPlusPlus(_GradientCAM):
    """Weigh a layer's activations by their positive gradients, each with its own share (Grad-CAM++).

    Chattopadhay, Sarkar, Howlader, Balasubramanian 2018, equations 5 and 19, of the mean logit Y. A channel's weight is
    Σ α · ReLU(g) with α = g² / (2g² + g³·ΣA), taken as 1 / (2 + g·ΣA): both come from exp(Y), whose own value scales the
    map everywhere and is left out. Other implementations add a small number to the denominator. It would outweigh the
    squares of a mean logit's gradients, so there is none here. The derivation assumes activations that are not negative:
    choose a layer behind a ReLU. The map is interpolated linearly to the image's size; units are arbitrary.

    When to use:
        Where one target holds several instances of a class.

    Args:
        layer: as for :class:`SegGradCAM`.

    """

    def cam(self, activation: Tensor, gradient: Tensor) -> Tensor:
        """Return the positive part of the channels' sum, weighed by their positive gradients, each with its own share."""
        total = activation.flatten(2).sum(dim=2).view(*activation.shape[:2], *[1] * (activation.ndim - 2))
        share = _ratio(torch.ones_like(gradient), 2 + gradient * total)
        return _weighed(activation, (share * gradient.relu()).flatten(2).sum(dim=2)).relu()


class XGradCAM(_GradientCAM):
    """Weigh a layer's activations by gradients that are averaged with the activations as weights (XGrad-CAM).

    Fu, Hu, Dong, Guo, Gao, Li 2020, equation 8. A channel's weight is Σ g·A / ΣA, and 0 where it is silent. Behind a ReLU
    it lies among the gradients. Where activations of both signs cancel, it can grow without bound. The map is the positive
    part, interpolated linearly to the image's size.

    When to use:
        As Seg-Grad-CAM, behind ReLUs. It is unbounded where activations cancel.

    Args:
        layer: as for :class:`SegGradCAM`.

    """

    def cam(self, activation: Tensor, gradient: Tensor) -> Tensor:
        """Return the positive part of the channels' sum, weighed by their gradient where they are active."""
        weights = _ratio((gradient * activation).flatten(2).sum(dim=2), activation.flatten(2).sum(dim=2))
        return _weighed(activation, weights).relu()


class HiResCAM(_GradientCAM):
    """Multiply gradient and activation place by place and sum over the channels (HiResCAM; Draelos, Carin 2020).

    Signed. Behind a linear head, the map before interpolation sums to the mean logit less its bias. Units are logits a
    place of the layer; the map is interpolated linearly to the image's size.

    When to use:
        For a CAM that does not credit places that the logit did not use. It is exact behind a linear head.

    Args:
        layer: as for :class:`SegGradCAM`.

    """

    def cam(self, activation: Tensor, gradient: Tensor) -> Tensor:
        """Return the sum over the channels."""
        return (gradient * activation).sum(dim=1)


class LayerCAM(_GradientCAM):
    """Multiply activations by their own positive gradient (LayerCAM; Jiang, Zhang, Hou, Cheng, Wei 2021, equations 5 to 7).

    The map is the positive part of the channels' sum, interpolated linearly to the image's size.

    When to use:
        On shallow layers, for finer maps than a bottleneck gives.

    Args:
        layer: as for :class:`SegGradCAM`.

    """

    def cam(self, activation: Tensor, gradient: Tensor) -> Tensor:
        """Return the positive part of the sum over the channels."""
        return (gradient.relu() * activation).sum(dim=1).relu()


class SegXResCAM(_GradientCAM):
    """Multiply activations by gradients that are pooled in windows (Seg-XRes-CAM; Hasany, Petitjean, Mériaudeau 2023).

    Each place takes the gradient of its window; windows at the far border are smaller where they do not fit. With a window
    of 1 this is the positive part of HiResCAM, with one of the map's size it is Seg-Grad-CAM. The map is the positive part
    of the channels' sum, interpolated linearly to the image's size.

    When to use:
        Between Seg-Grad-CAM and HiResCAM. It keeps the place of gradients up to a window, and was made for segmentation.

    Args:
        layer: as for :class:`SegGradCAM`.
        window: places of the layer in a window, along each axis.
        pool: ``mean`` or ``max`` of the gradients in a window.

    """

    def __init__(self, layer: str | nn.Module | None = None, window: int = 2, pool: Literal["mean", "max"] = "mean") -> None:
        super().__init__(layer)
        if window < 1:
            raise ValueError(f"window must be at least 1, got {window}.")
        if pool not in _POOLS:
            raise ValueError(f"pool must be one of {', '.join(_POOLS)}, got {pool!r}.")
        self.window = window
        self.pool = pool

    def cam(self, activation: Tensor, gradient: Tensor) -> Tensor:
        """Return the positive part of the sum over the channels."""
        sizes = gradient.shape[2:]
        kernel = [min(self.window, size) for size in sizes]
        pooled = _POOLS[self.pool][len(sizes)](gradient, kernel, ceil_mode=True)
        for axis, (side, size) in enumerate(zip(kernel, sizes, strict=True), start=2):
            pooled = pooled.index_select(axis, torch.arange(size, device=pooled.device) // side)
        return (pooled * activation).sum(dim=1).relu()


class EigenCAM(Explainer):
    """Project a layer's activations on their first principal component (Eigen-CAM; Muhammad, Yeasin 2020, equation 2).

    It knows nothing of the target: all targets of an image share one map. The decomposition leaves the sign open. It is
    chosen such that the largest absolute value is positive (Chung, Ying 2025, equation 13). The map is interpolated
    linearly to the image's size.

    When to use:
        To see what the layer reacts to, for any class: a check that a class-specific map adds something.

    Args:
        layer: as for :class:`SegGradCAM`.
        center: whether each channel's mean is taken off first, as in a principal component and in pytorch_grad_cam. The
            paper decomposes the activations as they are.

    """

    cost = "F"

    def __init__(self, layer: str | nn.Module | None = None, center: bool = True) -> None:
        self.layer = layer
        self.center = center

    def attribute(self, probe: Probe) -> Tensor:
        """Take one forward."""
        activation = layer_activation(probe, self.layer)
        maps = probe.once(("eigen_cam", layer_of(probe, self.layer).module, self.center), lambda: self._maps(activation))
        return _to_image(maps[probe.targets.image_index], probe)

    def _maps(self, activation: Tensor) -> Tensor:
        values = activation.flatten(2).double()  # (B, K, L); a Gram matrix squares the range of the singular values
        if self.center:
            values = values - values.mean(dim=2, keepdim=True)
        if values.shape[1] <= values.shape[2]:
            vector = torch.linalg.eigh(values @ values.mT).eigenvectors[..., -1]
            projection = torch.einsum("bk,bkl->bl", vector, values)
        else:
            value, vectors = torch.linalg.eigh(values.mT @ values)
            projection = vectors[..., -1] * value[:, -1:].clamp_min(0).sqrt()
        down = projection.amin(dim=1).abs() > projection.amax(dim=1).abs()
        return torch.where(down[:, None], -projection, projection).to(activation.dtype).view(-1, *activation.shape[2:])


class ScoreCAM(Explainer):
    """Weigh each channel by the logit of the image masked by it (Score-CAM; Wang et al. 2020).

    Wang, Wang, Du, Yang, Zhang, Ding, Mardziel, Hu 2020. A channel, interpolated to the image's size and scaled to [0, 1],
    says how much of each pixel is shown; the intervention's fill takes the rest. Its weight is the softmax over the channels
    of the mean logit, so that the logit of the filled image cancels. Masks know no class, so one forward a channel serves
    all targets of an image. The map is the positive part, interpolated linearly to the image's size.

    When to use:
        Where gradients are not wanted or not to be had. It takes a forward a channel, which all targets of the image share.

    Args:
        layer: as for :class:`SegGradCAM`.
        channels: how many channels are asked, those of the largest mean absolute activation in the image. Defaults to all.

    """

    cost = "K·F"

    def __init__(self, layer: str | nn.Module | None = None, channels: int | None = None) -> None:
        self.layer = layer
        self.channels = _checked(channels)

    def attribute(self, probe: Probe) -> Tensor:
        """Take one forward an image for each channel."""
        activation = layer_activation(probe, self.layer)
        wanted = _strongest(activation, self.channels)

        def removed(image: Tensor, channel: Tensor) -> Tensor:
            return 1 - _unit_range(resize(activation[image, channel][:, None], probe.images.shape[2:])[:, 0])

        logits = probe.sweep(wanted, removed, target_logit)
        image = probe.targets.image_index
        weights = logits.where(wanted[image], -torch.inf).softmax(dim=1)
        return _to_image(_weighed(activation[image], weights.to(activation.dtype)).relu(), probe)


class AblationCAM(Explainer):
    """Weigh each channel by how far the logit falls without it (Ablation-CAM; Desai, Ramaswamy 2020, equation 3).

    A channel's weight is y - y_k, the mean logits with the channel as it is and with zeros in its place. The paper divides
    by y. That only scales the map, and would turn it over where a mean logit is negative, so it is left out. One forward
    a channel serves all targets of an image; a silent channel costs none. The map is the positive part, interpolated
    linearly to the image's size.

    When to use:
        As Score-CAM. It takes channels away inside the network, so no fill is involved.

    Args:
        layer: as for :class:`SegGradCAM`.
        channels: how many channels are ablated, those of the largest mean absolute activation in the image; the others
            have no weight. Defaults to all.

    """

    cost = "K·F"

    def __init__(self, layer: str | nn.Module | None = None, channels: int | None = None) -> None:
        self.layer = layer
        self.channels = _checked(channels)

    def attribute(self, probe: Probe) -> Tensor:
        """Take one forward an image for each channel, and one for none."""
        activation = layer_activation(probe, self.layer)
        images, image = probe.images, probe.targets.image_index
        wanted = _strongest(activation, self.channels) & activation.flatten(2).any(dim=2)
        channels = torch.arange(wanted.shape[1], device=images.device)
        silenced = channels  # the channel that is silenced in each row of the forward pass to come

        def nothing(image: Tensor, channel: Tensor) -> Tensor:
            nonlocal silenced
            silenced = channel
            return torch.zeros(len(image), *images.shape[2:], dtype=torch.bool, device=images.device)

        def silence(_: nn.Module, __: Any, output: Tensor) -> Tensor:
            reading = read(output, (len(output), *images.shape[1:]))
            others = (channels != silenced[:, None]).to(output.dtype)
            return output * reading.over_channels(others, output) if reading else output

        # One more than there are channels: the network as it is, by the same road as all others.
        with hook(layer_of(probe, self.layer).module, silence):
            logits = probe.sweep(F.pad(wanted, (0, 1), value=True), nothing, target_logit, fills=1)
        weights = (logits[:, -1:] - logits[:, :-1]) * wanted[image]
        return _to_image(_weighed(activation[image], weights.to(activation.dtype)).relu(), probe)


def _to_image(cam: Tensor, probe: Probe) -> Tensor:
    """Interpolate maps ``(N, *T)`` to ``(N, *S)``."""
    return resize(cam[:, None], probe.images.shape[2:])[:, 0]


def _weighed(activation: Tensor, weights: Tensor) -> Tensor:
    return torch.einsum("nk,nk...->n...", weights, activation)


def _ratio(above: Tensor, below: Tensor) -> Tensor:
    """Divide; 0 where the divisor is 0."""
    return above / below.where(below != 0, torch.inf)


def _unit_range(values: Tensor) -> Tensor:
    """Scale rows to [0, 1]; zeros where a row is constant."""
    flat = values.flatten(1)
    low, high = flat.amin(dim=1, keepdim=True), flat.amax(dim=1, keepdim=True)
    return _ratio(flat - low, high - low).view(values.shape)


def _strongest(activation: Tensor, channels: int | None) -> Tensor:
    """Choose the channels that are asked, those of the largest mean absolute activation: ``(B, K)`` bool."""
    strength = activation.flatten(2).abs().mean(dim=2)
    order = strength.argsort(dim=1, descending=True, stable=True)[:, :channels]
    return torch.zeros_like(strength, dtype=torch.bool).scatter_(1, order, True)


def _checked(channels: int | None) -> int | None:
    if channels is not None and channels < 1:
        raise ValueError(f"channels must be at least 1, or None for all, got {channels}.")
    return channels
