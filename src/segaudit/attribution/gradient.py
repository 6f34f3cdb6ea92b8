"""Explainers that read gradients of the target's mean logit with respect to the image."""

import numpy as np
import torch
from torch import Tensor

from segaudit.attribution.base import Explainer
from segaudit.intervention import Probe
from segaudit.target import Targets, target_logit


def input_gradient(probe: Probe, images: Tensor, targets: Targets) -> Tensor:
    """Gradient ``(N, channels, *S)`` of each target's mean logit with respect to its image in ``images``.

    One forward pass serves all targets, one backward pass all targets that share a position in their images.
    """
    images = images.detach().requires_grad_(True)
    return target_gradients(probe.forward(images), images, targets)


def target_gradients(logits: Tensor, inputs: Tensor, targets: Targets) -> Tensor:
    """Gradient ``(N, K, *T)`` of each target's mean logit with respect to its row of ``inputs`` ``(B, K, *T)``.

    Rows do not mix in a network at rest, so the gradient of a sum over rows holds each row's own.
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
    """Largest absolute gradient over the channels (Simonyan, Vedaldi, Zisserman 2014); units of logit per input unit."""

    def attribute(self, probe: Probe) -> Tensor:
        """One forward and, for each target of the fullest image, one backward pass of the batch."""
        return input_gradient(probe, probe.images, probe.targets).abs().amax(dim=1)


class IntegratedGradients(Explainer):
    """Gradients integrated along the straight line from a starting image (Sundararajan, Taly, Yan 2017, equation 1).

    Signed; summed over channels. The integral is taken by Gauss-Legendre quadrature.

    Args:
        steps: nodes of the quadrature; each costs a forward and a backward pass.
        start: value of the starting image in normalised units: 0 is the data's mean colour.

    """

    def __init__(self, steps: int = 16, start: float = 0.0) -> None:
        if steps < 1:
            raise ValueError(f"steps must be at least 1, got {steps}.")
        self.steps = steps
        self.start = start

    def attribute(self, probe: Probe) -> Tensor:
        """``steps`` forwards and backwards an image, in chunks of the probe's ``max_batch``."""
        images, targets = probe.images, probe.targets
        nodes, weights = (torch.from_numpy(v).to(images) for v in np.polynomial.legendre.leggauss(self.steps))
        nodes, weights = (nodes + 1) / 2, weights / 2  # from [-1, 1] to [0, 1]
        start = torch.full_like(images, self.start)
        total = torch.zeros_like(images[targets.image_index])
        # One image's steps make up the rows of a chunk, or several images' where they are few.
        per_chunk = max(1, probe.intervention.max_batch // len(images))
        for chosen in torch.arange(self.steps, device=images.device).split(per_chunk):
            path = start + nodes[chosen].view(-1, 1, *[1] * (images.ndim - 1)) * (images - start)
            shift = torch.arange(len(chosen), device=images.device) * len(images)
            repeated = Targets(
                (targets.image_index + shift[:, None]).flatten(),
                targets.class_index.repeat(len(chosen)),
                targets.region.repeat(len(chosen), *[1] * (targets.region.ndim - 1)),
            )
            gradients = input_gradient(probe, path.flatten(0, 1), repeated)
            gradients = gradients.view(len(chosen), len(targets), *images.shape[1:])
            total += torch.einsum("k,k...->...", weights[chosen], gradients)
        return (total * (images - start)[targets.image_index]).sum(dim=1)
