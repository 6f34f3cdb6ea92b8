"""Every registered piece of evidence, and the registry. New evidence needs no line here: it is found by its name."""

from typing import Any

import pytest
import torch
from torch import Tensor

from segaudit.evidence import Ask, catalogue, describe, evidence, find, registry
from segaudit.testing import check_evidence

#: What sets some apart: sizes are the same for all targets, a batch shares its costs, and the shares of segments do not
#: depend on the map that orders these.
OPTIONS: dict[str, dict[str, Any]] = {
    "subset_size": {"shared": True},
    "seconds": {"alone": False},
    "forwards": {"alone": False},
    "segment_deletion_fractions": {"varies": False},
    **{name: {"tolerance": 1e-3} for name in ("deletion_error", "insertion_error")},  # differences of areas near 1
    **{name: {"dims": 2} for name in ("road_deletion", "road_retention")},  # slow
}
OURS = [one.name for one in catalogue() if one.path.startswith("segaudit.")]


@pytest.mark.parametrize("name", OURS)
def test_evidence(name: str) -> None:
    check_evidence(name, **{"dims": (2, 1, 3)} | OPTIONS.get(name, {}))


@pytest.mark.parametrize("name", OURS)
def test_describes_itself(name: str) -> None:
    text = describe(name)
    assert text.startswith(f"{name}\nof: {'each explainer' if find(name).per_explainer else 'the batch'}")
    assert all(reason in text for reason in find(name).missing)
    assert text.rstrip().endswith(".")


def test_what_depends_on_the_explainer() -> None:
    own = {one.name for one in catalogue() if one.name in OURS and one.per_explainer}
    shared = {
        "region",
        "confidence",
        "filled_confidence",
        "effect_map",
        "segment_effect",
        "subset_effect",
        "subset_size",
        "subset_area",
        "segment_area",
    }
    assert own == set(OURS) - shared - {"kept", "cue", "confidence_without_cue"}


def test_names_of_round_one_are_still_found() -> None:
    for old, new in registry._RENAMED.items():
        assert find(old) is find(new)


def test_a_name_that_two_functions_claim_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_EVIDENCE", dict(registry._EVIDENCE))

    def region(ask: Ask) -> Tensor:
        return torch.zeros(len(ask.targets))

    with pytest.raises(
        ValueError, match=r"two functions claim the evidence 'region', segaudit\.evidence\.targets\.region and"
    ):
        evidence()(region)
    region.__name__ = "my_region"
    evidence()(region)
    evidence()(region)  # a notebook's cell may run again
    assert find("my_region").function is region


def test_an_unknown_name_is_told_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"no evidence 'regions'\. Did you mean 'region'\? There is: attribution, confid"):
        find("regions")
