"""Prints in a terminal, whichever characters it has."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.table import Table


@contextmanager
def any_characters() -> Iterator[None]:
    r"""Let standard output print codes, such as ``\xfc``, for characters that its encoding lacks."""
    stream = sys.stdout
    if not hasattr(stream, "reconfigure") or stream.errors != "strict":  # a notebook's; one that knows what to do
        yield
        return
    stream.reconfigure(errors="backslashreplace")
    try:
        yield
    finally:
        stream.reconfigure(errors="strict")


def say(what: str | Table) -> None:
    """Print a line, or a table at least 150 columns wide. Characters that the terminal lacks become codes.

    Raises:
        OSError: if nothing reads the output any more.

    """
    with any_characters():
        if isinstance(what, Table):
            _Terminal(width=max(_Terminal().width, 150)).print(what)
        else:
            _Terminal().print(what, highlight=False, markup=False, soft_wrap=True)


class _Terminal(Console):
    def on_broken_pipe(self) -> None:
        """Let the caller decide what happens; rich would end the program."""
        raise
