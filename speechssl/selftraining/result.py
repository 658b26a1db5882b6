"""The rounds of a self-training: their scores, when they end, and the table of them."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from speechssl.files import writing
from speechssl.scoring.wer import Difference, EvalResult, compare

FILE = "selftrain.json"
"""In the run's folder."""


@dataclass(frozen=True)
class Rate:
    """An error rate with its 95 % interval; fractions."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Change:
    """A round's error rate minus that of its teacher, paired, with its 95 % interval."""

    difference: float
    low: float
    high: float
    reduction: float | None
    """The difference as a share of the teacher's rate that is saved; None where that is 0."""


@dataclass(frozen=True)
class Round:
    """A round; number 0 is the given model, which learned nothing here."""

    number: int
    cer: Rate
    wer: Rate
    teacher: int = 0
    """The round whose model made the labels."""
    cer_change: Change | None = None
    wer_change: Change | None = None
    kept: int = 0
    """Labels that the student learned from."""
    refused: dict[str, int] = field(default_factory=dict)
    """Reason -> how many labels of the pool."""
    threshold: float = 0.0
    """Least confidence of the labels that were kept."""
    mean_weight: float = 0.0
    weights: str = ""
    """Which of the student was better and kept: its ``last`` weights or their ``average``."""
    kept_cer: float | None = None
    """Of the labels that were kept, against the transcripts of the pool, where these are scored."""
    refused_cer: float | None = None
    """The same of the others."""


@dataclass(frozen=True)
class State:
    """All that a command that goes on needs to know; ``selftrain.json``."""

    inputs: dict[str, str]
    """Digests of what the run was started on, by name."""
    rounds: tuple[Round, ...] = ()
    best: int = 0
    """The round whose model is kept."""
    ended: str = ""
    """Why it is over; '' while it is not."""
    is_final: bool = False
    """Whether more rounds, if they are allowed, would change nothing."""


def read_state(run: Path) -> State | None:
    """What an earlier command wrote; None where there is nothing. ValueError where that is
    damaged."""
    try:
        data = json.loads((run / FILE).read_text(encoding="utf-8"))
        rounds = tuple(_round(fields) for fields in data.pop("rounds"))
        return State(**data, rounds=rounds)
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(
            f"{run / FILE} is damaged: give another --out, or --resume never to begin anew."
        ) from error


def _round(fields: dict[str, Any]) -> Round:
    kinds = {"cer": Rate, "wer": Rate, "cer_change": Change, "wer_change": Change}
    return Round(**{k: kinds[k](**v) if k in kinds and v else v for k, v in fields.items()})


def write_state(run: Path, state: State) -> None:
    """Write ``selftrain.json``, whole or not at all."""
    with writing(run / FILE) as file:
        file.write(json.dumps(asdict(state), ensure_ascii=False, indent=1) + "\n")


def scored(number: int, result: EvalResult, before: EvalResult | None = None) -> Round:
    """A round with its error rates, and with their change where its teacher's result is given."""
    made = Round(
        number,
        Rate(result.cer, result.cer_low, result.cer_high),
        Rate(result.wer, result.wer_low, result.wer_high),
    )
    if before is None:
        return made
    both = compare(before, result)
    return replace(made, cer_change=_change(both.cer), wer_change=_change(both.wer))


def _change(of: Difference) -> Change:
    return Change(of.difference, of.difference_low, of.difference_high, of.reduction)


def decide(rounds: Sequence[Round], *, min_gain: float, patience: int) -> tuple[int, str]:
    """The round whose model is best, and why no further round is to follow: '' where one may.

    A round is better than the best one before where its CER is lower. It gains nothing where the
    relative reduction is below `min_gain`; after `patience` such rounds in a row it is over, and
    where the first model makes no error.
    """
    best, without = 0, 0
    for made in rounds[1:]:
        before = rounds[best].cer.value
        gain = 1 - made.cer.value / before if before > 0 else 0.0
        without = 0 if gain > 0 and gain >= min_gain else without + 1
        if made.cer.value < before:
            best = made.number
        if without >= patience:
            verb = "is worse than" if made.cer.value > before else "gains too little over"
            return best, (
                f"round {made.number} {verb} its teacher: CER {100 * before:.2f} % -> "
                f"{100 * made.cer.value:.2f} %; asked for are {100 * min_gain:g} % fewer errors"
            )
    if rounds and rounds[best].cer.value == 0:
        return best, "the best model makes no error on the validation set"
    return best, ""


def table(state: State) -> str:
    """The rounds for a person."""
    known = any(r.kept_cer is not None or r.refused_cer is not None for r in state.rounds)
    heads = ["round", "labels", "confidence", "weight", "CER [95 %]", "change [95 %]", "WER [95 %]"]
    heads += ["CER of labels: kept", "refused"] * known
    rows = [heads]
    for r in state.rounds:
        change = r.cer_change
        total = r.kept + sum(r.refused.values())
        cells = [f"{r.number}{' *' if r.number == state.best else ''}"]
        cells += [f"{r.kept} of {total}", f">= {r.threshold:.3f}", f"{r.mean_weight:.2f}"]
        cells = cells if r.number else [cells[0], "-", "-", "-"]
        cells += [_rate(r.cer)]
        cells += [
            f"{100 * change.difference:+.1f} [{100 * change.low:+.1f}, {100 * change.high:+.1f}]"
            if change
            else "-"
        ]
        cells += [_rate(r.wer)]
        if known:
            both = (r.kept_cer, r.refused_cer)
            cells += ["-" if cer is None else f"{100 * cer:.1f} %" for cer in both]
        rows.append(cells)
    widths = [max(len(row[i]) for row in rows) for i in range(len(heads))]
    lines = [
        "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    return "\n".join(lines)


def _rate(rate: Rate) -> str:
    return f"{100 * rate.value:.1f} % [{100 * rate.low:.1f}, {100 * rate.high:.1f}]"
