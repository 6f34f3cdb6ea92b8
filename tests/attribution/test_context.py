"""The attribution context and the isolation of random states."""

import random

import numpy as np
import pytest
import torch
from _models import Net, differences, state_of
from torch import nn

from segaudit.attribution import attribution_context
from segaudit.attribution.context import isolate_rng


def draw() -> list[float]:
    return [random.random(), float(np.random.rand()), float(torch.rand(()))]  # noqa: NPY002


def test_random_states_come_back() -> None:
    random.seed(1), np.random.seed(1), torch.manual_seed(1)  # noqa: NPY002
    expected = draw()
    random.seed(1), np.random.seed(1), torch.manual_seed(1)  # noqa: NPY002
    with isolate_rng():
        assert draw() == expected  # inside goes on from there
        torch.manual_seed(5), np.random.seed(5), random.seed(5)  # noqa: NPY002
    assert draw() == expected
    random.seed(1), np.random.seed(1), torch.manual_seed(1)  # noqa: NPY002
    with pytest.raises(KeyError), isolate_rng():
        {}[str(draw())]
    assert draw() == expected


@pytest.mark.parametrize("outer", [torch.no_grad, torch.inference_mode, torch.enable_grad])
@pytest.mark.parametrize("breaks", [False, True])
def test_inside_and_afterwards(outer: type, breaks: bool) -> None:
    model = Net()
    model.train()
    model.features[1].eval()
    model.head.weight.requires_grad_(False)
    user = model.head.register_forward_hook(lambda *_: None)
    with outer(), torch.autocast("cpu", dtype=torch.bfloat16):
        before = state_of(model)
        try:
            with attribution_context(model):
                assert torch.is_grad_enabled()
                assert not torch.is_inference_mode_enabled()
                assert not torch.is_autocast_enabled("cpu")
                assert not any(m.training for m in model.modules())
                assert not any(p.requires_grad for p in model.parameters())
                x = torch.rand(1, 3, 5, 5, requires_grad=True)
                (gradient,) = torch.autograd.grad(model(x).sum(), x)
                assert float(gradient.abs().sum()) > 0
                model.features[0].register_forward_hook(lambda *_: None)
                model.features[0].register_forward_pre_hook(lambda *_: None)
                model.features[2].train()
                draw()
                if breaks:
                    raise KeyError("on purpose")
        except KeyError:
            assert breaks
        assert differences(before, state_of(model)) == []
    assert user.id in model.head._forward_hooks


def test_a_backward_inside_reaches_no_parameter() -> None:
    model = Net()
    with attribution_context(model):
        x = torch.rand(1, 3, 5, 5, requires_grad=True)
        model(x).sum().backward()
    assert all(p.grad is None for p in model.parameters())
    assert all(p.requires_grad for p in model.parameters())


def test_a_model_without_parameters_and_shared_modules() -> None:
    with attribution_context(nn.ReLU()):
        assert not torch.is_autocast_enabled("cpu")
    relu = nn.ReLU()
    model = nn.Sequential(relu, nn.Conv2d(3, 2, 1), relu)
    relu.eval()
    with attribution_context(model):
        pass
    assert (model.training, model[1].training, relu.training) == (True, True, False)


def test_training_goes_on_as_if_nothing_had_happened() -> None:
    """One step with an explanation in its middle gives the weights of a step without."""
    results = []
    for explain in (False, True):
        torch.manual_seed(0)
        model = Net()
        model.train()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        loss = model(torch.rand(2, 3, 6, 6)).square().mean()
        if explain:
            with attribution_context(model):
                x = torch.rand(2, 3, 6, 6, requires_grad=True)
                torch.autograd.grad(model(x).sum(), x)
        loss.backward()
        optimizer.step()
        results.append({k: v.clone() for k, v in model.state_dict().items()})
    assert all(torch.equal(results[0][k], results[1][k]) for k in results[0])
