"""Explains by gradients of the target's mean logit with respect to the image."""

from typing import Any

import torch
from torch import Tensor, nn

from segaudit.attribution.base import Explainer
from segaudit.forwards import Probe
from segaudit.forwards.target import Targets, target_logit

__all__ = ["GuidedBackprop", "InputXGradient", "Saliency"]


def input_gradient(probe: Probe, images: Tensor, targets: Targets) -> Tensor:
    """Return the gradient ``(N, channels, *S)`` of each target's mean logit with respect to its image in ``images``.

    One forward pass serves all targets, one backward pass all targets that share a position in their images.
    """
    images = images.detach().requires_grad_(True)
    return target_gradients(probe.forward(images), images, targets)


def input_gradients(probe: Probe, images: Tensor) -> Tensor:
    """Return the gradient ``(K, N, channels, *S)`` of each target's mean logit at K versions of its image.

    Args:
        probe: of the batch.
        images: the versions, ``(K, B, channels, *S)``.

    """
    targets, count = probe.targets, len(images)
    shift = torch.arange(count, device=images.device) * images.shape[1]
    repeated = Targets(
        (targets.image_index + shift[:, None]).flatten(),
        targets.class_index.repeat(count),
        targets.region.repeat(count, *[1] * (targets.region.ndim - 1)),
    )
    return input_gradient(probe, images.flatten(0, 1), repeated).view(count, len(targets), *images.shape[2:])


def target_gradients(logits: Tensor, inputs: Tensor, targets: Targets) -> Tensor:
    """Return the gradient ``(N, K, *T)`` of each target's mean logit with respect to its row of ``inputs``, ``(B, K, *T)``.

    Rows do not mix in a network in eval mode, so the gradient of a sum over rows holds each row's own.
    """
    gradients = inputs.new_empty(len(targets), *inputs.shape[1:])
    rounds = targets.rounds()
    for last, chosen in zip([False] * (len(rounds) - 1) + [True], rounds, strict=True):
        these = targets[chosen]
        total = target_logit(logits[these.image_index], these).sum()
        if not total.requires_grad:
            raise ValueError("no gradient reaches the image: does the model's forward detach its input or its output?")
        # Not backward(): that would add to the gradients of training.
        (gradient,) = torch.autograd.grad(total, inputs, retain_graph=not last)
        gradients[chosen] = gradient[these.image_index]
    return gradients


class Saliency(Explainer):
    """Take the largest absolute gradient over the channels (Simonyan, Vedaldi, Zisserman 2014).

    Units of logit per input unit, never negative.

    When to use:
        For a first look, every epoch: nothing is cheaper. The map is scattered. It says where a change would matter, not
        what the confidence rests on.
    """

    cost = "F + T·B"

    def attribute(self, probe: Probe) -> Tensor:
        """Take one forward and, for each target of the fullest image, one backward pass of the batch."""
        return input_gradient(probe, probe.images, probe.targets).abs().amax(dim=1)


class InputXGradient(Explainer):
    """Multiply gradient and image and sum over the channels (Shrikumar et al. 2016).

    Signed, in logits.

    When to use:
        Where saliency should be signed at the same cost. The map is near 0 where the normalised image is near 0, whatever
        is there.
    """

    cost = "F + T·B"

    def attribute(self, probe: Probe) -> Tensor:
        """Take one forward and, for each target of the fullest image, one backward pass of the batch."""
        gradient = input_gradient(probe, probe.images, probe.targets)
        return (gradient * probe.images[probe.targets.image_index]).sum(dim=1)


class GuidedBackprop(Explainer):
    """Take the largest absolute guided gradient over the channels (Springenberg et al. 2015).

    In the backward pass each ReLU also holds back negative gradients. The absolute value is taken as for saliency: the
    sign says whether a brighter pixel raises the logit, not whether the pixel is evidence. Modules ``nn.ReLU`` and
    ``nn.ReLU6`` are changed for the time of the call; a ReLU that is called as a function stays as it is.

    When to use:
        For sharp edges and a good order of pixels, on networks with ReLU modules. It is known to change little when the
        upper layers are randomised, so never use it alone.
    """

    cost = "F + T·B"

    def attribute(self, probe: Probe) -> Tensor:
        """Take one forward and, for each target of the fullest image, one backward pass of the batch.

        Raises:
            ValueError: if the model has no ReLU modules.

        """
        modules = [module for module in probe.model.modules() if isinstance(module, nn.ReLU | nn.ReLU6)]
        if not modules:
            raise ValueError(
                "guided backpropagation changes ReLU modules, and this model has none (functional ReLUs cannot be "
                "seen): choose another explainer."
            )
        handles = [module.register_forward_hook(_guide) for module in modules]
        try:
            return input_gradient(probe, probe.images, probe.targets).abs().amax(dim=1)
        finally:
            for handle in handles:
                handle.remove()


class _Positive(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        return values.clone()  # what follows may change it in place, as the ReLU before may have done

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient.clamp_min(0)


def _guide(_: nn.Module, __: Any, output: Tensor) -> Tensor:
    guided: Tensor = _Positive.apply(output)
    return guided
