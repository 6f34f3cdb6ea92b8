"""Checks what must hold for every score's Metric class."""

import pickle
import warnings
from collections.abc import Callable, Collection, Mapping
from copy import deepcopy
from inspect import signature
from itertools import product

import torch
from torch import Tensor

from segaudit.evidence import evidence_of
from segaudit.metrics import TargetMean
from segaudit.testing.expectation import expect, same
from segaudit.testing.random_evidence import SHARED, evidence_for, pick

#: One, two and three dimensions, for the comparison with a reference.
_SIZES = ((9,), (5, 4), (4, 3, 6))


def check_metric(
    metric: TargetMean | Callable[[], TargetMean],
    evidence: Mapping[str, Tensor] | None = None,
    reference: Callable[..., float] | None = None,
    *,
    shared: Collection[str] = SHARED,
    optional: Collection[str] = (),
    tolerance: float = 1e-5,
) -> None:
    """Check a metric on evidence.

    Its value is the mean over all targets that could be scored, whatever the batches. A target's value does not depend on
    the other targets. What cannot be scored is NaN and counted, never 0. Values lie in the declared range. The metric can be
    pickled, cloned, reset, moved and saved, and leaves the evidence as it was.

    Args:
        metric: to be checked: an object, or a class or function that makes one.
        evidence: of at least five targets by name, as ``update`` takes it. Defaults to random evidence.
        reference: computes the value of one target from its evidence: NumPy arrays in the order of the parameters of
            ``update``. With random evidence it is compared in one, two and three dimensions.
        shared: names of evidence that is the same for all targets of a batch.
        optional: names of evidence that may be NaN where a target can be scored all the same.
        tolerance: largest difference, relative, and a tenth of it absolute.

    Raises:
        AssertionError: if something does not hold. The message says what.

    Example:
        >>> from segaudit.metrics import FillResidual
        >>> check_metric(FillResidual, reference=lambda confidence, filled: filled / confidence)

    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*`compute`` method.*was called before.*")
        suite = _Suite(metric, evidence, shared, tolerance)
        suite.declares_direction_and_range()
        suite.gives_a_value_a_target()
        if reference is not None:
            suite.equals(reference)
            for size, seed in product(_SIZES, (0, 1, 2)) if evidence is None else ():
                found = evidence_for(suite.names, size, seed)
                _Suite(metric, found, shared, tolerance).equals(reference, f" of images {size}")
        suite.pools_uneven_batches()
        suite.returns_the_batch_value_and_resets()
        suite.goes_on_as_a_copy()
        suite.has_no_value_without_targets()
        suite.is_nan_where_nothing_can_be_scored(optional)
        suite.moves_and_is_saved()
        suite.takes_half_precision_and_gradients()


class _Suite:
    """Holds a metric's evidence and its value of each target; each method is one check."""

    def __init__(
        self,
        metric: TargetMean | Callable[[], TargetMean],
        evidence: Mapping[str, Tensor] | None,
        shared: Collection[str],
        tolerance: float,
    ) -> None:
        self.make: Callable[[], TargetMean] = (lambda: deepcopy(metric)) if isinstance(metric, TargetMean) else metric
        self.name = type(self.make()).__name__
        self.names = list(signature(self.make().update).parameters)
        self.shared, self.tolerance = shared, tolerance
        try:
            evidence_of(self.name, self.make())
        except ValueError as error:
            raise AssertionError(str(error)) from error
        found = evidence_for(self.names) if evidence is None else evidence
        expect(found.keys() >= set(self.names), f"evidence for {self.name} lacks {set(self.names) - found.keys()}.")
        self.found = {name: found[name] for name in self.names}
        self.n = max(len(values) for name, values in self.found.items() if name not in shared)
        expect(self.n >= 5, f"{self.name} is checked on at least 5 targets, got {self.n}.")
        before = {name: values.clone() for name, values in self.found.items()}
        self.values = self.of(self.found).per_target
        for name, values in before.items():
            expect(same(self.found[name], values), f"{self.name} changes the evidence {name!r}: work on a copy.")

    def of(self, *batches: Mapping[str, Tensor]) -> TargetMean:
        metric = self.make()
        for batch in batches:
            metric.update(**batch)
        return metric

    def part(self, start: int, end: int) -> dict[str, Tensor]:
        return pick(self.found, start, end, self.shared)

    def close(self, found: Tensor, expected: Tensor, sentence: str) -> None:
        right = found.shape == expected.shape and torch.allclose(
            found.double(), expected.double(), self.tolerance, self.tolerance / 10, equal_nan=True
        )
        expect(right, f"{sentence}: got {found.tolist()}, not {expected.tolist()}.")

    def declares_direction_and_range(self) -> None:
        higher = self.make().higher_is_better
        expect(higher in (True, False, None), f"{self.name}.higher_is_better must be True, False or None, got {higher!r}.")
        lineage = type(self.make()).__mro__
        declared = {name for cls in lineage[: lineage.index(TargetMean)] for name in vars(cls)}
        sentence = f"{self.name} does not declare its range: set plot_lower_bound and plot_upper_bound, None for no end."
        expect({"plot_lower_bound", "plot_upper_bound"} <= declared, sentence)
        ends = self.make().score_range
        right = ends is None or (len(ends) == 2 and ends[0] < ends[1])
        expect(right, f"{self.name}.score_range must be None or a pair (low, high), low below high, got {ends!r}.")

    def gives_a_value_a_target(self) -> None:
        values, low, high = self.values, self.make().plot_lower_bound, self.make().plot_upper_bound
        expect(values.shape == (self.n,), f"{self.name} must add {self.n} values, got the shape {tuple(values.shape)}.")
        expect(values.dtype == torch.float32, f"{self.name} must keep float32 values, got {values.dtype}.")
        expect(not bool(values.isinf().any()), f"{self.name} gives infinite values: give NaN where nothing can be scored.")
        scored = values[~values.isnan()]
        sentence = f"{self.name} gives fewer than two different values for the evidence: pass evidence that tells more."
        expect(len(scored.unique()) > 1 and len(scored) > self.n // 3, sentence)
        lowest, highest = float(scored.min()), float(scored.max())
        inside = (low is None or low - 1e-6 <= lowest) and (high is None or highest <= high + 1e-6)
        expect(
            inside, f"{self.name} gives values from {lowest} to {highest}, outside of its declared range {low} to {high}."
        )

    def equals(self, reference: Callable[..., float], where: str = "") -> None:
        arrays = [(v.double() if v.is_floating_point() else v).numpy() for v in self.found.values()]
        rows = [[a if k in self.shared else a[i] for k, a in zip(self.names, arrays, strict=True)] for i in range(self.n)]
        expected = torch.tensor([float(reference(*row)) for row in rows])
        self.close(self.values, expected, f"{self.name} is not its reference{where}")

    def pools_uneven_batches(self) -> None:
        pooled = self.of(self.part(0, 2), self.part(2, self.n - 2), self.part(self.n - 2, self.n))
        self.close(pooled.per_target, self.values, f"{self.name} gives targets other values in other batches")
        for n in range(self.n):
            alone = self.of(self.part(n, n + 1)).per_target
            self.close(alone, self.values[n : n + 1], f"{self.name} scores target {n} otherwise when it is alone")
        sentence = f"{self.name} is not the mean over all its targets, each of which counts the same"
        self.close(pooled.compute(), self.values.double().nanmean(), sentence)
        missing = int(self.values.isnan().sum())
        expect(pooled.unscored == missing, f"{self.name} counts {pooled.unscored} targets as unscored, not {missing}.")

    def returns_the_batch_value_and_resets(self) -> None:
        metric = self.make()
        for start, end in ((0, 2), (2, self.n)):
            value = metric(**self.part(start, end))
            sentence = f"forward() of {self.name} does not return the mean of its batch"
            self.close(value, self.values[start:end].double().nanmean(), sentence)
        self.close(metric.compute(), self.values.double().nanmean(), f"{self.name} forgets batches that forward() was given")
        metric.reset()
        expect(len(metric.per_target) == 0, f"{self.name} keeps values after reset().")
        metric.update(**self.part(2, self.n))
        self.close(metric.compute(), self.values[2:].double().nanmean(), f"{self.name} keeps something after reset()")

    def goes_on_as_a_copy(self) -> None:
        metric = self.of(self.part(0, 2))
        try:
            pickled = pickle.loads(pickle.dumps(metric))
        except Exception as error:
            raise AssertionError(f"{self.name} cannot be pickled, as other processes need it: {error}") from error
        for how, copy in (("pickle", pickled), ("clone", metric.clone())):
            copy.update(**self.part(2, self.n))
            self.close(copy.compute(), self.values.double().nanmean(), f"a copy of {self.name} by {how} is not the same")
        expect(len(metric.per_target) == 2, f"{self.name} and its copies share their values.")

    def has_no_value_without_targets(self) -> None:
        self.close(self.make().compute(), torch.tensor(torch.nan), f"{self.name} must be NaN as long as nothing was added")
        empty = self.of(self.part(0, 0))
        expect(empty.per_target.shape == (0,), f"{self.name} must add no values for no targets.")
        self.close(empty.compute(), torch.tensor(torch.nan), f"{self.name} must be NaN for no targets")

    def is_nan_where_nothing_can_be_scored(self, optional: Collection[str]) -> None:
        floating = [k for k, v in self.found.items() if v.is_floating_point() and k not in self.shared and k not in optional]
        row = int((~self.values.isnan()).nonzero()[0, 0])
        others = torch.arange(self.n) != row
        for name in floating:
            spoilt = self.found[name].clone()
            spoilt[row] = torch.nan
            values = self.of(self.found | {name: spoilt}).per_target
            sentence = f"{self.name} must give NaN where {name!r} is NaN, or name it in optional: got {float(values[row])}."
            expect(bool(values[row].isnan()), sentence)
            self.close(values[others], self.values[others], f"NaN in a target's {name!r} changes {self.name} of others")
        if floating:
            bad = {k: torch.full_like(v, torch.nan) if v.is_floating_point() else v & False for k, v in self.found.items()}
            metric = self.of(bad)
            expect(metric.unscored == self.n, f"{self.name} must count targets without a score in unscored.")
            self.close(metric.compute(), torch.tensor(torch.nan), f"{self.name} must be NaN where no target can be scored")

    def moves_and_is_saved(self) -> None:
        metric, moved = self.of(self.part(0, 2)), self.of(self.part(0, 2))
        moved.to("meta")  # which holds shapes alone
        there = {value.device.type for value in moved.values} == {"meta"} and moved.per_target.shape == (2,)
        expect(there, f"{self.name} leaves values behind when it is moved to another device: keep them by add().")
        expect(metric.state_dict() == {}, f"{self.name} must not be saved with a model: its states are not persistent.")
        metric.persistent(True)
        metric.update(**self.part(2, self.n))
        again = self.make()
        again.persistent(True)
        again.load_state_dict(metric.state_dict())
        self.close(again.compute(), metric.compute(), f"{self.name} is another after it was saved and loaded")

    def takes_half_precision_and_gradients(self) -> None:
        for dtype in (torch.bfloat16, torch.float16):
            half = {k: v.to(dtype) if v.dtype == torch.float32 else v for k, v in self.found.items()}
            found = self.of(half)
            single = {k: v.float() if v.dtype == dtype else v for k, v in half.items()}
            self.close(found.per_target, self.of(single).per_target, f"{self.name} loses precision with evidence in {dtype}")
        graph = {k: v.clone().requires_grad_() if v.is_floating_point() else v for k, v in self.found.items()}
        metric = self.of(graph)
        expect(not metric.per_target.requires_grad, f"{self.name} keeps gradients of its evidence: detach what it keeps.")
