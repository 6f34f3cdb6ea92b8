"""Rows of the table for scores of maps: localisation, complexity, stability, agreement with effects."""

import torch
from _slow import Score
from torch import Tensor

ROWS: dict[str, Score] = {}
#: What can't be scored: (score, evidence that is changed, how), see tests/functional/test_every_score.py.
UNSCORABLE: list[tuple[str, str, str]] = []


def more_evidence(n: int, size: tuple[int, ...], generator: torch.Generator) -> dict[str, Tensor]:
    """Evidence beside that of tests/_scores.py, for n targets; some of them can't be scored."""
    return {}
