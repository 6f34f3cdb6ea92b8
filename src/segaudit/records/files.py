"""Writes files completely or not at all, and computes their hashes."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_write(path: Path | str) -> Iterator[Path]:
    """Yield the path of a draft, which replaces ``path`` at the end. After an error or a kill, ``path`` is as before.

    Missing folders are made. The draft has an ending of its own, so that no search for files like ``path`` finds the draft
    of a killed process. Writers that choose the format by the ending need it as an argument.

    Raises:
        OSError: if the file cannot be written, on a full disk for example.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp(), "new", "a.txt")
        >>> with atomic_write(file) as draft:
        ...     _ = draft.write_text("all of it")
        >>> file.read_text()
        'all of it'

    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield draft
        with open(draft, "rb") as written:
            os.fsync(written.fileno())  # or else a crash of the machine may leave the name without the content
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def sha256(path: Path | str) -> str:
    """Return the hexadecimal SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
