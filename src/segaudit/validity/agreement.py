"""Computes the agreement between audits, and between scores."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from scipy import stats

from segaudit.statistics import Records
from segaudit.validity.means import means


def explainer_agreement(audits: Sequence[Records]) -> dict[str, float]:
    """Compute, by score, how similarly audits rank explainers: Spearman's correlation, averaged over pairs of audits.

    The correlation is that of the explainers' mean scores. Audits of one model under several fills show how much a ranking
    depends on the fill. Audits of models with different seeds show how much it depends on the training.

    Args:
        audits: records of each audit; only explainers that two audits share are compared.

    Returns:
        Correlation in [-1, 1] by score; NaN where fewer than three explainers can be compared or their means are equal.

    Raises:
        ValueError: if there are fewer than two audits.

    Example:
        >>> found = {"dea": 0.9, "saliency": 0.4, "random": 0.0}
        >>> one = [{"sample_id": "0", "explainer": name, "road": v} for name, v in found.items()]
        >>> explainer_agreement([one, [dict(row, road=row["road"] ** 2) for row in one]])
        {'road': 1.0}

    """
    if len(audits) < 2:
        raise ValueError(f"agreement needs at least two audits, got {len(audits)}.")
    found = [means(records) for records in audits]
    scores = dict.fromkeys(score for of in found for _, score in of)
    return {score: _mean([_alike(a, b, score) for a, b in combinations(found, 2)]) for score in scores}


def score_agreement(audits: Mapping[str, Records], explainers: Sequence[str]) -> dict[tuple[str, str], float]:
    """Compute how similarly two scores order models: Spearman's correlation over models, averaged over explainers.

    Args:
        audits: records of each model's audit.
        explainers: names of the explainers whose maps are scored.

    Returns:
        Correlation in [-1, 1] by pair of scores, in the order of the records; NaN where no explainer has both scores for
        three models.

    """
    found = [means(records) for records in audits.values()]
    scores = list(dict.fromkeys(score for of in found for _, score in of))
    columns = {
        (explainer, score): [of.get((explainer, score), np.nan) for of in found]
        for explainer in explainers
        for score in scores
    }
    return {
        (one, other): _mean([_correlation(columns[explainer, one], columns[explainer, other]) for explainer in explainers])
        for one, other in combinations(scores, 2)
    }


def _alike(a: dict[tuple[Any, ...], float], b: dict[tuple[Any, ...], float], score: str) -> float:
    shared = [key for key in a if key[1] == score and key in b]
    return _correlation([a[key] for key in shared], [b[key] for key in shared])


def _correlation(a: Sequence[float], b: Sequence[float]) -> float:
    pairs = np.array([a, b], dtype=np.float64)
    pairs = pairs[:, ~np.isnan(pairs).any(axis=0)]
    # Two values always correlate by 1 or -1, and equal values have no order.
    if pairs.shape[1] < 3 or (np.ptp(pairs, axis=1) == 0).any():
        return np.nan
    return float(stats.spearmanr(*pairs).statistic)


def _mean(values: Sequence[float]) -> float:
    scored = [value for value in values if not np.isnan(value)]
    return float(np.mean(scored)) if scored else np.nan
