"""How many images go through the network at once, and in which precision."""

import gc
import warnings
from collections.abc import Callable
from typing import Literal, TypeVar, get_args

import torch
from lightning.pytorch.utilities.memory import is_oom_error
from torch import Tensor

T = TypeVar("T")

#: In Lightning's words.
Precision = Literal["32-true", "16-mixed", "bf16-mixed"]
_HALF = {"16-mixed": torch.float16, "bf16-mixed": torch.bfloat16}

#: A pass whose gradients are asked for keeps every layer's output, one without a few: it counts as so many images.
GRADIENT = 4
#: Most images in one pass unless told.
USUAL = 64


class Room:
    """Most images in one pass, after the memory has run out fewer, which is said once; and what a pass calculates in.

    Args:
        most: images in one pass; 64 unless told.
        precision: of passes without gradients; single ("32-true") unless told.

    Example:
        >>> Room(4).run(6, lambda rows: rows.tolist())
        [[0, 1, 2, 3], [4, 5]]
        >>> Room(4).run(3, lambda rows: rows.tolist(), weight=2)
        [[0, 1], [2]]

    """

    def __init__(self, most: int | None = None, precision: Precision | None = None) -> None:
        if most is not None and most < 1:
            raise ValueError(f"max_batch must be at least 1, got {most}.")
        if precision not in (None, *get_args(Precision)):
            raise ValueError(f"precision must be one of {', '.join(get_args(Precision))}, got {precision!r}.")
        self.most = most or USUAL
        self.precision: Precision = precision or "32-true"
        self._told = most is not None
        self._precision_told = precision is not None
        self._said = False

    def fit(self, images: int) -> None:
        """Let no more than so many images through at once, unless told how many."""
        if not self._told:
            self.most = min(self.most, images)

    def follow(self, precision: str) -> None:
        """Calculate as a Trainer of that precision does, unless told how; one that is not mixed needs nothing."""
        if not self._precision_told:
            self.precision = precision if precision in get_args(Precision) else "32-true"  # type: ignore[assignment]

    def autocast(self, device: torch.device) -> torch.autocast:
        """For one pass without gradients; those with them stay in single precision, below which they vanish."""
        half = _HALF.get(self.precision)
        return torch.autocast(device.type, dtype=half, enabled=half is not None)

    @property
    def rounding(self) -> float:
        """Smaller differences of two scores in [0, 1] are rounding errors, which change with the batch."""
        return 1e-6 if self.precision == "32-true" else 1e-3

    def run(
        self, count: int, compute: Callable[[Tensor], T], weight: int = 1, device: torch.device | str = "cpu"
    ) -> list[T]:
        """What ``compute`` gives for the rows 0 to ``count``, as many at a time as there is room for, one at least.

        Args:
            count: of rows.
            compute: takes row numbers ``(M,)``; may be called again for the same rows after it ran out of memory.
            weight: images that a row stands for; :data:`GRADIENT` times as many where gradients are asked for.
            device: of the row numbers.

        Raises:
            RuntimeError: the device's own, if not even one row fits.

        """
        found: list[T] = []
        start = 0
        while start < count:
            rows = torch.arange(start, min(count, start + max(1, self.most // weight)), device=device)
            try:
                found.append(compute(rows))
            except (RuntimeError, MemoryError) as error:
                if len(rows) == 1 or not out_of_memory(error):
                    raise
            else:
                start += len(rows)
                continue
            # Only here, where the error and with it what its frames hold are gone.
            self._shrink(len(rows), weight)
        return found

    def _shrink(self, size: int, weight: int) -> None:
        self.most = size * weight // 2
        free_memory()
        if not self._said:
            self._said = True
            warnings.warn(
                f"the memory ran out with {size * weight} images in a pass (max_batch; one with gradients counts as "
                f"{GRADIENT}): an audit goes on with fewer, {self.most} from here on.",
                stacklevel=2,
            )


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the device's or the machine's memory ran out."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or bool(is_oom_error(error))


def free_memory() -> None:
    """Give back what an error's frames held, and what the device's allocator kept."""
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
