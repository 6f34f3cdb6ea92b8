"""Explains transformers by what their attention passes on."""

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from segaudit.attribution.base import Explainer
from segaudit.forwards import Probe

__all__ = ["AttentionRollout"]

#: The module whose input is a block's attention, softmax done.
_SEEN_AT = "attn_drop"


class AttentionRollout(Explainer):
    """Follow a region's tokens back through the attention of all blocks (Abnar, Zuidema 2020, equation 1).

    Our reading for dense targets and several stages. Each block passes on (A + I) / 2, where A is its attention, averaged
    over the heads, and I its residual connection. The target's region is a distribution over the tokens of the last stage.
    It is led back through the blocks to the tokens of the first stage and spread over their pixels. Where keys are pooled
    (SegFormer), each key's share goes evenly to the tokens that it pools. From one stage to the next finer one, each
    token's share goes evenly to the tokens that it covers. Each map sums to 1 and is never negative.

    Attention is read at the inputs of the modules named ``attn_drop``: SegFormer's encoders in
    ``segmentation_models_pytorch`` have them.

    When to use:
        For a SegFormer, to see how far a region's tokens look. The map follows the region and knows nothing of the class.
    """

    cost = "F"

    def attribute(self, probe: Probe) -> Tensor:
        """Take one forward; then multiply a row vector with a matrix for each target and block."""
        blocks = probe.once("attention", lambda: _attention(probe))
        size, targets = probe.images.shape[2:], probe.targets
        strides = [_stride(size, attention.shape[1]) for attention in blocks]
        # A row an image and a position in it, so that no image's attention is copied for its targets.
        rows = (targets.image_index, targets.position)
        flow = blocks[0].new_zeros(len(probe.images), int(targets.position.max()) + 1, *size)
        flow[rows] = targets.region.to(flow)
        flow = _gather(flow, _grid(size, strides[-1]), strides[-1])
        for n, (attention, stride) in reversed(list(enumerate(zip(blocks, strides, strict=True)))):
            grid = _grid(size, stride)
            if n + 1 < len(blocks) and strides[n + 1] != stride:
                flow = _spread(flow, grid, strides[n + 1] // stride)
            window = _window(grid, attention.shape[2])
            passed = _spread((flow.flatten(2) @ attention).unflatten(2, [s // window for s in grid]), grid, window)
            flow = (flow + passed) / 2
        flow = _spread(flow, size, strides[0])[rows]
        return flow / targets.region.flatten(1).sum(dim=1).view(-1, *[1] * len(size))


@torch.no_grad()
def _attention(probe: Probe) -> list[Tensor]:
    """Return each block's attention ``(B, queries, keys)``, averaged over the heads, in the order in which blocks run."""
    seen: list[Tensor] = []

    def keep(_: nn.Module, inputs: tuple[Any, ...]) -> None:
        if inputs and isinstance(inputs[0], Tensor) and inputs[0].ndim == 4:
            seen.append(inputs[0].float().mean(dim=1))

    named = [module for name, module in probe.model.named_modules() if name.rpartition(".")[2] == _SEEN_AT]
    handles = [module.register_forward_pre_hook(keep) for module in named]
    try:
        probe.forward(probe.images)
    finally:
        for handle in handles:
            handle.remove()
    if not seen:
        raise ValueError(
            f"no attention is to be seen: this model runs no module named {_SEEN_AT!r} on attention (B, heads, queries, "
            "keys). Turn fused attention off (timm.layers.set_fused_attn(False) before the model is built), or take another "
            "explainer for a network of convolutions."
        )
    if any(len(attention) != len(probe.images) for attention in seen):
        raise ValueError("this model attends within windows, not across the image; attention rollout cannot follow it.")
    return seen


def _stride(size: Sequence[int], cells: int) -> int:
    """Return the pixels per grid place along each axis, where a grid over the image has that many places."""
    found = [stride for stride in range(1, max(size) + 1) if prod(_grid(size, stride)) == cells]
    if not found:
        raise ValueError(
            f"attention over {cells} tokens is no grid over an image of {tuple(size)}; attention rollout takes none but "
            "image tokens, without class tokens."
        )
    return found[0]


def _window(grid: Sequence[int], keys: int) -> int:
    """Return how many grid places a key pools along each axis; those left over at the far ends are pooled by none."""
    found = [window for window in range(1, max(grid) + 1) if prod(s // window for s in grid) == keys]
    if not found:
        raise ValueError(
            f"attention has {keys} keys for a grid of {tuple(grid)} cells; attention rollout needs square windows."
        )
    return found[0]


def _grid(size: Sequence[int], stride: int) -> list[int]:
    return [-(-s // stride) for s in size]


def _spread(values: Tensor, fine: Sequence[int], ratio: int) -> Tensor:
    """Spread values ``(B, T, *coarse)`` over a grid ``ratio`` times finer, each evenly over the places that it covers."""
    for axis, size in enumerate(fine, start=2):
        index = torch.arange(size, device=values.device) // ratio
        coarse = values.shape[axis]
        share = torch.bincount(index, minlength=coarse)[:coarse].clamp_min(1)
        shape = (-1, *[1] * (values.ndim - 1 - axis))
        covered = (index < coarse).view(shape)  # nothing covers what pooling left over
        values = (values / share.view(shape)).index_select(axis, index.clamp_max(coarse - 1)) * covered
    return values


def _gather(values: Tensor, coarse: Sequence[int], ratio: int) -> Tensor:
    """Sum values ``(B, T, *fine)`` over the places of a grid ``ratio`` times coarser."""
    for axis, cells in enumerate(coarse, start=2):
        index = torch.arange(values.shape[axis], device=values.device) // ratio
        summed = values.new_zeros(*values.shape[:axis], cells, *values.shape[axis + 1 :])
        values = summed.index_add_(axis, index, values)
    return values
