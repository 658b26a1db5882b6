"""Run folders made into one static HTML page: no network, light and dark, readable on a phone.

Each section is a function from data to HTML in a file of its own; here they are put in order.
"""

from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path

from speechssl.files import writing
from speechssl.report.charts import colour_class
from speechssl.report.codes import codes_section
from speechssl.report.curves import curves_section
from speechssl.report.pretexts import pretexts_section
from speechssl.report.recognition import (
    confidence_table,
    utterances_section,
    validation_table,
)
from speechssl.report.results import WITH_LM, Score, score_table, table_section
from speechssl.report.runs import Run, read_runs
from speechssl.report.settings import differences_section, runs_section
from speechssl.report.style import STYLE, THEME_SWITCH
from speechssl.report.transcripts import Sample, transcripts_section
from speechssl.report.verdicts import verdicts_section

__all__ = ["Sample", "Score", "write_report"]

_NEUTRAL = "plain"
_LINKS = {"verdicts": "verdict", "pretext": "input and output"}
"""Names of sections in the navigation, where they are not their own."""


def write_report(
    runs: Sequence[Path],
    out: Path,
    *,
    title: str | None = None,
    scores: Sequence[Score] = (),
    samples: Sequence[Sample] = (),
    names: Sequence[str] | None = None,
) -> Path:
    """Write the page to `out` and return it.

    Args:
        runs: run folders, finished or not; each has one colour all over the page.
        out: the HTML file.
        title: of the page; None: the names of the runs.
        scores: models with their error rates, for the usual table; a row has the colour of the run
            that it is named after, also with :data:`WITH_LM` behind the name.
        samples: transcripts to show.
        names: of the runs; None: those of their folders.

    Raises FileNotFoundError where a run's folder is missing, ValueError where it holds no run.
    """
    read = read_runs(runs, names)
    page = build_page(read, title or _title(read), scores, samples)
    with writing(out) as file:
        file.write(page)
    return out


def build_page(
    runs: Sequence[Run],
    title: str,
    scores: Sequence[Score],
    samples: Sequence[Sample],
) -> str:
    """The whole page: the same data give the same bytes."""
    colour_of = _colours(runs)
    results = [
        score_table(scores) if scores else None,
        validation_table(runs),
        confidence_table(runs),
    ]
    tabled = "".join(table_section(table, colour_of) for table in results if table)
    sections = {
        "results": f'<div id="results">{tabled}</div>' if tabled else "",
        "transcripts": transcripts_section(samples, colour_of),
        "runs": runs_section(runs),
        "verdicts": verdicts_section(runs),
        "curves": curves_section(runs),
        "pretext": pretexts_section(runs),
        "codes": codes_section(runs),
        "utterances": utterances_section(runs),
        "settings": differences_section(runs),
    }
    links = "".join(
        f'<a href="#{name}">{_LINKS.get(name, name)}</a>' for name, html in sections.items() if html
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n"
        f"<body><header><h1>{escape(title)}</h1>{THEME_SWITCH}"
        f'<nav aria-label="Sections">{links}</nav></header>\n<main>'
        f"{''.join(sections.values())}</main></body></html>\n"
    )


def _title(runs: Sequence[Run]) -> str:
    return ", ".join(run.name for run in runs[:4]) + (" ..." if len(runs) > 4 else "")


def _colours(runs: Sequence[Run]) -> Callable[[str], str]:
    """The colour class of a run by its name, also of it with a language model; neutral for other
    names."""
    known = {run.name: colour_class(number) for number, run in enumerate(runs)}
    return lambda name: known.get(name.removesuffix(WITH_LM), _NEUTRAL)
