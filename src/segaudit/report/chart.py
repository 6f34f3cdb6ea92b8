"""Draws line charts as SVG, with the colours of the page, light or dark."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import floor, isfinite, log10

_WIDTH, _HEIGHT = 420, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 12, 12, 36


@dataclass(frozen=True)
class Line:
    """Holds one line of a chart.

    Attributes:
        label: text in the legend.
        x: positions.
        y: values; a value that is not finite leaves a gap.
        dashed: whether the line is dashed, as for controls.
        colour: number of the page's colour; an explainer has the same one in every chart.

    """

    label: str
    x: Sequence[float]
    y: Sequence[float]
    dashed: bool = False
    colour: int = 0


def line_chart(title: str, lines: Sequence[Line], x_label: str, y_label: str) -> str:
    """Draw lines over a common pair of axes. All text is escaped.

    Example:
        >>> svg = line_chart("IoU", [Line("<val>", [0, 1], [0.2, 0.6])], "epoch", "IoU")
        >>> "&lt;val&gt;" in svg, "<val>" in svg
        (True, False)

    """
    points = [(x, y) for line in lines for x, y in zip(line.x, line.y, strict=True) if isfinite(x) and isfinite(y)]
    if not points:
        return ""
    (x0, x1), (y0, y1) = (_range([point[k] for point in points]) for k in (0, 1))
    wide, high = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def place(x: float, y: float) -> str:
        return f"{_LEFT + wide * (x - x0) / (x1 - x0):.1f},{_TOP + high * (1 - (y - y0) / (y1 - y0)):.1f}"

    parts = [f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title)}">']
    for tick in _ticks(y0, y1):
        (left, y), (right, _) = (place(x, tick).split(",") for x in (x0, x1))
        parts.append(f'<line class="grid" x1="{left}" y1="{y}" x2="{right}" y2="{y}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{float(y) + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for tick in _ticks(x0, x1):
        x, y = place(tick, y0).split(",")
        parts.append(f'<text x="{x}" y="{float(y) + 15:.1f}" text-anchor="middle">{tick:g}</text>')
    parts.append(f'<text x="{_LEFT + wide / 2}" y="{_HEIGHT - 5}" text-anchor="middle">{escape(x_label)}</text>')
    parts.append(
        f'<text x="12" y="{_TOP + high / 2}" text-anchor="middle" transform="rotate(-90 12 {_TOP + high / 2})">'
        f"{escape(y_label)}</text>"
    )
    for line in lines:
        style = f'class="c{line.colour % 10}{" dashed" if line.dashed else ""}"'
        for piece in _pieces(line):
            name = f"<title>{escape(line.label)}</title>"
            if len(piece) == 1:
                x, y = place(*piece[0]).split(",")
                parts.append(f'<circle {style} cx="{x}" cy="{y}" r="3">{name}</circle>')
            else:
                parts.append(f'<polyline {style} points="{" ".join(place(*p) for p in piece)}">{name}</polyline>')
    return "".join([*parts, "</svg>"])


def _pieces(line: Line) -> list[list[tuple[float, float]]]:
    pieces: list[list[tuple[float, float]]] = [[]]
    for x, y in zip(line.x, line.y, strict=True):
        if isfinite(x) and isfinite(y):
            pieces[-1].append((x, y))
        elif pieces[-1]:
            pieces.append([])
    return [piece for piece in pieces if piece]


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    if low == high:
        return low - 0.5, high + 0.5
    space = 0.04 * (high - low)
    return low - space, high + space


def _ticks(low: float, high: float) -> list[float]:
    rough = (high - low) / 4
    power = 10.0 ** floor(log10(rough))
    step = next(power * k for k in (1, 2, 2.5, 5, 10) if power * k >= rough)
    first = floor(low / step) + 1
    return [round(k * step, 10) for k in range(first, first + 12) if k * step <= high]
