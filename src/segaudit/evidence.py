"""Names of what scores are computed from: a metric asks for evidence by the parameters of its `update`."""

import inspect

from torchmetrics import Metric

#: Evidence that does not depend on the explainer, and evidence that does.
_SHARED = {
    "region",
    "score",
    "filled_score",
    "effect_map",
    "cue",
    "score_without_cue",
    "kept",
    "region_effect",
    "subset_effect",
    "subset_size",
}
_EACH = {
    "attribution",
    "deletion_curve",
    "deletion_error",
    "deletion_fractions",
    "forwards",
    "insertion_curve",
    "insertion_error",
    "insertion_fractions",
    "perturbed_attribution",
    "randomised_attribution",
    "region_attribution",
    "region_deletion_curve",
    "region_deletion_fractions",
    "road_deletion",
    "road_retention",
    "seconds",
    "subset_attribution",
}


def evidence_of(name: str, metric: Metric) -> set[str]:
    """Names of the evidence that a metric's update takes."""
    parameters = [p for p in inspect.signature(metric.update).parameters.values() if p.kind is not p.VAR_KEYWORD]
    unknown = [p.name for p in parameters if p.name not in _SHARED | _EACH and p.default is p.empty]
    if unknown:
        raise ValueError(
            f"the metric {name!r} asks for {', '.join(unknown)}, which is no evidence of an audit. "
            f"There is: {', '.join(sorted(_SHARED | _EACH))}."
        )
    return {p.name for p in parameters} & (_SHARED | _EACH)


def is_shared(metric: Metric) -> bool:
    """Whether a score does not depend on the explainer."""
    return evidence_of(type(metric).__name__, metric) <= _SHARED
