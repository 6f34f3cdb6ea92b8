"""A whole audit of a tiny model, made once for the tests of what is made from it."""

from typing import Any

import pytest
import torch
from integration.tiny import audit, loader, task, trainer
from lightning.pytorch import LightningDataModule

#: The name of a class that would run in a page that does not escape it.
EVIL = "<img src=x onerror=alert(1)>&\"'"


class Loaders(LightningDataModule):
    class_names = ["background", EVIL, "green"]  # noqa: RUF012

    def val_dataloader(self) -> Any:
        return loader(7)


@pytest.fixture(scope="session")
def audited(tmp_path_factory):
    """Folder of a run, audited with default explainers and scores, and its summary."""
    folder = tmp_path_factory.mktemp("audited")
    torch.save(task().state_dict(), folder / "weights.ckpt")
    loop = trainer(audit(), folder=folder)
    module = task(seed=3, class_names=Loaders.class_names)
    (summary,) = loop.audit(module, Loaders(), ckpt_path=folder / "weights.ckpt", max_images=6)
    return folder / "version_0", summary


@pytest.fixture
def evil() -> str:
    return EVIL
