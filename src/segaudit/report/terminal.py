"""Printing in a terminal, whatever characters it has."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.table import Table


def say(what: str | Table) -> None:
    """Print a line, or a table at least 150 columns wide; ``?`` stands for what the terminal has no character for.

    Raises:
        OSError: if nobody reads what is printed any more.

    """
    with _replacing():
        if isinstance(what, Table):
            _Terminal(width=max(_Terminal().width, 150)).print(what)
        else:
            _Terminal().print(what, highlight=False, markup=False, soft_wrap=True)


class _Terminal(Console):
    def on_broken_pipe(self) -> None:
        """Let the caller decide; rich would end the program."""
        raise


@contextmanager
def _replacing() -> Iterator[None]:
    """Have standard output replace what its encoding lacks, where it can be told to."""
    stream = sys.stdout
    if not hasattr(stream, "reconfigure"):  # a notebook's
        yield
        return
    before = stream.errors
    stream.reconfigure(errors="replace")
    try:
        yield
    finally:
        stream.reconfigure(errors=before)
