"""Curves as inline SVG and rates as bars: pure functions from numbers to markup.

Colours are classes ``c0`` to ``c5``; what they look like, in light and dark, is the style's matter.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

NUM_COLOURS = 6
Point = tuple[float, float]

_WIDTH, _HEIGHT = 360, 204
"""Units of the drawing; a card is about as wide in pixels, so that text has its natural size."""
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 14, 8, 36
_MOST_POINTS = 300
_MOST_DOTS = 40
_LOG_FROM = 30.0
"""Ratio of largest to smallest value from which a chart that may be logarithmic is."""


@dataclass(frozen=True)
class Line:
    """A curve over steps; finite numbers, x ascending."""

    name: str
    points: Sequence[Point]
    number: int
    """Picks the colour, and from the seventh on a dash pattern."""
    measured: bool = False
    """Measured now and then (validation): drawn with dots. Else means of what went on between."""
    best: Point | None = None
    """A point to put a ring around."""
    level: bool = False
    """Something to compare with: dotted, without dots."""


@dataclass(frozen=True)
class Axis:
    """How values are drawn."""

    percent: bool = False
    """Fractions, labelled in percent."""
    from_zero: bool = False
    may_be_log: bool = False
    """Logarithmic where positive values span more than a factor of 30."""


def line_chart(lines: Sequence[Line], axis: Axis, *, x_label: str, title: str) -> str:
    """Curves over a common x from 0; '' where no line has a point."""
    lines = [line for line in lines if line.points]
    if not lines:
        return ""
    ys = [y for line in lines for _, y in line.points]
    x_most = max(line.points[-1][0] for line in lines) or 1.0
    is_log = axis.may_be_log and min(ys) > 0 and max(ys) / min(ys) > _LOG_FROM
    low = min(0.0, *ys) if axis.from_zero else min(ys)
    y_ticks = log_ticks(min(ys), max(ys)) if is_log else ticks(low, max(ys))
    x_of = _scale(0.0, x_most, _LEFT, _WIDTH - _RIGHT)
    y_of = _scale(y_ticks[0], y_ticks[-1], _HEIGHT - _BOTTOM, _TOP, is_log=is_log)
    dense = any(len(line.points) > _MOST_DOTS for line in lines if line.measured)
    above = any(line.measured for line in lines)
    parts = [
        _y_axis(y_ticks, y_of, axis.percent, is_log),
        _x_axis([t for t in ticks(0.0, x_most, 4) if t <= x_most * 1.001], x_of, x_label, is_log),
        *(_curve(line, x_of, y_of, faint=above and not line.measured) for line in lines),
        _hover(lines, x_of, axis.percent),
        *(
            _dots(line, x_of, y_of, axis.percent, last_only=dense)
            for line in lines
            if not line.level
        ),
    ]
    names = escape(f"{title}: {', '.join(dict.fromkeys(line.name for line in lines))}")
    return (
        f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="{names}">{"".join(parts)}</svg>'
    )


def rate_bar(value: float, low: float, high: float, most: float, colour: str) -> str:
    """A bar from 0 to `value` with a whisker from `low` to `high`; `most` is the full width."""

    def share(x: float) -> float:
        return 100 * min(max(x / most, 0.0), 1.0) if most > 0 else 0.0

    whisker = f"left:{share(low):.2f}%;width:{share(high) - share(low):.2f}%"
    return (
        f'<div class="bar {colour}" aria-hidden="true"><i style="width:{share(value):.2f}%"></i>'
        f'<u style="{whisker}"></u></div>'
    )


def colour_class(number: int) -> str:
    """``c0`` to ``c5``, and ``dashed`` beyond them."""
    return f"c{number % NUM_COLOURS}" + (" dashed" if number >= NUM_COLOURS else "")


def number_text(value: float, *, percent: bool = False, padded: bool = False) -> str:
    """A value for a person: 58.0 %, 3.191, 12.5k, 2.1e-5; `padded` to four digits, for columns."""
    if not math.isfinite(value):
        return str(value)
    if percent:
        return f"{100 * value:.1f} %"
    if value and abs(value) < 1e-3:
        return _scientific(value)
    if abs(value) >= 1e15:
        return f"{value:.3g}"
    if abs(value) >= 10_000:
        return f"{value / 1000:,.4g}k" if abs(value) < 1e7 else f"{value / 1e6:,.4g}M"
    return f"{value:#.4g}" if padded and value != round(value) else f"{value:.4g}"


def ticks(low: float, high: float, about: int = 4) -> list[float]:
    """Round numbers that enclose [low, high], about `about` steps, ascending, at least two."""
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        pad = abs(high) * 0.1 or 1.0
        low, high = (low - pad if low else 0.0), high + pad
    raw = (high - low) / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * 0.999)
    first, last = math.floor(low / step + 1e-6), math.ceil(high / step - 1e-6)
    return [round(i * step, 12 - math.floor(math.log10(step))) for i in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten, with their 2 and 5 fold where few, that enclose [low, high], both positive."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    factors = (1, 2, 5) if last - first <= 2 else (1,)
    marks = [m * 10.0**e for e in range(first, last + 1) for m in factors]
    start = max(i for i, mark in enumerate(marks) if mark <= low * 1.001)
    end = min(i for i, mark in enumerate(marks) if mark >= high * 0.999)
    return marks[start : end + 1]


def tick_text(values: Sequence[float], *, percent: bool = False) -> list[str]:
    """Labels of evenly spaced ticks, all with as many decimals as their spacing needs."""
    if percent:
        return [f"{text}%" for text in tick_text([100 * v for v in values])]
    step = min((b - a for a, b in pairwise(values)), default=1.0)
    most = max(abs(v) for v in values)
    if most < 2e-3:
        return [_scientific(v) if v else "0" for v in values]
    if most >= 10_000:
        return [number_text(v) if v else "0" for v in values]
    decimals = next(d for d in range(12) if abs(round(step, d) - step) < 1e-6 * step)
    return [f"{v:.{decimals}f}" for v in values]


def _scientific(value: float) -> str:
    mantissa, exponent = f"{value:.2e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"


def _scale(
    low: float, high: float, start: float, end: float, *, is_log: bool = False
) -> Callable[[float], float]:
    if is_log:
        inner = _scale(math.log10(low), math.log10(high), start, end)
        return lambda value: inner(math.log10(value))
    span = (high - low) or 1.0
    return lambda value: start + (value - low) / span * (end - start)


def _y_axis(
    values: Sequence[float], y_of: Callable[[float], float], percent: bool, is_log: bool
) -> str:
    texts = [number_text(v) for v in values] if is_log else tick_text(values, percent=percent)
    return "".join(
        f'<path class="rule" d="M{_LEFT} {y_of(v):.1f}H{_WIDTH - _RIGHT}"/>'
        f'<text x="{_LEFT - 6}" y="{y_of(v) + 3.8:.1f}" text-anchor="end">{text}</text>'
        for v, text in zip(values, texts, strict=True)
    )


def _x_axis(
    values: Sequence[float], x_of: Callable[[float], float], label: str, is_log: bool
) -> str:
    y = _HEIGHT - _BOTTOM
    marks = "".join(
        f'<text x="{x_of(v):.1f}" y="{y + 16}" text-anchor="middle">{text}</text>'
        for v, text in zip(values, tick_text(values), strict=True)
    )
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    note = " · logarithmic scale" if is_log else ""
    return (
        f'{marks}<text x="{middle}" y="{_HEIGHT - 4}" text-anchor="middle">'
        f"{escape(label)}{note}</text>"
    )


def _curve(
    line: Line, x_of: Callable[[float], float], y_of: Callable[[float], float], *, faint: bool
) -> str:
    places = " ".join(f"{x_of(x):.1f},{y_of(y):.1f}" for x, y in thin(line.points))
    look = " level" if line.level else " faint" if faint else ""
    kind = f"line {colour_class(line.number)}{look}"
    return f'<polyline class="{kind}" points="{places}"/>'


def _hover(lines: Sequence[Line], x_of: Callable[[float], float], percent: bool) -> str:
    """Invisible columns that tell, as tooltips, what all curves are there."""
    marks = sorted({x for line in lines for x, _ in thin(line.points, _MOST_DOTS)})
    marks = [x for x, _ in thin([(x, 0.0) for x in marks], _MOST_DOTS)]
    edges = [_LEFT, *((x_of(a) + x_of(b)) / 2 for a, b in pairwise(marks)), _WIDTH - _RIGHT]
    columns = []
    for mark, (start, end) in zip(marks, pairwise(edges), strict=True):
        told = [f"update {mark:,.0f}"]
        for line in lines:
            step, value = min(line.points, key=lambda point: abs(point[0] - mark))
            if abs(x_of(step) - x_of(mark)) <= max(end - start, 4):
                what = "chance" if line.level else "validation" if line.measured else "training"
                told.append(f"{line.name}, {what}: {number_text(value, percent=percent)}")
        columns.append(
            f'<rect class="hover" x="{start:.1f}" y="{_TOP}" width="{max(end - start, 0):.1f}" '
            f'height="{_HEIGHT - _BOTTOM - _TOP}"><title>{escape("; ".join(told))}</title></rect>'
        )
    return "".join(columns)


def _dots(
    line: Line,
    x_of: Callable[[float], float],
    y_of: Callable[[float], float],
    percent: bool,
    *,
    last_only: bool,
) -> str:
    """Dots of what was measured, each with its value as a tooltip, and the ring of the best."""
    colour = f"c{line.number % NUM_COLOURS}"
    shown = line.points if line.measured and not last_only else line.points[-1:]
    if not line.measured and len(line.points) > 1:
        shown = ()
    dots = "".join(
        f'<circle class="dot {colour}" cx="{x_of(x):.1f}" cy="{y_of(y):.1f}" r="2.6"><title>'
        f"{escape(line.name)}, {x:.0f}: {number_text(y, percent=percent)}</title></circle>"
        for x, y in shown
    )
    if line.best is not None:
        x, y = line.best
        dots += f'<circle class="ring {colour}" cx="{x_of(x):.1f}" cy="{y_of(y):.1f}" r="5.5"/>'
    return dots


def thin(points: Sequence[Point], most: int = _MOST_POINTS) -> list[Point]:
    """Means of neighbours where there are more points than pixels; the last point stays itself."""
    if len(points) <= most:
        return list(points)
    size = math.ceil(len(points) / (most - 1))
    groups = [points[i : i + size] for i in range(0, len(points), size)]
    means = [(sum(x for x, _ in g) / len(g), sum(y for _, y in g) / len(g)) for g in groups]
    return [*means, points[-1]]
