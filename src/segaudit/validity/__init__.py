"""Validity: checks scores on models whose reliance on a planted cue is known.

A score is valid if it orders such models by their true reliance, where accuracy cannot; if it does not depend on the fill
or the training's seed; and if it says more than other scores do. ``benchmarks/validity.py`` checks every score, and
docs/validity.md has the results.
"""

from segaudit.validity.agreement import explainer_agreement, score_agreement
from segaudit.validity.truth import Validity, reliance, validity

__all__ = ["Validity", "explainer_agreement", "reliance", "score_agreement", "validity"]
