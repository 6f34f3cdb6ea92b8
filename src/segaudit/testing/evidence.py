"""Checks what must hold for every piece of evidence."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from inspect import unwrap

import torch
from torch import Tensor

from segaudit.attribution import Explainer, InputXGradient, Random, attribution_context
from segaudit.evidence import Ask, compute, find, registry
from segaudit.forwards import Probe, Targets
from segaudit.intervention import Brightness, GaussianNoise, GridRegions, Intervention
from segaudit.testing.expectation import apart, expect, same
from segaudit.testing.networks import SIZES, SmallNet, cues_of, images, uneven_targets


def check_evidence(
    evidence: str | Callable[[Ask], Tensor],
    *,
    dims: int | Sequence[int] = 2,
    shared: bool = False,
    alone: bool = True,
    varies: bool = True,
    tolerance: float = 1e-5,
) -> None:
    """Check registered evidence on a small network.

    It has a row a target, which does not depend on the other images of the batch. It is computed once, however many
    metrics ask. It differs between explainers if and only if it is registered as an explainer's own. Its reasons tell of
    each target whether they hold. Where a map means nothing, its row is NaN. It leaves targets and maps as they were.

    Args:
        evidence: its function or its name.
        dims: spatial dimensions of the images, of 1 to 3.
        shared: whether it is the same for all targets of a batch, and has no row a target.
        alone: whether a target has the same value when it is alone; costs, which a batch shares, have not.
        varies: whether it differs between two explainers, if it depends on the explainer.
        tolerance: largest difference that counts as rounding, as a share of a row's largest absolute value.

    Raises:
        AssertionError: if something does not hold. The message says what.

    Example:
        >>> check_evidence("filled_confidence")

    """
    name = evidence if isinstance(evidence, str) else evidence.__name__
    try:
        found = find(name)
    except ValueError as error:
        raise AssertionError(f"{error} Has its function the decorator segaudit.evidence.evidence?") from error
    registered = isinstance(evidence, str) or unwrap(evidence) is unwrap(found.function)
    expect(registered, f"the evidence {name!r} is another function, {found.path}: decorate yours with @evidence().")
    for one in [dims] if isinstance(dims, int) else dims:
        suite = _Suite(found, one, shared, tolerance)
        suite.has_a_row_a_target()
        suite.is_computed_once(varies)
        suite.gives_reasons()
        suite.is_nan_where_a_map_means_nothing()
        if alone:
            suite.does_not_depend_on_the_batch()


class _Suite:
    """Holds a network, images, targets and what the evidence says of a signed map; each method is one check."""

    def __init__(self, found: registry.Evidence, dims: int, shared: bool, tolerance: float) -> None:
        self.found, self.name, self.shared, self.tolerance = found, found.name, shared, tolerance
        self.model, self.x = SmallNet(dims=dims), images(4, size=SIZES[dims])
        self.targets = uneven_targets(self.model, self.x)
        region = self.targets.region.clone()
        with self.ask(self.x, self.targets) as ask:
            self.maps = ask.attribution.clone()
            self.values = self.of(ask)
            expect(same(ask.attribution, self.maps), f"the evidence {self.name!r} changes the map: work on a copy.")
        expect(torch.equal(self.targets.region, region), f"the evidence {self.name!r} changes the regions: work on a copy.")

    @contextmanager
    def ask(self, x: Tensor, targets: Targets, maps: Tensor | None = None) -> Iterator[Ask]:
        """Ask about signed maps, or about maps that are given."""
        with attribution_context(self.model):
            probe = Probe(self.model, x, targets, Intervention(regions=GridRegions([3, 8])), cues=cues_of(x))
            yield _explained(Ask(probe, [GaussianNoise(), Brightness()]), InputXGradient(), maps)

    def of(self, ask: Ask) -> Tensor:
        try:
            return compute(self.name, ask).clone()
        except Exception as error:
            raise AssertionError(f"the evidence {self.name!r} fails on a small network: {error}") from error

    def has_a_row_a_target(self) -> None:
        rows = self.values.shape[:1] == (len(self.targets),)
        shape = tuple(self.values.shape)
        sentence = (
            f"the evidence {self.name!r} must have a row for each of {len(self.targets)} targets, got the shape {shape}."
        )
        expect(self.shared or rows, sentence)

    def does_not_depend_on_the_batch(self) -> None:
        for n in (len(self.targets) // 2, len(self.targets) - 1):
            b = self.targets.image_index[n : n + 1]
            one = Targets(torch.zeros_like(b), self.targets.class_index[n : n + 1], self.targets.region[n : n + 1])
            with self.ask(self.x[b], one) as ask:
                found = self.of(ask)
            share = apart(found, self.values if self.shared else self.values[n : n + 1])
            sentence = (
                f"the evidence {self.name!r} depends on the other images of the batch: a target alone has other values"
            )
            expect(share <= self.tolerance, f"{sentence}, which differ by {share:.1e} of the largest.")

    def is_computed_once(self, varies: bool) -> None:
        with _counted(self.found) as calls, self.ask(self.x, self.targets) as ask:
            other = _explained(ask.shared, Random())
            first, again, random = self.of(ask), self.of(ask), self.of(other)
            expected = 2 if self.found.per_explainer else 1
            sentence = f"the evidence {self.name!r} was computed {len(calls)} times for two explainers, not {expected}"
            expect(len(calls) == expected, f"{sentence}: ask for it through segaudit.evidence.compute.")
        expect(same(first, again), f"the evidence {self.name!r} has other values when it is asked for again.")
        differs = not same(first, random)
        sentence = (
            f"the evidence {self.name!r} depends on the explainer, but is the same for two: do not read ask.attribution, "
            "ask.explainer or ask.cost, or set varies to False."
        )
        expect(differs or not self.found.per_explainer or not varies, sentence)
        expect(
            not differs or self.found.per_explainer,
            f"the evidence {self.name!r} differs between explainers it is shared by.",
        )

    def gives_reasons(self) -> None:
        with self.ask(self.x, self.targets) as ask:
            for text, reason in self.found.missing.items():
                holds = reason(ask)
                right = holds.dtype is torch.bool and holds.shape == (len(self.targets),)
                sentence = f"the reason {text!r} of the evidence {self.name!r} must give one boolean a target"
                expect(right, f"{sentence}, got {holds.dtype} of the shape {tuple(holds.shape)}.")

    def is_nan_where_a_map_means_nothing(self) -> None:
        if self.shared or not self.values.is_floating_point() or not self.found.asks & {"attribution", "explainer"}:
            return
        maps = self.maps.clone()
        maps[0], maps[1] = 1.0, torch.nan
        with self.ask(self.x, self.targets, maps) as ask:
            values = self.of(ask)
        nothing = bool(values[:2].isnan().all())
        expect(nothing, f"the evidence {self.name!r} must be NaN where a map is constant or not finite.")
        share = apart(values[2:], self.values[2:])
        sentence = f"the evidence {self.name!r} of a target changes with the maps of others, by {share:.1e} of the largest."
        expect(share <= self.tolerance, sentence)


def _explained(ask: Ask, explainer: Explainer, maps: Tensor | None = None) -> Ask:
    with ask.probe.measure_cost() as cost:
        found = explainer.explain(ask.probe)
    return ask.of(explainer, found if maps is None else maps, cost)


@contextmanager
def _counted(found: registry.Evidence) -> Iterator[list[Ask]]:
    """Keep a list of the calls of an evidence's function."""
    calls: list[Ask] = []

    def counted(ask: Ask) -> Tensor:
        calls.append(ask)
        return found.function(ask)

    registry._EVIDENCE[found.name] = replace(found, function=counted)
    try:
        yield calls
    finally:
        registry._EVIDENCE[found.name] = found
