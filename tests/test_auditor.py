"""The road from a batch to scores: what it costs, what it gives, and what it leaves as it was."""

import math
import warnings
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from _models import Counting, Lambda, Net, Threshold, differences, images, state_of
from _ranks import IMAGES, WORLDS, audit, make_auditor, ranks, summary
from torch import Tensor
from torchmetrics import Metric

from segaudit import functional as F
from segaudit import metrics as m
from segaudit.attribution import (
    DEA,
    Explainer,
    IntegratedGradients,
    Random,
    RegionEffects,
    Saliency,
    SegGradCAM,
    TargetMask,
    attribution_context,
)
from segaudit.auditor import Auditor
from segaudit.evidence.effects import segment_areas, segment_effects, segment_means
from segaudit.evidence.imputation import road_curves
from segaudit.evidence.randomisation import randomised_maps
from segaudit.evidence.subsets import random_subsets, subset_areas, subset_effects, subset_sums, trace_segment_deletion
from segaudit.forwards import Probe
from segaudit.forwards.output import predict
from segaudit.forwards.target import TargetSelector
from segaudit.functional import cue_effect, deletion_auc, off_target_leakage, stability, unsupported_leakage
from segaudit.intervention import (
    Brightness,
    ConstantFill,
    GaussianNoise,
    GridRegions,
    Intervention,
    Perturbation,
    RangeFill,
    Shift,
    SuperpixelRegions,
)

FEW = Intervention(regions=GridRegions([4]), steps=3)
EVERY_METRIC = [
    "deletion_auc", "insertion_auc", "faithfulness_gap", "fill_residual", "off_target_leakage", "unsupported_leakage",
    "stability", "stability_retention",
]  # fmt: skip


def every_explainer() -> list[Explainer]:
    return [Saliency(), IntegratedGradients(3), SegGradCAM(), RegionEffects(), DEA(), Random(), TargetMask()]


def cues(x: Tensor) -> Tensor:
    planted = torch.zeros(len(x), *x.shape[2:], dtype=torch.long)
    planted[:, :3, :3] = 1
    planted[:, 5:8, 2:6] = 2
    planted[1:3] = 0
    return planted


class Negated(Perturbation):
    def __call__(self, images: Tensor) -> Tensor:
        return -images


# Cost: only what a metric names is computed.


def cost(metric_names: list[str | Metric], explainers: list[Any], **kwargs: Any) -> tuple[int, int, int]:
    """Images seen by the model beyond the batch itself, images, targets."""
    model, x = Counting(Net()), images()
    few = Intervention(ConstantFill(), FEW.regions, FEW.steps, FEW.max_batch)
    auditor = Auditor(explainers, metric_names, intervention=few, **kwargs)
    batch = auditor.update(model, x, cues=cues(x))
    return model.images - len(x), len(x), len(batch.targets)


@pytest.mark.parametrize("name", ["off_target_leakage", "seconds", "cue_mass"])
def test_leakage_alone_runs_no_masked_forward(name: str) -> None:
    assert cost([name], ["random", "target_mask"])[0] == 0
    extra, count, _ = cost([name], ["saliency", "random"])
    assert extra == count  # the saliency's own


def test_each_evidence_costs_what_it_must() -> None:
    inner = 3
    extra, count, targets = cost(["deletion_auc"], ["random"])
    assert extra == count + targets * inner  # the filled images, and the points between the ends
    assert cost(["deletion_auc"], ["random", "target_mask"])[0] == count + 2 * targets * inner
    assert cost(["deletion_auc", "insertion_auc", "faithfulness_gap"], ["random"])[0] == count + 2 * targets * inner
    assert cost(["fill_residual"], ["random"])[0] == count
    assert cost(["unsupported_leakage"], ["random", "target_mask"])[0] == 4 * count  # one sweep for all
    # The segments of region effects are not those that judge them.
    assert cost(["unsupported_leakage"], ["random", "region_effects", "target_mask"])[0] == (4 + 4) * count
    assert cost(["off_target_leakage"], ["region_effects"])[0] == 4 * count
    regional = ["effect_calibration", "effect_calibration_error", "unsupported_leakage"]
    assert cost(regional, ["random", "target_mask"])[0] == 4 * count  # the same sweep
    assert cost(regional, ["random", "region_effects", "target_mask"])[0] == (4 + 4) * count
    assert cost(["pointing_game", "entropy", "localisation_auc"], ["random"])[0] == 0
    assert cost(["stability_retention"], ["random"])[0] == 2 * count  # two perturbations
    assert cost(["stability"], ["random"])[0] == 2 * count
    assert cost(["stability"], ["random"], perturbations=[Brightness()])[0] == count
    hardly = [GaussianNoise(level=1e-4)]  # so that pairs are kept
    assert cost(["stability"], ["saliency"], perturbations=hardly)[0] == 3 * count
    assert cost(["stability"], ["saliency"], perturbations=[Negated()])[0] == 2 * count  # no pair kept: nothing to explain
    assert cost(["cue_effect"], ["random", "target_mask"])[0] == targets


class LargestPlace(Metric):
    """A user's metric that knows nothing of segaudit."""

    full_state_update = False

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, attribution: Tensor, score: Tensor, unknown: int = 3) -> None:
        self.total += (attribution.flatten(1).argmax(dim=1) * score).sum() + unknown - 3
        self.count += len(score)

    def compute(self) -> Tensor:
        return self.total / self.count


def test_a_users_plain_metric() -> None:
    model, x = Net(), images()
    auditor = Auditor(["saliency", "random"], [LargestPlace(), "off_target_leakage"], intervention=FEW)
    seen = []
    for part in x.split(3):
        batch = auditor.update(model, part)
        probe = Probe(model, part, batch.targets, FEW)
        seen += (batch.attributions["saliency"].flatten(1).argmax(dim=1) * probe.confidence).tolist()
    values = auditor.compute()
    assert float(values["saliency/largest_place"]) == pytest.approx(sum(seen) / len(seen), rel=1e-5)
    assert float(values["random/largest_place"]) != float(values["saliency/largest_place"])
    assert "largest_place" not in auditor.records()[0]  # it keeps no value for each target
    assert "off_target_leakage" in auditor.records()[0]


class Mood(Metric):
    def update(self, attribution: Tensor, mood: Tensor, weather: Tensor) -> None: ...

    def compute(self) -> Tensor: ...


def test_an_unknown_evidence_is_named_beside_what_there_is() -> None:
    with pytest.raises(
        ValueError, match=r"the metric 'mood' asks for mood, weather, which is no evidence.* attribution, confidence"
    ) as e:
        Auditor(["random"], [Mood()])
    assert "\n" not in str(e.value)


def test_wrong_arguments() -> None:
    for explainers, names in (([], ["seconds"]), (["random"], [])):
        with pytest.raises(ValueError, match="at least one explainer and one metric"):
            Auditor(explainers, names)
    with pytest.raises(ValueError, match="stability is measured under perturbations: name at least one"):
        Auditor(["random"], ["stability_retention"], perturbations=[])
    with pytest.raises(ValueError, match="there is no Explainer 'nobody'"):
        Auditor(["nobody"])
    with pytest.raises(ValueError, match="there is no Metric 'beauty'"):
        Auditor(["random"], ["beauty"])


@pytest.mark.parametrize("name", ["cue_mass", "cue_effect"])
def test_cue_metrics_without_cues(name: str) -> None:
    with pytest.raises(ValueError, match="a metric needs planted cues, but none were given"):
        Auditor(["random"], [name]).update(Net(), images())


def test_wrong_batches() -> None:
    auditor = Auditor(["random"], ["off_target_leakage"])
    with pytest.raises(ValueError, match=r"images must be floating point, as the model takes them, got torch.uint8"):
        auditor.update(Net(), torch.zeros(2, 3, 8, 8, dtype=torch.uint8))
    with pytest.raises(ValueError, match="3 sample_ids were given for 4 images"):
        auditor.update(Net(), images(), sample_ids="abc")
    with pytest.raises(ValueError, match="3 groups were given for 4 images"):
        auditor.update(Net(), images(), groups="abc")
    with pytest.raises(ValueError, match="needs the masks"):
        Auditor(["random"], ["seconds"], TargetSelector("correct")).update(Net(), images())
    assert auditor.records() == []


# Values.


def test_scores_follow_from_their_parts() -> None:
    """Each score, put together by hand from explainers and masked forwards run apart."""
    model, x = Net(), images()
    auditor = Auditor(["saliency", "region_effects"], [*EVERY_METRIC, "cue_effect", "cue_mass"], intervention=FEW)
    batch = auditor.update(model, x, cues=cues(x))
    targets = TargetSelector()(model(x).detach())
    assert torch.equal(batch.targets.region, targets.region)
    probe = Probe(model, x, targets, FEW)
    with torch.no_grad():
        effects, judged = probe.effect_map(), probe.judge_effects()
        planted = cues(x)[targets.image_index] == targets.class_index.view(-1, 1, 1)
        without = probe.confidence_without(planted).where(planted.flatten(1).any(dim=1), torch.nan)
    assert bool(planted.flatten(1).any(dim=1).any())
    assert not bool(planted.flatten(1).any(dim=1).all())
    kept, changed = [], []
    for perturbation in (GaussianNoise(), Brightness()):
        after = predict(model(perturbation(x)).detach())
        before = predict(model(x).detach())
        flags = []
        for n in range(len(targets)):
            b, c = int(targets.image_index[n]), int(targets.class_index[n])
            both, either = ((before[b] == c) & (after[b] == c)).sum(), ((before[b] == c) | (after[b] == c)).sum()
            flags.append(bool(both / either >= 0.9))
        kept.append(flags)
        changed.append(Saliency()(model, perturbation(x), targets))
    kept = torch.tensor(kept).T
    assert 0 < int(kept.sum()) < kept.numel()
    saliency = Saliency()(model, x, targets)
    found = batch.scores["saliency"]
    close = lambda name, expected: torch.testing.assert_close(found[name], expected, equal_nan=True, atol=1e-5, rtol=1e-5)  # noqa: E731
    close("off_target_leakage", off_target_leakage(saliency, targets.region))
    close("unsupported_leakage", unsupported_leakage(saliency, targets.region, judged))
    close("stability", stability(saliency, torch.stack(changed, dim=1), kept))
    with torch.no_grad():
        close("deletion_auc", deletion_auc(*probe.deletion_curve(saliency)[:2]))
    shared = batch.scores[""]
    torch.testing.assert_close(shared["stability_retention"], kept.float().mean(dim=1))
    torch.testing.assert_close(shared["fill_residual"], probe.filled_confidence / probe.confidence)
    torch.testing.assert_close(shared["cue_effect"], cue_effect(probe.confidence, without), equal_nan=True)
    torch.testing.assert_close(batch.attributions["region_effects"], effects)
    for key, value in auditor.compute().items():
        explainer, _, name = key.rpartition("/")
        if name in auditor.provisional:
            mine = [row[name] for row in auditor.records() if row["explainer"] == explainer]
            assert float(value) == pytest.approx(float(torch.tensor(mine).nanmean()), rel=1e-5, nan_ok=True)
        elif name in batch.scores.get(explainer, {}):
            assert float(value) == pytest.approx(
                float(batch.scores[explainer][name].double().nanmean()), rel=1e-5, nan_ok=True
            )


@pytest.mark.parametrize("case", [{}, {"classes": 1}, {"dims": 1}, {"dims": 3}], ids=str)
def test_a_batch_is_scored_like_its_images_one_at_a_time(case: dict[str, Any]) -> None:
    model = Net(**case)
    x = images(size={1: (40,), 2: (12, 10), 3: (7, 6, 8)}[case.get("dims", 2)])
    fill = Intervention(fill=ConstantFill(4.0), regions=SuperpixelRegions([4, 9]), steps=3, max_batch=7)
    planted = torch.zeros(len(x), *x.shape[2:], dtype=torch.long)
    planted.flatten(1)[:, :9] = 1
    names = [*EVERY_METRIC, "cue_mass", "cue_effect"]
    together, apart = (Auditor(every_explainer(), names, TargetSelector(max_per_image=9), fill) for _ in range(2))
    together.update(model, x, cues=planted)
    for b in range(len(x)):
        apart.update(model, x[b : b + 1], cues=planted[b : b + 1])
    one, other = together.records(), apart.records()
    key = lambda row: (row["explainer"], row["sample_id"], row["class_index"])  # noqa: E731
    assert len(one) == len(other) > 20
    scored = Counter()
    for a, b in zip(sorted(one, key=key), sorted(other, key=key), strict=True):
        assert a.keys() == b.keys()
        for name in a:
            if isinstance(a[name], float):
                assert a[name] == pytest.approx(b[name], abs=1e-5, nan_ok=True), (key(a), name)
                scored[name] += not math.isnan(a[name])
            else:
                assert a[name] == b[name]
    assert min(scored[name] for name in EVERY_METRIC) > 0
    one, other = together.compute(), apart.compute()
    assert {k: float(v) for k, v in one.items()} == pytest.approx(
        {k: float(v) for k, v in other.items()}, abs=1e-5, nan_ok=True
    )


def test_records_have_a_row_for_each_target_and_explainer() -> None:
    model, x = Net(), images()
    extremes = Intervention([RangeFill(0.0), RangeFill(1.0)], FEW.regions, FEW.steps)
    auditor = Auditor({"a": Random(), "b": "saliency"}, ["off_target_leakage", "fill_residual"], intervention=extremes)
    rows, first = [], 0
    fills = []
    for part, groups in zip(x.split(3), (["p", None, 7], None), strict=True):
        batch = auditor.update(model, part, sample_ids=[f"im{first + i}" for i in range(len(part))], groups=groups)
        named = ["", "", ""] if groups is None else ["p", "", "7"]
        assert Probe(model, part, batch.targets, extremes).fill_names == batch.fills
        fills += batch.fills
        first += len(part)
        for explainer in ("a", "b"):
            for n in range(len(batch.targets)):
                rows.append(  # noqa: PERF401
                    {
                        "sample_id": batch.sample_ids[int(batch.targets.image_index[n])],
                        "group": named[int(batch.targets.image_index[n])],
                        "class_index": int(batch.targets.class_index[n]),
                        "area": float(batch.targets.region[n].float().mean()),
                        "predicted_area": float(batch.predicted_area[n]),
                        "confidence": float(batch.confidence[n]),
                        "protocol": 2,
                        "fill": batch.fills[n],
                        "explainer": explainer,
                        "fill_residual": float(batch.scores[""]["fill_residual"][n]),
                        "off_target_leakage": float(batch.scores[explainer]["off_target_leakage"][n]),
                        "reason": "",
                    }
                )
    assert auditor.records() == rows
    assert {*fills} == {"range_fill(0)", "range_fill(1)"}
    assert {row["sample_id"] for row in rows} == {"im0", "im1", "im2", "im3"}
    values = auditor.compute()
    assert values.keys() == {
        "images", "targets", "fill_residual", "a/off_target_leakage", "b/off_target_leakage", "a/unscored", "b/unscored",
        "fill_residual/targets", "a/off_target_leakage/targets", "b/off_target_leakage/targets",
    }  # fmt: skip
    assert (float(values["images"]), float(values["targets"])) == (4, len(rows) / 2)
    assert auditor.directions == {"fill_residual": False, "off_target_leakage": False}


def test_every_mean_says_how_many_targets_it_is_over() -> None:
    """A later model that finds more targets shows by this number that the means are not over the same ones."""
    auditor = make_auditor()
    auditor.update(Net(), images())
    values, records = auditor.compute(), auditor.records()
    first = next(iter(auditor.explainers))
    for name, scores in [("", auditor.shared), *((name, auditor.directions) for name in auditor.explainers)]:
        for score in scores:
            if name and score in auditor.shared:
                continue
            scored = [row[score] for row in records if row["explainer"] == (name or first) and math.isfinite(row[score])]
            key = f"{name}/{score}" if name else score
            assert float(values[f"{key}/targets"]) == len(scored)
            if scored:
                assert float(values[key]) == pytest.approx(sum(scored) / len(scored), abs=1e-5)


def test_images_without_names_and_with_repeated_ones() -> None:
    model, x = Net(), images()
    auditor = Auditor(["random"], ["off_target_leakage"])
    assert [auditor.update(model, part).sample_ids for part in x.split(3)] == [["0", "1", "2"], ["3"]]
    assert float(auditor.compute()["images"]) == 4
    auditor.reset()
    for _ in range(2):
        auditor.update(model, x, sample_ids=["p", "p", "q", 7])
    assert float(auditor.compute()["images"]) == 3
    assert {row["sample_id"] for row in auditor.records()} <= {"p", "q", "7"}


def test_reset_and_an_audit_of_nothing() -> None:
    auditor = make_auditor()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        values = auditor.compute()
    assert math.isnan(float(values["saliency/deletion_auc"]))
    assert [float(values[k]) for k in ("images", "targets", "saliency/unscored")] == [0, 0, 0]
    audit(auditor, 0, 4, named=True)
    first = summary(auditor)
    assert str(summary(auditor)) == str(first)
    assert auditor.compute().keys() == values.keys()
    auditor.reset()
    assert auditor.records() == []
    audit(auditor, 4, 6, named=True)
    assert {row["sample_id"] for row in auditor.records()} == {"im4", "im5"}
    auditor.reset()
    audit(auditor, 0, 4, named=True)
    assert str(summary(auditor)) == str(first)


def test_no_target_in_a_batch() -> None:
    auditor = Auditor(every_explainer(), EVERY_METRIC, TargetSelector(min_area=1.0), FEW)
    batch = auditor.update(Net(), images(), sample_ids="abcd")
    assert (len(batch.targets), batch.attributions, batch.scores) == (0, {}, {})
    values = auditor.compute()
    assert (float(values["images"]), float(values["targets"])) == (4, 0)


def test_metrics_given_are_not_those_used() -> None:
    """Two auditors may share metric objects."""
    metric = m.OffTargetLeakage(tolerance=1)
    auditor = Auditor(["random"], [metric])
    auditor.update(Net(), images())
    assert len(metric.per_target) == 0
    assert float(auditor.compute()["random/off_target_leakage"]) < float(
        fresh(["random"], ["off_target_leakage"])["random/off_target_leakage"]
    )


def fresh(explainers: list[Any], names: list[Any]) -> dict[str, Tensor]:
    auditor = Auditor(explainers, names)
    auditor.update(Net(), images())
    return auditor.compute()


# Reasons.


class Broken(Explainer):
    """Not finite for the first target."""

    def attribute(self, probe: Probe) -> Tensor:
        maps = probe.targets.region.float().clone()
        maps[0, 0, 0] = float("inf")
        return maps


def test_reasons_are_counted_and_nothing_is_silently_zero() -> None:
    x = torch.zeros(4, 1, 6, 6)
    x[0, 0, :3] = 1.0  # an ordinary target
    x[1] = 1.0  # the target is the whole image: its mask is a constant map
    x[2] = 0.0  # the truth says class 1, the model doesn't: a score of 0
    x[3, 0, :2] = 1.0
    masks = torch.zeros(4, 6, 6, dtype=torch.long)
    masks[0, :3] = masks[1] = masks[2, :2] = masks[3, :2] = 1
    selector = TargetSelector("ground_truth", classes=[1])
    names = ["deletion_auc", "insertion_auc", "faithfulness_gap", "off_target_leakage", "unsupported_leakage"]
    auditor = Auditor([TargetMask(), Broken(), Random()], names, selector, Intervention(ConstantFill(), GridRegions([4]), 3))
    batch = auditor.update(Threshold(), x, masks)
    assert len(batch.targets) == 4
    low, whole = "confidence below 0.05", "region is the whole image"
    assert batch.reasons == {
        "target_mask": ["", "constant map", low, ""],
        "broken": ["map not finite", "constant map", low, ""],
        "random": ["", whole, low, ""],
    }
    for explainer, reasons in batch.reasons.items():
        for name in names:
            missing = [bool(r) and (r != whole or name.endswith("leakage")) for r in reasons]
            assert batch.scores[explainer][name].isnan().tolist() == missing, (explainer, name)
    assert auditor.unscored(auditor.records()) == {
        "target_mask": Counter({"constant map": 1, low: 1}),
        "broken": Counter({"map not finite": 1, "constant map": 1, low: 1}),
        "random": Counter({low: 1, whole: 1}),
    }
    assert [float(auditor.compute()[f"{e}/unscored"]) for e in batch.reasons] == [2, 3, 2]
    # The others' mean is of those that were scored.
    assert float(auditor.compute()["target_mask/off_target_leakage"]) == 0


def test_a_fill_too_weak_is_a_reason_for_curves_alone() -> None:
    x = torch.zeros(2, 1, 6, 6)
    x[:, 0, :3] = 1.0
    selector = TargetSelector(classes=[1])
    bright = Intervention(ConstantFill(1.0), GridRegions([4]), 3)
    auditor = Auditor(["random"], ["deletion_auc", "off_target_leakage", "fill_residual"], selector, bright)
    batch = auditor.update(Threshold(), x)
    assert batch.reasons["random"] == ["fill too weak"] * 2
    assert bool(batch.scores["random"]["deletion_auc"].isnan().all())
    assert bool(batch.scores["random"]["off_target_leakage"].isfinite().all())
    assert batch.scores[""]["fill_residual"].tolist() == pytest.approx([1, 1])
    assert float(auditor.compute()["random/unscored"]) == 2
    auditor = Auditor(["random"], ["off_target_leakage"], selector, bright)
    assert auditor.update(Threshold(), x).reasons["random"] == ["", ""]


def test_stability_without_a_kept_pair_is_nan() -> None:
    auditor = Auditor(["random"], ["stability", "stability_retention"], TargetSelector(classes=[1]), FEW, [Negated()])
    x = torch.zeros(2, 1, 6, 6)
    x[:, 0, :3] = 1.0
    batch = auditor.update(Threshold(), x)
    assert batch.scores[""]["stability_retention"].tolist() == [0, 0]
    assert bool(batch.scores["random"]["stability"].isnan().all())


def test_a_perturbation_that_changes_nothing_gives_perfect_stability() -> None:
    class Same(Perturbation):
        def __call__(self, images: Tensor) -> Tensor:
            return images.clone()

    auditor = Auditor(every_explainer(), ["stability", "stability_retention"], intervention=FEW, perturbations=[Same()])
    auditor.update(Net(), images())
    values = auditor.compute()
    assert float(values["stability_retention"]) == 1
    for name in auditor.explainers:
        assert float(values[f"{name}/stability"]) == pytest.approx(1, abs=1e-5)


# The model and its outputs.


@pytest.mark.parametrize("form", ["dict", "logits"])
def test_any_form_of_output_gives_the_same_scores(form: str) -> None:
    found = []
    for model in (Net(), Net(form=form)):
        auditor = Auditor(every_explainer(), EVERY_METRIC, intervention=FEW)
        auditor.update(model, images())
        found.append(auditor.records())
    assert str(found[0]) == str(found[1])  # NaN is no reason to differ


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_the_model_is_left_untouched_bit_for_bit(mode: Callable[[], Any]) -> None:
    model, x = Net(), images()
    expected = Auditor(every_explainer(), EVERY_METRIC, intervention=FEW)
    expected.update(model, x)
    model.train()
    model.features[1].eval()
    model.head.weight.requires_grad_(False)
    model.head.bias.grad = torch.ones_like(model.head.bias)
    model.features[2].register_forward_hook(lambda *_: None)
    before, kept = state_of(model), x.clone()
    auditor = Auditor(every_explainer(), EVERY_METRIC, intervention=FEW)
    with mode():
        auditor.update(model, x * 1)
        auditor.compute()
    auditor.update(model, x)  # a metric reset or filled under inference mode can be filled outside it
    assert differences(before, state_of(model)) == []
    assert torch.equal(x, kept)
    half = len(expected.records())
    assert str([{**r, "sample_id": ""} for r in auditor.records()[:half]]) == str(
        [{**r, "sample_id": ""} for r in expected.records()]
    )


def test_a_model_that_breaks_leaves_no_half_of_a_batch() -> None:
    model, x = Counting(Net()), images()
    auditor = Auditor(["saliency", "random"], ["deletion_auc"], intervention=FEW)
    model.train()
    before = state_of(model)

    def give_up(module: Counting, *_: Any) -> None:
        if len(module.batches) >= 4:
            raise RuntimeError("gave up")

    handle = model.register_forward_pre_hook(give_up)
    with pytest.raises(RuntimeError, match="gave up"):
        auditor.update(model, x)
    handle.remove()
    assert differences(before, state_of(model)) == []
    assert auditor.records() == []
    assert float(auditor.compute()["images"]) == 0
    assert math.isnan(float(auditor.compute()["random/deletion_auc"]))


def test_a_model_that_is_no_segmenter_is_told() -> None:
    with pytest.raises(ValueError, match="is this a classifier"):
        Auditor(["random"]).update(Lambda(lambda x: x.mean((2, 3))), images())


# Processes.


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("share", ["uneven", "empty first"])
@pytest.mark.parametrize("world", WORLDS)
def test_processes_are_one(world: int, share: str, named: bool) -> None:
    auditor = make_auditor()
    audit(auditor, 0, IMAGES, named=True)
    expected = summary(auditor)
    assert len(expected["records"]) > 12
    assert min(estimate[3] for estimate in expected["intervals"].values()) > 1
    near = lambda values: pytest.approx(values, rel=1e-6, abs=1e-6, nan_ok=True)  # noqa: E731
    for rank in ranks(world):
        found = rank["audit", share, named]
        assert found["values"] == near(expected["values"])
        assert found["values"]["images"] == IMAGES
        if named:
            key = lambda row: (row["explainer"], row["sample_id"], row["class_index"])  # noqa: E731
            assert len(found["records"]) == len(expected["records"])
            for row, other in zip(sorted(found["records"], key=key), sorted(expected["records"], key=key), strict=True):
                assert {k: v for k, v in row.items() if not isinstance(v, float)} == {
                    k: v for k, v in other.items() if not isinstance(v, float)
                }
                assert {k: v for k, v in row.items() if isinstance(v, float)} == near(
                    {k: v for k, v in other.items() if isinstance(v, float)}
                )
            assert found["intervals"].keys() == expected["intervals"].keys()
            for name, estimate in found["intervals"].items():
                assert estimate == near(expected["intervals"][name]), name
        else:
            assert len({row["sample_id"] for row in found["records"]}) == len(
                {row["sample_id"] for row in expected["records"]}
            )  # no number given twice
        assert rank["reset", share, named]["values"]["images"] == 0
        assert rank["reset", share, named]["records"] == []
        assert str(found["records"]) == str(ranks(world)[0]["audit", share, named]["records"])
        assert str(found["intervals"]) == str(ranks(world)[0]["audit", share, named]["intervals"])


class Against(Explainer):
    """No positive mass, but not constant."""

    def attribute(self, probe: Probe) -> Tensor:
        return -probe.targets.region.float()


class Blank(Perturbation):
    """Nothing is left, and no prediction either."""

    def __call__(self, images: Tensor) -> Tensor:
        return torch.zeros_like(images)


def test_a_score_that_is_missing_alone_has_its_own_reason() -> None:
    x = torch.zeros(2, 1, 6, 6)
    x[:, 0, :3] = 1.0
    auditor = Auditor(
        {"against": Against(), "mask": TargetMask()},
        ["off_target_leakage", "stability"],
        TargetSelector(classes=[1]),
        Intervention(ConstantFill(), GridRegions([4]), 3),
        perturbations=[Blank()],
    )
    batch = auditor.update(Threshold(), x)
    assert batch.reasons == {
        "against": ["no positive mass; prediction not kept"] * 2,
        "mask": ["prediction not kept"] * 2,
    }
    assert auditor.unscored(auditor.records()) == {
        "against": Counter({"no positive mass": 2, "prediction not kept": 2}),
        "mask": Counter({"prediction not kept": 2}),
    }
    values = auditor.compute()
    assert [float(values[f"{name}/unscored"]) for name in ("against", "mask")] == [2, 2]
    assert float(values["mask/off_target_leakage"]) == 0


NEW = ["infidelity", "faithfulness_correlation", "sensitivity_n", "irof", "road", "randomisation", "randomisation_full",
       "comprehensiveness", "sufficiency", "monotonicity"]  # fmt: skip


def test_scores_of_sets_of_imputed_pixels_and_of_randomised_models_follow_from_their_parts() -> None:
    model, x = Net(), images()
    explainer = Saliency()
    auditor = Auditor({"saliency": explainer}, NEW, intervention=FEW)
    found = auditor.update(model, x).scores["saliency"]
    targets = TargetSelector()(model(x).detach())
    with attribution_context(model):
        probe = Probe(model, x, targets, FEW)
        maps = explainer.explain(probe)
        sets = random_subsets(probe)
        sums, effects = subset_sums(maps, sets, targets), subset_effects(probe, sets)
        areas = subset_areas(sets)[targets.image_index]
        deletion, insertion = probe.deletion_curve(maps), probe.insertion_curve(maps)
        again = randomised_maps(explainer, probe)
        expected = {
            "infidelity": F.infidelity(sums, effects),
            "faithfulness_correlation": F.faithfulness_correlation(sums, effects, sets.size, areas),
            "sensitivity_n": F.sensitivity_n(sums, effects, sets.size, areas),
            "irof": F.irof(*trace_segment_deletion(probe, maps)),
            "road": F.road(*road_curves(probe, maps)),
            "randomisation": F.randomisation(maps, again),
            "randomisation_full": F.randomisation_full(maps, again),
            "comprehensiveness": F.comprehensiveness(*deletion[:2]),
            "sufficiency": F.sufficiency(*insertion[:2]),
            "monotonicity": F.monotonicity(insertion.values),
        }
    assert set(found) == set(expected)
    for name, values in expected.items():
        torch.testing.assert_close(found[name], values, equal_nan=True, atol=1e-5, rtol=1e-5)
    assert sum(bool(values.isfinite().any()) for values in expected.values()) >= 8


def test_maps_of_shifted_images_are_moved_back_before_they_are_compared() -> None:
    """Bright discs on a dark ground: prediction and gradient move with them, so that nothing changes."""
    x = torch.zeros(2, 1, 24, 24)
    x[0, 0, 6:14, 5:12] = x[1, 0, 9:15, 8:16] = 1
    x += 0.2 * torch.rand(x.shape, generator=torch.Generator().manual_seed(0)) * (x > 0)
    model = Threshold(2.0)
    selector = TargetSelector(classes=[1])

    def stability_under(perturbation: Perturbation) -> Tensor:
        auditor = Auditor(["saliency"], ["stability", "stability_retention"], selector, FEW, [perturbation])
        values = auditor.update(model, x).scores
        assert values[""]["stability_retention"].tolist() == [1, 1]
        return values["saliency"]["stability"]

    class Unaware(Shift):
        """Moves the image and says nothing of it."""

        def move(self, values: Tensor) -> Tensor:
            return values

        def back(self, maps: Tensor) -> Tensor:
            return maps

    torch.testing.assert_close(stability_under(Shift(3)), torch.ones(2))
    auditor = Auditor(["saliency"], ["stability_retention"], selector, FEW, [Unaware(3)])
    assert auditor.update(model, x).scores[""]["stability_retention"].tolist() == [0, 0]


def test_a_target_that_leaves_the_image_is_not_kept() -> None:
    x = torch.zeros(1, 1, 24, 24)
    x[0, 0, 20:, 20:] = 1
    auditor = Auditor(["saliency"], ["stability"], TargetSelector(classes=[1]), FEW, [Shift(4)])
    auditor.update(Threshold(), x)
    (row,) = auditor.records()
    assert math.isnan(row["stability"])
    assert row["reason"] == "prediction not kept"


def test_intervals_are_of_all_records() -> None:
    model, x = Net(), images(6)
    auditor = Auditor(["saliency", "random"], ["off_target_leakage", "deletion_auc"], intervention=FEW)
    for part in x.split(2):
        auditor.update(model, part)
    found, rows = auditor.intervals(), auditor.records()
    for explainer in ("saliency", "random"):
        for score in ("off_target_leakage", "deletion_auc"):
            by_image: dict[str, list[float]] = {}
            for row in rows:
                if row["explainer"] == explainer and not math.isnan(row[score]):
                    low, high = auditor.ranges[score]
                    by_image.setdefault(row["sample_id"], []).append(min(max(row[score], low), high))
            means = [sum(values) / len(values) for values in by_image.values()]  # every image has equal weight
            estimate = found[explainer, score]
            assert estimate.mean == pytest.approx(sum(means) / len(means), rel=1e-5)
            assert estimate.images == estimate.units == len(means)
            if estimate.method:
                assert estimate.low <= estimate.mean <= estimate.high
    assert {len(key) for key in auditor.intervals(by_class=True)} == {3}


MAPS = ["pointing_game", "relevance_mass", "relevance_rank", "localisation_auc", "sparseness", "entropy",
        "max_sensitivity", "topk_overlap", "effect_calibration", "effect_calibration_error", "forwards"]  # fmt: skip


def test_scores_of_maps_follow_from_their_parts() -> None:
    model, x = Net(), images()
    perturbation, explainer = GaussianNoise(level=0.01), Saliency()
    auditor = Auditor({"saliency": explainer}, MAPS, None, FEW, [perturbation])
    batch = auditor.update(model, x)
    targets, found = batch.targets, batch.scores["saliency"]
    with attribution_context(model):
        probe = Probe(model, x, targets, FEW, model(x).detach())
        a, after = explainer.explain(probe), explainer.explain(probe.at(perturbation(x)))[:, None]
        regional = segment_means(probe, a), segment_effects(probe)
    kept = torch.ones(len(targets), 1, dtype=torch.bool)
    expected = {
        **{name: getattr(F, name)(a, targets.region) for name in MAPS[:4]},
        **{name: getattr(F, name)(a) for name in MAPS[4:6]},
        **{name: getattr(F, name)(a, after, kept) for name in MAPS[6:8]},
        "effect_calibration": F.effect_calibration(*regional, segment_areas(probe)),
        "effect_calibration_error": F.effect_calibration_error(*regional),
        "forwards": torch.full((len(targets),), len(x) * (1 + 2 * len(targets.rounds())) / len(targets)),
    }
    assert set(found) == set(expected)
    for name, values in expected.items():  # of four segments the areas may explain all there is to tell
        assert bool(values.isfinite().all()) or (name.startswith("effect_calibration") and bool(values.isfinite().any())), (
            name
        )
        torch.testing.assert_close(found[name], values, atol=1e-5, rtol=1e-5, equal_nan=True)


def test_a_batch_gives_scores_of_maps_as_its_images_do() -> None:
    model, x = Net(), images()
    fill = Intervention(ConstantFill(4.0), SuperpixelRegions([4, 9]), steps=3, max_batch=7)
    together, apart = (Auditor(every_explainer(), MAPS[:-1], TargetSelector(max_per_image=9), fill) for _ in range(2))
    together.update(model, x)
    for part in x.split(1):
        apart.update(model, part)
    key = lambda row: (row["explainer"], row["sample_id"], row["class_index"])  # noqa: E731
    scored = Counter()
    for a, b in zip(sorted(together.records(), key=key), sorted(apart.records(), key=key), strict=True):
        assert a["reason"] == b["reason"]
        for name in MAPS[:-1]:
            assert a[name] == pytest.approx(b[name], abs=1e-4, rel=1e-4, nan_ok=True), (key(a), name)
            assert a["reason"] or not math.isnan(a[name])
            scored[name] += not math.isnan(a[name])
    assert min(scored[name] for name in MAPS[:-1]) > 10


class Uneven(Explainer):
    """Differs from pixel to pixel inside a region, and not between regions."""

    def attribute(self, probe: Probe) -> Tensor:
        maps = torch.ones_like(probe.targets.region, dtype=torch.float32)
        maps[:, ::2] = 3.0
        return maps


class Fades(Explainer):
    """Says nothing about images without a bright first row."""

    def attribute(self, probe: Probe) -> Tensor:
        bright = probe.images[probe.targets.image_index, 0, 0].mean(dim=1) > 0.95
        return probe.targets.region.float() * bright.view(-1, 1, 1)


class Darker(Perturbation):
    """A little, so that the prediction stays."""

    def __call__(self, images: Tensor) -> Tensor:
        return images * 0.9


@pytest.mark.parametrize("tolerance", [0, 2])
def test_a_target_that_covers_the_image_has_no_leakage_and_says_why(tolerance: int) -> None:
    x = torch.zeros(3, 1, 8, 8)
    x[0, 0, :4] = x[1] = x[2, 0, 1:7, 1:7] = 1.0  # half of the image, all of it, and all but its rim
    metrics = [m.OffTargetLeakage(tolerance), m.UnsupportedLeakage(tolerance)]
    selector = TargetSelector(classes=[1])
    auditor = Auditor(["random"], metrics, selector, Intervention(ConstantFill(), GridRegions([4]), 3))
    batch = auditor.update(Threshold(), x)
    whole = "region is the whole image"
    assert batch.reasons["random"] == ["", whole, whole if tolerance else ""]
    for name in ("off_target_leakage", "unsupported_leakage"):
        assert batch.scores["random"][name].isnan().tolist() == [False, True, tolerance > 0]


def test_reasons_of_scores_of_maps() -> None:
    x = torch.zeros(2, 1, 8, 8)
    x[0, 0, :4] = 1.0
    x[1] = 1.0  # the target is the whole image
    names = ["localisation_auc", "topk_overlap", "effect_calibration", "effect_calibration_error"]
    explainers = {"against": Against(), "uneven": Uneven(), "fades": Fades(), "mask": TargetMask()}

    def reasons_of(names: list[str], fill: float) -> dict[str, list[str]]:
        intervention = Intervention(ConstantFill(fill), GridRegions([4]), 3)
        auditor = Auditor(explainers, names, TargetSelector(classes=[1]), intervention, [Darker()])
        batch = auditor.update(Threshold(), x)
        for explainer, reasons in batch.reasons.items():
            for n, reason in enumerate(reasons):
                missing = any(math.isnan(float(v[n])) for v in batch.scores[explainer].values())
                assert bool(reason) == missing, (explainer, n)
        return batch.reasons

    whole = "region is the whole image"
    assert reasons_of(["localisation_auc"], 0.0) == {
        "against": ["", "constant map"], "uneven": ["", whole], "fades": ["", "constant map"], "mask": ["", "constant map"],
    }  # fmt: skip
    assert reasons_of(["topk_overlap"], 0.0)["fades"] == ["perturbed map constant or not finite", "constant map"]
    found = reasons_of(names[2:], 0.0)
    assert found["uneven"][0] == "no difference of credit between segments"
    assert found["against"][0] == "no segment has credit"
    assert found["mask"][0] == ""
    found = reasons_of(names[2:], 1.0)  # a fill that changes nothing where the target is
    assert found["mask"][0] == "no segment has an effect; no difference of effect between segments"
