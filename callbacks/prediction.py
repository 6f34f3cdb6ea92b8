"""MaskWriter: writes the predictions of `predict` to files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import BasePredictionWriter
from PIL import Image


class MaskWriter(BasePredictionWriter):
    """Writes each predicted class map as an 8-bit PNG, ``predictions/<id>.png`` in the run folder; a volume's as a TIFF.

    The command line adds it automatically. It acts only in ``predict``, on predictions ``{"id": [...], "mask": (B, *S)}``.
    The TIFF has one page per slice along the first axis.
    """

    def __init__(self) -> None:
        super().__init__(write_interval="batch")
        self._folder = Path()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Agree on the run folder."""
        super().setup(trainer, pl_module, stage)
        self._folder = Path(trainer.log_dir or trainer.default_root_dir) / "predictions"

    def write_on_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        prediction: Any,
        batch_indices: Sequence[int] | None,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        """Write one batch."""
        if not isinstance(prediction, dict) or "mask" not in prediction:
            return
        masks = prediction["mask"].to("cpu", torch.uint8).numpy()
        names = prediction.get("id") or batch_indices or [f"{batch_idx}-{i}" for i in range(len(masks))]
        self._folder.mkdir(parents=True, exist_ok=True)
        for name, mask in zip(names, masks, strict=True):
            pages = [Image.fromarray(page) for page in mask.reshape(-1, *mask.shape[-2:])]
            path = self._folder / f"{Path(str(name)).name}.{'png' if mask.ndim == 2 else 'tiff'}"
            pages[0].save(path, save_all=len(pages) > 1, append_images=pages[1:])

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the folder of the masks."""
        if trainer.is_global_zero:
            print(f"masks: {self._folder}")
