"""Does a score see the truth? What scores say of models of which it is known how far they lean on a planted cue.

A score earns trust if it orders such models by what they really do, where accuracy cannot; if it does not depend on who
measures (the fill, the training's seed); and if it says more than other scores do. ``benchmarks/validity.py`` asks all of
this of every score; docs/validity.md shows the answers.
"""

from segaudit.validity.agreement import explainer_agreement, score_agreement
from segaudit.validity.truth import Validity, reliance, validity

__all__ = ["Validity", "explainer_agreement", "reliance", "score_agreement", "validity"]
