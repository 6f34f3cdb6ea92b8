"""Evidence of randomised models: maps of a model that forgets what it has learnt, from its last layers to its first."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from math import prod
from zlib import crc32

import torch
from torch import Tensor, nn
from torch.func import functional_call

from segaudit import randomness
from segaudit.attribution.base import Explainer
from segaudit.attribution.context import attribution_context, restored
from segaudit.evidence.ask import Ask
from segaudit.evidence.registry import evidence
from segaudit.forwards import Probe
from segaudit.forwards.output import logits_of


@evidence()
def randomised_attribution(ask: Ask) -> Tensor:
    """Return the maps of L models with more and more random layers, ``(N, L, *S)``."""
    return randomised_maps(ask.explainer, ask.probe)


def randomised_maps(explainer: Explainer, probe: Probe, levels: int = 3, seed: int = 0) -> Tensor:
    """Return maps ``(N, L, *S)`` of the probe's targets by the model with more and more of its last layers re-initialised.

    The model parameter randomisation test (Adebayo et al. 2018), cascading from the output. The model is left as it was.
    Call it inside the attribution context. Explainers of one probe share the new values and whatever else they share.
    Targets, fills and partitions stay those of the real model.

    Args:
        explainer: explains each of the L models anew; costs L times what it costs.
        probe: of the real model.
        levels: see :func:`cascade`.
        seed: another seed, other values.

    """
    models = probe.once(
        ("randomised", levels, seed),
        lambda: [(_blank(probe), v) for v in cascade(probe.model, probe.images[:1], levels, seed)],
    )
    maps = []
    for blank, values in models:
        with randomised(probe.model, values):
            maps.append(explainer.explain(blank))
    return torch.stack(maps, dim=1)


@contextmanager
def randomised(model: nn.Module, values: Mapping[str, Tensor]) -> Iterator[None]:
    """Let a model hold other values for a while; on the way out, by error too, it has its own again, bit for bit.

    Its own are put aside, not written over: a graph that waits for its backward pass and an optimizer notice nothing.

    Args:
        model: any network.
        values: for some of its parameters and buffers, by name.

    """
    held = dict(chain(model.named_parameters(remove_duplicate=False), model.named_buffers(remove_duplicate=False)))
    with restored(model):
        for name, value in values.items():
            held[name].data = value
        yield


def cascade(model: nn.Module, images: Tensor, levels: int = 3, seed: int = 0) -> list[dict[str, Tensor]]:
    """Draw new values for the last layers of a model, level by level; each level holds those of the levels before.

    Of n modules that hold parameters, level l of L re-initialises the last n^(l/L), so that each takes by the same factor
    more than the one before. With three levels that is about the head, the decoder and all of a usual network: decoders
    have far fewer layers than encoders. The module that runs last comes first; modules that no gradient of the logits
    reaches, auxiliary heads say, are left out.

    Weights of two and more dimensions are uniform with the variance 1 / fan-in (LeCun et al. 1998), which neither dies nor
    explodes in deep networks, with or without residuals. Biases become 0 and scales of normalisations 1, and so do their
    running means and variances: those of layers that no longer exist would make noise of any signal. Other vectors (slopes,
    layer scales) stay. A tensor's values follow from its name and the seed alone.

    Args:
        model: any network.
        images: ``(B, channels, *S)``, one is enough: to see what runs when.
        levels: at most so many; a model of few modules has fewer.
        seed: another seed, other values.

    Returns:
        For each level, values by the names of the model's parameters and buffers.

    Raises:
        ValueError: if no gradient of the logits reaches a parameter.

    """
    if levels < 1:
        raise ValueError(f"levels must be at least 1, got {levels}.")
    modules = dict(model.named_modules())
    with attribution_context(model):
        drawn = [_drawn(name, modules[name], seed) for name in _last_first(model, images)]
    counts = sorted({round(len(drawn) ** (level / levels)) for level in range(1, levels + 1)})
    return [dict(chain.from_iterable(values.items() for values in drawn[:count])) for count in counts]


def _last_first(model: nn.Module, images: Tensor) -> list[str]:
    """List the modules on whose parameters the logits depend, in the order in which gradients reach them.

    Call it inside the attribution context. The gradients are those of stand-ins: no hook of the model's own tensors fires.
    """
    order: list[str] = []
    values = {n: p.detach().requires_grad_() for n, p in model.named_parameters() if p.is_floating_point()}
    for name, value in values.items():
        value.register_hook(lambda _, name=name: order.append(name))
    logits = logits_of(functional_call(model, values, (images.detach().clone(),)), images.shape[2:])
    if logits.requires_grad:
        torch.autograd.grad(logits.sum(), list(values.values()), allow_unused=True)
    if not order:
        raise ValueError(
            "no gradient of the logits reaches a parameter, so there is nothing to randomise: leave out the scores "
            "randomisation and randomisation_full for this model."
        )
    return list(dict.fromkeys(name.rpartition(".")[0] for name in order))


def _drawn(name: str, module: nn.Module, seed: int) -> dict[str, Tensor]:
    """Draw new values, by full name, for what a module holds itself."""
    held = chain(module.named_parameters(name, recurse=False), module.named_buffers(name, recurse=False))
    drawn = {key: _draw(module, key, tensor, seed) for key, tensor in held}
    return {key: values for key, values in drawn.items() if values is not None}


def _draw(module: nn.Module, name: str, tensor: Tensor, seed: int) -> Tensor | None:
    """Draw new values for one parameter or buffer, of the same strides; None where it keeps its own."""
    key = name.rpartition(".")[2]
    if key == "running_mean":
        return torch.zeros_like(tensor)
    if key == "running_var":
        return torch.ones_like(tensor)
    if not isinstance(tensor, nn.Parameter) or not tensor.is_floating_point():
        return None  # a constant of the architecture
    if tensor.ndim > 1:
        keys = randomness.combine(torch.tensor([crc32(name.encode())], device=tensor.device), seed)
        bound = (3 / max(1, prod(tensor.shape[1:]))) ** 0.5
        return torch.empty_like(tensor).copy_((2 * randomness.uniform(keys, tensor.shape)[0] - 1) * bound)
    if "bias" in key:
        return torch.zeros_like(tensor)
    # All normalisations have an eps; a slope of PReLU is a weight as well.
    return torch.ones_like(tensor) if key == "weight" and hasattr(module, "eps") else None


class _Blank(Probe):
    """Asks a model that may be sure of no class; of its maps only the order of the pixels counts."""

    @property
    def reference(self) -> Tensor:
        return self.confidence.clamp_min(1e-6)


def _blank(probe: Probe) -> _Blank:
    """Make a probe of the same images, targets and fills."""
    return _Blank(
        probe.model, probe.images, probe.targets, probe.intervention,
        cues=probe.cues, fill_index=probe.fill_index, batching=probe.batching,
    )  # fmt: skip
