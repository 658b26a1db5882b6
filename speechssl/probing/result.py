"""What the probes found: a line of a table, JSON, and a page with a plot."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path
from typing import Any

from speechssl.files import writing
from speechssl.report.charts import Axis, Line, colour_class, line_chart, number_text
from speechssl.report.results import Rate, Table, table_section
from speechssl.report.style import STYLE, THEME_SWITCH

__all__ = ["Rate", "Result", "Row"]


@dataclass(frozen=True)
class Row:
    """One layer of one representation."""

    model: str
    layer: int
    rate: Rate


@dataclass(frozen=True)
class Result:
    """All rows of a task, and what they were measured on."""

    task: str
    metric: str
    higher_is_better: bool
    about: str
    """What was learned from and judged on, in a sentence."""
    settings: dict[str, Any]
    rows: tuple[Row, ...]
    elapsed_s: float

    def best(self, model: str) -> Row:
        """The best layer of a model; of equals the lower one."""
        sign = -1 if self.higher_is_better else 1
        own = (row for row in self.rows if row.model == model)
        return min(own, key=lambda row: (sign * row.rate.value, row.layer))

    @property
    def models(self) -> list[str]:
        return list(dict.fromkeys(row.model for row in self.rows))


def row_text(row: Row, width: int) -> str:
    """A line of the table, the model in `width` columns."""
    rate = row.rate
    return (
        f"{row.model:<{width}}  {row.layer:>5}  {100 * rate.value:>5.1f} %  "
        f"[{100 * rate.low:.1f}, {100 * rate.high:.1f}]"
    )


def head_text(metric: str, width: int) -> str:
    """The line above the rows."""
    return f"{'model':<{width}}  layer  {metric} [95 %]"


def write_result(result: Result, out: Path) -> None:
    """``probe.json`` and ``probe.html`` in the folder `out`."""
    data = {
        "task": result.task,
        "metric": result.metric,
        "higher_is_better": result.higher_is_better,
        "about": result.about,
        **result.settings,
        "elapsed_s": result.elapsed_s,
        "rows": [{"model": r.model, "layer": r.layer, **asdict(r.rate)} for r in result.rows],
    }
    text = json.dumps(data, ensure_ascii=False, indent=2) + "\n"
    for name, content in ("probe.json", text), ("probe.html", page(result)):
        with writing(out / name) as file:
            file.write(content)


def page(result: Result) -> str:
    """One static page: the plot over layers, and a table of all of them."""
    colours = {model: colour_class(number) for number, model in enumerate(result.models)}
    title = f"Probe: {result.task}"
    metric = result.metric[:1].upper() + result.metric[1:]
    chart = line_chart(
        list(_lines(result)), Axis(percent=True), x_label="layer", title=f"{metric} by layer"
    )
    rows = tuple((row.model, str(row.layer), row.rate) for row in result.rows)
    note = f"{result.about}. Lines over the bars are 95 % intervals."
    table = Table("All layers", ("model", "layer", result.metric), rows, note)
    better = "Higher" if result.higher_is_better else "Lower"
    hint = f"A linear probe on each frozen layer. {better} is better; a ring around the best."
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n"
        f"<body><header><h1>{escape(title)}</h1>{THEME_SWITCH}</header>\n<main>"
        f'<section><h2>Plot</h2><div class="charts"><figure class="card"><figcaption>'
        f"<h4>{escape(metric)} by layer</h4><p>{hint}</p></figcaption>{chart}"
        f"{_legend(result, colours)}</figure></div></section>"
        f"{table_section(table, lambda name: colours[name])}</main></body></html>\n"
    )


def _lines(result: Result) -> Iterable[Line]:
    """A curve with dots for each model; one with a single layer is a level line."""
    deepest = max(row.layer for row in result.rows)
    for number, model in enumerate(result.models):
        points = [(float(r.layer), r.rate.value) for r in result.rows if r.model == model]
        if len(points) == 1:
            yield Line(model, [(0.0, points[0][1]), (float(deepest), points[0][1])], number)
            continue
        best = result.best(model)
        ring = (float(best.layer), best.rate.value)
        yield Line(model, points, number, measured=True, best=ring)


def _legend(result: Result, colours: dict[str, str]) -> str:
    """A row for each model: its best layer, and that one's rate."""
    rows = []
    for model in result.models:
        best, name = result.best(model), escape(model)
        rate = number_text(best.rate.value, percent=True)
        rows.append(
            f'<tr><th scope="row" title="{name}"><i class="key {colours[model]}"></i>{name}</th>'
            f"<td>{best.layer}</td><td>{rate}</td></tr>"
        )
    head = "<tr><th></th><th>best layer</th><th></th></tr>"
    return f'<table class="legend">{head}{"".join(rows)}</table>'
