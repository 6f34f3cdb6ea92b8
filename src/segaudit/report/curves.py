"""Deletion and insertion curves of many targets on one grid."""

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
    """Keeps every target's curves, batch by batch."""

    def __init__(self) -> None:
        self._curves: dict[tuple[str, str], list[Array]] = {}

    def add(self, batch: AuditedBatch) -> None:
        """Take the curves of a batch, where some score asked for them."""
        for explainer, evidence in batch.evidence.items():
            for kind in KINDS:
                if explainer and f"{kind}_curve" in evidence:
                    curves = _on_grid(evidence[f"{kind}_curve"], evidence[f"{kind}_fractions"])
                    self._curves.setdefault((explainer, kind), []).append(curves)

    @staticmethod
    def merge(parts: Sequence["Curves"]) -> "Curves":
        """Those of several processes together."""
        merged = Curves()
        for one in parts:
            for key, curves in one._curves.items():
                merged._curves.setdefault(key, []).extend(curves)
        return merged

    def rows(self) -> list[dict[str, Any]]:
        """A row a point: explainer, kind, share of pixels, mean and quartiles of S relative to S(x), number of targets."""
        rows = []
        for (explainer, kind), parts in self._curves.items():
            values = np.concatenate(parts)
            values = values[~np.isnan(values).any(axis=1)]
            if not len(values):
                continue
            # In an order that does not depend on who audited what, as a sum's last bits do.
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
    """Curves ``(N, K)`` at the places of the grid, linearly interpolated; NaN where a curve is."""
    y, x = values.double().cpu().numpy(), fractions.double().cpu().numpy()
    x = np.broadcast_to(x, y.shape)
    return np.stack([np.interp(GRID, xs, ys) for xs, ys in zip(x, y, strict=True)])
