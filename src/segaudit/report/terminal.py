"""Printing in a terminal, whatever characters it has."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.table import Table


@contextmanager
def any_characters() -> Iterator[None]:
    r"""Have standard output print codes, ``\xfc`` say, for what its encoding lacks, so that names stay apart."""
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
    """Print a line, or a table at least 150 columns wide; a code stands for what the terminal has no character for.

    Raises:
        OSError: if nobody reads what is printed any more.

    """
    with any_characters():
        if isinstance(what, Table):
            _Terminal(width=max(_Terminal().width, 150)).print(what)
        else:
            _Terminal().print(what, highlight=False, markup=False, soft_wrap=True)


class _Terminal(Console):
    def on_broken_pipe(self) -> None:
        """Let the caller decide; rich would end the program."""
        raise
