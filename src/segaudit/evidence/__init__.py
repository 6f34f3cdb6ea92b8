"""Evidence: what scores are computed from. A metric asks for it by name; one decorated function adds more."""

from segaudit.evidence import (  # noqa: F401 -- imported, so that what they define is registered
    cost,
    cue,
    curves,
    effects,
    imputation,
    randomisation,
    stability,
    subsets,
    targets,
)
from segaudit.evidence.ask import Ask
from segaudit.evidence.registry import Evidence, catalogue, compute, describe, evidence, evidence_of, find, is_shared

__all__ = ["Ask", "Evidence", "catalogue", "compute", "describe", "evidence", "evidence_of", "find", "is_shared"]
