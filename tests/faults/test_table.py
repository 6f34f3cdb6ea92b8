"""docs/faults.md has the rows that are tested, and no others."""

from faults.table import DOCUMENT, START, document, rows


def test_the_document_has_every_row_and_no_other() -> None:
    assert DOCUMENT.read_text().partition(START)[2].strip() == document().strip()


def test_there_are_at_least_a_hundred_and_each_is_told_once() -> None:
    faults = [one for part in rows().values() for one in part]
    assert len(faults) >= 100
    assert len({one.what for one in faults}) == len({one.test for one in faults}) == len(faults)
