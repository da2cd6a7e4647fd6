"""Plots of measured curves as SVG: panels side by side, each with a logarithmic x axis.

A y axis is logarithmic, too, if the ratio of its values exceeds ``LINEAR_RANGE``; otherwise it begins at 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 340, 260  # of a panel, in pixels
LEFT, RIGHT, TOP, BOTTOM = 62, 26, 34, 44  # pixels around the plot area
LINEAR_RANGE = 15.0  # greatest ratio of two values on a linear axis

Point = tuple[float, float]


@dataclass(frozen=True)
class Panel:
    """A plot of one curve of at least two points; the title has the unit of y."""

    title: str
    x_label: str
    points: Sequence[Point]

    @property
    def is_linear(self) -> bool:
        """Whether the y axis is linear."""
        values = [y for _, y in self.points]
        return min(values) <= 0 or max(values) / min(values) <= LINEAR_RANGE

    def y_ticks(self) -> list[float]:
        """Return the values that are marked on the y axis; the first and the last are its ends."""
        values = [y for _, y in self.points]
        if self.is_linear:
            step = _round_tick(max(*values, 1e-9) / 4)
            return [step * number for number in range(max(math.ceil(max(values) / step), 1) + 1)]
        return _powers_of_ten(min(values), max(values))


def render(panels: Sequence[Panel]) -> str:
    """Return an SVG document with the panels side by side."""
    width = WIDTH * len(panels)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{HEIGHT}" viewBox="0 0 {width} {HEIGHT}"'
        ' font-family="sans-serif" font-size="11">',
        f'<rect width="{width}" height="{HEIGHT}" fill="white"/>',
    ]
    for number, panel in enumerate(panels):
        parts += [f'<g transform="translate({WIDTH * number} 0)">', *_elements(panel), "</g>"]
    return "\n".join([*parts, "</svg>", ""])


def _elements(panel: Panel) -> list[str]:
    """Return the elements of a panel: grid, labels, curve and points."""
    x_ticks, y_ticks = _powers_of_ten(panel.points[0][0], panel.points[-1][0]), panel.y_ticks()
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM

    def x_pixel(value: float) -> float:
        return LEFT + _axis_position(value, x_ticks, linear=False) * (right - LEFT)

    def y_pixel(value: float) -> float:
        return bottom - _axis_position(value, y_ticks, linear=panel.is_linear) * (bottom - TOP)

    parts = [
        _text((LEFT + right) / 2, 18, panel.title, "middle"),
        _text((LEFT + right) / 2, HEIGHT - 10, panel.x_label),
    ]
    for tick in x_ticks:
        parts += [_line(x_pixel(tick), TOP, x_pixel(tick), bottom), _text(x_pixel(tick), bottom + 15, f"{tick:,g}")]
    for tick in y_ticks:
        parts += [
            _line(LEFT, y_pixel(tick), right, y_pixel(tick)),
            _text(LEFT - 5, y_pixel(tick) + 4, f"{tick:,g}", "end"),
        ]
    pixels = [(x_pixel(x), y_pixel(y)) for x, y in panel.points]
    curve = " ".join(f"{x:.1f},{y:.1f}" for x, y in pixels)
    parts.append(f'<polyline points="{curve}" fill="none" stroke="#0068b4" stroke-width="2"/>')
    return parts + [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="#0068b4"/>' for x, y in pixels]


def _axis_position(value: float, ticks: Sequence[float], *, linear: bool) -> float:
    """Return the position of a value on an axis, from 0 at the first tick to 1 at the last."""
    if linear:
        return (value - ticks[0]) / (ticks[-1] - ticks[0])
    return math.log(value / ticks[0]) / math.log(ticks[-1] / ticks[0])


def _powers_of_ten(least: float, greatest: float) -> list[float]:
    """Return the powers of ten from at most ``least`` to at least ``greatest``."""
    first, last = math.floor(math.log10(least)), math.ceil(math.log10(greatest))
    return [10.0**power for power in range(first, max(last, first + 1) + 1)]


def _round_tick(value: float) -> float:
    """Return the least of 1, 2 and 5 times a power of ten that is not less than ``value``."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= value)


def _line(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="#ddd"/>'


def _text(x: float, y: float, text: str, anchor: str = "middle") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
