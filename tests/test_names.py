"""Short names."""

import pickle
from abc import ABC, abstractmethod
from copy import deepcopy

import pytest
from torchmetrics import Metric

from segaudit import Auditor, Intervention, TargetSelector, names
from segaudit.attribution import DEA, Explainer, Random, Saliency
from segaudit.metrics import DeletionAUC
from segaudit.names import resolve, resolve_named, snake_case


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("Saliency", "saliency"), ("IntegratedGradients", "integrated_gradients"), ("SegGradCAM", "seg_grad_cam"),
        ("DEA", "dea"), ("DeletionAUC", "deletion_auc"), ("AUCDelta", "auc_delta"), ("HTTPServer2Go", "http_server2_go"),
        ("RegionEffects", "region_effects"), ("lower", "lower"), ("Top10Overlap", "top10_overlap"),
    ],
)  # fmt: skip
def test_snake_case(name: str, short: str) -> None:
    assert snake_case(name) == short


class Animal(ABC):
    @abstractmethod
    def sound(self) -> str: ...


class Cat(Animal):
    def sound(self) -> str:
        return "meow"


class HouseCat(Cat):
    pass


class Unfinished(Animal):
    pass


def test_a_class_is_found_without_being_registered() -> None:
    assert type(resolve("cat", Animal)) is Cat
    assert type(resolve("house_cat", Animal)) is HouseCat  # a subclass of a subclass
    cat = Cat()
    assert resolve(cat, Animal) is cat
    assert type(resolve("dea", Explainer)) is DEA
    assert type(resolve("deletion_auc", Metric)) is DeletionAUC


@pytest.mark.parametrize("name", ["dog", "unfinished", "animal", "Cat", ""])
def test_an_unknown_name_lists_what_there_is(name: str) -> None:
    with pytest.raises(
        ValueError, match=rf"there is no Animal '{name}'\..* Known: cat, house_cat; any other goes by its class_path"
    ):
        resolve(name, Animal)


def test_lists_name_themselves_and_mappings_keep_their_names_and_order() -> None:
    saliency = Saliency()
    found = resolve_named(["random", saliency, "dea"], Explainer)
    assert list(found) == ["random", "saliency", "dea"]
    assert found["saliency"] is saliency
    found = resolve_named({"b": "random", "a": Random(seed=3)}, Explainer)
    assert list(found) == ["b", "a"]
    assert (found["b"].seed, found["a"].seed) == (0, 3)
    with pytest.raises(ValueError, match="random appears more than once; give a mapping"):
        resolve_named(["random", "dea", Random(seed=1)], Explainer)


def test_a_name_that_two_classes_claim_is_refused_and_both_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = type("Saliency", (), {"__module__": "papers"})  # no real subclass, which would stay for the tests to come
    real = names.subclasses
    monkeypatch.setattr(names, "subclasses", lambda base: [*real(base), mine])
    with pytest.raises(ValueError, match="'saliency' means 2 classes") as info:
        resolve("saliency", Explainer)
    assert "segaudit.attribution.gradient.Saliency and papers.Saliency" in str(info.value)
    with pytest.raises(ValueError, match="'saliency' means 2 classes"):
        Auditor(["saliency"], ["seconds"])
    assert type(resolve("dea", Explainer)) is DEA
    assert type(Auditor(metrics=["seconds"]).explainers["saliency"]) is Saliency  # the defaults stay our own
    assert resolve_named({"mine": mine()}, Explainer)  # objects are never in doubt


def test_a_class_that_is_defined_again_is_no_other_class() -> None:
    def run_the_cell(answer: str) -> type[Animal]:
        class Cow(Animal):
            def sound(self) -> str:
                return answer

        return Cow

    cows = [run_the_cell("moo"), run_the_cell("mooo")]
    assert type(resolve("cow", Animal)) is cows[1]


def test_settings_cannot_be_changed() -> None:
    for settings, name in ((Intervention(), "steps"), (Intervention(), "max_batch"), (TargetSelector(), "min_area")):
        with pytest.raises(AttributeError, match=f"cannot be changed: make a new one with another {name}"):
            setattr(settings, name, 1)
        with pytest.raises(AttributeError, match="cannot be changed"):
            delattr(settings, name)
        again = pickle.loads(pickle.dumps(deepcopy(settings)))
        assert getattr(again, name) == getattr(settings, name)
