"""Evidence: what scores are computed from. A metric asks for it by name; one decorated function adds more."""

from importlib import import_module
from pkgutil import iter_modules

from segaudit.evidence.ask import Ask
from segaudit.evidence.registry import Evidence, catalogue, compute, describe, evidence, evidence_of, find, is_shared

__all__ = ["Ask", "Evidence", "catalogue", "compute", "describe", "evidence", "evidence_of", "find", "is_shared"]

# Each file of this folder registers its evidence when it is imported, and no list of them has to be kept.
for _module in iter_modules(__path__, f"{__name__}."):
    import_module(_module.name)
