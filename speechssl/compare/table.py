"""The comparison as compare.json, and as a Markdown table."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from speechssl import __version__
from speechssl.compare.plan import title
from speechssl.compare.significance import Estimate, Paired
from speechssl.compare.summary import Row, Summary, p_text
from speechssl.config.json import to_json
from speechssl.files import writing

HEADS = (
    "entry",
    "labels",
    "CER [95 %]",
    "WER [95 %]",
    "CER against scratch",
    "label min saved",
    "compute",
)


def markdown(summary: Summary) -> str:
    """The table, by label budget, the best first."""
    notes = {e.name: " (causal model)" if e.form.is_causal else "" for e in summary.plan.entries}
    lines = [f"| {' | '.join(HEADS)} |", "|" + "---|" * len(HEADS)]
    for row in summary.rows:
        cells = (
            row.entry + ("" if row.entry.endswith("causal") else notes[row.entry]),
            title(row.labels),
            _rate(row.cer),
            _rate(row.wer),
            against_text(row),
            row.saved.text() if row.saved else "",
            f"{row.compute_minutes:.1f} min",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def against_text(row: Row) -> str:
    """``-13 % [-17, -9], p = 0.012``; '' for a model from scratch."""
    if row.against is None or row.p is None:
        return ""
    found = row.against
    if found.change is None:
        return f"{100 * found.difference:+.1f} points, {p_text(row.p)}"
    span = ""
    if found.change_low is not None and found.change_high is not None:
        span = f" [{_signed(found.change_low)}, {_signed(found.change_high)}]"
    return f"{_signed(found.change)} %{span}, {p_text(row.p)}"


def _signed(share: float) -> str:
    """A share in percent: ``-24``, ``+3``, ``0``."""
    percent = round(100 * share)
    return f"{percent:+d}" if percent else "0"


def _rate(rate: Estimate) -> str:
    return f"{100 * rate.value:.1f} % [{100 * rate.low:.1f}, {100 * rate.high:.1f}]"


def write_json(summary: Summary, path: Path) -> None:
    """Everything that is on the page, as fractions and minutes."""
    with writing(path) as file:
        data = json.dumps(as_data(summary), indent=1, ensure_ascii=False, allow_nan=False)
        file.write(data + "\n")


def as_data(summary: Summary) -> dict[str, Any]:
    """As plain JSON types; an infinite number of minutes is the text ``more`` or ``less``."""
    plan, winner = summary.plan, summary.winner
    entries = [
        {
            "name": entry.name,
            "baseline": entry.baseline or None,
            "causal": entry.form.is_causal,
            "source": entry.source or None,
            "pretraining_updates": summary.pretrained.get(entry.name, (None, None))[0],
            "pretraining_minutes": summary.pretrained.get(entry.name, (None, None))[1],
        }
        for entry in plan.entries
    ]
    return {
        "speechssl": __version__,
        "settings": to_json(plan.config),
        "finetuning_updates": plan.steps,
        "train_minutes": plan.corpus.train_minutes,
        "label_minutes": plan.corpus.label_minutes,
        "test": plan.corpus.test_rule,
        "test_utterances": len(plan.corpus.test),
        "data": plan.corpus.digests(),
        "intervals": {"over": summary.resampled, "num": summary.num_units},
        "entries": entries,
        "rows": [_row(row) for row in summary.rows],
        "winner": winner
        and {
            "entry": winner.entry,
            "mean_cer": _estimate(winner.score),
            "others": [
                {"entry": name, "mean_cer": _estimate(mean), "p_holm": p}
                for name, mean, p in winner.others
            ],
        },
        "probes": summary.probes and asdict(summary.probes),
        "failed": summary.failed,
    }


def _row(row: Row) -> dict[str, Any]:
    saved = row.saved
    return {
        "entry": row.entry,
        "labels": row.labels,
        "label_minutes": row.minutes,
        "seeds": list(row.seeds),
        "cer": _estimate(row.cer),
        "wer": _estimate(row.wer),
        "cer_of_seeds": list(row.cer_of_seeds),
        "compute_minutes": row.compute_minutes,
        "cer_against_scratch": _paired(row.against),
        "wer_against_scratch": _paired(row.against_wer),
        "p_holm": row.p,
        "label_minutes_saved": saved
        and {name: _finite(getattr(saved, name)) for name in ("value", "low", "high", "most")},
        "conditions": {name: _estimate(rate) for name, rate in row.conditions.items()},
        "validation": [list(point) for point in row.curve],
    }


def _estimate(rate: Estimate) -> dict[str, float]:
    return {"value": rate.value, "low": rate.low, "high": rate.high}


def _paired(found: Paired | None) -> dict[str, float | None] | None:
    return None if found is None else asdict(found)


def _finite(value: float) -> float | str:
    return "more" if value == float("inf") else "less" if value == -float("inf") else value
