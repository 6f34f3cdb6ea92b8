"""MaskWriter: writes the predictions of `predict` to files."""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import BasePredictionWriter
from PIL import Image


class MaskWriter(BasePredictionWriter):
    """Writes each predicted class map as a PNG, ``predictions/<id>.png`` in the run folder; a volume's as a TIFF.

    The command line adds it automatically. It acts only in ``predict``, on predictions ``{"id": [...], "mask": (B, *S)}``.
    An id with slashes, ``aachen/0001``, gives folders. The files have 8 bits, or 16 where a class is above 255. The TIFF
    has one page per slice along the first axis.

    Raises:
        ValueError: if two images have one id, in ``predict``.

    """

    def __init__(self) -> None:
        super().__init__(write_interval="batch")
        self._folder = Path()
        self._written: set[Path] = set()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Agree on the run folder."""
        super().setup(trainer, pl_module, stage)
        self._folder = Path(trainer.log_dir or trainer.default_root_dir) / "predictions"
        self._written = set()

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
        masks = prediction["mask"].cpu().numpy()
        names = prediction.get("id") or batch_indices or [f"{batch_idx}-{i}" for i in range(len(masks))]
        for name, mask in zip(names, masks, strict=True):
            mask = mask.astype(np.uint8 if mask.max() < 256 else np.uint16)
            pages = [Image.fromarray(page) for page in mask.reshape(-1, *mask.shape[-2:])]
            path = self._path(str(name), "png" if mask.ndim == 2 else "tiff")
            path.parent.mkdir(parents=True, exist_ok=True)
            pages[0].save(path, save_all=len(pages) > 1, append_images=pages[1:])

    def _path(self, name: str, ending: str) -> Path:
        """Return the file of an id, always inside the folder."""
        parts = [part for part in PurePosixPath(name.replace("\\", "/")).parts if part not in ("/", "..")]
        path = self._folder.joinpath(*parts[:-1], f"{parts[-1] if parts else name}.{ending}")
        if path in self._written:
            raise ValueError(
                f"two images have the id {name!r}, and the second mask would overwrite the first, {path}: give every image "
                "an id of its own."
            )
        self._written.add(path)
        return path

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the folder of the masks."""
        if trainer.is_global_zero:
            print(f"masks: {self._folder}")
