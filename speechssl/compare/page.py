"""The comparison as one static page: the outcome in words, one table, four pictures, the rules."""

from collections.abc import Iterator
from html import escape
from pathlib import Path

from speechssl.compare.config import ALL
from speechssl.compare.drawing import STYLE as PICTURES
from speechssl.compare.pictures import (
    colours,
    compute_figure,
    labels_figure,
    probes_figure,
    robustness_figure,
)
from speechssl.compare.plan import title
from speechssl.compare.robustness import RULE
from speechssl.compare.summary import Summary, budget_titles
from speechssl.compare.table import against_text
from speechssl.files import writing
from speechssl.report.results import Rate, Table, table_section
from speechssl.report.style import STYLE, THEME_SWITCH

FEW_UPDATES = 200
"""Pretrained for fewer, a model is hardly another one than before."""
_FIGURES = (labels_figure, compute_figure, robustness_figure, probes_figure)


def write_page(summary: Summary, path: Path) -> Path:
    """Write the page and return where it is."""
    with writing(path) as file:
        file.write(page(summary))
    return path


def page(summary: Summary) -> str:
    """The same summary gives the same bytes."""
    heading = "Which pretext task helps most?"
    figures = "".join(draw(summary) for draw in _FIGURES)
    verdict = "".join(f"<p>{escape(s)}</p>" for s in verdict_sentences(summary))
    failed = "".join(f"<li>{escape(n)}: {escape(w)}</li>" for n, w in summary.failed.items())
    missing = f"<section><h2>Not done</h2><ul>{failed}</ul></section>" if failed else ""
    rules = "".join(f"<li>{escape(rule)}</li>" for rule in rule_sentences(summary))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{heading}</title><style>{STYLE}{PICTURES}</style></head>\n"
        f"<body><header><h1>{heading}</h1>{THEME_SWITCH}</header>\n<main>"
        f'<div class="verdict">{verdict}</div>{missing}{_table(summary)}'
        f'<section><h2>Pictures</h2><div class="pictures">{figures}</div></section>'
        f'<section><h2>How it was done</h2><ul class="rules">{rules}</ul></section>'
        "</main></body></html>\n"
    )


def verdict_sentences(summary: Summary) -> list[str]:
    """What came out, for somebody who reads nothing else."""
    found = summary.winner.sentences() if summary.winner else []
    updates = [steps for steps, _ in summary.pretrained.values()]
    if updates and min(updates) < FEW_UPDATES:
        found.append(
            f"A pretraining ended after update {min(updates)}, before it could learn much: these "
            "numbers say little, give it more minutes or updates."
        )
    if summary.winner and summary.winner.others:
        found[0] += f" (The mean is over {budget_titles(summary.plan)} of labels.)"
    best = summary.winner.entry if summary.winner else ""
    if best in {entry.name for entry in summary.plan.entries if not entry.baseline}:
        found.insert(1, "No pretext task has the lowest: training from scratch has.")
    for labels in summary.plan.config.labels:
        row = summary.row(best, labels)
        if row is None or row.against is None:
            continue
        saved = f"; label minutes saved: {row.saved.text()}" if row.saved else ""
        found.append(
            f"With {title(labels)} of labels: CER {100 * row.cer.value:.1f} %, against from "
            f"scratch {against_text(row)}{saved}."
        )
    return found


def _unbroken(text: str) -> str:
    """A cell that is broken before an interval's bracket and a p only."""
    kept = text.replace(" ", "\N{NO-BREAK SPACE}")
    for start in ("[", "p"):
        kept = kept.replace(f"\N{NO-BREAK SPACE}{start}", f" {start}", 1)
    return kept


def _table(summary: Summary) -> str:
    notes = {entry.name: entry.notes for entry in summary.plan.entries}
    css = colours(summary)
    rows = []
    for row in summary.rows:
        rows.append(
            (
                row.entry,
                _unbroken(title(row.labels)),
                Rate(row.cer.value, row.cer.low, row.cer.high),
                Rate(row.wer.value, row.wer.low, row.wer.high),
                _unbroken(against_text(row)),
                _unbroken(row.saved.text() if row.saved else ""),
                _unbroken(f"{row.compute_minutes:.1f} min"),
            )
        )
    heads = (
        "entry",
        "labels",
        "character error rate",
        "word error rate",
        "CER against scratch",
        "label minutes saved",
        "compute",
    )
    special = [f"{name}: {note}." for name, each in notes.items() for note in each]
    note = " ".join(
        ["Lines over the bars are 95 % intervals; p is adjusted for the number of rows.", *special]
    )
    return table_section(
        Table("All results", heads, tuple(rows), note), lambda name: css.get(name, "plain")
    )


def rule_sentences(summary: Summary) -> Iterator[str]:
    """What was held equal, and how the numbers were made."""
    plan = summary.plan
    config, corpus = plan.config, plan.corpus
    length = f"{config.max_steps} updates"
    if config.minutes is not None:
        length = f"{config.minutes:g} minutes of one core"
    if config.tasks:
        updates = ", ".join(
            f"{name} {steps:,} updates in {minutes:.1f} min"
            for name, (steps, minutes) in summary.pretrained.items()
        )
        yield (
            f"Pretraining: each for {length} on one core, on the same {corpus.train_minutes:.1f} "
            f"minutes of speech ({updates})."
        )
    budgets = ", ".join(f"{title(b)} of labels {s:,} updates" for b, s in plan.steps.items())
    yield (
        f"Fine-tuning: the same settings, updates ({budgets}) and seeds "
        f"({', '.join(map(str, config.seeds))}) for all, and for each seed the same choice of "
        "labels. The validation set chooses the best model of each run."
    )
    decoding = "with a language model learned from the same labels" if config.lm else "greedily"
    yield (
        f"Test: {corpus.test_rule}; each model is scored once, decoded {decoding}"
        + ("" if config.normalize == "none" else f", texts normalised ({config.normalize})")
        + "."
    )
    drawn = "the seeds and " if len(config.seeds) > 1 else ""
    yield (
        f"Intervals and p: 2000 resamples of {drawn}the {summary.num_units} test "
        f"{summary.resampled}s, the same for all entries, so that differences are paired. p is "
        "adjusted by Holm's method: over all rows of the table, and for the winner over all others."
    )
    if summary.resampled == "utterance":
        yield (
            "Fewer than five speakers are known in the test set: the intervals say what would "
            "change with other utterances, not with other speakers."
        )
    yield (
        "Label minutes saved: how many more minutes a model from scratch needs for the same CER, "
        "on its curve interpolated over the logarithm of the minutes"
        + (f" up to {_longest(summary):.3g} minutes." if len(plan.steps) > 1 else ".")
    )
    if len(plan.steps) < 2:
        yield "With one label budget there is no curve, and the minutes saved cannot be measured."
    yield f"Distortions: {RULE}"
    if any(entry.form.is_causal for entry in plan.entries):
        yield (
            "Tasks that predict the future get a causal model, whose outputs depend on the past "
            "alone; it is compared with "
            + ("a causal one" if config.causal_baseline else "the usual one")
            + " from scratch."
        )


def _longest(summary: Summary) -> float:
    corpus = summary.plan.corpus
    return max(corpus.label_minutes if b == ALL else float(b) for b in summary.plan.steps)
