"""Batching: chunks, and fewer images at a time once the memory has run out."""

import pytest
import torch
from torch import Tensor, nn

from segaudit import Auditor, Intervention, TargetSelector
from segaudit.forwards import Probe
from segaudit.forwards.batching import Batching, Precision
from segaudit.intervention import GridRegions


class Small(nn.Module):
    """A network on a device that holds few images, and fewer of those whose gradients are asked for."""

    def __init__(self, most: int, error: type[Exception] = torch.OutOfMemoryError) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.most, self.error = most, error
        self.batches: list[int] = []

    def forward(self, images: Tensor) -> Tensor:
        self.batches.append(len(images))
        if len(images) > self.most:
            raise self.error("CUDA out of memory. Tried to allocate 2.00 GiB")
        return self.conv(images)


def audit(model: nn.Module, max_batch: int = 64) -> dict[str, Tensor]:
    auditor = Auditor(
        explainers=["region_effects", "integrated_gradients", "rise", "seg_grad_cam"],
        metrics=["deletion_auc", "insertion_auc", "stability"],
        selector=TargetSelector(min_area=0, max_per_image=2),
        intervention=Intervention(regions=GridRegions([9]), steps=6, max_batch=max_batch),
    )
    auditor.update(model, torch.rand(2, 3, 12, 12, generator=torch.Generator().manual_seed(0)))
    return auditor.compute()


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, RuntimeError])
def test_an_audit_goes_on_with_fewer_images_at_a_time_and_says_so_once(error: type[Exception]) -> None:
    torch.manual_seed(0)
    model = Small(1000, error)
    whole = audit(model)
    model.most, model.batches = 5, []
    with pytest.warns(UserWarning, match="the memory ran out with") as said:
        found = audit(model)
    assert sum("the memory ran out" in str(one.message) for one in said) == 1
    assert found.keys() == whole.keys()
    for name, value in whole.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5, equal_nan=True)
    assert sum(size > 5 for size in model.batches) <= 4  # what was learnt holds for the rest of the audit


def test_where_not_even_one_image_fits_the_error_is_the_devices() -> None:
    with pytest.warns(UserWarning, match="the memory ran out"), pytest.raises(torch.OutOfMemoryError):
        audit(Small(0))


def test_other_errors_are_not_taken_for_a_lack_of_memory() -> None:
    calls: list[int] = []

    def fail(rows: Tensor) -> None:
        calls.append(len(rows))
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        Batching(8).run(20, fail)
    assert calls == [8]


def test_a_row_that_failed_is_computed_again_and_every_row_once() -> None:
    done: list[int] = []

    def compute(rows: Tensor) -> None:
        if len(rows) > 3:
            raise MemoryError
        done.extend(rows.tolist())

    batching = Batching(16)
    with pytest.warns(UserWarning, match="16 images in a pass"):
        batching.run(20, compute, weight=2)
    assert done == list(range(20))
    assert batching.limit == 4  # 8 rows of weight 2, then 4, then 2


def test_a_number_that_was_told_is_not_fitted_to_a_training_batch() -> None:
    told, untold = Batching(64), Batching()
    for batching in (told, untold):
        batching.limit_to(4)
        batching.limit_to(9)
    assert (told.limit, untold.limit) == (64, 4)


def test_what_one_run_decides_is_forgotten_in_the_next_and_never_reaches_the_settings() -> None:
    settings = Intervention()
    auditor = Auditor(["random"], ["fill_residual"], intervention=settings)
    batching = auditor.begin_run()
    batching.limit_to(2)
    batching.use_precision_of("bf16-mixed")
    assert (auditor.batching.limit, auditor.batching.precision) == (2, "bf16-mixed")
    assert (settings.max_batch, settings.precision) == (None, None)
    auditor.begin_run()
    assert (auditor.batching.limit, auditor.batching.precision) == (64, "32-true")


class Noting(nn.Module):
    """Notes of each pass whether gradients are on, and in which precision its layer calculates."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.passes: set[tuple[bool, torch.dtype]] = set()

    def forward(self, images: Tensor) -> Tensor:
        found = self.conv(images)
        self.passes.add((images.requires_grad, found.dtype))
        return found


def scores(model: nn.Module, precision: Precision | None) -> dict[str, Tensor]:
    auditor = Auditor(
        explainers=["region_effects", "saliency", "target_mask"],
        metrics=["deletion_auc", "insertion_auc", "unsupported_leakage", "stability"],
        selector=TargetSelector(min_area=0, max_per_image=2),
        intervention=Intervention(regions=GridRegions([9]), steps=8, precision=precision),
    )
    images = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    return auditor.update(model, images).scores["target_mask"]


@pytest.mark.parametrize(("precision", "dtype"), [("16-mixed", torch.float16), ("bf16-mixed", torch.bfloat16)])
def test_passes_without_gradients_are_in_the_precision_that_is_told(precision: Precision, dtype: torch.dtype) -> None:
    model = Noting()
    found = scores(model, precision)
    assert model.passes == {(False, dtype), (True, torch.float32)}
    model.passes.clear()
    exact = scores(model, None)
    assert model.passes == {(False, torch.float32), (True, torch.float32)}
    for name, value in found.items():
        torch.testing.assert_close(value, exact[name], rtol=0, atol=0.03, equal_nan=True)


def test_an_effect_that_half_precision_cannot_tell_from_none_is_none() -> None:
    model, images = Noting(), torch.rand(1, 3, 8, 8)
    half, single = (Intervention(precision=precision) for precision in ("bf16-mixed", None))
    targets = TargetSelector(min_area=0, max_per_image=1)(model(images).detach())
    confidence = Probe(model, images, targets, single).confidence
    for intervention, known in ((half, False), (single, True)):
        probe = Probe(model, images, targets, intervention)
        assert bool(probe.fall(probe.confidence[:, None] - 5e-4).any()) is known
    assert confidence > 0.05


def test_a_precision_follows_the_trainers_unless_it_is_told() -> None:
    told, untold = Batching(precision="32-true"), Batching()
    for trainers, followed in (("bf16-mixed", "bf16-mixed"), ("bf16-true", "32-true"), ("16-mixed", "16-mixed")):
        for batching in (told, untold):
            batching.use_precision_of(trainers)
        assert (told.precision, untold.precision) == ("32-true", followed)


def test_a_precision_that_is_none() -> None:
    with pytest.raises(ValueError, match="precision must be one of 32-true, 16-mixed, bf16-mixed, got 'bf16'"):
        Intervention(precision="bf16")  # type: ignore[arg-type]
