"""Line charts and interval bars as inline SVG; pure functions from numbers to markup."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

_WIDTH, _HEIGHT = 440, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 54, 12, 12, 34


@dataclass(frozen=True)
class Line:
    """A named curve; its number picks its colour."""

    name: str
    points: Sequence[tuple[float, float]]
    number: int


def line_chart(lines: Sequence[Line], x_label: str) -> str:
    """Curves over a common x; points that are not finite are left out, '' where none is left."""
    kept = [
        Line(line.name, [p for p in line.points if math.isfinite(p[1])], line.number)
        for line in lines
    ]
    kept = [line for line in kept if line.points]
    if not kept:
        return ""
    xs = [x for line in kept for x, _ in line.points]
    ys = [y for line in kept for _, y in line.points]
    x_ticks, y_ticks = ticks(min(xs), max(xs)), ticks(min(ys), max(ys))
    x_of = _scale(min(xs), max(xs), _LEFT, _WIDTH - _RIGHT)
    y_of = _scale(y_ticks[0], y_ticks[-1], _HEIGHT - _BOTTOM, _TOP)
    parts = []
    for value in y_ticks:
        y = y_of(value)
        parts.append(
            f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        )
        parts.append(
            f'<text class="tick" x="{_LEFT - 7}" y="{y + 4:.1f}" text-anchor="end">{label(value)}</text>'
        )
    for value in x_ticks:
        if min(xs) <= value <= max(xs):
            parts.append(
                f'<text class="tick" x="{x_of(value):.1f}" y="{_HEIGHT - _BOTTOM + 16}" '
                f'text-anchor="middle">{label(value)}</text>'
            )
    parts.append(
        f'<text class="tick" x="{(_LEFT + _WIDTH - _RIGHT) / 2}" y="{_HEIGHT - 3}" '
        f'text-anchor="middle">{escape(x_label)}</text>'
    )
    for line in kept:
        path = " ".join(f"{x_of(x):.1f},{y_of(y):.1f}" for x, y in _thin(line.points))
        x, y = line.points[-1]
        parts.append(f'<polyline class="line c{line.number % 6}" points="{path}"/>')
        parts.append(
            f'<circle class="dot c{line.number % 6}" cx="{x_of(x):.1f}" cy="{y_of(y):.1f}" r="3"/>'
        )
    names = escape(", ".join(line.name for line in kept))
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{names}">{"".join(parts)}</svg>'


def interval_bar(value: float, low: float, high: float, most: float, number: int) -> str:
    """A bar from 0 to `value`, with a whisker from `low` to `high`; `most` is the full width."""
    scale = 220 / max(most, 1e-9)
    middle = 11
    return (
        f'<svg class="bar" viewBox="0 0 240 22" role="img" aria-label="{value:.3f}">'
        f'<rect class="fill c{number % 6}" x="0" y="4" width="{max(value, 0) * scale:.1f}" height="14" rx="3"/>'
        f'<line class="whisker" x1="{low * scale:.1f}" x2="{high * scale:.1f}" y1="{middle}" y2="{middle}"/>'
        f'<line class="whisker" x1="{low * scale:.1f}" x2="{low * scale:.1f}" y1="6" y2="16"/>'
        f'<line class="whisker" x1="{high * scale:.1f}" x2="{high * scale:.1f}" y1="6" y2="16"/></svg>'
    )


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers that enclose [low, high], about `about` of them, ascending, at least two."""
    if high - low < 1e-12:
        pad = abs(high) * 0.1 or 1.0
        low, high = low - pad, high + pad
    raw = (high - low) / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [i * step for i in range(first, last + 1)]


def label(value: float) -> str:
    """A short number: 12k, 0.25, 3e-05."""
    if value and abs(value) < 1e-3:
        return f"{value:.0e}"
    if abs(value) >= 10_000:
        return f"{value / 1000:.4g}k"
    return f"{value:.4g}"


def _scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    span = (high - low) or 1.0
    return lambda value: start + (value - low) / span * (end - start)


def _thin(points: Sequence[tuple[float, float]], most: int = 400) -> Sequence[tuple[float, float]]:
    """Means of neighbours where there are more points than pixels are worth."""
    if len(points) <= most:
        return points
    size = math.ceil(len(points) / most)
    groups = [points[i : i + size] for i in range(0, len(points), size)]
    return [(sum(x for x, _ in g) / len(g), sum(y for _, y in g) / len(g)) for g in groups]
