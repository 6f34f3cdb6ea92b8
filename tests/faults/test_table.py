"""The fault table covers enough, and says each thing once. tests/packaging/test_docs.py compares docs/faults.md with it."""

from faults.table import rows


def test_there_are_at_least_a_hundred_and_each_is_told_once() -> None:
    faults = [one for part in rows().values() for one in part]
    assert len(faults) >= 100
    assert len({one.what for one in faults}) == len({one.test for one in faults}) == len(faults)
