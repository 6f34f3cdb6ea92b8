"""Lightning callbacks of segaudit: import them as `segaudit.callbacks`."""

if __name__ == "callbacks":
    raise ImportError(
        "import these as `segaudit.callbacks`, not `callbacks`: a second copy of the classes would break isinstance checks."
    )

from segaudit.callbacks.alarm import AuditAlarm
from segaudit.callbacks.audit import AttributionAudit
from segaudit.callbacks.checkpoint import AuditCheckpoint
from segaudit.callbacks.objective import SweepObjective
from segaudit.callbacks.prediction import MaskWriter
from segaudit.forwards.batch import Sample

__all__ = ["AttributionAudit", "AuditAlarm", "AuditCheckpoint", "MaskWriter", "Sample", "SweepObjective"]
