"""Puts a model into the state in which attributions are computed, and back."""

import copy
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["attribution_context"]

#: Contents of a module that a peer may change while it works.
_HELD = (
    *("_parameters", "_buffers", "_modules"),
    *("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks"),
)


@contextmanager
def isolate_rng() -> Iterator[None]:
    """Restore the global random states of Python, NumPy and torch (all devices) at the end, on errors too."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    used = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()  # asking would start CUDA
    with torch.random.fork_rng(devices=used):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002


@contextmanager
def attribution_context(model: nn.Module) -> Iterator[Callable[[], None]]:
    """Let gradients flow through a model in eval mode, and leave no trace in it.

    Inside, gradients are on even where the caller runs under ``no_grad`` or ``inference_mode``, as Lightning's validation
    loops do. Every module is in evaluation mode. The caller's autocast is off: the audit sets the precision of a pass.
    Parameters do not require gradients, so nothing can reach their ``.grad``.

    On the way out, after an error too, each module's own mode, the buffers that a forward pass changes, the hooks, the
    global random states and autocast are as before. A cache that a forward pass makes in a new tensor (a buffer that no
    checkpoint holds, or of another size) stays, because the module may remember elsewhere that it is there.

    Tensors made under ``inference_mode`` must be cloned inside before gradients can flow through them.

    Yields:
        A function that lets the hooks stay that exist when it is called. Networks of transformers install their own in
        their first forward pass, and would not install them again.

    """
    modes = [(module, module.training) for module in model.modules()]
    hooks = [(module, *_hooks(module)) for module in model.modules()]

    def keep_hooks() -> None:
        hooks[:] = [(module, *_hooks(module)) for module in model.modules()]

    buffers = [_Buffer(module, *one) for module in model.modules() for one in module.named_buffers(recurse=False)]
    frozen = [parameter for parameter in model.parameters() if parameter.requires_grad]
    devices = {parameter.device.type for parameter in model.parameters()} | {"cpu"}
    try:
        with torch.inference_mode(False), torch.enable_grad(), isolate_rng(), _autocast_off(devices):
            model.eval()
            for parameter in frozen:
                parameter.requires_grad_(False)
            yield keep_hooks
    finally:
        for parameter in frozen:
            parameter.requires_grad_(True)
        for module, training in modes:
            module.training = training
        for buffer in buffers:
            buffer.put_back()
        for module, before, after in hooks:
            _forget_new(module._forward_pre_hooks, before)
            _forget_new(module._forward_hooks, after)


@contextmanager
def restored(model: nn.Module) -> Iterator[None]:
    """Give every module of a model back its parameters, buffers, children, hooks and attributes, on errors too.

    For peers that change a model while they explain it. Buffers that the forward pass itself changes are left alone.
    """
    modules = list(model.modules())
    known = [set(vars(module)) for module in modules]
    held = [{name: copy.copy(vars(module)[name]) for name in _HELD} for module in modules]
    tensors = [(tensor, tensor.data) for tensor in (*model.parameters(), *model.buffers())]
    try:
        yield
    finally:
        for module, names, contents in zip(modules, known, held, strict=True):
            for name in set(vars(module)) - names:
                del vars(module)[name]
            for name, content in contents.items():  # in place: handles of hooks know the dictionary
                vars(module)[name].clear()
                vars(module)[name].update(content)
        for tensor, data in tensors:
            tensor.data = data


def version(tensor: Tensor) -> int:
    """Return how often a tensor was changed in place; 0 for one made under ``inference_mode``, which does not count."""
    return 0 if tensor.is_inference() else tensor._version


class _Buffer:
    """Remembers a module's buffer as it is now."""

    def __init__(self, module: nn.Module, name: str, tensor: Tensor) -> None:
        self.module, self.name, self.tensor = module, name, tensor
        self.version, self.copy = version(tensor), tensor.clone()

    def put_back(self) -> None:
        now = getattr(self.module, self.name, None)
        if now is not self.tensor:
            if not isinstance(now, Tensor) or now.shape != self.copy.shape or not self._persistent:
                return
            setattr(self.module, self.name, self.tensor)
        if self._changed:
            with torch.no_grad():
                self.tensor.copy_(self.copy)

    @property
    def _persistent(self) -> bool:
        return self.name not in self.module._non_persistent_buffers_set

    @property
    def _changed(self) -> bool:
        if version(self.tensor) != self.version:
            return True
        # Writing to ``.data`` is not counted; of a sparse tensor nothing more can be asked.
        return self.tensor.layout == torch.strided and not torch.equal(self.tensor, self.copy)


def _hooks(module: nn.Module) -> tuple[set[int], set[int]]:
    return set(module._forward_pre_hooks), set(module._forward_hooks)


def _forget_new(hooks: dict[int, Any], known: set[int]) -> None:
    for key in set(hooks) - known:
        del hooks[key]


@contextmanager
def _autocast_off(devices: set[str]) -> Iterator[None]:
    if not devices:
        yield
        return
    first, *rest = sorted(devices)
    with torch.autocast(first, enabled=False), _autocast_off(set(rest)):
        yield
