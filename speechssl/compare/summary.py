"""What the finished jobs say together: rows, the winner, probes. Jobs that failed leave gaps.

Arrays: G seeds, N utterances.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from speechssl.compare.config import ALL
from speechssl.compare.jobs import SCORES, Job
from speechssl.compare.plan import LOG_MEL, UNTRAINED, Plan, title
from speechssl.compare.savings import Saving, saving
from speechssl.compare.scores import Scores
from speechssl.compare.significance import LEVEL, Draws, Estimate, Paired, holm, paired
from speechssl.report.results import Rate
from speechssl.runlog import read_metrics


@dataclass(frozen=True)
class Row:
    """An entry on a label budget, over all seeds."""

    entry: str
    labels: str
    minutes: float
    """Of labels."""
    seeds: tuple[int, ...]
    cer: Estimate
    wer: Estimate
    cer_of_seeds: tuple[float, ...]
    compute_minutes: float
    """Pretraining and one fine-tuning, wall time of one core."""
    conditions: dict[str, Estimate]
    """CER of the distorted test sets."""
    curve: tuple[tuple[float, float], ...]
    """(minutes of compute, validation CER) while fine-tuning, of the first seed."""
    against: Paired | None = None
    """CER against the baseline's; None for a model from scratch."""
    against_wer: Paired | None = None
    p: float | None = None
    """Of `against`, after Holm, over all such rows."""
    saved: Saving | None = None


@dataclass(frozen=True)
class Winner:
    """The entry with the lowest mean CER over the label budgets."""

    entry: str
    score: Estimate
    others: tuple[tuple[str, Estimate, float], ...]
    """Every other entry, its mean CER, and p of the difference after Holm; the best first."""

    def sentences(self) -> list[str]:
        """For a person."""
        better = [(n, p) for n, _, p in self.others if p < LEVEL]
        alike = [(n, p) for n, _, p in self.others if p >= LEVEL]
        found = [f"Lowest mean CER: {self.entry}, {100 * self.score.value:.1f} %."]
        if better:
            found.append(f"It is significantly better than {_listed(better)}.")
        if alike:
            found.append(f"No significant difference from {_listed(alike)}.")
        return found


def _listed(entries: Sequence[tuple[str, float]]) -> str:
    return ", ".join(f"{name} ({p_text(p)})" for name, p in entries)


def p_text(p: float) -> str:
    return "p < 0.002" if p < 0.002 else f"p = {p:.2g}"


@dataclass(frozen=True)
class Probes:
    """Linear probes on each layer."""

    metric: str
    higher_is_better: bool
    about: str
    layers: dict[str, tuple[Rate, ...]]
    """By representation."""


@dataclass(frozen=True)
class Summary:
    """All that is shown."""

    plan: Plan
    rows: tuple[Row, ...]
    winner: Winner | None
    probes: Probes | None
    pretrained: dict[str, tuple[int, float]]
    """Updates and minutes of an entry's pretraining, the mean where there are several."""
    resampled: str
    """``speaker`` or ``utterance``."""
    num_units: int
    """Speakers or utterances of the test set."""
    failed: dict[str, str]

    def row(self, entry: str, labels: str) -> Row | None:
        return next((r for r in self.rows if (r.entry, r.labels) == (entry, labels)), None)


def summarize(plan: Plan, out: Path, failed: dict[str, str]) -> Summary | None:
    """From the folders of the jobs; None where no fine-tuning is done."""
    done = [job for job in plan.jobs if job.is_done(out)]
    tuned = [job for job in done if job.kind == "finetune"]
    if not tuned:
        return None
    scores = {
        (job.entry, job.labels, job.seed, c): Scores.read(job.folder(out) / SCORES / f"{c}.json")
        for job in tuned
        for c in job.conditions
    }
    draws = Draws(next(iter(scores.values())).speakers, len(plan.config.seeds))
    pretrained = _pretrained(done, out)
    first = {
        key: _row(plan, out, tuned, scores, draws, pretrained, *key)
        for key in dict.fromkeys((job.entry, job.labels) for job in tuned)
    }
    whole = {key: row for key, row in first.items() if row is not None}
    rows = _with_comparisons(plan, whole)
    return Summary(
        plan,
        tuple(rows),
        find_winner(plan, scores, draws),
        _read_probes(done, out),
        pretrained,
        draws.resampled,
        int(draws.units.max()) + 1,
        failed,
    )


def _pretrained(done: Sequence[Job], out: Path) -> dict[str, tuple[int, float]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for job in done:
        if job.kind == "pretrain":
            found.setdefault(job.entry, []).append(job.result(out))
    return {
        entry: (
            round(float(np.mean([r["steps"] for r in results]))),
            float(np.mean([r["minutes"] for r in results])),
        )
        for entry, results in found.items()
    }


Key = tuple[str, str, int, str]


def _counts(
    plan: Plan, scores: dict[Key, Scores], entry: str, labels: str, condition: str, metric: str
) -> np.ndarray | None:
    """(G, N, 2) of all seeds; None where one is missing."""
    keys = [(entry, labels, seed, condition) for seed in plan.config.seeds]
    if any(key not in scores for key in keys):
        return None
    return np.stack([scores[key].pair(metric) for key in keys])


def _row(
    plan: Plan,
    out: Path,
    tuned: Sequence[Job],
    scores: dict[Key, Scores],
    draws: Draws,
    pretrained: dict[str, tuple[int, float]],
    entry: str,
    labels: str,
) -> Row | None:
    """None where a seed is missing: the mean of others would be another number."""
    jobs = [job for job in tuned if (job.entry, job.labels) == (entry, labels)]
    cer = _counts(plan, scores, entry, labels, "clean", "cer")
    wer = _counts(plan, scores, entry, labels, "clean", "wer")
    if cer is None or wer is None:
        return None
    before = pretrained.get(entry, (0, 0.0))[1]
    jobs.sort(key=lambda job: plan.config.seeds.index(job.seed))
    conditions: dict[str, Estimate] = {}
    for condition in plan.config.conditions:
        counts = _counts(plan, scores, entry, labels, condition, "cer")
        if counts is not None:
            conditions[condition] = draws.rate(counts)
    return Row(
        entry,
        labels,
        plan.corpus.label_minutes if labels == ALL else float(labels),
        plan.config.seeds,
        draws.rate(cer),
        draws.rate(wer),
        tuple((own[:, 1].sum() / own[:, 0].sum()).item() for own in cer),
        before + float(np.mean([job.result(out)["minutes"] for job in jobs])),
        conditions,
        _curve(jobs[0].folder(out), before),
    )


def _curve(run: Path, before: float) -> tuple[tuple[float, float], ...]:
    """(minutes, CER) of the validations of a fine-tuning that `before` minutes went ahead of."""
    return tuple(
        (before + record["time_s"] / 60, float(record["valid/cer"]))
        for record in read_metrics(run)
        if "valid/cer" in record and "time_s" in record
    )


def _with_comparisons(plan: Plan, rows: dict[tuple[str, str], Row]) -> list[Row]:
    """Each row against its baseline, p adjusted over all of them, and the label minutes saved;
    by label budget, the best first."""
    baselines = {entry.name: entry.baseline for entry in plan.entries}
    compared: dict[tuple[str, str], Row] = {}
    for (entry, labels), row in rows.items():
        own = rows.get((baselines[entry], labels))
        if own is None:
            continue
        curve = sorted(
            (r for r in rows.values() if r.entry == baselines[entry]), key=lambda r: r.minutes
        )
        saved = saving(
            row.minutes,
            row.cer.value,
            row.cer.draws,
            [r.minutes for r in curve],
            [r.cer.value for r in curve],
            [r.cer.draws for r in curve],
        )
        compared[entry, labels] = replace(
            row, against=paired(row.cer, own.cer), against_wer=paired(row.wer, own.wer), saved=saved
        )
    adjusted = holm([row.against.p for row in compared.values() if row.against])
    for key, p in zip(compared, adjusted, strict=True):
        compared[key] = replace(compared[key], p=p)
    found = {**rows, **compared}
    return sorted(found.values(), key=lambda r: (r.minutes, r.cer.value, r.entry))


def find_winner(plan: Plan, scores: dict[Key, Scores], draws: Draws) -> Winner | None:
    """Among the entries that have all label budgets; None where fewer than two have."""
    means: dict[str, Estimate] = {}
    for entry in plan.entries:
        counts = [
            _counts(plan, scores, entry.name, labels, "clean", "cer")
            for labels in plan.config.labels
        ]
        whole = [c for c in counts if c is not None]
        if len(whole) == len(counts):
            means[entry.name] = draws.mean_rate(whole)
    if len(means) < 2:
        return None
    ranked = sorted(means, key=lambda name: means[name].value)
    best, rest = ranked[0], ranked[1:]
    adjusted = holm([paired(means[best], means[name]).p for name in rest])
    others = tuple((name, means[name], p) for name, p in zip(rest, adjusted, strict=True))
    return Winner(best, means[best], others)


def _read_probes(done: Sequence[Job], out: Path) -> Probes | None:
    found = {job.entry: job.result(out) for job in done if job.kind == "probe"}
    if not any(name not in (LOG_MEL, UNTRAINED) for name in found):
        return None
    one = next(iter(found.values()))
    layers = {name: tuple(Rate(*r) for r in result["layers"]) for name, result in found.items()}
    return Probes(one["metric"], one["higher_is_better"], one["about"], layers)


def budget_titles(plan: Plan) -> str:
    """The label budgets in words: ``10 min and 60 min``."""
    titles = [title(budget) for budget in plan.config.labels]
    return f"{', '.join(titles[:-1])} and {titles[-1]}" if len(titles) > 1 else titles[0]
