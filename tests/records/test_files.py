"""Files are whole or not there."""

import hashlib
import os
import resource
import signal

import pytest
from _processes import Job, die_while_writing

from segaudit.records.files import atomic_write, sha256


def test_the_file_appears_at_the_end_and_not_before(tmp_path):
    path = tmp_path / "new" / "a.txt"
    with atomic_write(path) as draft:
        draft.write_text("one")
        assert not path.exists()
        assert list(path.parent.glob("*")) == [draft]
        assert not list(path.parent.glob("*.txt")), "a search for texts finds the draft"
    assert path.read_text() == "one"
    assert [entry.name for entry in path.parent.iterdir()] == ["a.txt"]


def test_an_error_leaves_what_was_there(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("before")
    with pytest.raises(TypeError), atomic_write(path) as draft:
        draft.write_text(b"not a text")
    assert path.read_text() == "before"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.txt"]


def test_a_kill_leaves_what_was_there(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("before")
    assert Job(die_while_writing, path, log=tmp_path / "printed").wait() == -signal.SIGKILL
    os.remove(tmp_path / "printed")
    assert path.read_text() == "before"
    assert len(os.listdir(tmp_path)) == 2
    assert list(tmp_path.glob("*.txt")) == [path], "what the kill left is found with the files that are whole"


def test_no_room_is_an_os_error_and_leaves_what_was_there(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"before")
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, old[1]))
    try:
        with pytest.raises(OSError, match="too large"), atomic_write(path) as draft:
            draft.write_bytes(bytes(100_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, ignored)
    assert path.read_bytes() == b"before"
    assert os.listdir(tmp_path) == ["a.bin"]


def test_sha256(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256(tmp_path / "a") == hashlib.sha256(b"abc").hexdigest()
