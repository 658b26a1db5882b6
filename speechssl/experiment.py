"""The main job in one go: pretrain, fine-tune on few labels, fine-tune from scratch on the same
labels, compare on a test set, write the report.

`demo` does it on synthetic speech that it makes itself, `run_folder` on a person's own recordings.
"""

import json
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from speechssl.checkpoint import load_model
from speechssl.data.layouts import Recording, read_folder, read_table
from speechssl.data.manifest import Utterance, read_manifest
from speechssl.data.prepare import PrepareConfig, prepare
from speechssl.data.synthetic import make_corpus
from speechssl.inference.evaluate import evaluate
from speechssl.report.page import Sample, Score, write_report
from speechssl.scoring.wer import Comparison, EvalResult, compare
from speechssl.training import finetune as finetuning
from speechssl.training import pretrain as pretraining


@dataclass(frozen=True)
class Budget:
    """How the minutes are spent."""

    pretrain: float
    finetune: float
    """Of each of the two fine-tunings."""

    @classmethod
    def of(cls, minutes: float) -> "Budget":
        """Half for pretraining; a tenth stays for making, loading and scoring."""
        if minutes <= 0:
            raise ValueError(f"The budget must be above 0 minutes, got {minutes:g}.")
        return cls(pretrain=0.5 * minutes, finetune=0.2 * minutes)


@dataclass(frozen=True)
class Row:
    """One model of the comparison."""

    name: str
    run: Path
    result: EvalResult


def demo(out: Path, minutes: float) -> int:
    """The whole job on an embedded corpus: synthetic speech of many voices, few of them
    transcribed."""
    budget = Budget.of(minutes)
    began = time.monotonic()
    say("Making synthetic speech (espeak-ng, eight accents) ...")
    corpus = make_corpus(
        out / "corpus",
        unlabeled_minutes=60,
        labeled_minutes=5,
        dev_minutes=3,
        test_minutes=6,
    )
    if corpus.note:
        say(corpus.note)
    say(f"  made in {time.monotonic() - began:.0f} s, sha256 {corpus.sha256[:16]}")
    return compare_with_scratch(
        unlabeled=read_manifest(corpus.unlabeled),
        labeled=read_manifest(corpus.train),
        valid=read_manifest(corpus.dev),
        test=read_manifest(corpus.test),
        out=out,
        size="tiny",
        budget=budget,
        title="speechssl demo: synthetic speech",
    )


def run_folder(folder: Path, transcripts: Path, out: Path, budget_minutes: float, size: str) -> int:
    """The same on a person's own recordings, of which `transcripts` (TSV or CSV) names a few."""
    budget = Budget.of(budget_minutes)
    summary = prepare(
        join_transcripts(read_folder(folder), read_table(transcripts, audio_folder=folder)),
        out / "data",
        PrepareConfig(),
        progress=sys.stderr.isatty(),
    )
    say(summary.describe())
    splits = {
        name: _read_split(out / "data" / f"{name}.jsonl") for name in ("train", "dev", "test")
    }
    labeled = [u for u in splits["train"] if u.text]
    valid = [u for u in splits["dev"] if u.text]
    test = [u for u in splits["test"] if u.text] or valid
    if not labeled or not valid:
        raise ValueError(
            f"{transcripts} leaves {len(labeled)} transcribed recordings to train on and "
            f"{len(valid)} to validate on; transcribe at least twenty, spread over the recordings."
        )
    return compare_with_scratch(
        unlabeled=splits["train"],
        labeled=labeled,
        valid=valid,
        test=test,
        out=out,
        size=size,
        budget=budget,
        title=f"speechssl: {folder.name}",
    )


def join_transcripts(
    recordings: Iterable[Recording], transcribed: Iterable[Recording]
) -> list[Recording]:
    """Every recording, with the text and speaker that the table gives for its file.

    Raises ValueError where the table names files that are not in the folder, naming the first.
    """
    by_path = {r.audio.resolve(): r for r in transcribed}
    joined = []
    for recording in recordings:
        known = by_path.pop(recording.audio.resolve(), None)
        joined.append(
            replace(recording, text=known.text, speaker=known.speaker or recording.speaker)
            if known
            else recording
        )
    if by_path:
        raise ValueError(
            f"The transcripts name {len(by_path)} files that are not in the folder, the first is "
            f"{next(iter(by_path))}."
        )
    return joined


def compare_with_scratch(
    *,
    unlabeled: Sequence[Utterance],
    labeled: Sequence[Utterance],
    valid: Sequence[Utterance],
    test: Sequence[Utterance],
    out: Path,
    size: str,
    budget: Budget,
    title: str,
) -> int:
    """Pretrain on `unlabeled`, fine-tune on `labeled` with and without it, score both on `test`.

    Finished parts are not done again when the command is given again.
    """
    config = pretraining.preset(size)
    config = replace(config, loop=replace(config.loop, budget_minutes=budget.pretrain))
    say(f"\nPretraining on {_minutes(unlabeled):.0f} minutes without transcripts ...")
    pretraining.pretrain(config, unlabeled, out / "pretrain")
    rows = []
    for name, init in (("pretrained", load_model(out / "pretrain")), ("from scratch", None)):
        say(f"\nFine-tuning {name} on {_minutes(labeled):.1f} minutes with transcripts ...")
        tuning = finetuning.preset(size)
        tuning = replace(tuning, loop=replace(tuning.loop, budget_minutes=budget.finetune))
        run = out / name.replace(" ", "-")
        finetuning.finetune(tuning, labeled, valid, run, init=init)
        rows.append(Row(name, run, evaluate(load_model(run), test)))
    difference = compare(rows[1].result, rows[0].result)
    samples = _samples(rows)
    page = write_report(
        [out / "pretrain", *(row.run for row in rows)],
        out / "report.html",
        title=title,
        scores=_scores(rows),
        samples=samples,
    )
    _write_results(out / "results.json", rows, difference)
    print(_plain_table(rows))
    print(_in_words(difference))
    for sample in samples[:3]:
        print(f"\n  said:         {sample.reference}")
        for name, written in sample.hypotheses:
            print(f"  {name + ':':13} {written}")
    print(f"\nReport: {page}\nTranscriber: {rows[0].run / 'best'}")
    return 0


def say(line: str) -> None:
    """A line for the person, on stderr."""
    print(line, file=sys.stderr, flush=True)


def _read_split(path: Path) -> list[Utterance]:
    return read_manifest(path) if path.exists() else []


def _minutes(utterances: Sequence[Utterance]) -> float:
    return sum(u.duration_s for u in utterances) / 60


def _rate(value: float, low: float, high: float) -> str:
    return f"{100 * value:5.1f} % [{100 * low:.1f}, {100 * high:.1f}]"


def _cells(row: Row) -> tuple[str, str, str]:
    r = row.result
    return row.name, _rate(r.cer, r.cer_low, r.cer_high), _rate(r.wer, r.wer_low, r.wer_high)


def _plain_table(rows: Sequence[Row]) -> str:
    heads = ("model", "CER [95 %]", "WER [95 %]")
    lines = [heads, *(_cells(row) for row in rows)]
    return "\n" + "\n".join(f"  {a:<14}{b:<26}{c}" for a, b, c in lines)


def _in_words(difference: Comparison) -> str:
    cer = difference.cer
    if cer.reduction is None or cer.reduction_low is None or cer.reduction_high is None:
        return "\nFrom scratch made no error: there is nothing to gain."
    verdict = "Pretraining helps" if cer.reduction_low > 0 else "No clear gain from pretraining"
    return (
        f"\n{verdict}: CER reduced by {100 * cer.reduction:.0f} % relative "
        f"(95 % interval {100 * cer.reduction_low:.0f} to {100 * cer.reduction_high:.0f} %, "
        "paired)."
    )


def _scores(rows: Sequence[Row]) -> list[Score]:
    return [
        Score(
            row.name,
            (row.result.cer, row.result.cer_low, row.result.cer_high),
            (row.result.wer, row.result.wer_low, row.result.wer_high),
        )
        for row in rows
    ]


def _samples(rows: Sequence[Row], num: int = 8) -> list[Sample]:
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


def _write_results(path: Path, rows: Sequence[Row], difference: Comparison) -> None:
    scores = {
        row.name: {k: v for k, v in asdict(row.result).items() if k != "utterances"} for row in rows
    }
    data = {"models": scores, "difference": asdict(difference)}
    path.write_text(json.dumps(data, indent=2, default=str) + "\n", encoding="utf-8")
