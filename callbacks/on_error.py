"""Keeps a failure of the audit from ending a training."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import shorten
from typing import Literal, get_args

from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_warn

OnError = Literal["warn", "raise"]


class ErrorPolicy:
    """Decides what an error does once training has begun.

    Args:
        prefix: prefix of the audit, for warnings.
        on_error: "warn" lets training continue, "raise" ends it. In ``validate`` and ``test`` an error always ends the
            run.

    Raises:
        ValueError: if ``on_error`` is neither.

    """

    def __init__(self, prefix: str, on_error: OnError) -> None:
        if on_error not in get_args(OnError):
            raise ValueError(f"on_error must be 'warn' or 'raise', got {on_error!r}.")
        self.prefix, self.on_error = prefix, on_error

    def continues(self, trainer: Trainer) -> bool:
        """Tell whether the run continues after an error."""
        return self.on_error == "warn" and trainer.state.fn == "fit"

    @contextmanager
    def warn_on_error(self, trainer: Trainer, what: str) -> Iterator[None]:
        """Turn an error inside into a warning, if the run continues after errors; ``what`` says what is lost."""
        try:
            yield
        except Exception as error:
            if not self.continues(trainer):
                raise
            rank_zero_warn(f"{self.prefix}: {what}, and training goes on. {brief(error)}")


def brief(error: BaseException) -> str:
    """Return the kind, the message and the place of an error in one line.

    Example:
        >>> brief(ValueError("no such class"))
        'ValueError: no such class'

    """
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {shorten(str(error), 500, placeholder=' …')}{place}"
