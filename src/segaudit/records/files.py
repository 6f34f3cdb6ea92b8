"""Writes files that are complete or not there, and identifies them by hash."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_write(path: Path | str) -> Iterator[Path]:
    """Give a name to write to, which becomes ``path`` at the end; after an error or a kill, the file of before is there.

    Missing folders are made. The draft's name has an ending of its own, so that no search for files like ``path`` meets
    what a kill left behind; writers that go by endings have to be told the format.

    Raises:
        OSError: if the file cannot be written; a full disk, say.

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
            os.fsync(written.fileno())  # else a machine that stops may keep the name and lose what is in it
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def sha256(path: Path | str) -> str:
    """Return the hexadecimal SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
