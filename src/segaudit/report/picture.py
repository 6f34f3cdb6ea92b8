"""Draws audited targets: image, prediction, truth and each explainer's map."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from torch import Tensor

from segaudit.auditor import AuditedBatch
from segaudit.functional.leakage import EPSILON

Array = npt.NDArray[np.float64]
Picture = npt.NDArray[np.uint8]

#: Colours of credit outside the target: on pixels that the model uses, and on others. The colour-blind can tell them apart.
SUPPORTED, UNSUPPORTED = (0.10, 0.45, 0.90), (0.95, 0.50, 0.05)

_OUTLINE = "#37d7ff"
_SHOWN = {"deletion_auc": "del", "insertion_auc": "ins", "off_target_leakage": "leak"}


@dataclass
class Panel:
    """Holds one target, ready to be drawn, with tensors on the CPU. Of a volume it holds one slice.

    Attributes:
        sample_id: the image's name.
        class_index: the target's class.
        image: ``(channels, H, W)``, in the units that the model takes.
        prediction: class map ``(H, W)``.
        mask: class map ``(H, W)``, or None.
        region: the target's pixels, ``(H, W)`` bool.
        attributions: map ``(H, W)`` by explainer.
        scores: value by explainer and score.
        effect: relative fall of S when a pixel's segment is filled, ``(H, W)``, or None where no score asked for it.
        slice_index: number of the slice of a volume; None for an image.

    """

    sample_id: str
    class_index: int
    image: Tensor
    prediction: Tensor
    mask: Tensor | None
    region: Tensor
    attributions: dict[str, Tensor]
    scores: dict[str, dict[str, float]]
    effect: Tensor | None = None
    slice_index: int | None = None


#: Numbers of dimensions of batches that can be drawn: images ``(B, channels, H, W)`` and volumes, but no signals.
DRAWN = (4, 5)


def first_targets(batch: AuditedBatch, most: int) -> list[Panel]:
    """Return the largest target of each of the first ``most`` images or volumes with a target; none for signals."""
    targets = batch.targets
    if batch.images.ndim not in DRAWN or not len(targets) or most <= 0:
        return []
    largest: dict[int, int] = {}
    area = targets.area.tolist()
    for n, image in enumerate(targets.image_index.tolist()):
        if image not in largest or area[n] > area[largest[image]]:
            largest[image] = n
    return [panel_of(batch, n) for n in list(largest.values())[:most]]


def draw_panels(panels: Sequence[Panel], class_names: Sequence[str]) -> npt.NDArray[np.uint8]:
    """Draw one row per target, with columns for image, prediction, truth and each explainer's map.

    The positive part of a map lies over the grey image, brightest at its largest values. The line is the outline of the
    target's region.

    Args:
        panels: at least one.
        class_names: names by class index; a class without a name shows its number.

    Returns:
        RGB picture ``(height, width, 3)`` uint8.

    """
    explainers = list(panels[0].attributions)
    columns = 3 + len(explainers)
    height, width = panels[0].region.shape
    side = 1.7
    figure = Figure(figsize=(side * columns * min(1.6, width / height), (side + 0.35) * len(panels) + 0.7), dpi=110)
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots(len(panels), columns, squeeze=False)
    shown: set[int] = set()
    for row, panel in zip(axes, panels, strict=True):
        image = display_image(panel.image)
        shown |= {panel.class_index, *panel.prediction.unique().tolist()}
        row[0].imshow(image)
        slice_ = "" if panel.slice_index is None else f"\nslice {panel.slice_index}"
        row[0].set_ylabel(f"{_name(class_names, panel.class_index)}\n{panel.sample_id[-18:]}{slice_}", fontsize=7)
        row[1].imshow(_colours(panel.prediction))
        if panel.mask is not None:
            row[2].imshow(_colours(panel.mask))
            shown |= {c for c in panel.mask.unique().tolist() if c < max(255, len(class_names))}
        for axis, name in zip(row[3:], explainers, strict=True):
            axis.imshow(_overlay(image, panel.attributions[name]))
            _outline(axis, panel.region)
            values = panel.scores.get(name, {})
            text = "  ".join(f"{short} {values[key]:.2f}" for key, short in _SHOWN.items() if key in values)
            axis.set_xlabel(text.replace("nan", "-"), fontsize=6)
        for axis in row:
            axis.set_xticks([])
            axis.set_yticks([])
    for axis, name in zip(axes[0], ["image", "prediction", "truth", *explainers], strict=True):
        axis.set_title(name.replace("_", " "), fontsize=8)
    handles = [Patch(color=_colour(c), label=_name(class_names, c)) for c in sorted(shown)]
    figure.legend(handles=handles, loc="lower center", ncols=min(12, len(handles)), fontsize=7, frameon=False)
    figure.tight_layout(rect=(0, 0.35 / figure.get_figheight(), 1, 1), pad=0.4)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def draw_maps(panel: Panel, least: int = 128) -> dict[str, Picture]:
    """Draw each explainer's map like :func:`draw_panels`, but alone and without axes, which takes almost no time.

    Args:
        panel: a target.
        least: smallest length of the shorter side in pixels; a smaller image is enlarged by an integer factor.

    Returns:
        RGB picture ``(height, width, 3)`` uint8 by explainer.

    """
    image = display_image(panel.image)
    factor = max(1, -(-least // min(panel.region.shape)))
    region = np.pad(_enlarged(panel.region.numpy(), factor), 1, mode="edge")
    inside = region[1:-1, 1:-1]
    inner = inside & region[:-2, 1:-1] & region[2:, 1:-1] & region[1:-1, :-2] & region[1:-1, 2:]
    pictures = {}
    for name, attribution in panel.attributions.items():
        pictures[name] = _enlarged(_to_bytes(_overlay(image, attribution)), factor)
        pictures[name][inside & ~inner] = [int(_OUTLINE[i : i + 2], 16) for i in (1, 3, 5)]
    return pictures


def draw_image(panel: Panel) -> Picture:
    """Draw the image alone, RGB ``(H, W, 3)`` uint8 at its own size."""
    return _to_bytes(display_image(panel.image))


def side_by_side(pictures: Sequence[Picture]) -> Picture:
    """Join pictures from left to right, with black below those of less height."""
    height = max(len(picture) for picture in pictures)
    padded = [np.pad(picture, ((0, height - len(picture)), (0, 0), (0, 0))) for picture in pictures]
    return np.concatenate(padded, axis=1)


def draw_leakage(panel: Panel, explainers: Sequence[str]) -> npt.NDArray[np.uint8]:
    """Draw the credit outside the target's region: blue on pixels that the model uses, orange on others.

    Args:
        panel: a target with an effect map.
        explainers: names of the maps, one column each.

    Returns:
        RGB picture ``(height, width, 3)`` uint8.

    """
    height, width = panel.region.shape
    side = 2.2
    figure = Figure(figsize=(side * len(explainers) * min(1.6, width / height), side + 0.3), dpi=110)
    canvas = FigureCanvasAgg(figure)
    image = display_image(panel.image)
    for axis, name in zip(figure.subplots(1, len(explainers), squeeze=False)[0], explainers, strict=True):
        axis.imshow(_split(image, panel, panel.attributions[name]))
        _outline(axis, panel.region)
        axis.set_title(name.replace("_", " "), fontsize=8)
        axis.set_xticks([])
        axis.set_yticks([])
    figure.tight_layout(pad=0.4)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def display_image(image: Tensor) -> Array:
    """Scale an image ``(channels, H, W)`` in unknown units by its own range to RGB ``(H, W, 3)`` in [0, 1]."""
    image = image.detach().double().cpu()
    image = image[:3] if len(image) >= 3 else image[:1].expand(3, -1, -1)
    low, high = torch.quantile(image.flatten()[:1_000_000], torch.tensor([0.005, 0.995], dtype=image.dtype))
    shown: Array = ((image - low) / (high - low).clamp_min(1e-9)).clamp(0, 1).movedim(0, -1).numpy()
    return shown


def panel_of(batch: AuditedBatch, n: int) -> Panel:
    """Return target ``n`` of a batch, ready to be drawn.

    Of a volume, this is one slice across the shortest axis: the one with the most pixels of the target.
    """
    effects = batch.evidence.get("", {}).get("effect_map")
    b, region = int(batch.targets.image_index[n]), batch.targets.region[n]
    axis = min(range(-region.ndim, 0), key=lambda axis: region.shape[axis])
    place = int(region.movedim(axis, 0).flatten(1).sum(dim=1).argmax()) if region.ndim == 3 else None

    def flat(values: Tensor) -> Tensor:
        return (values if place is None else values.select(axis, place).clone()).cpu()

    return Panel(
        sample_id=batch.sample_ids[b],
        class_index=int(batch.targets.class_index[n]),
        image=flat(batch.images[b]),
        prediction=flat(batch.prediction[b]),
        mask=None if batch.masks is None else flat(batch.masks[b]),
        region=flat(region),
        attributions={name: flat(maps[n]) for name, maps in batch.attributions.items()},
        scores={
            name: {score: float(values[n]) for score, values in scores.items() if score not in batch.provisional}
            for name, scores in batch.scores.items()
        },
        effect=None if effects is None else flat(effects[n]),
        slice_index=place,
    )


def _overlay(image: Array, attribution: Tensor) -> Array:
    positive = attribution.double().nan_to_num().clamp_min(0)
    top = float(torch.quantile(positive.flatten(), 0.995)) or float(positive.max()) or 1.0
    heat = (positive / top).clamp(0, 1).numpy()
    grey = 0.7 * image.mean(axis=2, keepdims=True).repeat(3, axis=2) + 0.15
    weight = 0.9 * np.sqrt(heat)[..., None]
    blended: Array = (1 - weight) * grey + weight * matplotlib.colormaps["inferno"](heat)[..., :3]
    return blended


def _split(image: Array, panel: Panel, attribution: Tensor) -> Array:
    assert panel.effect is not None
    positive = attribution.double().nan_to_num().clamp_min(0)
    top = float(torch.quantile(positive.flatten(), 0.995)) or float(positive.max()) or 1.0
    weight = 0.95 * np.sqrt((positive / top).clamp(0, 1).numpy())[..., None]
    outside = ~panel.region.numpy()
    unused = (panel.effect <= EPSILON).numpy()
    colours = np.full((*unused.shape, 3), 0.75)
    known = ~torch.isnan(panel.effect).numpy()
    colours[outside & ~unused & known] = SUPPORTED
    colours[outside & unused] = UNSUPPORTED
    grey = 0.7 * image.mean(axis=2, keepdims=True).repeat(3, axis=2) + 0.15
    blended: Array = (1 - weight) * grey + weight * colours
    return blended


def _to_bytes(picture: Array) -> Picture:
    return (255 * picture + 0.5).astype(np.uint8)


def _enlarged(picture: npt.NDArray[Any], factor: int) -> npt.NDArray[Any]:
    return picture.repeat(factor, axis=0).repeat(factor, axis=1)


def _outline(axis: Axes, region: Tensor) -> None:
    if region.any() and not region.all():
        axis.contour(region.numpy().astype(float), levels=[0.5], colors=[_OUTLINE], linewidths=0.7)


def _colours(labels: Tensor) -> Array:
    colours: Array = _palette()[labels.clamp(0, 255).numpy()]
    return colours


@cache
def _palette() -> Array:
    return np.array([_colour(c) for c in range(256)])


def _colour(index: int) -> tuple[float, float, float]:
    if index == 0:
        return (0.16, 0.16, 0.2)
    if index == 255:
        return (0.0, 0.0, 0.0)
    red, green, blue, _ = matplotlib.colormaps["tab20"]((2 * index - 2) % 20 + (index > 10))
    return (red, green, blue)


def _name(names: Sequence[str], index: int) -> str:
    return names[index] if index < len(names) else str(index)
