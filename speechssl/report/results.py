"""Tables of results, with bars that show the intervals."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from speechssl.report.charts import number_text, rate_bar


@dataclass(frozen=True)
class Rate:
    """A rate as a fraction, with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Table:
    """A table of results: a name in the first cell of each row, then texts and rates."""

    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str | Rate, ...], ...]
    """Each as long as `heads`."""
    note: str = ""
    """A sentence below the title: what was measured, what follows from it."""

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.heads):
                raise ValueError(
                    f"The table {self.title!r} has {len(self.heads)} heads, and a row of "
                    f"{len(row)} cells."
                )


WITH_LM = " + LM"
"""Behind a run's name: decoded with a language model of the transcripts that it learned from."""


@dataclass(frozen=True)
class Score:
    """One model's rates with 95 % intervals, as fractions."""

    name: str
    cer: tuple[float, float, float]
    """Value, low, high."""
    wer: tuple[float, float, float]


def score_table(scores: Sequence[Score]) -> Table:
    """The models of a comparison, one a row."""
    rows = tuple((score.name, Rate(*score.cer), Rate(*score.wer)) for score in scores)
    heads = ("model", "character error rate", "word error rate")
    note = "Lines over the bars are 95 % intervals."
    if any(score.name.endswith(WITH_LM) for score in scores):
        note += " LM: a language model of nothing but the labelled transcripts."
    return Table("Results", heads, rows, note)


def table_section(table: Table, colour_of: Callable[[str], str]) -> str:
    """One table; `colour_of` gives the class of a row's bars, by the row's name."""
    if not table.rows:
        return ""
    columns = list(zip(*table.rows, strict=True))
    mosts = [max((c.high for c in col if isinstance(c, Rate)), default=0.0) for col in columns]
    heads = "".join(f'<th scope="col">{escape(head)}</th>' for head in table.heads)
    rows = []
    for row in table.rows:
        colour = colour_of(str(row[0]))
        cells = "".join(
            _cell(cell, head, most, colour, first=i == 0)
            for i, (cell, head, most) in enumerate(zip(row, table.heads, mosts, strict=True))
        )
        rows.append(f"<tr>{cells}</tr>")
    note = f'<p class="note">{escape(table.note)}</p>' if table.note else ""
    return (
        f'<section class="results"><h2>{escape(table.title)}</h2>{note}<div class="card"><table>'
        f'<caption class="unseen">{escape(table.title)}</caption>'
        f"<thead><tr>{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table></div></section>"
    )


def _cell(cell: str | Rate, head: str, most: float, colour: str, *, first: bool) -> str:
    if isinstance(cell, Rate):
        value = number_text(cell.value, percent=True)
        interval = f"{100 * cell.low:.1f} – {100 * cell.high:.1f}"
        bar = rate_bar(cell.value, cell.low, cell.high, most, colour)
        inner = f'<div class="rate"><b>{value}</b><span>{interval}</span></div>{bar}'
        return f'<td class="rated" data-head="{escape(head)}">{inner}</td>'
    if first:
        return f'<th scope="row"><i class="key {colour}"></i>{escape(cell)}</th>'
    return f'<td data-head="{escape(head)}">{escape(cell)}</td>'
