"""Measures what work costs: seconds, and passes of images through a model."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import register_multi_grad_hook

#: A backward pass in forwards: one product with the weights for the inputs' gradients, one with what was stored.
BACKWARD = 2


@dataclass(eq=False)
class Cost:
    """Adds up what one piece of work cost, its own part and the parts that it shared with others.

    Attributes:
        own_seconds: of the work done for this piece alone.
        own_forwards: forward-equivalents of that work.
        shared: costs of the shared work that it used, whoever did it and however often it was asked for.

    """

    own_seconds: float = 0.0
    own_forwards: float = 0.0
    shared: set["Cost"] = field(default_factory=set)

    @property
    def seconds(self) -> float:
        """Seconds of its own work and of all shared work that it used."""
        return self.own_seconds + sum(cost.own_seconds for cost in self.shared)

    @property
    def forwards(self) -> float:
        """Forward-equivalents of its own work and of all shared work that it used."""
        return self.own_forwards + sum(cost.own_forwards for cost in self.shared)


class PassCounter:
    """Counts the images that pass through a model while it is on, whoever calls the model.

    A forward pass counts its images once. A backward pass counts the images of the forward pass that it goes through
    :data:`BACKWARD` times, wherever it starts or ends. Nothing stays on the model.

    Args:
        model: any module whose first tensor argument is a batch of images.

    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        #: Forward-equivalents so far.
        self.passes = 0.0
        self._depth = 0

    @contextmanager
    def on(self) -> Iterator[None]:
        """Count inside. Where it counts already, nothing changes."""
        if self._depth:
            yield
            return
        self._depth += 1
        # The image enters as a view of its own, so that its gradient tells this forward pass from others of the same image.
        handles = [
            self.model.register_forward_pre_hook(_own_view),
            self.model.register_forward_hook(self._forward, with_kwargs=True),
        ]
        try:
            yield
        finally:
            self._depth -= 1
            for handle in handles:
                handle.remove()

    def _forward(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        images = next((value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)), None)
        if images is None:
            return
        count = len(images)
        self.passes += count

        def backward(_: Tensor) -> None:
            if self._depth:
                self.passes += BACKWARD * count

        # Once a backward pass, at the first of these that it reaches: the output, or the image where it started in between.
        seen = [tensor for tensor in (*_tensors(output), images) if tensor.requires_grad and tensor.grad_fn is not None]
        if seen and torch.is_grad_enabled():
            register_multi_grad_hook(seen, backward, mode="any")


def now(device: torch.device) -> float:
    """Read a clock, in seconds, once the device's work has ended."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _own_view(_: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
    if args and isinstance(args[0], Tensor) and args[0].requires_grad:
        return (args[0].view_as(args[0]), *args[1:])
    return None


def _tensors(output: Any) -> list[Tensor]:
    if isinstance(output, Tensor):
        return [output]
    if isinstance(output, Mapping):
        return [value for value in output.values() if isinstance(value, Tensor)]
    if isinstance(output, tuple | list):
        return [value for value in output if isinstance(value, Tensor)]
    logits = getattr(output, "logits", None)
    return [logits] if isinstance(logits, Tensor) else []
