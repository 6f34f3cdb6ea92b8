"""Modules are found under the paths that they had in round 1, and are the same modules."""

import importlib
import sys

import pytest

from segaudit._moved import MOVED


@pytest.mark.parametrize("old", MOVED)
def test_an_old_path_gives_the_module_of_the_new_one(old: str) -> None:
    found, wanted = importlib.import_module(old), importlib.import_module(MOVED[old])
    assert found is wanted is sys.modules[old]
    assert wanted.__name__ == wanted.__spec__.name == MOVED[old]  # the module itself is as if nobody had used the old path
    parent, _, name = old.rpartition(".")
    assert getattr(importlib.import_module(parent), name) is wanted


def test_names_that_configurations_and_scripts_hold() -> None:
    from segaudit.right_reasons import ReliancePenalty
    from segaudit.sample import Sample, unpack
    from segaudit.target import Targets, TargetSelector
    from segaudit.task import SegmentationTask
    from segaudit.trainer import Trainer

    import segaudit
    import segaudit.training
    from segaudit.evidence import evidence_of, is_shared
    from segaudit.intervention import Probe

    assert (SegmentationTask, Trainer) == (segaudit.training.SegmentationTask, segaudit.training.Trainer)
    assert (Probe, Targets, TargetSelector) == (segaudit.Probe, segaudit.Targets, segaudit.TargetSelector)
    assert ReliancePenalty is segaudit.ReliancePenalty
    assert all(map(callable, (evidence_of, is_shared, Sample, unpack)))


def test_a_path_that_never_was_is_not_found() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"segaudit\.nothing"):
        importlib.import_module("segaudit.nothing")
