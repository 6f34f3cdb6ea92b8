"""The model parameter randomisation test: what is re-initialised, in which order, and that nothing of it stays."""

from itertools import pairwise

import pytest
import torch
from _models import Breaks, Counting, Lambda, Net, differences, images, logits_of, state_of, uneven_targets
from torch import Tensor, nn

from segaudit.attribution import (
    DEA,
    Edges,
    Explainer,
    Random,
    RegionEffects,
    Saliency,
    SegGradCAM,
    SmoothGrad,
    attribution_context,
)
from segaudit.evidence.randomisation import cascade, randomised, randomised_maps
from segaudit.forwards import Probe
from segaudit.forwards.target import Targets
from segaudit.functional import randomisation, randomisation_full
from segaudit.intervention import ConstantFill, GridRegions, Intervention, MeanFill


def a_probe(model: nn.Module | None = None, **kwargs: object) -> Probe:
    model, x = model or Net(), images()
    return Probe(model, x, uneven_targets(model, x), Intervention(regions=GridRegions([9]), **kwargs))


class Forks(nn.Module):
    """Modules that run in another order than they are defined, an auxiliary head, an unused one, and shared weights."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Conv2d(4, 3, 1)
        self.aux = nn.Conv2d(4, 3, 1)
        self.unused = nn.Conv2d(4, 3, 1)
        self.scale = nn.Parameter(torch.ones(4, 1, 1))
        self.decoder = nn.Conv2d(4, 4, 3, padding=1)
        self.twin = nn.Conv2d(4, 4, 3, padding=1)
        self.twin.weight = self.decoder.weight
        self.norm = nn.BatchNorm2d(4)
        self.attention = nn.MultiheadAttention(4, 1, batch_first=True)
        self.stem = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        hidden = self.norm(self.stem(x)).relu_()
        tokens = hidden.flatten(2).mT
        hidden = self.attention(tokens, tokens, tokens)[0].mT.reshape(hidden.shape) * self.scale
        aux = self.aux(hidden)
        return {"aux": aux, "out": self.head(self.twin(self.decoder(hidden).relu_()).relu_())}


#: What each module holds, the one that runs last first.
FORKS = [
    {"head.weight", "head.bias"},
    {"twin.weight", "twin.bias"},
    {"decoder.weight", "decoder.bias"},
    {"scale"},
    {"attention.out_proj.weight", "attention.out_proj.bias"},
    {"attention.in_proj_weight", "attention.in_proj_bias"},
    {"norm.weight", "norm.bias", "norm.running_mean", "norm.running_var"},
    {"stem.weight", "stem.bias"},
]


def same_values(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_the_last_to_run_forgets_first_and_what_the_logits_do_not_need_never() -> None:
    levels = [set(values) for values in cascade(Forks().eval(), images(1, size=(5, 4)), levels=100)]
    assert [levels[0], *[after - before for before, after in pairwise(levels)]] == FORKS
    assert all(before < after for before, after in pairwise(levels))


@pytest.mark.parametrize(("levels", "modules"), [(1, [8]), (2, [3, 8]), (3, [2, 4, 8]), (4, [2, 3, 5, 8])])
def test_each_level_takes_by_the_same_factor_more(levels: int, modules: list[int]) -> None:
    found = cascade(Forks().eval(), images(1, size=(5, 4)), levels)
    assert [set(values) for values in found] == [set().union(*FORKS[:count]) for count in modules]
    for before, after in pairwise(found):
        assert all(torch.equal(after[name], value) for name, value in before.items())
    assert len(cascade(Net(), images(1), 3)) == 3  # of four modules
    assert len(cascade(nn.Conv2d(3, 2, 1), images(1), 5)) == 1  # of one


def test_new_values_are_as_promised() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 64, 3),
        nn.BatchNorm2d(64),
        nn.PReLU(64),
        nn.Conv2d(64, 64, 3, groups=4),
        nn.GroupNorm(4, 64),
        nn.ConvTranspose2d(64, 2, 1),
    ).eval()
    with torch.no_grad():
        for tensor in (*model.parameters(), model[1].running_mean, model[1].running_var):
            tensor.uniform_(2, 3)
    model[0].weight.data = model[0].weight.data.to(memory_format=torch.channels_last)
    (new,) = cascade(model, images(1), levels=1)
    expected = {"1.running_var": 1, "1.weight": 1, "4.weight": 1}
    expected |= dict.fromkeys(["0.bias", "1.bias", "3.bias", "4.bias", "5.bias", "1.running_mean"], 0)
    assert new.keys() == expected.keys() | {"0.weight", "3.weight", "5.weight"}  # slopes stay, and so do counters
    assert all(torch.equal(new[name], torch.full_like(new[name], value)) for name, value in expected.items())
    for name, fan_in in (("0.weight", 27), ("3.weight", 144)):
        weight = new[name].double()
        assert weight.shape == model.get_parameter(name).shape
        assert float(weight.mean()) == pytest.approx(0, abs=0.1 * fan_in**-0.5)
        assert float(weight.var()) == pytest.approx(1 / fan_in, rel=0.05)
        assert float(weight.abs().max()) <= (3 / fan_in) ** 0.5
    assert new["0.weight"].stride() == model[0].weight.stride()
    assert len(new["3.weight"].unique()) > 0.99 * new["3.weight"].numel()


def test_values_follow_from_the_name_and_the_seed_alone() -> None:
    x = images()
    first = cascade(Net(), x[:1])
    assert all(same_values(a, b) for a, b in zip(first, cascade(Net(seed=5), x), strict=True))
    other = cascade(Net(), x[:1], seed=1)
    assert not torch.equal(first[-1]["head.weight"], other[-1]["head.weight"])
    forks = cascade(Forks().eval(), x[:1])[-1]
    assert not torch.equal(forks["twin.weight"], forks["decoder.weight"])


@pytest.mark.parametrize("form", ["dict", "logits"])
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_any_output_and_any_caller(form: str, mode: type) -> None:
    model = Net(form=form)
    with mode():
        values = cascade(model, images(1))
    assert [set(named) for named in values] == [set(named) for named in cascade(Net(), images(1))]
    assert not any(value.is_inference() or value.requires_grad for value in values[-1].values())


def test_deep_networks_neither_die_nor_explode() -> None:
    def block() -> list[nn.Module]:
        return [nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU()]

    model = nn.Sequential(nn.Conv2d(3, 16, 1), *[layer for _ in range(40) for layer in block()], nn.Conv2d(16, 2, 1)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(30)
    x = images(2, size=(8, 8)).requires_grad_()
    with randomised(model, cascade(model, x[:1])[-1]):
        gradient = torch.autograd.grad(model(x)[:, 0].sum(), x)[0]
    assert bool(gradient.isfinite().all())
    assert bool((gradient.flatten(1).abs().amax(dim=1) > 1e-12).all())
    assert bool((gradient.abs() < 1e3).all())


@pytest.mark.parametrize("training", [False, True])
def test_the_model_is_what_it_was_bit_for_bit_on_error_too(training: bool) -> None:
    model, x = Net().train(training), images()
    model.features[4].weight.requires_grad_(False)
    fired: list[str] = []
    model.head.weight.register_hook(lambda _: fired.append("head"))  # a hook of the training's own
    model.head.weight.grad = torch.ones_like(model.head.weight)
    held = [(t, t.data_ptr()) for t in (*model.parameters(), *model.buffers())]
    waiting = model.head(torch.ones(1, 5, 2, 2)).square().sum()
    before = state_of(model)
    values = cascade(model, x[:1])
    with randomised(model, values[-1]):
        assert same_values({k: model.state_dict()[k] for k in values[-1]}, values[-1])
        assert not torch.equal(model.head.weight, before["values"]["head.weight"])
    assert differences(before, state_of(model)) == []

    def fail() -> None:
        with randomised(model, values[0]):
            raise RuntimeError("the explainer broke")

    with pytest.raises(RuntimeError, match="the explainer broke"):
        fail()
    assert differences(before, state_of(model)) == []
    assert all(t.data_ptr() == pointer for t, pointer in held)
    assert fired == []
    (gradient,) = torch.autograd.grad(waiting, [model.head.weight])  # the graph from before still stands
    reference = model.head(torch.ones(1, 5, 2, 2)).square().sum()
    assert torch.equal(gradient, torch.autograd.grad(reference, [model.head.weight])[0])


@pytest.mark.parametrize("nth", [1, 2, 3, 5])
def test_a_model_that_breaks_is_left_as_it_was(nth: int) -> None:
    model, x = Breaks(nth), images()
    targets = uneven_targets(Net(), x)
    before = state_of(model)

    def explain() -> None:
        with attribution_context(model):
            probe = Probe(model, x, targets, Intervention(regions=GridRegions([4])), logits_of(Net(), x))
            randomised_maps(Saliency(), probe)
            randomised_maps(RegionEffects(), probe)

    with pytest.raises(RuntimeError, match="the model broke"):
        explain()
    assert differences(before, state_of(model)) == []


EXPLAINERS = [Saliency(), SegGradCAM(layer="features.4"), RegionEffects(), SmoothGrad(), DEA(), Random(), Edges()]


@pytest.mark.parametrize("fills", [[MeanFill()], [MeanFill(), ConstantFill(1.0)]], ids=["one fill", "two fills"])
@pytest.mark.parametrize("explainer", EXPLAINERS, ids=lambda e: e.name)
def test_maps_are_those_of_a_model_that_holds_the_values(explainer: Explainer, fills: list[MeanFill]) -> None:
    probe = a_probe(fill=fills)
    before = state_of(probe.model)
    with attribution_context(probe.model):
        maps = randomised_maps(explainer, probe)
        levels = cascade(probe.model, probe.images[:1])
    assert differences(before, state_of(probe.model)) == []
    assert maps.shape == (len(probe.targets), 3, *probe.images.shape[2:])
    for level, values in enumerate(levels):
        other = Net()
        other.load_state_dict(values, strict=False)
        with attribution_context(other):
            own = Probe(other, probe.images, probe.targets, probe.intervention, fill_index=probe.fill_index)
            expected = explainer.explain(own)
        scored = expected.flatten(1).isfinite().all(dim=1)  # the rest has a score near 0 in the random model
        torch.testing.assert_close(maps[scored, level], expected[scored], rtol=1e-4, atol=1e-6)
    assert bool(maps.isfinite().all())


@pytest.mark.parametrize("explainer", [RegionEffects(), SmoothGrad(RegionEffects(), draws=2)], ids=lambda e: e.name)
def test_maps_are_finite_though_the_random_model_never_finds_the_class(explainer: Explainer) -> None:
    class Sure(nn.Module):
        """Finds class 1 in everything as soon as its last layer is forgotten."""

        def __init__(self) -> None:
            super().__init__()
            self.last = nn.Conv2d(1, 1, 1, bias=False)
            self.last.weight.data.fill_(0)

        def forward(self, x: Tensor) -> Tensor:
            z = self.last(x[:, :1] ** 2 + 100).abs()
            return torch.cat([0 * z, z], dim=1)

    x = images(2, size=(6, 6))
    region = torch.ones(2, 6, 6, dtype=torch.bool)
    targets = Targets(torch.tensor([0, 1]), torch.tensor([0, 0]), region)
    model = Sure()
    with attribution_context(model):
        maps = randomised_maps(explainer, Probe(model, x, targets, Intervention(regions=GridRegions([4]))), levels=1)
        with randomised(model, cascade(model, x[:1], 1)[0]):
            assert float(Probe(model, x, targets, Intervention()).confidence.max()) < 1e-3
    assert bool(maps.isfinite().all())


def test_the_rest_of_the_batch_does_not_matter_and_the_cost_is_bounded() -> None:
    probe = a_probe()
    maps = {}
    with attribution_context(probe.model):
        for explainer in (Saliency(), RegionEffects()):
            maps[explainer.name] = randomised_maps(explainer, probe)
            for b in probe.targets.image_index.unique().tolist():
                rows = probe.targets.image_index == b
                mine = probe.targets[rows]
                alone = Targets(torch.zeros_like(mine.image_index), mine.class_index, mine.region)
                own = Probe(probe.model, probe.images[b : b + 1], alone, probe.intervention)
                found = randomised_maps(explainer, own)
                torch.testing.assert_close(found, maps[explainer.name][rows], rtol=1e-3, atol=1e-5)
        model = Counting(probe.model)
        counted = Probe(model, probe.images, probe.targets, probe.intervention)
        _ = counted.fill_index  # each fill is shown once, whatever follows
        before = model.images
        Saliency().explain(counted)
        once = model.images - before
        randomised_maps(Saliency(), counted, levels=2)
        assert model.images == before + once + 1 + 2 * once  # one image for the order
        before = model.images
        randomised_maps(SmoothGrad(draws=2), counted, levels=2)
        assert model.images == before + 2 * 2 * once  # the order is known


def test_scores_tell_a_map_of_the_model_from_one_of_the_image() -> None:
    probe = a_probe()
    with attribution_context(probe.model):
        found = {e.name: (e.explain(probe), randomised_maps(e, probe)) for e in (Saliency(), Edges())}
        none = Probe(probe.model, probe.images, probe.targets[:0], probe.intervention)
        assert randomised_maps(Saliency(), none).shape == (0, 3, *probe.images.shape[2:])
    torch.testing.assert_close(randomisation(*found["edges"]), torch.ones(len(probe.targets)))
    torch.testing.assert_close(randomisation_full(*found["edges"]), torch.ones(len(probe.targets)))
    assert float(randomisation_full(*found["saliency"]).mean()) < 0.5
    assert float(randomisation(*found["saliency"]).mean()) < 0.7


def test_what_cannot_be_randomised_is_told() -> None:
    with pytest.raises(ValueError, match="no gradient of the logits reaches a parameter"):
        cascade(Lambda(lambda x: x), images(1))
    with pytest.raises(ValueError, match="no gradient of the logits reaches a parameter"):
        cascade(Counting(Lambda(lambda x: x.detach())), images(1))
    with pytest.raises(ValueError, match="levels must be at least 1, got 0"):
        cascade(Net(), images(1), levels=0)
