"""Limits the images in a forward pass and sets its precision, for one run."""

import gc
import warnings
from collections.abc import Callable
from typing import TypeVar, get_args

import torch
from torch import Tensor

from segaudit.intervention.intervention import Precision, check_batching

T = TypeVar("T")

_HALF = {"16-mixed": torch.float16, "bf16-mixed": torch.bfloat16}

#: What torch's own errors say where no class of error does.
_OUT_OF_MEMORY = (
    "CUDA out of memory",
    "CUDNN_STATUS_NOT_SUPPORTED",
    "DefaultCPUAllocator: can't allocate memory",
    "DefaultCPUAllocator: not enough memory",
)

#: Images that one with gradients counts as: its pass keeps the output of every layer.
GRADIENT_WEIGHT = 4
#: Most images in one pass where nobody set a limit.
DEFAULT_BATCH = 64


class Batching:
    """Limits the images in a forward pass, halves the limit when memory runs out, and sets the precision.

    It holds what a run has decided. The user's :class:`~segaudit.Intervention` stays as it was written.

    Args:
        max_batch: most images in one pass. Defaults to 64.
        precision: of passes without gradients. Defaults to single precision, "32-true".

    Attributes:
        limit: most images in one pass, as of now.
        precision: of passes without gradients.

    Raises:
        ValueError: if ``max_batch`` is below 1 or the precision is unknown.

    Example:
        >>> Batching(4).run(6, lambda rows: rows.tolist())
        [[0, 1, 2, 3], [4, 5]]
        >>> Batching(4).run(3, lambda rows: rows.tolist(), weight=2)
        [[0, 1], [2]]

    """

    def __init__(self, max_batch: int | None = None, precision: Precision | None = None) -> None:
        check_batching(max_batch, precision)
        self.limit = max_batch or DEFAULT_BATCH
        self.precision: Precision = precision or "32-true"
        self._limit_is_set = max_batch is not None
        self._precision_is_set = precision is not None
        self._warned = False

    def limit_to(self, images: int) -> None:
        """Lower the limit to so many images, unless ``max_batch`` was set."""
        if not self._limit_is_set:
            self.limit = min(self.limit, images)

    def use_precision_of(self, trainer_precision: str) -> None:
        """Take a Trainer's precision, unless one was set; a precision that is not mixed means single."""
        if not self._precision_is_set:
            mixed = trainer_precision in get_args(Precision)
            self.precision = trainer_precision if mixed else "32-true"  # type: ignore[assignment]

    def autocast(self, device: torch.device) -> torch.autocast:
        """Return the context of one pass without gradients. Gradients need single precision, or they vanish."""
        half = _HALF.get(self.precision)
        return torch.autocast(device.type, dtype=half, enabled=half is not None)

    @property
    def rounding(self) -> float:
        """Difference of two confidences below which only rounding, which changes with the batch, sets them apart."""
        return 1e-6 if self.precision == "32-true" else 1e-3

    def run(
        self, count: int, compute: Callable[[Tensor], T], weight: int = 1, device: torch.device | str = "cpu"
    ) -> list[T]:
        """Call ``compute`` for the rows 0 to ``count``, as many at a time as the limit allows, one at least.

        Args:
            count: number of rows.
            compute: takes row numbers ``(M,)``. It is called again for the same rows after it ran out of memory.
            weight: images that a row counts as; multiply by :data:`GRADIENT_WEIGHT` where gradients are taken.
            device: of the row numbers.

        Returns:
            What each call gave, in order.

        Raises:
            RuntimeError: the device's own, if not even one row fits.

        """
        found: list[T] = []
        start = 0
        while start < count:
            rows = torch.arange(start, min(count, start + max(1, self.limit // weight)), device=device)
            try:
                found.append(compute(rows))
            except (RuntimeError, MemoryError) as error:
                if len(rows) == 1 or not out_of_memory(error):
                    raise
            else:
                start += len(rows)
                continue
            # Only here, where the error and with it what its frames hold are gone.
            self._halve(len(rows), weight)
        return found

    def _halve(self, size: int, weight: int) -> None:
        self.limit = size * weight // 2
        free_memory()
        if not self._warned:
            self._warned = True
            warnings.warn(
                f"the memory ran out with {size * weight} images in a pass (max_batch; an image with gradients counts as "
                f"{GRADIENT_WEIGHT}): the audit goes on with at most {self.limit}.",
                stacklevel=2,
            )


def out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that the device's or the machine's memory ran out."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _OUT_OF_MEMORY)


def free_memory() -> None:
    """Give back what an error's frames held, and what the device's allocator kept."""
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
