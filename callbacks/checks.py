"""Checks that raise before training starts."""

from collections.abc import Sequence
from math import lcm

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Checkpoint, EarlyStopping
from lightning.pytorch.strategies import FSDPStrategy, ModelParallelStrategy, Strategy
from lightning.pytorch.utilities import rank_zero_warn

from segaudit.callbacks.lightning_internals import check_interval
from segaudit.names import did_you_mean


def check_strategy(strategy: Strategy) -> None:
    """Raise for a strategy that splits the weights: an explainer calls the module itself, past the strategy.

    Raises:
        MisconfigurationException: if each device holds a part of the weights.

    """
    if isinstance(strategy, FSDPStrategy | ModelParallelStrategy) or getattr(strategy, "zero_stage_3", False):
        raise MisconfigurationException(
            f"{type(strategy).__name__} keeps a part of the weights on each device, but explanations need all of them: "
            "train with DDP, or leave AttributionAudit out and audit the checkpoints (`segaudit audit`)."
        )


def check_monitors(trainer: Trainer, prefix: str, keys: Sequence[str], every_n_epochs: int) -> None:
    """Raise for Lightning callbacks that would take an old score for that of the epoch.

    Args:
        trainer: has the callbacks.
        prefix: prefix of the audit's keys.
        keys: keys that the audit logs, without the prefix.
        every_n_epochs: interval of the audits in epochs.

    Raises:
        MisconfigurationException: if one monitors a score that is not audited, or would see an old value.

    """
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        monitor = getattr(callback, "monitor", None)
        if not isinstance(callback, Checkpoint | EarlyStopping) or not str(monitor).startswith(f"{prefix}/"):
            continue
        if str(monitor).removeprefix(f"{prefix}/") not in keys:
            raise MisconfigurationException(
                f"{type(callback).__name__} looks at {monitor!r}, which is not audited."
                f"{did_you_mean(str(monitor), (f'{prefix}/{key}' for key in keys))}"
            )
        if isinstance(callback, EarlyStopping) and callback.check_finite:
            rank_zero_warn(
                f"EarlyStopping looks at {monitor!r}, which is NaN while no class has been learnt or too few targets can be "
                "scored, and it ends the training at NaN: give it check_finite=False (in YAML, check_finite: false)."
            )
        every = lcm(check_interval(callback), trainer.check_val_every_n_epoch or 1)
        if every % every_n_epochs:
            raise MisconfigurationException(
                f"{type(callback).__name__} looks at {monitor!r} every {every} epochs, but it is audited every "
                f"{every_n_epochs}: the epochs between would be judged by a stale score. Give both the same "
                f"number, or validate only then (Trainer(check_val_every_n_epoch={every_n_epochs}))."
            )
