"""Whatever the network, the images and the maps: an audit ends, and says why each missing score is missing."""

import math
from collections import Counter
from typing import Any

import torch
from _models import CONV
from _random_evidence import MAPS, every_time, random_map
from _scores import SCORES
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from segaudit import Auditor, Intervention, TargetSelector
from segaudit.attribution import Explainer
from segaudit.forwards import Probe
from segaudit.intervention import ConstantFill, GridRegions, MeanFill

WEIGHTS = ("usual", "usual", "zero", "huge", "nan", "biased")
PICTURES = ("usual", "usual", "zero", "constant", "huge", "tiny", "nan", "inf")
RANGES = {score.metric().name: (score.metric.plot_lower_bound, score.metric.plot_upper_bound) for score in SCORES.values()}


class Odd(Explainer):
    """Any map, a kind for each target in turn."""

    def __init__(self, kinds: list[str], seed: int) -> None:
        self.kinds, self.generator = kinds, torch.Generator().manual_seed(seed)

    def attribute(self, probe: Probe) -> Tensor:
        maps = [
            random_map(self.kinds[n % len(self.kinds)], region.float(), self.generator)
            for n, region in enumerate(probe.targets.region)
        ]
        return torch.stack(maps).float()


def network(dims: int, channels: int, classes: int, kind: str, stride: int, g: torch.Generator) -> nn.Module:
    net = nn.Sequential(
        CONV[dims](channels, 3, 3, padding=1, stride=stride), nn.ReLU(), CONV[dims](3, classes, 1)
    ).requires_grad_()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=g) * {"zero": 0.0, "huge": 1e15}.get(kind, 2.0))
        if kind == "nan":
            net[2].bias[0] = math.nan
        if kind == "biased":
            net[2].bias[0] = 50.0
    return net.eval()


def pictures(kinds: list[str], channels: int, size: tuple[int, ...], g: torch.Generator) -> Tensor:
    x = torch.randn(len(kinds), channels, *size, generator=g)
    for image, kind in zip(x, kinds, strict=True):
        image.mul_({"zero": 0.0, "constant": 0.0, "huge": 1e30, "tiny": 1e-30}.get(kind, 1.0))
        if kind == "constant":
            image.add_(0.7)
        if kind in ("nan", "inf"):
            image.flatten()[-1] = float(kind)
    return x


@st.composite
def audits(draw: Any) -> dict[str, Any]:
    return {
        "size": draw(st.sampled_from([(1,), (6,), (1, 1), (3, 4), (6, 5), (2, 3, 2)])),
        "channels": draw(st.integers(1, 3)),
        "classes": draw(st.integers(1, 4)),
        "weights": draw(st.sampled_from(WEIGHTS)),
        "stride": draw(st.integers(1, 2)),
        "images": draw(st.lists(st.sampled_from(PICTURES), min_size=1, max_size=3)),
        "maps": draw(st.lists(st.sampled_from(MAPS), min_size=1, max_size=4)),
        "region": draw(st.sampled_from(["predicted", "ground_truth", "correct"])),
        "fill": draw(st.sampled_from(["zero", "mean", "both"])),
        "seed": draw(st.integers(0, 2**32)),
    }


@given(case=audits())
@settings(every_time, max_examples=30)
def test_every_missing_score_has_a_counted_reason(case: dict[str, Any]) -> None:
    g = torch.Generator().manual_seed(case["seed"])
    size, dims = case["size"], len(case["size"])
    net = network(dims, case["channels"], case["classes"], case["weights"], case["stride"], g)
    x = pictures(case["images"], case["channels"], size, g)
    masks, cues = torch.randint(0, max(2, case["classes"]), (2, len(x), *size), generator=g)
    masks.flatten()[0] = 255
    fills = {"zero": ConstantFill(), "mean": MeanFill(), "both": [ConstantFill(), MeanFill()]}
    auditor = Auditor(
        {"saliency": "saliency", "region_effects": "region_effects", "odd": Odd(case["maps"], case["seed"])},
        [score.metric() for score in SCORES.values() if not score.options],
        TargetSelector(case["region"], min_area=0.0),
        Intervention(fills[case["fill"]], GridRegions([2, 4]), steps=3),
    )
    auditor.update(net, x, masks, cues=cues)
    records = auditor.records()
    counted = auditor.unscored(records)
    values = auditor.compute()
    reasons: dict[str, Counter[str]] = {name: Counter() for name in auditor.explainers}
    for row in records:
        missing = [name for name in RANGES if math.isnan(row[name])]
        assert bool(missing) == bool(row["reason"]), row
        reasons[row["explainer"]].update(filter(None, row["reason"].split("; ")))
        for name, (low, high) in RANGES.items():
            if name not in missing:  # a probability may exceed 1 by rounding
                assert low is None or row[name] >= low - 1e-5 * max(1, abs(low)), (name, row)
                assert high is None or row[name] <= high + 1e-5 * max(1, abs(high)), (name, row)
    assert counted == reasons
    for name in auditor.explainers:
        assert int(values[f"{name}/unscored"]) == sum(bool(r["reason"]) for r in records if r["explainer"] == name)
        for score in RANGES:
            found = [r[score] for r in records if r["explainer"] == name]
            mean = values.get(f"{name}/{score}", values.get(score))
            assert math.isnan(float(mean)) == all(math.isnan(v) for v in found)
