"""Reads the values that a validation logged, for callbacks that decide by accuracy and audit together."""

from collections.abc import Sequence

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer

from segaudit.callbacks.audit import AttributionAudit


def audits(trainer: Trainer) -> dict[str, AttributionAudit]:
    """Return the audits among the callbacks, by prefix."""
    return {one.prefix: one for one in trainer.callbacks if isinstance(one, AttributionAudit)}  # type: ignore[attr-defined]


def logged_values(trainer: Trainer, keys: Sequence[str], who: str) -> dict[str, float]:
    """Return all values that this validation logged, by key; nothing if an audit of one of ``keys`` did not run.

    Args:
        trainer: the Trainer, at the end of a validation.
        keys: keys that must be there.
        who: name of the caller, for the error.

    Raises:
        MisconfigurationException: if one of the keys was not logged.

    """
    stale = {prefix for prefix, one in audits(trainer).items() if one.audited_at != trainer.global_step}
    logged = {key: float(value) for key, value in trainer.callback_metrics.items() if key.partition("/")[0] not in stale}
    if any(key.partition("/")[0] in stale for key in keys):
        return {}
    if absent := [key for key in keys if key not in logged]:
        known = ", ".join(sorted(logged))
        raise MisconfigurationException(
            f"{who} looks at {', '.join(map(repr, absent))}, which nothing has logged; there are {known}."
        )
    return logged
