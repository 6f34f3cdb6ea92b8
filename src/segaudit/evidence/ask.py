"""Gives a piece of evidence what it may ask for."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from torch import Tensor

from segaudit.forwards.cost import Cost
from segaudit.forwards.probe import Probe
from segaudit.forwards.target import Targets
from segaudit.intervention.perturbation import Perturbation

if TYPE_CHECKING:
    from segaudit.attribution import Explainer

T = TypeVar("T")


class Ask:
    """Answers what evidence asks of one batch: the probe, its targets and, for an explainer's own evidence, the map.

    Args:
        probe: of the batch.
        perturbations: changes of the input for stability.

    Attributes:
        probe: of the batch.
        perturbations: changes of the input for stability.

    """

    def __init__(self, probe: Probe, perturbations: Sequence[Perturbation] = ()) -> None:
        self.probe = probe
        self.perturbations = list(perturbations)
        self._shared: Ask | None = None
        self._explained: tuple[Explainer, Tensor, Cost] | None = None
        self._found: dict[Hashable, Any] = {}

    def of(self, explainer: Explainer, attribution: Tensor, cost: Cost) -> Ask:
        """Ask about one explainer's map ``(N, *S)``; what does not depend on the explainer is computed once for all."""
        own = Ask(self.probe, self.perturbations)
        own._shared, own._explained = self, (explainer, attribution, cost)
        return own

    @property
    def targets(self) -> Targets:
        """The N targets of the batch."""
        return self.probe.targets

    @property
    def attribution(self) -> Tensor:
        """The explainer's map of each target, ``(N, *S)``."""
        return self._of_explainer()[1]

    @property
    def explainer(self) -> Explainer:
        """The explainer that made the map."""
        return self._of_explainer()[0]

    @property
    def cost(self) -> Cost:
        """Cost of the map."""
        return self._of_explainer()[2]

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """Call ``make`` for the first who asks for ``key``, and give all others the same result."""
        if key not in self._found:
            self._found[key] = make()
        return self._found[key]  # type: ignore[no-any-return]

    @property
    def shared(self) -> Ask:
        """The same batch without an explainer."""
        return self._shared or self

    def _of_explainer(self) -> tuple[Explainer, Tensor, Cost]:
        if self._explained is None:
            raise ValueError(
                "evidence asks for the explainer's map through a helper in another file, so that nothing tells that it "
                "depends on the explainer: read ask.attribution in the evidence's own function."
            )
        return self._explained
