"""Draws procedural scenes and volumes: textured background, objects whose class is their shape, and coloured tags."""

import math
from dataclasses import dataclass, field, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

SHAPES = ("disc", "square", "triangle")
TAG_COLOURS = np.array([[0.95, 0.10, 0.10], [0.10, 0.85, 0.10], [0.10, 0.20, 1.00]], dtype=np.float32)

# The sizes, contrasts and colours below were chosen by training. A small U-Net that can cheat reads the tags within a few
# epochs; one that cannot learns the shapes from the same number of scenes. Smaller tags or weaker objects break this.

# Every shape has the triangle's bounding radius, so that neither an object's place nor its distance from the tag gives its
# shape away.
TRIANGLE_RADIUS = math.sqrt(4 / (3 * math.sqrt(3)))

Point = tuple[float, float]


@dataclass(frozen=True)
class PlacedObject:
    """Holds one object of a scene, in pixels; class 1 is `SHAPES[0]`.

    Attributes:
        label: Class of the shape, from 1.
        colour: Class of the tag's colour, from 1.
        centre: (x, y) of the shape.
        side: Square root of the shape's area.
        angle: Rotation in radians.
        tag: (left, top) pixel of the tag.
        slices: First slice of the shape in a volume, and the one behind its last; None in a scene.
        tag_slices: The same for the tag.
    """

    label: int
    colour: int
    centre: Point
    side: float
    angle: float
    tag: tuple[int, int]
    slices: tuple[int, int] | None = None
    tag_slices: tuple[int, int] | None = None


@dataclass
class Scene:
    """Holds a drawn scene, or a volume, in which all sizes (H, W) below are (D, H, W).

    Attributes:
        image: (H, W, 3) uint8.
        mask: (H, W) uint8, classes of the shapes; 0 = background (tags included).
        cue: (H, W) uint8, class of the tag's colour at the pixels of a tag; 0 elsewhere.
        objects: The objects.
    """

    image: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    cue: NDArray[np.uint8]
    objects: list[PlacedObject] = field(default_factory=list)


def draw_scene(
    rng: np.random.Generator,
    size: int,
    agreement: float,
    max_objects: int = 1,
    shift: int = 0,
    depth: int | None = None,
) -> Scene:
    """Draw one scene.

    Args:
        rng: Generator of all randomness; equal states give equal scenes.
        size: Height and width in pixels.
        agreement: Probability that a tag's colour names the class of its object.
        max_objects: Largest number of objects; the number is uniform in 1..max_objects (fewer where they don't fit).
        shift: Number of classes by which the tags' colours are rotated; nothing else of the scene changes.
        depth: Slices of a volume. Shapes and tags extend over as many slices as they are wide, or over all if there are
            fewer.
    """
    placed = _place_objects(rng, size, agreement, max_objects)
    objects = [replace(item, colour=(item.colour - 1 + shift) % len(SHAPES) + 1) for item in placed]
    shape: tuple[int, ...] = (size, size)
    if depth is not None:
        shape = (depth, size, size)
        objects = [_extrude(rng, item, size, depth) for item in objects]
    mask = np.zeros(shape, dtype=np.uint8)
    cue = np.zeros(shape, dtype=np.uint8)
    canvas = _texture(rng, shape)
    for item in objects:
        inside = (_through(item.slices), _inside(item, size))
        # Only the brightness changes, with one distribution for all classes: the texture shows an object, never its class.
        offset = rng.choice([-1.0, 1.0]) * rng.uniform(0.22, 0.34)
        canvas[inside] += offset
        mask[inside] = item.label
    image = np.repeat(canvas[..., None], 3, axis=-1)
    for item in objects:
        left, top = item.tag
        width = tag_width(size)
        window = (_through(item.tag_slices), slice(top, top + width), slice(left, left + width))
        colours = image[(*window, slice(None))]
        colours[...] = TAG_COLOURS[item.colour - 1] + rng.normal(0, 0.05, colours.shape)
        cue[window] = item.colour
    image += rng.normal(0, 0.03, image.shape)
    pixels = (image.clip(0, 1) * 255).round().astype(np.uint8)
    return Scene(pixels, mask, cue, objects)


def tag_width(size: int) -> int:
    """Return the width of a tag in a scene of this size."""
    return max(2, round(0.16 * size))


def _texture(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Draw a grey texture: coarse and fine blurred noise around a random mean."""
    canvas = np.full(shape, rng.uniform(0.4, 0.6), dtype=np.float32)
    for sigma, amplitude in ((shape[-1] / 10, 0.045), (shape[-1] / 50, 0.045)):
        noise: Any = rng.normal(size=shape).astype(np.float32)
        noise = cv2.GaussianBlur(noise, (0, 0), sigma) if len(shape) == 2 else gaussian_filter(noise, sigma)
        canvas += amplitude * noise / noise.std()
    return canvas


def _extrude(rng: np.random.Generator, item: PlacedObject, size: int, depth: int) -> PlacedObject:
    """Give an object and its tag random slices, the tag's within the object's where they fit."""
    length, width = min(depth, max(1, round(item.side))), min(depth, tag_width(size))
    first = int(rng.integers(0, depth - length + 1))
    tag_first = min(first + int(rng.integers(0, max(0, length - width) + 1)), depth - width)
    return replace(item, slices=(first, first + length), tag_slices=(tag_first, tag_first + width))


def _through(slices: tuple[int, int] | None) -> Any:
    """Return an index that picks these slices of a volume, or all of a scene."""
    return ... if slices is None else slice(*slices)


def _place_objects(rng: np.random.Generator, size: int, agreement: float, max_objects: int) -> list[PlacedObject]:
    """Draw places at which no object or tag touches another; the first fitting try is taken."""
    wanted = int(rng.integers(1, max_objects + 1))
    placed: list[PlacedObject] = []
    discs: list[tuple[Point, float]] = []  # occupied: centre and radius
    width = tag_width(size)
    tag_radius = width / math.sqrt(2)
    labels = np.arange(1, len(SHAPES) + 1)
    for _ in range(200 * wanted):
        side = rng.uniform(0.20, 0.26) * size
        radius = side * TRIANGLE_RADIUS
        x, y = rng.uniform(radius, size - radius, 2)
        direction = rng.uniform(0, 2 * math.pi)
        distance = radius + tag_radius + 2  # 2: a gap of at least a pixel after rounding
        left = round(x + distance * math.cos(direction) - width / 2)
        top = round(y + distance * math.sin(direction) - width / 2)
        if not (0 <= left <= size - width and 0 <= top <= size - width):
            continue
        new = [((x, y), radius), ((left + width / 2, top + width / 2), tag_radius)]
        if any(math.dist(a, b) < r + s + 2 for a, r in new for b, s in discs):
            continue
        label = int(rng.choice(labels))
        colour = label if rng.random() < agreement else int(rng.choice(labels[labels != label]))
        placed.append(PlacedObject(label, colour, (x, y), side, rng.uniform(0, 2 * math.pi), (left, top)))
        discs += new
        if len(placed) == wanted:
            break
    return placed


def _inside(item: PlacedObject, size: int) -> NDArray[np.bool_]:
    """Return the pixels of the object's shape; every shape has the area side²."""
    rows, columns = np.mgrid[:size, :size] + 0.5
    u = columns - item.centre[0]
    v = rows - item.centre[1]
    x = u * math.cos(item.angle) + v * math.sin(item.angle)
    y = v * math.cos(item.angle) - u * math.sin(item.angle)
    shape = SHAPES[item.label - 1]
    if shape == "disc":
        return np.asarray(x**2 + y**2 <= item.side**2 / math.pi)
    if shape == "square":
        return np.asarray(np.maximum(abs(x), abs(y)) <= item.side / 2)
    inradius = item.side * TRIANGLE_RADIUS / 2
    edges = [x * math.cos(t) + y * math.sin(t) for t in (0, 2 * math.pi / 3, 4 * math.pi / 3)]
    return np.asarray(np.max(edges, axis=0) <= inradius)
