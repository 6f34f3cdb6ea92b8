"""Finds modules under the paths that they had in earlier versions, which saved configurations and scripts still name."""

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

#: Old path to new path. docs/upgrading.md lists what has another name inside these modules.
MOVED = {
    "segaudit.cell": "segaudit.records.blocks",
    "segaudit.errors": "segaudit.cli.messages",
    "segaudit.files": "segaudit.records.files",
    "segaudit.noise": "segaudit.randomness",
    "segaudit.output": "segaudit.forwards.output",
    "segaudit.provenance": "segaudit.records.provenance",
    "segaudit.reasons": "segaudit.evidence.missing",
    "segaudit.right_reasons": "segaudit.training.reliance_penalty",
    "segaudit.sample": "segaudit.forwards.batch",
    "segaudit.target": "segaudit.forwards.target",
    "segaudit.task": "segaudit.training.task",
    "segaudit.trainer": "segaudit.training.trainer",
    "segaudit.verbs": "segaudit.cli.commands",
    "segaudit.weights": "segaudit.training.weights",
    "segaudit.workspace": "segaudit.report.workspace",
    "segaudit.attribution.perturbed": "segaudit.evidence.stability",
    "segaudit.attribution.randomise": "segaudit.evidence.randomisation",
    "segaudit.callbacks.kept": "segaudit.callbacks.epoch_files",
    "segaudit.callbacks.measured": "segaudit.callbacks.logged_values",
    "segaudit.callbacks.panels": "segaudit.callbacks.loggers",
    "segaudit.callbacks.refusal": "segaudit.callbacks.checks",
    "segaudit.callbacks.source": "segaudit.callbacks.images",
    "segaudit.functional.order": "segaudit.functional.tied_ranks",
    "segaudit.intervention.bill": "segaudit.forwards.cost",
    "segaudit.intervention.curve": "segaudit.forwards.curve",
    "segaudit.intervention.imputation": "segaudit.evidence.imputation",
    "segaudit.intervention.probe": "segaudit.forwards.probe",
    "segaudit.intervention.rank": "segaudit.forwards.removal_order",
    "segaudit.intervention.region": "segaudit.intervention.partition",
    "segaudit.intervention.regional": "segaudit.evidence.effects",
    "segaudit.intervention.room": "segaudit.forwards.batching",
    "segaudit.intervention.subset": "segaudit.evidence.subsets",
    "segaudit.report.run": "segaudit.records.run",
    "segaudit.report.summary": "segaudit.records.summary",
}


def install() -> None:
    """Let Python's import find old paths; once is enough."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())  # last: a module that is really there wins


class _Finder(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return ModuleSpec(fullname, _Loader(MOVED[fullname])) if fullname in MOVED else None


class _Loader(Loader):
    """Gives the module of the new path, which stays as it is."""

    def __init__(self, path: str) -> None:
        self.path = path

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = importlib.import_module(self.path)
        self.spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self.spec  # import has just set that of the old path
