"""A block of the page for each run of a kind, under its name and colour."""

from collections.abc import Callable, Sequence
from html import escape

from speechssl.report.charts import colour_class
from speechssl.report.runs import Run

_MOST_RUNS = 3


def example_blocks(runs: Sequence[Run], task: str, show: Callable[[Run], str]) -> str:
    """What `show` makes of the first three runs of `task`; '' where there is none."""
    chosen = [(number, run) for number, run in enumerate(runs) if run.task == task][:_MOST_RUNS]
    return "".join(run_block(number, run, show(run)) for number, run in chosen)


def run_block(number: int, run: Run, html: str) -> str:
    """`html` under the name of a run, with the colour that it has as the page's run `number`."""
    key = f'<i class="key {colour_class(number)}"></i>'
    return f"<h3>{key}{escape(run.name)}</h3>{html}"
