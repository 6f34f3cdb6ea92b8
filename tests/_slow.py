"""What the tables of scores share: a row, and slow references by loops over Python numbers."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

NAN = float("nan")


@dataclass
class Score:
    """One row.

    Attributes:
        metric: the class.
        function: takes the evidence in the order of ``evidence``.
        evidence: names, in the order of the function's parameters.
        slow: one target's value, by loops over Python numbers, written from the docstring.
        options: of both.
        higher_is_better: as in the design's table of scores.

    """

    metric: type[Any]
    function: Callable[..., Tensor]
    evidence: tuple[str, ...]
    slow: Callable[..., float]
    higher_is_better: bool | None
    options: dict[str, Any] = field(default_factory=dict)


def places(array: np.ndarray) -> list[tuple[int, ...]]:
    return list(np.ndindex(*array.shape))


def slow_share(a: np.ndarray, where: np.ndarray, needed: np.ndarray) -> float:
    if not all(math.isfinite(a[p]) for p in places(a)) or not any(needed[p] for p in places(needed)):
        return NAN
    total = sum(max(0.0, float(a[p])) for p in places(a))
    inside = sum(max(0.0, float(a[p])) for p in places(a) if where[p])
    return inside / total if total > 0 else NAN


def slow_ranks(values: list[float]) -> list[float]:
    return [sum(w < v for w in values) + (sum(w == v for w in values) + 1) / 2 for v in values]


def slow_spearman(a: list[float], b: list[float]) -> float:
    if not all(math.isfinite(v) for v in (*a, *b)):
        return NAN
    ra, rb = slow_ranks(a), slow_ranks(b)
    ma, mb = sum(ra) / len(ra), sum(rb) / len(rb)
    down = math.sqrt(sum((v - ma) ** 2 for v in ra) * sum((v - mb) ** 2 for v in rb))
    return sum((v - ma) * (w - mb) for v, w in zip(ra, rb, strict=True)) / down if down > 0 else NAN


def slow_cosine(a: list[float], b: list[float]) -> float:
    down = math.sqrt(sum(v * v for v in a)) * math.sqrt(sum(w * w for w in b))
    return sum(v * w for v, w in zip(a, b, strict=True)) / down if down else NAN


def slow_without(values: list[float], explained: list[float]) -> list[float]:
    square = sum(z * z for z in explained)
    slope = sum(v * z for v, z in zip(values, explained, strict=True)) / square if square else 0.0
    left = [v - slope * z for v, z in zip(values, explained, strict=True)]
    return left if max(map(abs, left)) > 1e-6 else [0.0] * len(left)
