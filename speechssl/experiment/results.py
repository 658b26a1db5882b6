"""The comparison of the models: as a table, in words, and for the report."""

import itertools
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from speechssl.checkpoint import load_model
from speechssl.experiment.changes import Change
from speechssl.files import writing
from speechssl.report.page import Sample, Score
from speechssl.scoring.wer import Comparison, EvalResult, compare


@dataclass(frozen=True)
class Row:
    """One model of the comparison."""

    name: str
    run: Path
    result: EvalResult


def validation_cer(run: Path) -> float:
    """Of the model that is kept in the folder of a training, greedily, a fraction."""
    return float(load_model(run).meta["valid"]["cer"])


def _rate(value: float, low: float, high: float) -> str:
    return f"{100 * value:5.1f} % [{100 * low:.1f}, {100 * high:.1f}]"


def _cells(row: Row) -> tuple[str, str, str]:
    r = row.result
    return row.name, _rate(r.cer, r.cer_low, r.cer_high), _rate(r.wer, r.wer_low, r.wer_high)


def plain_table(rows: Sequence[Row]) -> str:
    heads = ("model", "CER [95 %]", "WER [95 %]")
    lines = [heads, *(_cells(row) for row in rows)]
    width = max(14, max(len(row.name) for row in rows) + 2)
    return "\n" + "\n".join(f"  {a:<{width}}{b:<26}{c}" for a, b, c in lines)


@dataclass(frozen=True)
class Pair:
    """What one model saves of the errors of another."""

    better: str
    """The model that should have fewer."""
    than: str
    found: Comparison


def differences(rows: Sequence[Row], scratch: str, own: str) -> list[Pair]:
    """Each model beside that from `scratch`; and the first of those that began with a start beside
    what was pretrained from fresh weights (`own`), and each of them beside those behind it.

    The first one is that of all that is offered beside `scratch`.
    """
    by_name = {row.name: row.result for row in rows}
    wanted = [(name, scratch) for name in by_name if name != scratch]
    if begun := [name for name in by_name if name not in (own, scratch)]:
        wanted += [(begun[0], own), *itertools.combinations(begun, 2)]
    return [Pair(a, b, compare(by_name[b], by_name[a])) for a, b in wanted]


def in_words(pair: Pair, *, alone: bool = True) -> str:
    """A line on a pair; `alone` where it is the only one, which needs no names."""
    cer = pair.found.cer
    if cer.reduction is None or cer.reduction_low is None or cer.reduction_high is None:
        than = pair.than.replace("-", " ").capitalize() if alone else pair.than
        return f"\n{than} made no error: there is nothing to gain."
    value, low, high = (100 * x for x in (cer.reduction, cer.reduction_low, cer.reduction_high))
    verb = "reduced"
    if alone:
        verdict = "\nPretraining helps" if low > 0 else "\nNo clear gain from pretraining"
    else:
        verdict = f"{pair.better} against {pair.than}"
        verdict += "" if low > 0 or high < 0 else ", not clear"
        if value < 0:
            verb, value, low, high = "raised", -value, -high, -low
    return (
        f"{verdict}: CER {verb} by {value:.0f} % relative "
        f"(95 % interval {low:.0f} to {high:.0f} %, paired)."
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


def write_results(
    path: Path,
    rows: Sequence[Row],
    pairs: Sequence[Pair],
    changes: Sequence[Change] = (),
    with_lm: Sequence[Row] = (),
) -> None:
    """The scores, the first difference, and with a start all of them by ``MODEL against MODEL``;
    how each model differs from that of before, where there is one; the scores with a language
    model."""

    def told(rows: Sequence[Row]) -> dict[str, dict[str, object]]:
        results = {row.name: asdict(row.result) for row in rows}
        return {n: {k: v for k, v in r.items() if k != "utterances"} for n, r in results.items()}

    data: dict[str, object] = {"models": told(rows), "difference": asdict(pairs[0].found)}
    if with_lm:
        data["models_with_lm"] = told(with_lm)
    if len(pairs) > 1:
        data["differences"] = {f"{p.better} against {p.than}": asdict(p.found) for p in pairs}
    if changes:
        data["changes"] = {each.name: asdict(each) for each in changes}
    with writing(path) as file:
        file.write(json.dumps(data, indent=2, default=str) + "\n")
