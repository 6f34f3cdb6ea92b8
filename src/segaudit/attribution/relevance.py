"""Propagates relevance from a target's logit back to the input, layer by layer (LRP)."""

from collections import Counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from segaudit.attribution.base import Explainer
from segaudit.attribution.context import restored
from segaudit.attribution.gradient import target_gradients
from segaudit.forwards import Probe

__all__ = ["LRP"]

_LAYER = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_NORM = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
#: Without a rule even where they have no parameters: any normalisation that is not merged.
_NO_RULE = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)
#: Keeps the shares of a sum near 0 finite.
_STABILISER = 1e-6
#: Share of the relevance that may be lost or made on its way before a map is refused.
_MOST_CHANGED = 0.05


class LRP(Explainer):
    """Propagate the logit's relevance down to the pixels (LRP; Bach et al. 2015) by the rules of zennit.

    Our reading for dense targets: the mean logit is a sum over the features that enter the network's last layer, and each
    term is the relevance that its feature starts with. Convolutions hand it on by the z⁺ rule (Montavon et al. 2017,
    equation 9). Linear layers and convolutions without an activation after them use the ε rule. Average pooling hands it on
    by each place's share, the first layer evenly (the flat rule, Lapuschkin et al. 2019). Batch norm is merged into the
    layer before it. Where two features are added, as in residual blocks and feature pyramids, each gets its share of the
    sum. Concatenation and interpolation keep relevance by their gradients. Under z⁺ biases get none, so that a map's sum is
    the target's mean logit without the last layer's bias.

    Signed. That sum is checked. Where the rules do not cover a network (attention, gates, functional activations other
    than ReLU), relevance is made or lost, and the explainer raises.

    When to use:
        For maps that conserve the logit through ResNet-like U-Nets and DeepLabs. It raises for networks where that does not
        hold: MobileNet, EfficientNet, transformers.

    Raises:
        ImportError: if zennit is not installed.
        ValueError: for a network that the rules do not cover.

    """

    cost = "2·F + (1 + 3·T)·B"

    def __init__(self) -> None:
        try:
            import zennit  # noqa: F401
        except ImportError as error:
            raise ImportError("zennit is not installed: run pip install 'segaudit[lrp]'.") from error

    def attribute(self, probe: Probe) -> Tensor:
        """Find the layers on one image; then take one forward and one backward for each target of the fullest image."""
        from zennit.canonizers import NamedMergeBatchNorm
        from zennit.core import Composite

        rules, merges, head = _plan(probe)
        composite = Composite(lambda _, name, __: rules.get(name), [NamedMergeBatchNorm(merges)])
        images = probe.images.clone().requires_grad_(True)
        head_inputs: list[Tensor] = []  # as it comes from below, and where the graph above starts

        def start_here(_: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
            head_inputs.extend([inputs[0], inputs[0].detach().clone().requires_grad_(True)])
            return head_inputs[1].clone()

        with restored(probe.model), composite.context(probe.model):
            probe.model.get_submodule(head).register_forward_pre_hook(start_here)
            with _SharedSums():
                logits = probe.forward(images)
            below, above = head_inputs
            start = target_gradients(logits, above, probe.targets) * above.detach()[probe.targets.image_index]
            relevance = _hand_down(below, images, start, probe)
        _check(start.flatten(1), relevance.flatten(1))
        return relevance.sum(dim=1)


def _hand_down(features: Tensor, images: Tensor, start: Tensor, probe: Probe) -> Tensor:
    """Return the relevance ``(N, channels, *S)`` of the pixels, from that of the features to start with, ``(N, K, *T)``."""
    relevance = images.new_empty(len(probe.targets), *images.shape[1:])
    for chosen in probe.targets.rounds():
        rows = probe.targets.image_index[chosen]
        handed = torch.zeros_like(features)
        handed[rows] = start[chosen]
        (found,) = torch.autograd.grad(features, images, handed, retain_graph=True)
        relevance[chosen] = found[rows]
    return relevance.detach()


def _check(start: Tensor, relevance: Tensor) -> None:
    """Raise for maps ``(N, P)`` whose sums are not those of the relevance ``(N, Q)`` that they come from."""
    changed = (relevance.sum(dim=1) - start.sum(dim=1)).abs() / start.abs().sum(dim=1).clamp_min(_STABILISER)
    if not bool((changed <= _MOST_CHANGED).all()):
        raise ValueError(
            f"LRP does not hold in this network: {float(changed.max()):.0%} of a target's relevance is lost or made on its "
            "way, at a gate, at an activation that is no module, or where biases alone keep features alive; take another "
            "explainer."
        )


def _plan(probe: Probe) -> tuple[dict[str, Any], list[tuple[list[str], str]], str]:
    """Return each module's rule by name, the layers and the batch norms to merge into them, and the last layer's name."""
    from zennit.rules import Epsilon, Flat, Norm, Pass, ZPlus
    from zennit.types import Activation, AvgPool

    runs, head = _runs(probe)
    names = {module: name for name, module in probe.model.named_modules()}
    counts = Counter(module for module, _, _ in runs)
    rules: dict[str, Any] = {}
    merges: list[tuple[list[str], str]] = []
    made_by: dict[int, nn.Module] = {}  # which layer or activation a tensor comes from; one in place, the last
    for module, given, output in runs:
        name, before = names[module], made_by.get(id(given))
        if isinstance(module, Activation) and not any(True for _ in module.parameters(recurse=False)):
            rules[name], made_by[id(output)] = Pass(), module
            continue  # it may run as often as it likes
        if isinstance(module, _LAYER):
            if isinstance(before, _LAYER):  # nothing makes its outputs positive, as z⁺ would have them
                rules[names[before]] = Epsilon()
            rules[name] = Epsilon() if isinstance(module, nn.Linear) else ZPlus(zero_params="bias")
            made_by[id(output)] = module
        elif isinstance(module, AvgPool):
            rules[name] = Norm()
        elif isinstance(module, _NORM) and module.affine and module.running_mean is not None and isinstance(before, _LAYER):
            merges.append(([names[before]], name))
            rules[name], made_by[id(output)] = Pass(), before
        elif isinstance(module, _NO_RULE) or any(True for _ in module.parameters(recurse=False)):
            raise ValueError(
                f"LRP has no rule for {name!r} ({type(module).__name__}) in its place: it explains networks of "
                "convolutions, linear layers, batch norm right after one of them, ReLU and pooling; take another explainer "
                "for this one."
            )
        if name in rules and counts[module] > 1:
            raise ValueError(f"LRP cannot follow {name!r}: it runs {counts[module]} times in one forward pass.")
    first = next(module for module, _, _ in runs if isinstance(module, _LAYER))
    rules[names[first]] = Flat()
    del rules[names[head]]
    return rules, merges, names[head]


Run = tuple[nn.Module, Any, Tensor]


def _runs(probe: Probe) -> tuple[list[Run], nn.Module]:
    """Module, input and output of all modules up to the last layer, as they run, if the logits depend on them."""
    runs: list[Run] = []

    def note(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if isinstance(output, Tensor) and output.requires_grad:
            runs.append((module, inputs[0] if inputs else None, output))

    image = probe.images[:1].clone().requires_grad_(True)
    handles = [module.register_forward_hook(note) for module in probe.model.modules()]
    try:
        total = probe.forward(image.clone()).sum()
    finally:
        for handle in handles:
            handle.remove()
    reached = torch.autograd.grad(total, [run[2] for run in runs], allow_unused=True, retain_graph=True) if runs else ()
    runs = [run for run, gradient in zip(runs, reached, strict=True) if gradient is not None]
    layers = [n for n, run in enumerate(runs) if isinstance(run[0], _LAYER)]
    if not layers:
        raise ValueError(
            "LRP needs a network of modules, but no convolution or linear layer leads to the logits of this one."
        )
    head = runs[layers[-1]]
    head[2].register_hook(torch.zeros_like)
    if bool(torch.autograd.grad(total, image)[0].any()):
        raise ValueError("LRP starts at the last layer, but not all of the logits pass through one in this network.")
    return runs[: layers[-1] + 1], head[0]


class _SharedSums(TorchFunctionMode):
    """Lets two features that are added share the relevance that comes back by what each gave."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if name in ("add", "add_") and not kwargs and all(isinstance(a, Tensor) and a.requires_grad for a in args):
            return _Sum.apply(*args, name == "add_")
        return func(*args, **(kwargs or {}))


class _Sum(torch.autograd.Function):
    """Adds a and b; for the relevance R of the sum, gives a·R / (a + b) and b·R / (a + b)."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, in_place: bool) -> Tensor:
        ctx.save_for_backward(a.clone() if in_place else a, b)
        if in_place:
            ctx.mark_dirty(a)
            return a.add_(b)
        return a + b

    @staticmethod
    def backward(ctx: Any, relevance: Tensor) -> tuple[Tensor, Tensor, None]:
        a, b = ctx.saved_tensors
        total = a + b
        share = relevance / (total + torch.where(total < 0, -_STABILISER, _STABILISER))
        return (a * share).sum_to_size(a.shape), (b * share).sum_to_size(b.shape), None
