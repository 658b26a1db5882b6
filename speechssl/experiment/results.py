"""The comparison of the models: as a table, in words, and for the report."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from speechssl.files import writing
from speechssl.report.page import Sample, Score
from speechssl.scoring.wer import Comparison, EvalResult


@dataclass(frozen=True)
class Row:
    """One model of the comparison."""

    name: str
    run: Path
    result: EvalResult


def _rate(value: float, low: float, high: float) -> str:
    return f"{100 * value:5.1f} % [{100 * low:.1f}, {100 * high:.1f}]"


def _cells(row: Row) -> tuple[str, str, str]:
    r = row.result
    return row.name, _rate(r.cer, r.cer_low, r.cer_high), _rate(r.wer, r.wer_low, r.wer_high)


def plain_table(rows: Sequence[Row]) -> str:
    heads = ("model", "CER [95 %]", "WER [95 %]")
    lines = [heads, *(_cells(row) for row in rows)]
    return "\n" + "\n".join(f"  {a:<14}{b:<26}{c}" for a, b, c in lines)


def in_words(difference: Comparison) -> str:
    cer = difference.cer
    if cer.reduction is None or cer.reduction_low is None or cer.reduction_high is None:
        return "\nFrom scratch made no error: there is nothing to gain."
    verdict = "Pretraining helps" if cer.reduction_low > 0 else "No clear gain from pretraining"
    return (
        f"\n{verdict}: CER reduced by {100 * cer.reduction:.0f} % relative "
        f"(95 % interval {100 * cer.reduction_low:.0f} to {100 * cer.reduction_high:.0f} %, "
        "paired)."
    )


def scores(rows: Sequence[Row]) -> list[Score]:
    return [
        Score(
            row.name,
            (row.result.cer, row.result.cer_low, row.result.cer_high),
            (row.result.wer, row.result.wer_low, row.result.wer_high),
        )
        for row in rows
    ]


def samples(rows: Sequence[Row], num: int = 8) -> list[Sample]:
    """Utterances spread evenly over the test set."""
    total = rows[0].result.num_utterances
    chosen = sorted({i * total // num for i in range(min(num, total))})
    return [
        Sample(
            rows[0].result.utterances[i].reference,
            tuple((row.name, row.result.utterances[i].hypothesis) for row in rows),
        )
        for i in chosen
    ]


def write_results(path: Path, rows: Sequence[Row], difference: Comparison) -> None:
    scores = {
        row.name: {k: v for k, v in asdict(row.result).items() if k != "utterances"} for row in rows
    }
    data = {"models": scores, "difference": asdict(difference)}
    with writing(path) as file:
        file.write(json.dumps(data, indent=2, default=str) + "\n")
