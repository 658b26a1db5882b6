"""What the probes found: a line of a table, JSON, and a page with a plot."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path
from typing import Any

from speechssl.report.charts import Axis, Line, colour_class, line_chart
from speechssl.report.results import Rate, Table, table_section
from speechssl.report.style import STYLE

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
    out.mkdir(parents=True, exist_ok=True)
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
    (out / "probe.json").write_text(text, encoding="utf-8")
    (out / "probe.html").write_text(page(result), encoding="utf-8")


def page(result: Result) -> str:
    """One static page: the plot over layers, and the table that is also its legend."""
    models = result.models
    colours = {model: colour_class(number) for number, model in enumerate(models)}
    title = f"Probe: {result.task}"
    metric = result.metric[:1].upper() + result.metric[1:]
    chart = line_chart(
        list(_lines(result)), Axis(percent=True), x_label="layer", title=f"{metric} by layer"
    )
    rows = tuple((row.model, str(row.layer), row.rate) for row in result.rows)
    table = Table("Layers", ("model", "layer", result.metric), rows, f"{result.about}.")
    better = "higher" if result.higher_is_better else "lower"
    hint = f"{metric} of a linear probe on each frozen layer; {better} is better."
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n"
        f"<body><header><h1>{escape(title)}</h1></header>\n<main>"
        f'<section><h2>{escape(metric)} by layer</h2><p class="note">{escape(hint)}</p>'
        f'<figure class="card">{chart}{_legend(models, colours)}</figure></section>'
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


def _legend(models: Sequence[str], colours: dict[str, str]) -> str:
    keys = (f'<span><i class="key {colours[model]}"></i>{escape(model)}</span>' for model in models)
    return f'<p class="note">{" &nbsp; ".join(keys)}</p>'
