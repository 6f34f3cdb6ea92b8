"""Explains by gradients on the way from baselines to the image."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from segaudit import randomness
from segaudit.attribution.base import Explainer
from segaudit.attribution.gradient import input_gradients
from segaudit.forwards import Probe
from segaudit.forwards.batching import GRADIENT_WEIGHT
from segaudit.intervention import ConstantFill, Fill, MeanFill, NoiseFill

__all__ = ["ExpectedGradients", "IntegratedGradients"]


class IntegratedGradients(Explainer):
    """Integrate gradients along straight lines from baselines (Sundararajan, Taly, Yan 2017, equation 1).

    Signed, in logits; summed over channels, averaged over the baselines. A map adds up to the mean logit at the
    image less its average at the baselines. The integral is taken by Gauss-Legendre quadrature.

    When to use:
        For maps that add up to the change of the logit, and that are strong in deletion. The baseline is a claim:
        report which one was used, and that a deletion with the same fill favours it.

    Args:
        steps: nodes of the quadrature; each costs a forward and a backward pass for each baseline.
        starts: fills that make the baselines. Defaults to the constant 0 alone.

    """

    cost = "starts·steps·(F + T·B)"

    def __init__(self, steps: int = 16, starts: Sequence[Fill] | None = None) -> None:
        if steps < 1:
            raise ValueError(f"steps must be at least 1, got {steps}.")
        if starts is not None and not len(starts):
            raise ValueError("starts is empty: name at least one fill, or leave it out for the constant 0.")
        self.steps = steps
        self.starts = [ConstantFill()] if starts is None else list(starts)

    def attribute(self, probe: Probe) -> Tensor:
        """Take ``steps`` forwards and backwards an image and baseline, as many at a time as a pass holds."""
        return torch.stack([self._from(probe, fill(probe.images)) for fill in self.starts]).mean(dim=0)

    def _from(self, probe: Probe, start: Tensor) -> Tensor:
        images, index = probe.images, probe.targets.image_index
        nodes, weights = (torch.from_numpy(v).to(images) for v in np.polynomial.legendre.leggauss(self.steps))
        nodes, weights = (nodes + 1) / 2, weights / 2  # from [-1, 1] to [0, 1]
        total = torch.zeros_like(images[index])

        def add(chosen: Tensor) -> None:
            path = start + nodes[chosen].view(-1, 1, *[1] * (images.ndim - 1)) * (images - start)
            total.add_(torch.einsum("k,k...->...", weights[chosen], input_gradients(probe, path)))

        probe.run(self.steps, add, weight=GRADIENT_WEIGHT * len(images))
        return (total * (images - start)[index]).sum(dim=1)


class ExpectedGradients(Explainer):
    """Average integrated gradients over random baselines and interpolation points (Erion et al. 2021).

    Signed, in logits; summed over channels. Each draw takes one baseline and one interpolation point at random, both of
    which follow from the image's content. The points are stratified: there is one in each of ``draws`` equal parts of the
    line. That leaves the expectation as it is and lowers the variance (our choice).

    When to use:
        Where no single baseline can be justified.

    Args:
        draws: pairs of a baseline and an interpolation point; each costs a forward and a backward pass.
        background: the baselines: fills of the image itself, or reference images ``(K, channels, *S)``. Defaults to
            the constant 0, the mean colour and noise.
        seed: of the draws.

    """

    cost = "draws·(F + T·B)"

    def __init__(self, draws: int = 16, background: Sequence[Fill] | Tensor | None = None, seed: int = 0) -> None:
        if draws < 1:
            raise ValueError(f"draws must be at least 1, got {draws}.")
        if background is not None and not len(background):
            raise ValueError("background is empty: give at least one fill or reference image, or leave it out.")
        self.draws = draws
        self.background = [ConstantFill(), MeanFill(), NoiseFill()] if background is None else background
        self.seed = seed

    def attribute(self, probe: Probe) -> Tensor:
        """Take ``draws`` forwards and backwards an image, as many at a time as a pass holds."""
        images, index = probe.images, probe.targets.image_index
        pool, choice = self._starts(images)
        keys = randomness.combine(randomness.image_keys(images, self.seed), 1)
        place = randomness.uniform(keys, (self.draws,)) + torch.arange(self.draws, device=images.device)
        place = (place / self.draws).mT.to(images).view(self.draws, len(images), *[1] * (images.ndim - 1))
        total = torch.zeros(len(index), *images.shape[2:], dtype=images.dtype, device=images.device)

        def add(chosen: Tensor) -> None:
            start = pool[choice[chosen]]
            gradients = input_gradients(probe, start + place[chosen] * (images - start))
            total.add_((gradients * (images - start)[:, index]).sum(dim=(0, 2)))

        probe.run(self.draws, add, weight=GRADIENT_WEIGHT * len(images))
        return total / self.draws

    def _starts(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return baselines ``(M, channels, *S)``, and which of them each draw and image takes: ``(draws, B)``."""
        count = len(self.background)
        keys = randomness.combine(randomness.image_keys(images, self.seed), 2)
        # Rounding may turn the largest number below 1 into 1.
        choice = (randomness.uniform(keys, (self.draws,)) * count).long().clamp_max(count - 1).mT
        if not isinstance(self.background, Tensor):
            pool = torch.cat([fill(images) for fill in self.background])
            return pool, choice * len(images) + torch.arange(len(images), device=images.device)
        if self.background.shape[1:] != images.shape[1:]:
            raise ValueError(
                f"background holds images of the shape {tuple(self.background.shape[1:])}, but those to explain have "
                f"{tuple(images.shape[1:])}: crop or resize the background."
            )
        return self.background.detach().to(images), choice
