"""One drawing for all pictures: curves with bands over an axis that the caller has laid out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from html import escape

from speechssl.report.charts import number_text, tick_text, ticks

_WIDTH, _HEIGHT = 520, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 50, 14, 10, 46
Scale = Callable[[float], float]
_LEAST_SPAN = 0.4
"""The y axis begins at 0 unless all values are above this share of the largest."""

STYLE = """
.pictures { display: grid; gap: 1rem; margin-top: 1rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 460px), 1fr)); }
.pictures > .card { margin: 0; } .pictures .chart { max-width: none; }
.chart .band { fill: var(--c); opacity: .13; } .chart .whisker { stroke: var(--c); opacity: .45; }
.chart .seed { fill: var(--c); opacity: .5; } .chart .line.plain { stroke-dasharray: 6 4; }
.chart .line.plain.other { stroke-dasharray: 2 4; }
.verdict { font-size: 1.08rem; margin: 1rem 0; max-width: 78ch; } .verdict p { margin: .3rem 0; }
.rules li { margin: .25rem 0; max-width: 90ch; } .results .card { overflow-x: auto; }
.results .rated { width: 16%; min-width: 10rem; }
.results td { font-size: .88rem; overflow-wrap: normal; }
.rate > * { white-space: nowrap; }
.results tbody th, .results tbody td { padding: .45rem 1.1rem .45rem 0; }
.key.plain { background: repeating-linear-gradient(90deg, var(--c) 0 4px, transparent 0 6px); }
.key.other { background: repeating-linear-gradient(90deg, var(--c) 0 2px, transparent 0 4px); }
@media (max-width: 640px) { .results .rated { width: auto; } }
"""
"""What the pictures need beside the report's style."""


@dataclass(frozen=True)
class Series:
    """What one entry has in a picture. x is a share of the axis' width, y a fraction."""

    name: str
    css: str
    """The class of its colour."""
    points: tuple[tuple[float, float], ...]
    spans: tuple[tuple[float, float], ...] = ()
    """The interval of each point: a band where points are joined, else a whisker."""
    texts: tuple[str, ...] = ()
    """What each point is, for tooltips."""
    seeds: tuple[tuple[float, float], ...] = ()
    """Points of single seeds: small dots."""
    joined: bool = True
    dotted: bool = True
    """Whether points have dots."""
    level: bool = False
    """Something to compare with: a dotted line."""


def draw(
    series: Sequence[Series],
    x_ticks: Sequence[tuple[float, str]],
    *,
    x_label: str,
    title: str,
    most: float | None = None,
) -> str:
    """The drawing as SVG; '' where nothing has a point. `most`: values above are cut off."""
    values = [y for s in series for _, y in s.points]
    values += [y for s in series for span in s.spans for y in span]
    if not values:
        return ""
    highest = max(values) if most is None else min(max(values), most)
    lowest = min(values)
    marks = ticks(lowest if lowest > _LEAST_SPAN * highest else 0.0, highest)
    texts = tick_text(marks, percent=True)

    def x_of(x: float) -> float:
        return _LEFT + x * (_WIDTH - _LEFT - _RIGHT)

    def y_of(y: float) -> float:
        share = (min(y, marks[-1]) - marks[0]) / (marks[-1] - marks[0])
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - _BOTTOM - _TOP)

    rules = "".join(
        f'<path class="rule" d="M{_LEFT} {y_of(v):.1f}H{_WIDTH - _RIGHT}"/>'
        f'<text x="{_LEFT - 6}" y="{y_of(v) + 4:.1f}" text-anchor="end">{text}</text>'
        for v, text in zip(marks, texts, strict=True)
    )
    below = "".join(
        f'<text x="{x_of(x):.1f}" y="{_HEIGHT - _BOTTOM + 17}" text-anchor="middle">'
        f"{escape(text)}</text>"
        for x, text in x_ticks
    )
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    label = f'<text x="{middle}" y="{_HEIGHT - 8}" text-anchor="middle">{escape(x_label)}</text>'
    placed = [_placed(s, x_of, y_of) for s in series]
    bands = "".join(_band(s) for s in placed)
    lines = "".join(_line(s) for s in placed)
    dots = "".join(_dots(s, own) for s, own in zip(placed, series, strict=True))
    return (
        f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="{escape(title)}">{rules}{below}{label}{bands}{lines}{dots}</svg>'
    )


def _placed(series: Series, x_of: Scale, y_of: Scale) -> Series:
    """The same in units of the drawing."""
    return replace(
        series,
        points=tuple((x_of(x), y_of(y)) for x, y in series.points),
        spans=tuple((y_of(low), y_of(high)) for low, high in series.spans),
        seeds=tuple((x_of(x), y_of(y)) for x, y in series.seeds),
    )


def _band(series: Series) -> str:
    if not series.spans:
        return ""
    rows = list(zip(series.points, series.spans, strict=True))
    if not series.joined or len(rows) == 1:
        return "".join(
            f'<path class="whisker {series.css}" d="M{x:.1f} {low:.1f}V{high:.1f}"/>'
            for (x, _), (low, high) in rows
        )
    there = [f"{x:.1f},{low:.1f}" for (x, _), (low, _) in rows]
    back = [f"{x:.1f},{high:.1f}" for (x, _), (_, high) in reversed(rows)]
    return f'<polygon class="band {series.css}" points="{" ".join(there + back)}"/>'


def _line(series: Series) -> str:
    if not series.joined or len(series.points) < 2:
        return ""
    places = " ".join(f"{x:.1f},{y:.1f}" for x, y in series.points)
    look = " level" if series.level else ""
    return f'<polyline class="line {series.css}{look}" points="{places}"/>'


def _dots(placed: Series, series: Series) -> str:
    dots = "".join(
        f'<circle class="seed {placed.css}" cx="{x:.1f}" cy="{y:.1f}" r="1.8"/>'
        for x, y in placed.seeds
    )
    if not series.dotted:
        return dots
    texts = series.texts or ("",) * len(series.points)
    for (x, y), (_, value), text in zip(placed.points, series.points, texts, strict=True):
        said = f"{series.name}, {text}: {number_text(value, percent=True)}"
        dots += (
            f'<circle class="dot {placed.css}" cx="{x:.1f}" cy="{y:.1f}" r="3.4">'
            f"<title>{escape(said)}</title></circle>"
        )
    return dots


def legend(heads: Sequence[str], rows: Sequence[tuple[str, str, Sequence[str]]]) -> str:
    """A line for each series: its colour, its name, what is to be read of it."""
    head = "".join(f"<th>{escape(h)}</th>" for h in heads)
    lines = "".join(
        f'<tr><th scope="row" title="{escape(name)}"><i class="key {css}"></i>{escape(name)}</th>'
        + "".join(f"<td>{escape(cell)}</td>" for cell in cells)
        + "</tr>"
        for name, css, cells in rows
    )
    return f'<table class="legend"><tr><th></th>{head}</tr>{lines}</table>'
