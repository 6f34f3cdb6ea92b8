"""Collects the deletion and insertion curves of many targets on one grid."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from segaudit.auditor import AuditedBatch

#: Shares of the pixels at which curves are shown.
GRID = np.linspace(0, 1, 51)
KINDS = ("deletion", "insertion")
Array = npt.NDArray[np.float64]


class Curves:
    """Collects every target's curves, batch by batch."""

    def __init__(self) -> None:
        self._curves: dict[tuple[str, str], list[Array]] = {}

    def add(self, batch: AuditedBatch) -> None:
        """Add the curves of a batch, where some score asked for them."""
        for explainer, evidence in batch.evidence.items():
            for kind in KINDS:
                if explainer and f"{kind}_curve" in evidence:
                    curves = _on_grid(evidence[f"{kind}_curve"], evidence[f"{kind}_fractions"])
                    self._curves.setdefault((explainer, kind), []).append(curves)

    @staticmethod
    def merge(parts: Sequence["Curves"]) -> "Curves":
        """Join the curves of several processes."""
        merged = Curves()
        for part in parts:
            for key, curves in part._curves.items():
                merged._curves.setdefault(key, []).extend(curves)
        return merged

    def rows(self) -> list[dict[str, Any]]:
        """Return one row per point: explainer, kind, share of pixels, mean and quartiles of S / S(x), number of targets."""
        rows = []
        for (explainer, kind), parts in self._curves.items():
            values = np.concatenate(parts)
            values = values[~np.isnan(values).any(axis=1)]
            if not len(values):
                continue
            # Sorted, since the last bits of a sum depend on the order, and that on which process audited what.
            values = np.sort(values, axis=0)
            quartiles = np.quantile(values, [0.25, 0.75], axis=0)
            for place, fraction in enumerate(GRID):
                rows.append(
                    {
                        "explainer": explainer,
                        "kind": kind,
                        "fraction": float(fraction),
                        "mean": float(values[:, place].mean()),
                        "lower": float(quartiles[0, place]),
                        "upper": float(quartiles[1, place]),
                        "targets": len(values),
                    }
                )
        return rows


def _on_grid(values: torch.Tensor, fractions: torch.Tensor) -> Array:
    """Interpolate curves ``(N, K)`` linearly to the grid; NaN where a curve is NaN."""
    y, x = values.double().cpu().numpy(), fractions.double().cpu().numpy()
    x = np.broadcast_to(x, y.shape)
    return np.stack([np.interp(GRID, xs, ys) for xs, ys in zip(x, y, strict=True)])
