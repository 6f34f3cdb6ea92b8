"""Networks for the benchmarks: small, trained here on the planted data or on CamVid, kept in a folder."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import albumentations as A
import lightning
import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn

from segaudit.data import FolderDataModule, ShortcutScenes

NETWORKS = ("unet", "deeplabv3plus", "segformer")
#: Epochs by data and network: as many as it takes to be worth explaining.
EPOCHS = {
    "planted": {"unet": 8, "deeplabv3plus": 5, "segformer": 20},
    "camvid": {"unet": 10, "deeplabv3plus": 10, "segformer": 14},
}


def network(name: str, data: str) -> nn.Module:
    """An untrained network; the U-Net for the planted data is shallower, as their images are small."""
    classes = 4 if data == "planted" else 11
    if name == "segformer":
        return smp.Segformer("mit_b0", encoder_weights=None, decoder_segmentation_channels=64, classes=classes)
    if name == "deeplabv3plus":
        return smp.DeepLabV3Plus("resnet18", encoder_weights=None, decoder_channels=64, classes=classes)
    if name != "unet":
        raise ValueError(f"there is no network {name!r}. Known: {', '.join(NETWORKS)}.")
    channels = [64, 32, 16] if data == "planted" else [128, 64, 32, 16, 16]
    return smp.Unet(
        "resnet18", encoder_weights=None, encoder_depth=len(channels), decoder_channels=channels, classes=classes
    )


def datamodule(data: str, root: str) -> Any:
    """The planted data, whose tag gives the class away in every image, or CamVid at 128x160."""
    if data == "planted":
        module: Any = ShortcutScenes(shortcut=1.0, batch_size=8)
    else:
        jitter = A.ColorJitter(brightness=[0.8, 1.2], contrast=[0.8, 1.2], saturation=[0.8, 1.2], hue=[-0.05, 0.05], p=0.8)
        module = FolderDataModule(
            root=root, batch_size=8, image_size=[128, 160], train_transforms=[A.HorizontalFlip(), jitter]
        )
    module.prepare_data()
    module.setup("fit")
    return module


def batches(module: Any) -> Iterator[dict[str, Tensor]]:
    """The validation split."""
    yield from module.val_dataloader()


def trained(name: str, data: str, root: str, folder: str) -> nn.Module:
    """The network with the weights in ``<folder>/<data>_<name>.pt``, trained now where there are none yet."""
    model, path = network(name, data), Path(folder) / f"{data}_{name}.pt"
    if not path.exists():
        lightning.seed_everything(0, verbose=False)
        model, started = network(name, data), time.perf_counter()
        module = datamodule(data, root)
        _train(model, module, EPOCHS[data][name], 1e-3 if name == "segformer" else 2e-3, data)
        seconds = time.perf_counter() - started
        print(f"{data} {name}: mean IoU {_mean_iou(model, module):.3f}, trained in {seconds:.0f} s", flush=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(model.state_dict(), path)
    model.load_state_dict(torch.load(path, weights_only=True))
    return model.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # faster on CPUs


def _train(model: nn.Module, module: Any, epochs: int, rate: float, data: str) -> None:
    # The tags cover few pixels: cross entropy alone starts late on the planted data.
    loss = smp.losses.DiceLoss("multiclass") if data == "planted" else nn.CrossEntropyLoss(ignore_index=255)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.01)
    steps = epochs * len(module.train_dataloader())
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)
    model.train()
    for _ in range(epochs):
        for batch in module.train_dataloader():
            optimizer.zero_grad()
            loss(model(batch["image"]), batch["mask"].long()).backward()
            optimizer.step()
            scheduler.step()
    model.eval()


@torch.no_grad()
def _mean_iou(model: nn.Module, module: Any) -> float:
    counts = torch.zeros(0)
    for batch in batches(module):
        logits, mask = model(batch["image"]), batch["mask"].long()
        classes, known = logits.shape[1], mask != 255
        pairs = mask[known] * classes + logits.argmax(dim=1)[known]
        found = torch.bincount(pairs, minlength=classes**2).view(classes, classes).float()
        counts = found if not len(counts) else counts + found
    hit = counts.diag()
    return float((hit / (counts.sum(dim=0) + counts.sum(dim=1) - hit)).nanmean())
