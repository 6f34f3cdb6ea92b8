"""Follows the targets of a panel over the audits of a training."""

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Table = NDArray[np.float64]

#: A class has been learnt when more than half of its targets have this confidence.
LEARNT = 0.05
#: An audit that has scored a smaller share of the targets takes no part in decisions.
LEAST_SHARE = 0.8


def panel_means(table: ArrayLike) -> tuple[Table, Table]:
    """Compute the mean of each audit over the panel's targets, adjusted for targets that could not be scored.

    A plain mean moves when a target drops out. This one fits ``value = target + audit`` by least squares to the scores there
    are. Where all are there it is the plain mean. Where some are missing it is what the mean would be over all targets that
    were ever scored, if those without a score changed as the others do.

    Only audits that a chain of common targets links to the last scored one can be compared with it. The others are NaN.

    Args:
        table: scores ``(audits, targets)``; NaN where there is none.

    Returns:
        The means ``(audits,)``, and the share of the targets that each audit has scored ``(audits,)``.

    Raises:
        ValueError: if the table has not two dimensions.

    Example:
        >>> nan = float("nan")
        >>> means, share = panel_means([[0.1, 0.9], [0.2, nan]])  # the first target rose by 0.1
        >>> means.round(6).tolist(), share.tolist()
        ([0.5, 0.6], [1.0, 0.5])

    """
    table = np.asarray(table, dtype=np.float64)
    if table.ndim != 2:
        raise ValueError(f"a table has the shape (audits, targets), got {table.shape}.")
    scored = np.isfinite(table)
    share = scored.mean(axis=1) if table.shape[1] else np.zeros(len(table))
    means = np.full(len(table), np.nan)
    linked = _linked(scored)
    if not linked.any():
        return means, share
    has = scored[linked]
    has, values = has[:, has.any(axis=0)], table[linked][:, has.any(axis=0)]
    values = np.where(has, values, 0.0)
    # The normal equations, with the targets' levels eliminated. They fix the audits' effects up to a constant, which
    # the least norm chooses and the targets' mean level takes up.
    per_target = has.sum(axis=0)
    left = np.diag(has.sum(axis=1).astype(np.float64)) - (has / per_target) @ has.T
    right = values.sum(axis=1) - has @ (values.sum(axis=0) / per_target)
    effects = np.linalg.lstsq(left, right, rcond=None)[0]
    levels = (values - has * effects[:, None]).sum(axis=0) / per_target
    means[linked] = effects + levels.mean()
    return means, share


def panel_filled(table: ArrayLike) -> Table:
    """Return a table of scores with the missing ones replaced by what :func:`panel_means` takes for them.

    Args:
        table: scores ``(audits, targets)``; NaN where there is none.

    Returns:
        ``(audits, targets)``; NaN in audits that no common targets link to the last, and for targets that were never scored.

    Example:
        >>> panel_filled([[0.1, 0.9], [0.2, float("nan")]]).round(6).tolist()
        [[0.1, 0.9], [0.2, 1.0]]

    """
    table = np.asarray(table, dtype=np.float64)
    means, _ = panel_means(table)
    apart = table - means[:, None]
    has = np.isfinite(apart)
    with np.errstate(invalid="ignore", divide="ignore"):
        levels = np.where(has, apart, 0.0).sum(axis=0) / has.sum(axis=0)
    return np.where(np.isfinite(table) & np.isfinite(means)[:, None], table, means[:, None] + levels)


def _linked(scored: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Tell which audits a chain of common targets links to the last that has scored any, ``(audits,)``."""
    linked = np.zeros(len(scored), dtype=bool)
    any_scored = np.flatnonzero(scored.any(axis=1))
    if not len(any_scored):
        return linked
    linked[any_scored[-1]] = True
    while True:
        more = linked | scored[:, scored[linked].any(axis=0)].any(axis=1)
        if (more == linked).all():
            return linked
        linked = more


class TargetSeries:
    """Holds the scores of targets over the audits of a training.

    A class joins at the first audit at which more than half of its targets have a confidence of at least 0.05. Targets of
    images that the model calls this class everywhere, though the region is smaller, do not count as confident. Until then
    the class has not been learnt: its targets count neither in means nor in the share that is scored. Once it has joined, it
    stays.

    Args:
        targets: identities of the panel's targets. One that an audit leaves out counts as not scored. Defaults to those that
            the records have.

    Attributes:
        audits: label of each audit, such as its epoch.
        targets: identity of each target: image, class, and a number where an image has a class twice.
        joined: by class, the place of the audit at which it joined.

    """

    def __init__(self, targets: Iterable[tuple[str, int, int]] = ()) -> None:
        self.audits: list[int] = []
        self.targets = list(targets)
        self.joined: dict[int, int] = {}
        self._scores: dict[str, list[list[float]]] = {}
        self._inapplicable: dict[str, set[int]] = {}

    def __len__(self) -> int:
        return len(self.audits)

    def add(self, audit: int, records: Iterable[Mapping[str, Any]], scores: Sequence[str] | None = None) -> None:
        """Add an audit; one with the same label, which is repeated after a kill, is replaced along with later ones.

        Args:
            audit: label of the audit, larger than that of earlier ones.
            records: rows of the audit, those of :meth:`segaudit.Auditor.records`. A row without a ``confidence`` counts as
                learnt where it has a score.
            scores: names of the scores to hold. Defaults to all.

        """
        self._forget_from(audit)
        self.audits.append(audit)
        known = {target: place for place, target in enumerate(self.targets)}
        found: dict[str, dict[int, float]] = {}
        learnt: dict[int, dict[int, bool]] = {}
        seen: dict[tuple[str, str, int], int] = {}
        for row in records:
            image, class_index = str(row["sample_id"]), int(row["class_index"])
            number = seen.setdefault((row["explainer"], image, class_index), 0)
            seen[row["explainer"], image, class_index] += 1
            place = known.setdefault((image, class_index, number), len(known))
            values = {
                name: value
                for name, value in row.items()
                if isinstance(value, float) and name not in NO_SCORES and (scores is None or name in scores)
            }
            reasons = str(row.get("reason", "")).split("; ")
            for name in (name for reason in reasons for name in INAPPLICABLE.get(reason, ()) if name in values):
                self._inapplicable.setdefault(f"{row['explainer']}/{name}", set()).add(place)
            for name, value in values.items():
                found.setdefault(f"{row['explainer']}/{name}", {})[place] = value
            confident = row["confidence"] >= LEARNT if "confidence" in row else np.isfinite(list(values.values())).any()
            everywhere = row.get("predicted_area", 0.0) >= 1 > row["area"]
            learnt.setdefault(class_index, {})[place] = bool(confident) and not everywhere
        self.targets = list(known)
        sizes = Counter(class_index for _, class_index, _ in self.targets)
        for class_index, those in learnt.items():
            if class_index not in self.joined and 2 * sum(those.values()) > sizes[class_index]:
                self.joined[class_index] = len(self.audits) - 1
        for key in {*self._scores, *found}:
            rows = self._scores.setdefault(key, [[] for _ in self.audits[:-1]])
            known_values = found.get(key, {})
            rows.append([known_values.get(place, np.nan) for place in range(len(self.targets))])

    @property
    def keys(self) -> list[str]:
        """Names of the scores, ``<explainer>/<score>``."""
        return list(self._scores)

    @property
    def not_learnt(self) -> list[int]:
        """Classes that have targets and have not joined."""
        return sorted({class_index for _, class_index, _ in self.targets} - set(self.joined))

    def table(self, key: str) -> Table:
        """Return a score, ``(audits, targets)``; NaN where there is none or the target's class had not joined."""
        table = np.full((len(self.audits), len(self.targets)), np.nan)
        for place, row in enumerate(self._scores.get(key, [])):
            table[place, : len(row)] = row
        return np.where(self._counts(), table, np.nan)

    def means(self, key: str) -> tuple[Table, Table]:
        """Return the adjusted mean of each audit ``(audits,)``, and the share of the joined targets it has scored.

        The mean is NaN where the share is below 0.8. Targets that cannot have the score, such as images without a cue, do
        not count in the share.
        """
        apply = [place for place in range(len(self.targets)) if place not in self._inapplicable.get(key, ())]
        table, counts = self.table(key)[:, apply], self._counts()[:, apply]
        means, _ = panel_means(table)
        with np.errstate(invalid="ignore"):
            share = np.isfinite(table).sum(axis=1) / counts.sum(axis=1)
        return np.where(share >= LEAST_SHARE, means, np.nan), np.nan_to_num(share)

    def of_audit(self, key: str, audit: int) -> dict[str, float]:
        """Return a score of each joined target at an audit, by the target's identity as text; NaN where it has none."""
        place = self.audits.index(audit)
        row, counts = self.table(key)[place], self._counts()[place]
        return {
            "|".join(map(str, target)): float(value)
            for n, (target, value, joined) in enumerate(zip(self.targets, row, counts, strict=True))
            if joined and n not in self._inapplicable.get(key, ())
        }

    def scored(self, key: str) -> int:
        """Count the targets that the last audit has scored."""
        return int(np.isfinite(self.table(key)[-1]).sum()) if self.audits else 0

    def state_dict(self) -> dict[str, Any]:
        """Return everything in plain types."""
        return {
            "audits": list(self.audits),
            "targets": [list(target) for target in self.targets],
            "joined": dict(self.joined),
            "scores": {key: [list(row) for row in rows] for key, rows in self._scores.items()},
            "inapplicable": {key: sorted(places) for key, places in self._inapplicable.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned."""
        self.audits = list(state["audits"])
        self.targets = [(str(image), int(one), int(number)) for image, one, number in state["targets"]]
        self.joined = dict(state["joined"])
        self._scores = {key: [list(row) for row in rows] for key, rows in state["scores"].items()}
        self._inapplicable = {key: set(places) for key, places in state["inapplicable"].items()}

    def _counts(self) -> NDArray[np.bool_]:
        """Tell which targets count at which audit, ``(audits, targets)``: those of classes that have joined."""
        classes = np.array([self.joined.get(one, len(self.audits)) for _, one, _ in self.targets], dtype=int)
        return np.arange(len(self.audits))[:, None] >= classes[None]

    def _forget_from(self, audit: int) -> None:
        keep = sum(label < audit for label in self.audits)
        self.audits = self.audits[:keep]
        self._scores = {key: rows[:keep] for key, rows in self._scores.items()}
        self.joined = {one: place for one, place in self.joined.items() if place < keep}


#: By reason, the scores that a target cannot have, whatever the model: they do not count as missing.
INAPPLICABLE: Mapping[str, tuple[str, ...]] = {"no cue": ("cue_mass", "cue_effect")}
#: Columns of records with floating-point values that are no scores.
NO_SCORES: frozenset[Hashable] = frozenset({"area", "predicted_area", "confidence", "image_iou"})
