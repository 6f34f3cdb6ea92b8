"""Draws the pictures of docs/explainers: an explainer's map of one object in a procedural scene, laid over the scene.

`make tables` calls it. The network is a small U-Net, trained here on scenes whose coloured tags give the class away, so
that it reads the tag. An explainer that does not work on the U-Net, as attention rollout, explains a SegFormer.
"""

from functools import cache
from pathlib import Path

import segmentation_models_pytorch as smp
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor, nn

from segaudit.attribution import Explainer, attribution_context
from segaudit.data import ShortcutScenes
from segaudit.forwards import Probe, Targets, logits_of
from segaudit.intervention import ConstantFill, Intervention, SuperpixelRegions


def draw(explainer: Explainer | None, path: Path, text: dict[str, str]) -> None:
    """Draw the scene with an explainer's map, or in its own colours, and store text chunks in the file."""
    _paint(None if explainer is None else _map(explainer), path, text)


def _map(explainer: Explainer) -> Tensor:
    """Return the explainer's map ``(H, W)`` of the object: on the U-Net, or where it refuses that, on the SegFormer."""
    try:
        return _explained(explainer, _unet())
    except ValueError:
        return _explained(explainer, _segformer())


def _explained(explainer: Explainer, model: nn.Module) -> Tensor:
    image, targets, cue = _scene()
    intervention = Intervention(fill=ConstantFill(), regions=SuperpixelRegions([16, 49, 100]), max_batch=32)
    with attribution_context(model):
        return explainer.explain(Probe(model, image, targets, intervention, cues=cue))[0]


@cache
def _scenes() -> ShortcutScenes:
    return ShortcutScenes(size=128, train_images=256, val_images=32, batch_size=8)


@cache
def _scene() -> tuple[Tensor, Targets, Tensor]:
    """Return the image ``(1, 3, H, W)`` with the largest object that the U-Net finds, that target, and the cue."""
    batch = next(iter(_loader("val")))
    with torch.no_grad():
        found = logits_of(_unet()(batch["image"]), batch["mask"].shape[1:]).argmax(dim=1)
    right = (found == batch["mask"]) & (batch["mask"] > 0)
    best = int(right.flatten(1).sum(dim=1).argmax())
    label = batch["mask"][best].max()[None]
    targets = Targets(torch.tensor([0]), label, (found[best] == label)[None])
    return batch["image"][best : best + 1], targets, batch["cue"][best : best + 1]


def _loader(split: str) -> torch.utils.data.DataLoader:
    scenes = _scenes()
    scenes.setup("fit")
    return scenes.train_dataloader() if split == "train" else scenes.val_dataloader()


class _UNet(nn.Module):
    """A small U-Net of modules, so that every kind of explainer works on it: CAMs, LRP, guided backpropagation."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.ModuleList([_block(3, 16), _block(16, 24), _block(24, 32), _block(32, 48)])
        self.up = nn.ModuleList([_block(48 + 32, 32), _block(32 + 24, 24), _block(24 + 16, 16)])
        self.shrink = nn.ModuleList(nn.AvgPool2d(2) for _ in self.down)  # LRP follows a module that runs once
        self.grow = nn.Upsample(scale_factor=2, mode="bilinear")
        self.head = nn.Conv2d(16, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits ``(B, 4, H, W)`` at half the resolution of the images."""
        levels = []
        for shrink, block in zip(self.shrink, self.down, strict=True):
            levels.append(x := block(shrink(x)))
        for block, level in zip(self.up, levels[-2::-1], strict=True):
            x = block(torch.cat([self.grow(x), level], dim=1))
        logits: Tensor = self.head(x)
        return logits


def _block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())


@cache
def _unet() -> nn.Module:
    torch.manual_seed(0)
    return _trained(_UNet(), epochs=10)


@cache
def _segformer() -> nn.Module:
    torch.manual_seed(0)
    return _trained(smp.Segformer("mit_b0", encoder_weights=None, decoder_segmentation_channels=64, classes=4), epochs=2)


def _trained(model: nn.Module, epochs: int) -> nn.Module:
    """Train a network on the scenes: the same weights each time on one machine, about the same on another."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    loss = smp.losses.DiceLoss("multiclass")
    loader = _loader("train")
    model.train()
    for _ in range(epochs):
        for batch in loader:
            optimizer.zero_grad()
            logits = logits_of(model(batch["image"]), batch["mask"].shape[1:])
            value = loss(logits, batch["mask"])
            value.backward()
            optimizer.step()
    torch.set_num_threads(threads)
    return model.eval()


def _paint(values: Tensor | None, path: Path, text: dict[str, str]) -> None:
    """Lay a map over the scene in grey, red for the class and blue against it, with outlines of the target and the tag."""
    image, targets, cue = _scene()
    shown = image[0].permute(1, 2, 0)
    shown = (shown - shown.amin()) / (shown.amax() - shown.amin())
    figure = Figure(figsize=(1.6, 1.6), dpi=100)
    axis = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    if values is None:
        axis.imshow(shown)
    else:
        axis.imshow(0.4 + 0.6 * shown.mean(dim=2), cmap="gray", vmin=0, vmax=1)
        top = float(values.abs().flatten().quantile(0.995)) or float(values.abs().max()) or 1.0
        scaled = (values / top).clamp(-1, 1)
        axis.imshow(scaled, cmap="RdBu_r", vmin=-1, vmax=1, alpha=scaled.abs().numpy())
        axis.contour(cue[0] > 0, levels=[0.5], colors="black", linewidths=0.8, linestyles="dotted")
    axis.contour(targets.region[0].float(), levels=[0.5], colors="black", linewidths=0.8)
    axis.set_axis_off()
    FigureCanvasAgg(figure).print_png(str(path), metadata={**text, "Software": None})
