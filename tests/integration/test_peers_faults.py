"""What other libraries get wrong, shown of them and refused for ours.

A fault that a newer release of a peer no longer has may lose its first half here, never its second.
"""

import random
from typing import Any

import numpy as np
import pytest
import pytorch_grad_cam
import torch
from _models import Net, differences, images, state_of
from _scores import SCORES, evidence, pick
from pytorch_grad_cam.utils.model_targets import ClassifierOutputSoftmaxTarget, SemanticSegmentationTarget
from quantus.functions.normalise_func import normalise_by_max
from quantus.helpers.model.pytorch_model import PyTorchModel
from quantus.helpers.utils import calculate_auc
from quantus.metrics.faithfulness.pixel_flipping import PixelFlipping
from quantus.metrics.localisation.pointing_game import PointingGame

from segaudit import Auditor, Intervention, TargetSelector
from segaudit.attribution import Saliency, SegGradCAM
from segaudit.forwards import Probe
from segaudit.forwards.output import probabilities
from segaudit.forwards.target import Targets, target_logit
from segaudit.functional import deletion_auc
from segaudit.intervention import GridRegions

FEW = Intervention(regions=GridRegions([4]), steps=3)


def test_a_louder_neighbour_in_the_batch_changes_nothing() -> None:
    """Quantus divides a batch's maps by the largest value of all of them."""
    found = evidence(4, awkward=False)
    maps = found["attribution"].numpy()
    louder = np.concatenate([maps[:1], 100 * maps[1:]])
    assert not np.allclose(normalise_by_max(maps)[0], normalise_by_max(louder)[0])

    for name, score in SCORES.items():
        loud = {k: torch.cat([v[:1], 100 * v[1:]]) if k.endswith("attribution") else v for k, v in found.items()}
        one, other = (score.function(*(pick(f, 0, 4)[k] for k in score.evidence), **score.options) for f in (found, loud))
        torch.testing.assert_close(one[:1], other[:1], rtol=1e-6, atol=1e-6, msg=name)


class Bright:
    """What Quantus asks of a model: the mean of an image is its score."""

    def shape_input(self, x: Any, *_: Any, **__: Any) -> Any:
        return x

    def predict(self, x: Any) -> Any:
        return x.reshape(len(x), -1).mean(axis=1, keepdims=True)


def blacken(arr: Any, indices: Any, **_: Any) -> Any:
    arr = arr.copy()
    np.put_along_axis(arr, indices, 0, axis=1)
    return arr


def test_a_curve_begins_at_the_unperturbed_image() -> None:
    """Quantus' PixelFlipping begins after the first step."""
    theirs = PixelFlipping(
        features_in_step=2,
        perturb_baseline="black",
        perturb_func=blacken,
        disable_warnings=True,
        normalise=False,
    )
    x, ramp = np.ones((1, 1, 2, 4), dtype=np.float32), np.arange(8, dtype=np.float32).reshape(1, 1, 2, 4)
    (curve,) = theirs.evaluate_batch(model=Bright(), x_batch=x, y_batch=np.array([0]), a_batch=ramp)
    assert len(curve) == 4
    assert max(curve) < 1

    model, x = Net(), images()
    targets = TargetSelector()(model(x).detach())
    probe = Probe(model, x, targets, FEW)
    with torch.no_grad():
        ours = probe.deletion_curve(Saliency()(model, x, targets)), probe.insertion_curve(Saliency()(model, x, targets))
    for one, place in zip(ours, (0, -1), strict=True):
        assert one.fractions[:, 0].tolist() == [0.0] * len(targets)
        assert one.fractions[:, -1].tolist() == [1.0] * len(targets)
        assert bool((one.values[:, place] == 1).all())


def test_an_area_does_not_grow_with_the_number_of_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Quantus takes the width of a step for 1."""
    monkeypatch.setattr(np, "trapz", np.trapezoid, raising=False)  # NumPy 2.4 has no trapz, which Quantus calls
    assert [float(calculate_auc(np.ones(steps))) for steps in (5, 9)] == [4, 8]

    for steps in (5, 9, 33):
        q = torch.linspace(0, 1, steps, dtype=torch.float64)
        assert deletion_auc((1 - q)[None], q).tolist() == pytest.approx([0.5])


def test_an_empty_mask_and_a_map_of_zeros_are_no_hits() -> None:
    """Quantus' PointingGame writes NaN into an array of booleans, where it is True; of a map of zeros all is maximal."""
    theirs = PointingGame(disable_warnings=True)
    maps, mask = np.zeros((1, 1, 2, 2)), np.array([[[[True, False], [False, False]]]])
    assert bool(theirs.evaluate_batch(a_batch=maps + np.arange(4).reshape(2, 2), s_batch=mask & False)[0])
    assert bool(theirs.evaluate_batch(a_batch=maps, s_batch=mask)[0])

    located = {n: s for n, s in SCORES.items() if "attribution" in s.evidence and {"region", "cue"} & set(s.evidence)}
    assert len(located) >= 5
    for name, score in located.items():
        for empty in ("place", "map"):
            found = evidence(3, awkward=False)
            for k in ("region", "cue") if empty == "place" else ("attribution",):
                found[k][1] = 0
            values = score.function(*(found[k] for k in score.evidence), **score.options)
            assert values.isnan().tolist() == [False, True, False], (name, empty)


def test_probabilities_are_over_classes() -> None:
    """pytorch_grad_cam's softmax is over the last axis, the width of a dense output."""
    logits = torch.randn(1, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    theirs = torch.stack([ClassifierOutputSoftmaxTarget(c)(logits[0][None])[0] for c in range(3)])
    assert torch.allclose(theirs.sum(dim=2), torch.ones(3, 4))
    assert not torch.allclose(theirs.sum(dim=0), torch.ones(4, 5))

    assert torch.allclose(probabilities(logits).sum(dim=1), torch.ones(1, 4, 5))


def test_the_global_random_states_stay() -> None:
    """Quantus seeds torch for the whole process when it re-initialises a layer."""
    model, x = Net(), images()
    states = lambda: (torch.get_rng_state().tolist(), str(np.random.get_state()), random.getstate())  # noqa: E731, NPY002
    before = states()
    auditor = Auditor(["saliency"], ["randomisation", "faithfulness_correlation", "stability"], intervention=FEW)
    auditor.update(model, x)
    assert states() == before

    next(PyTorchModel(Net()).get_random_layer_generator(seed=1))
    assert torch.initial_seed() == 2
    assert states() != before


def test_modes_and_gradients_are_given_back() -> None:
    """pytorch_grad_cam puts the model into eval() for good, and adds its own gradients after dropping the caller's."""

    def training() -> Net:
        model = Net()
        model.train()
        for parameter in model.parameters():
            parameter.grad = torch.full_like(parameter, 7.0)
        return model

    model, x = training(), images()
    region = np.ones(x.shape[2:], dtype=np.float32)
    with pytorch_grad_cam.GradCAM(model, [model.features[4]]) as theirs:
        theirs(x[:1], [SemanticSegmentationTarget(1, region)])
    assert not model.training
    assert any(p.grad is None or not bool((p.grad == 7).all()) for p in model.parameters())

    model = training()
    before = state_of(model)
    targets = TargetSelector()(images(4, seed=1))
    SegGradCAM("features.4")(model, x, targets)
    assert differences(before, state_of(model)) == []


def test_a_large_region_weighs_no_more_than_a_small_one() -> None:
    """pytorch_grad_cam's segmentation target is the sum of the logits over the mask."""
    logits = torch.full((2, 3, 4, 5), 2.0)
    region = torch.zeros(2, 4, 5, dtype=torch.bool)
    region[0, 0, 0] = region[1] = True
    theirs = [float(SemanticSegmentationTarget(1, m.numpy().astype(np.float32))(logits[0])) for m in region]
    assert theirs == [2, 40]

    targets = Targets(torch.tensor([0, 1]), torch.tensor([1, 1]), region)
    assert target_logit(logits, targets).tolist() == [2, 2]


def test_an_image_without_a_target_has_no_map_rather_than_one_of_zeros() -> None:
    """pytorch_grad_cam pairs images and targets until the shorter list ends; the rest get zeros."""
    model, x = Net(), images(2)
    with pytorch_grad_cam.GradCAM(model, [model.features[4]]) as theirs:
        maps = theirs(x, [SemanticSegmentationTarget(1, np.ones(x.shape[2:], dtype=np.float32))])
    assert maps.shape[0] == 2
    assert not maps[1].any()

    targets = TargetSelector(min_area=0.0)(model(x).detach())
    first = targets[targets.image_index == 0]
    ours = Saliency()(model, x, first)
    assert len(ours) == len(first)
    assert bool(ours.flatten(1).any(dim=1).all())
    with pytest.raises(ValueError, match="targets need one image, class and region each"):
        Targets(targets.image_index, targets.class_index[:1], targets.region)
