"""Collects what a report shows beside the scores: the worst targets and the curves."""

import heapq
from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any

import numpy as np

from segaudit.auditor import AuditedBatch
from segaudit.report.curves import Curves
from segaudit.report.picture import DRAWN, Panel, panel_of

#: Scores that decide which targets are the worst, in the order of preference, with the sign after which higher is worse.
_WORST = {"faithfulness_gap": -1.0, "deletion_auc": 1.0, "unsupported_leakage": 1.0, "off_target_leakage": 1.0}


class Gallery:
    """Collects, batch by batch, the worst targets with their maps, and every target's curves on one grid.

    Args:
        explainer: the explainer whose scores decide which targets are the worst.
        directions: whether higher is better, by score.
        most: number of targets to hold.

    """

    def __init__(self, explainer: str, directions: Mapping[str, bool | None], most: int = 12) -> None:
        self.explainer, self.most = explainer, most
        #: The score that decides which targets are the worst, and the sign after which higher is worse.
        self.score, self._sign = next(
            ((name, sign) for name, sign in _WORST.items() if name in directions),
            next(((name, -1.0 if up else 1.0) for name, up in directions.items() if up is not None), ("", 1.0)),
        )
        self._worst: list[tuple[float, int, Panel]] = []
        self._count = count()
        self._curves = Curves()

    def add(self, batch: AuditedBatch) -> None:
        """Add a batch."""
        if not len(batch.targets):
            return
        scores = batch.scores.get(self.explainer, {}) | batch.scores.get("", {})
        if batch.images.ndim in DRAWN and self.score in scores:
            for n, value in enumerate((self._sign * scores[self.score]).tolist()):
                if np.isnan(value) or (len(self._worst) >= self.most and value <= self._worst[0][0]):
                    continue
                item = (value, -next(self._count), panel_of(batch, n))
                (heapq.heappushpop if len(self._worst) >= self.most else heapq.heappush)(self._worst, item)
        self._curves.add(batch)

    @property
    def worst(self) -> list[Panel]:
        """The worst targets, the worst first."""
        return [panel for _, _, panel in sorted(self._worst, key=lambda item: (-item[0], -item[1]))]

    def merge(self, others: Sequence["Gallery"]) -> "Gallery":
        """Join the galleries of several processes."""
        merged = Gallery(self.explainer, {self.score: None}, self.most)
        merged.score, merged._sign = self.score, self._sign
        every = [(value, panel) for gallery in others for value, _, panel in gallery._worst]
        every.sort(key=lambda item: (-item[0], item[1].sample_id, item[1].class_index))
        merged._worst = [(value, -place, panel) for place, (value, panel) in enumerate(every[: self.most])]
        merged._curves = Curves.merge([gallery._curves for gallery in others])
        return merged

    def curves(self) -> list[dict[str, Any]]:
        """Return the rows of :meth:`segaudit.report.curves.Curves.rows`."""
        return self._curves.rows()
