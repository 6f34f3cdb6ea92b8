"""Compares candidates on the targets of their audits' panel."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from segaudit.selection.candidate import Candidate
from segaudit.statistics.choice import resplit
from segaudit.statistics.flips import flip_test
from segaudit.statistics.panel import LEAST_SHARE, Table, panel_filled, panel_means

#: Candidates are told apart where the two-sided p-value of the paired test is at most this.
_ALPHA = 0.05


class Outlook(NamedTuple):
    """Holds what can be said of a choice beside the chosen candidate's own figures.

    Attributes:
        key: the number that was optimised.
        among: number of candidates that the rule allowed.
        expected: what the number of a candidate chosen so would be on other images; NaN where it cannot be told.
        alike: number of allowed candidates that the same images do not tell from the chosen one.
        images: number of images that this rests on.

    """

    key: str
    among: int
    expected: float
    alike: int
    images: int


def check_protocols(candidates: Sequence[Candidate]) -> None:
    """Refuse to rank candidates whose audits followed different rules.

    Raises:
        ValueError: if they did.

    """
    by_protocol = {one.protocol: one.name for one in candidates}
    if len(by_protocol) > 1:
        told = " and ".join(f"{name} protocol {protocol}" for protocol, name in sorted(by_protocol.items()))
        raise ValueError(
            f"the audits of {told} followed different rules, so their scores cannot be ranked together "
            "(docs/upgrading.md): select among runs of one protocol."
        )


def revise(candidates: Sequence[Candidate]) -> None:
    """Replace each candidate's scores by means over the targets that the candidates share, adjusted for missing ones.

    What was logged stays as it is. A candidate that has scored less than 80 % of the targets of the classes that were learnt
    then gets NaN, and so does one without a target in common with the others.
    """
    for key in dict.fromkeys(key for one in candidates for key in one.scores):
        having = [one for one in candidates if key in one.scores]
        means, _ = panel_means(_table([one.scores[key] for one in having]))
        for one, mean in zip(having, means.tolist(), strict=True):
            scored = np.isfinite(list(one.scores[key].values()))
            enough = len(scored) > 0 and scored.mean() >= LEAST_SHARE
            one.values = dict(one.values) | {key: mean if enough else float("nan")}


def scored_targets(one: Candidate) -> tuple[str, ...]:
    """Return what was scored of a candidate, by key and target; empty where its scores are not known by target."""
    return tuple(f"{key} {name}" for key, row in one.scores.items() for name, value in row.items() if np.isfinite(value))


def iou_standard_error(one: Candidate, other: Candidate) -> float:
    """Return the standard error of the paired difference of the two candidates' IoU over images; 0 where it is not known."""
    shared = [name for name in one.image_iou if name in other.image_iou]
    apart = np.array([one.image_iou[name] - other.image_iou[name] for name in shared])
    apart = apart[np.isfinite(apart)]
    return float(apart.std(ddof=1) / np.sqrt(len(apart))) if len(apart) > 1 else 0.0


def outlook(allowed: Sequence[Candidate], chosen: Candidate, key: str, sign: int) -> Outlook | None:
    """Say how good the choice is likely to be on other images, and how many candidates are as good as the chosen one.

    The best of many candidates looks better than it is. So the images are split in two again and again, the best candidate
    on one half is read on the other half, and the readings are averaged.

    Args:
        allowed: candidates that the rule lets win.
        chosen: the chosen one, one of them.
        key: the number that decides among them.
        sign: 1 where the number should be high, -1 where it should be low.

    Returns:
        The outlook; None where the number is not known by image, or of fewer than four images.

    """
    table = _by_image([one.scores.get(key) or _as_targets(key, one.image_iou) for one in allowed])
    if table is None or table.shape[1] < 4 or len(allowed) < 2:
        return None
    place = next(n for n, one in enumerate(allowed) if one is chosen)
    _, expected = resplit(table, sign=sign)
    apart = table[place] - np.delete(table, place, axis=0)
    alike = sum(flip_test(row, seed=0) > _ALPHA for row in apart)
    return Outlook(key, len(allowed), float(expected), alike, table.shape[1])


def _as_targets(key: str, image_iou: Mapping[str, float]) -> Mapping[str, float]:
    return image_iou if key.rpartition("/")[2] == "iou" else {}


def _by_image(scores: Sequence[Mapping[str, float]]) -> Table | None:
    """Return the mean score of each image, ``(candidates, images)``, missing ones adjusted; None where some have none."""
    if not all(scores):
        return None
    names = list(dict.fromkeys(target for one in scores for target in one))
    filled = panel_filled(_table(scores))
    known = np.flatnonzero(np.isfinite(filled).all(axis=0))
    if not len(known):
        return None
    images, place = np.unique(np.array([names[n].rsplit("|", 2)[0] for n in known]), return_inverse=True)
    filled = filled[:, known]
    sums = np.stack([np.bincount(place, row, minlength=len(images)) for row in filled])
    return sums / np.bincount(place, minlength=len(images))


def _table(scores: Sequence[Mapping[str, float]]) -> Table:
    """Return the scores ``(candidates, targets)`` of all targets that some candidate has; NaN where one has none."""
    names = list(dict.fromkeys(target for one in scores for target in one))
    return np.array([[one.get(name, np.nan) for name in names] for one in scores], dtype=np.float64).reshape(
        len(scores), len(names)
    )
