"""What a report shows of an audit beside its scores: the worst targets, and the curves."""

import heapq
from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from segaudit.auditor import AuditedBatch
from segaudit.report.picture import Panel, panel_of

#: Shares of the pixels at which curves are shown.
GRID = np.linspace(0, 1, 51)
#: By which score targets are the worst, in the order of preference, and which end is.
_WORST = {"faithfulness_gap": -1.0, "deletion_auc": 1.0, "unsupported_leakage": 1.0, "off_target_leakage": 1.0}
Array = npt.NDArray[np.float64]


class Gallery:
    """Keeps, batch by batch, the worst targets with their maps, and every target's curves on one grid.

    Args:
        explainer: whose scores say which targets are the worst.
        directions: whether higher is better, by score.
        most: how many targets are kept.

    """

    def __init__(self, explainer: str, directions: Mapping[str, bool | None], most: int = 12) -> None:
        self.explainer, self.most = explainer, most
        #: The score by which targets are the worst, and its sign: higher is worse after it.
        self.score, self._sign = next(
            ((name, sign) for name, sign in _WORST.items() if name in directions),
            next(((name, -1.0 if up else 1.0) for name, up in directions.items() if up is not None), ("", 1.0)),
        )
        self._worst: list[tuple[float, int, Panel]] = []
        self._count = count()
        self._curves: dict[tuple[str, str], list[Array]] = {}

    def add(self, batch: AuditedBatch) -> None:
        """Look at a batch."""
        if not len(batch.targets):
            return
        scores = batch.scores.get(self.explainer, {}) | batch.scores.get("", {})
        if batch.images.ndim == 4 and self.score in scores:
            for n, value in enumerate((self._sign * scores[self.score]).tolist()):
                if np.isnan(value) or (len(self._worst) >= self.most and value <= self._worst[0][0]):
                    continue
                item = (value, -next(self._count), panel_of(batch, n))
                (heapq.heappushpop if len(self._worst) >= self.most else heapq.heappush)(self._worst, item)
        for explainer, evidence in batch.evidence.items():
            for kind in ("deletion", "insertion"):
                if explainer and f"{kind}_curve" in evidence:
                    curves = _on_grid(evidence[f"{kind}_curve"], evidence[f"{kind}_fractions"])
                    self._curves.setdefault((explainer, kind), []).append(curves)

    @property
    def worst(self) -> list[Panel]:
        """The worst targets, the worst first."""
        return [panel for _, _, panel in sorted(self._worst, key=lambda item: (-item[0], -item[1]))]

    def merge(self, others: Sequence["Gallery"]) -> "Gallery":
        """One gallery of several processes' ones."""
        merged = Gallery(self.explainer, {self.score: None}, self.most)
        merged.score, merged._sign = self.score, self._sign
        every = [(value, panel) for one in others for value, _, panel in one._worst]
        every.sort(key=lambda item: (-item[0], item[1].sample_id, item[1].class_index))
        merged._worst = [(value, -place, panel) for place, (value, panel) in enumerate(every[: self.most])]
        for one in others:
            for key, curves in one._curves.items():
                merged._curves.setdefault(key, []).extend(curves)
        return merged

    def curves(self) -> list[dict[str, Any]]:
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
