"""Random evidence for hypothesis: what an audit can meet, and what it should survive."""

from dataclasses import dataclass, field
from typing import Any

import torch
from _scores import COMMON, evidence
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from torch import Tensor

#: At most so large is S / S(x), as S(x) is at least 0.05.
LARGEST = 20.0
NAN, INF = float("nan"), float("inf")

SIZES = [(1,), (2,), (7,), (1, 1), (3, 4), (2, 5), (1, 2, 3), (2, 2, 3)]
DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
MAPS = ("normal", "ties", "zero", "constant", "negative", "positive", "huge", "tiny", "mixed", "one", "nan", "inf", "-inf")
CURVES = ("usual", "bumpy", "extreme", "flat", "weak", "step", "nan", "inf", "wild")
PLACES = ("some", "none", "all", "one")
NUMBERS = ("usual", "low", "zero", "one", "nan")

#: Evidence whose shape follows that of the image, and evidence in the units of a map.
PLACED = {name for name, v in evidence(3, (5, 4)).items() if v.shape != evidence(3, (2, 3, 3))[name].shape}
UNITS = {name for name in evidence(3) if name.endswith("attribution")}

#: The same examples at every run, none kept in a file.
every_time = settings(
    max_examples=200, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
)


@dataclass
class Case:
    """Evidence for n targets.

    Attributes:
        found: by name.
        size: of the images.
        dtype: of all that is floating point but the fractions.
        strided: whether nothing is contiguous.
        kinds: what each target was drawn to be.
        seed: of what was drawn.

    """

    found: dict[str, Tensor] = field(repr=False)
    size: tuple[int, ...]
    dtype: torch.dtype
    strided: bool
    kinds: list[tuple[str, ...]]
    seed: int

    @property
    def real(self) -> Tensor:
        """``(n,)`` bool: which targets have evidence that an audit could give; the others must be survived."""
        return torch.tensor([kind[2] != "wild" for kind in self.kinds], dtype=torch.bool)


@st.composite
def cases(draw: Any) -> Case:
    n = draw(st.sampled_from([0, 1, 2, 3, 5]))
    size = draw(st.sampled_from(SIZES))
    dtype = draw(st.sampled_from(DTYPES))
    strided = draw(st.booleans())
    kinds = [tuple(draw(st.sampled_from(kind)) for kind in (MAPS, MAPS, CURVES, PLACES, NUMBERS)) for _ in range(n)]
    seed = draw(st.integers(0, 2**32))
    g = torch.Generator().manual_seed(seed)
    found = evidence(n, size, int(torch.randint(2**31, (1,), generator=g)), awkward=False)
    for place, (one, other, curve, where, number) in enumerate(kinds):
        row = {name: values[place] for name, values in found.items() if name not in COMMON}
        _fill_maps(row, one, other, g)
        _fill_curves(row, curve, g)
        _fill_places(row, where, g)
        _fill_numbers(row, number, g)
        _fill_errors(row, curve, g)
    common = COMMON | {name for name in found if name.endswith("fractions")}
    found = {k: v.to(dtype) if v.is_floating_point() and k not in common else v for k, v in found.items()}
    if strided:
        found = {k: v.mT.contiguous().mT if v.ndim > 1 else torch.stack([v, v], dim=1)[:, 0] for k, v in found.items()}
    return Case(found, size, dtype, strided, kinds, seed)


def _fill_maps(row: dict[str, Tensor], one: str, other: str, g: torch.Generator) -> None:
    """Maps of one kind, perturbed and randomised ones now and then of another; effects vary with them."""
    for name in sorted(UNITS | {"effect_map", "subset_effect", "segment_effect"}):
        values = row[name]
        kind = one if name in ("attribution", "subset_attribution", "segment_attribution") else other
        if "effect" in name:  # at most 1, at least 1 - LARGEST
            kind = "normal" if kind in ("huge", "mixed", "inf", "-inf") else kind
        if name in ("perturbed_attribution", "randomised_attribution") and values.numel():
            values = values[int(torch.randint(len(values), (1,), generator=g))]  # one of them
        values.copy_(random_map(kind, values, g))
        if "effect" in name:
            values.clamp_(1 - LARGEST, 1)


def random_map(kind: str, like: Tensor, g: torch.Generator) -> Tensor:
    values = torch.randn(like.shape, generator=g, dtype=torch.float64)
    if kind == "ties":
        return values.round()
    if kind == "zero":
        return values * 0
    if kind == "constant":
        return values * 0 + values.flatten()[0]
    if kind in ("negative", "positive"):
        return values.abs() * (-1 if kind == "negative" else 1)
    if kind in ("huge", "tiny"):
        return values * (1e30 if kind == "huge" else 1e-30)
    if kind == "mixed":
        return values * 10.0 ** torch.randint(-30, 31, like.shape, generator=g)
    if kind != "normal":
        values = values * (0 if kind == "one" else 1)
        values.flatten()[int(torch.randint(values.numel(), (1,), generator=g))] = 1.0 if kind == "one" else float(kind)
    return values


def _fill_curves(row: dict[str, Tensor], kind: str, g: torch.Generator) -> None:
    """Curves between 1 and a floor of at most 0.5, with anything that probabilities allow between them."""
    floor = {"weak": 0.5 + 0.5 * _rand(g), "extreme": 0.5, "step": 0.0}.get(kind, 0.5 * _rand(g))
    for name in ("deletion_curve", "insertion_curve", "segment_deletion_curve", "road_deletion", "road_retention"):
        values = row[name]
        draws = torch.rand(values.shape, generator=g)
        if kind == "bumpy":
            draws = draws * 2
        elif kind == "extreme":
            draws = LARGEST * (draws > 0.5)
        elif kind == "flat":
            draws = draws * 0 + floor
        elif kind == "step":
            draws = (draws > 0.5).float()
        elif kind == "wild":
            draws = (draws - 0.5) * 1e30
        values.copy_(draws)
        if name.endswith("curve"):
            values[0], values[-1] = (1, floor) if "deletion" in name else (floor, 1)
        if kind in ("nan", "inf"):
            values[int(torch.randint(len(values), (1,), generator=g))] = float(kind)
    for name in ("deletion_fractions", "insertion_fractions", "segment_deletion_fractions"):
        places = row[name]
        places[1:-1] = (places[1:-1] * 4).round() / 4 if _rand(g) < 0.3 else places[1:-1]  # a place may come twice


def _fill_places(row: dict[str, Tensor], kind: str, g: torch.Generator) -> None:
    for values in row.values():
        if values.dtype is torch.bool:
            values.copy_(torch.rand(values.shape, generator=g) < {"some": 0.4, "none": -1, "all": 2, "one": -1}[kind])
            if kind == "one":
                values.flatten()[int(torch.randint(values.numel(), (1,), generator=g))] = True


def _fill_numbers(row: dict[str, Tensor], kind: str, g: torch.Generator) -> None:
    row["confidence"].fill_({"low": 0.04 * _rand(g), "zero": 0.0, "one": 1.0, "nan": NAN}.get(kind, 0.06 + 0.94 * _rand(g)))
    for name in ("filled_confidence", "confidence_without_cue"):
        row[name].fill_(NAN if kind == "nan" and _rand(g) < 0.5 else _rand(g) * (_rand(g) < 0.8))


def _fill_errors(row: dict[str, Tensor], kind: str, g: torch.Generator) -> None:
    """An area moves by less than the curve's range, and has none where the curve is not finite."""
    for name in ("deletion_error", "insertion_error"):
        row[name].fill_(
            float(kind) if kind in ("nan", "inf") else LARGEST * _rand(g) if kind == "extreme" else 0.1 * _rand(g)
        )


def _rand(g: torch.Generator) -> float:
    return float(torch.rand(1, generator=g))
