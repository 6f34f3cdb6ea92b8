"""What every test can rely on: a folder of its own, one thread, and a process that the test before left as it was."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

# For the processes that tests start, too.
os.environ |= {"NO_ALBUMENTATIONS_UPDATE": "1", "WANDB_MODE": "offline", "WANDB_SILENT": "true", "OMP_NUM_THREADS": "1"}

#: Set by Lightning and W&B for the processes that they start, and by what pytorch-grad-cam and MONAI import: taken back.
THEIR_OWN = ("PL_GLOBAL_SEED", "PL_SEED_WORKERS", "MASTER_PORT", "WANDB_MODE", "WANDB_SERVICE")
THEIR_OWN += (
    "KMP_INIT_AT_FORK",
    "KMP_DUPLICATE_LIB_OK",
    "LD_LIBRARY_PATH",
    "TORCHINDUCTOR_CACHE_DIR",
    "CUBLAS_WORKSPACE_CONFIG",
    "PYTORCH_NVML_BASED_CUDA_CHECK",
)


#: Files that take longest, longest first: whichever came last would leave the other process with nothing to do.
SLOWEST = (
    "integration/test_notebooks.py",
    "integration/test_configs.py",
    "integration/test_same_figures.py",
    "cli/test_program.py",
    "integration/test_audit.py",
    "benchmark/test_benchmark.py",
    "integration/test_resume.py",
    "integration/test_volumes.py",
    "attribution/test_layer.py",
    "metrics/test_every_metric.py",
    "callbacks/test_dashboard.py",
    "integration/test_training_is_untouched.py",
    "functional/test_properties.py",
    "test_auditor_properties.py",
    "packaging/test_package.py",
    "attribution/test_every_explainer.py",
    "attribution/test_relevance.py",
    "integration/test_readme.py",
    "integration/test_sweep.py",
    "integration/test_third_party.py",
)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the slowest files first; with `--no-loadscope-reorder`, processes are given the files in this order."""
    place = {Path(__file__).parent / name: n for n, name in enumerate(SLOWEST)}
    assert all(path.exists() for path in place), "SLOWEST in tests/conftest.py names a file that is gone"
    items.sort(key=lambda item: place.get(item.path, len(place)))


@pytest.fixture(autouse=True)
def clean_process() -> Iterator[None]:
    """Fail where a test leaves a process group or the environment changed; run it on one thread."""
    torch.set_num_threads(1)
    before = _environment()
    yield
    after = _environment()
    changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    for name in changed:
        os.environ.pop(name, None)
        os.environ |= {name: before[name]} if name in before else {}
    changed = [name for name in changed if name not in THEIR_OWN]
    if getattr(sys.modules.get("wandb"), "run", None) is not None:
        sys.modules["wandb"].finish()  # a test that finds a run in progress would write into that one's folder
    grouped = dist.is_available() and dist.is_initialized()
    if grouped:
        dist.destroy_process_group()
    assert not grouped, "the test left a process group behind"
    assert not changed, f"the test left the environment changed: {', '.join(changed)}"


@pytest.fixture(autouse=True)
def own_folder(clean_process: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run in an empty folder: what a run writes to its working directory stays there."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
