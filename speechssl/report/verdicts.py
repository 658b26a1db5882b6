"""What the doctor says of each run."""

from collections.abc import Sequence
from html import escape

from speechssl.report.charts import colour_class
from speechssl.report.runs import Run
from speechssl.training.verdict import HEALTHY, TOO_EARLY, Verdict

_KINDS = {HEALTHY: "good", TOO_EARLY: "open"}


def verdicts_section(runs: Sequence[Run]) -> str:
    """A card a run: the verdict, its evidence, what to change, and what was measured."""
    if not runs:
        return ""
    cards = "".join(_card(run, number) for number, run in enumerate(runs))
    return (
        '<section id="verdicts"><h2>Doctor\'s verdict</h2>'
        f'<div class="runs">{cards}</div></section>'
    )


def _card(run: Run, number: int) -> str:
    verdict = run.verdict
    key = f'<i class="key {colour_class(number)}"></i>'
    tag = f'<span class="tag {_KINDS.get(verdict.name, "ill")}">{escape(verdict.name)}</span>'
    head = f"<h3>{key}<span>{escape(run.name)}</span>{tag}</h3>"
    return f'<div class="card run">{head}{_findings(verdict)}{_measures(verdict)}</div>'


def _findings(verdict: Verdict) -> str:
    if verdict.name == TOO_EARLY:
        return "<p>There is too little in the log yet; look again after a validation.</p>"
    if not verdict.findings:
        return "<p>Nothing in its curves looks wrong.</p>"
    blocks = []
    for place, finding in enumerate(verdict.findings):
        also = f"<b>Also {escape(finding.name)}.</b> " if place else ""
        evidence = escape(" ".join(finding.evidence))
        advice = f"<p><b>What to change:</b> {escape(finding.advice)}</p>"
        blocks.append(f"<p>{also}{evidence}</p>{advice}")
    return "".join(blocks)


def _measures(verdict: Verdict) -> str:
    if not verdict.measures:
        return ""
    rows = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in verdict.measures
    )
    return f"<details><summary>What was measured</summary><dl>{rows}</dl></details>"
