"""The main job in one go: pretrain, fine-tune on few labels, fine-tune from scratch on the same
labels, compare on a test set, write the report.

`demo` does it on synthetic speech that it makes itself, `run_folder` on a person's own recordings.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from speechssl.checkpoint import load_model
from speechssl.config.json import to_json
from speechssl.data.layouts import Recording, Split, join_folder, read_table
from speechssl.data.manifest import Utterance, read_manifest, write_manifest
from speechssl.data.prepare import SPLITS, PrepareConfig, prepare
from speechssl.data.synthetic import make_corpus
from speechssl.device import memory, pick_device
from speechssl.files import writing
from speechssl.inference.evaluate import evaluate
from speechssl.model.config import ModelConfig
from speechssl.report.page import Sample, Score, write_report
from speechssl.scoring.wer import Comparison, EvalResult, compare
from speechssl.spelling import name_key
from speechssl.text import ctc_min_frames, train_tokenizer
from speechssl.training import finetune as finetuning
from speechssl.training import pretrain as pretraining
from speechssl.training.inputs import changed, finetuning_inputs, pretraining_inputs
from speechssl.training.resume import Progress, has_state, newest_progress
from speechssl.training.runfolder import alone_in
from speechssl.training.start import starting_point

PRETRAINING, TUNED, SCRATCH = "pretrain", "pretrained", "from-scratch"
"""The folders of the three runs."""
BYTES_PER_WEIGHT = 16
"""A weight, its gradient and Adam's two moments, float32."""
RUNS = (PRETRAINING, TUNED, SCRATCH)

Splits = Mapping[Split, Sequence[Utterance]]


@dataclass(frozen=True)
class Budget:
    """How the minutes are spent."""

    pretrain: float
    finetune: float
    """Of each of the two fine-tunings."""

    @classmethod
    def of(cls, minutes: float) -> "Budget":
        """Two thirds for pretraining, a quarter for fine-tuning; a tenth stays for making, loading
        and scoring. The model from scratch learns at the same time."""
        if minutes <= 0:
            raise ValueError(f"The budget must be above 0 minutes, got {minutes:g}.")
        return cls(pretrain=0.63 * minutes, finetune=0.25 * minutes)


@dataclass(frozen=True)
class Row:
    """One model of the comparison."""

    name: str
    run: Path
    result: EvalResult


def demo(out: Path, minutes: float) -> int:
    """The whole job on an embedded corpus: synthetic speech of many voices, few of them
    transcribed.

    Raises BusyRunError, with nothing changed, where another command is at work in `out`.
    """
    budget = Budget.of(minutes)
    began = time.monotonic()
    with alone_in(out):
        with _alone_in_runs(out):
            _check_settings(out, "tiny", budget, "--minutes")
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
            unlabeled, test = read_manifest(corpus.unlabeled), read_manifest(corpus.test)
            labeled, valid = read_manifest(corpus.train), read_manifest(corpus.dev)
            check_plan("tiny", budget, unlabeled, labeled)
            _make_room(out, unlabeled, labeled, valid, test, "tiny", before={})
        return compare_with_scratch(
            unlabeled=unlabeled,
            labeled=corpus.train,
            valid=corpus.dev,
            test=test,
            out=out,
            size="tiny",
            budget=budget,
            title="speechssl demo: synthetic speech",
        )


def run_folder(folder: Path, transcripts: Path, out: Path, budget_minutes: float, size: str) -> int:
    """The same on a person's own recordings, of which `transcripts` (TSV or CSV) names a few.

    When more of them are transcribed and the command is given again, what was held out stays so,
    and the models learn anew from all that is transcribed.

    Raises BusyRunError, with nothing changed, where another command is at work in `out`.
    """
    budget = Budget.of(budget_minutes)
    recordings = _join_transcripts(folder, transcripts)
    labeled, valid = out / "data" / "train.jsonl", out / "data" / "dev.jsonl"
    with alone_in(out):
        with _alone_in_runs(out):
            _check_settings(out, size, budget, "--budget-minutes or --size")
            learned = any(has_state(out / name) for name in RUNS)
            before = _read_splits(out / "data") if learned else {}
            splits = _prepare(recordings, transcripts, out / "data", before, size, budget)
            test = _transcribed(splits["test"]) or _transcribed(splits["dev"])
            _make_room(out, splits["train"], splits["train"], splits["dev"], test, size, before)
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


@contextmanager
def _alone_in_runs(out: Path) -> Iterator[None]:
    """Keep other commands out of the runs that lie in `out`, one of which may have outlived the
    command that started it."""
    with ExitStack() as held:
        for name in RUNS:
            if (out / name).is_dir():
                held.enter_context(alone_in(out / name))
        yield


def _check_settings(out: Path, size: str, budget: Budget, options: str) -> None:
    """ValueError, before anything is changed, where a run in `out` has settings that are not those
    of `size` and `budget`; `options` are those of the command that give them."""
    tuning = _tuning(size, budget)
    configs: list[pretraining.PretrainConfig | finetuning.FinetuneConfig]
    configs = [_pretraining(size, budget), tuning, tuning]
    for name, config in zip(RUNS, configs, strict=True):
        before, settings = newest_progress(out / name), to_json(config)
        if before is not None and "dropout" in settings:  # chosen by the data
            settings["dropout"] = before.config.get("dropout")
        try:
            starting_point(out / name, config.loop, settings, {}, resume=True)
        except ValueError as error:
            raise ValueError(
                f"{out} holds the result of another {options}, or of another version: give what "
                "it began with, or another --out."
            ) from error


def _prepare(
    recordings: Sequence[Recording],
    transcripts: Path,
    data: Path,
    before: Splits,
    size: str,
    budget: Budget,
) -> dict[Split, list[Utterance]]:
    """The manifests of the recordings, written to the folder `data`, as far as they can be split as
    `before`; ValueError, with those of `before` in place, where too few are transcribed or the runs
    could not be done with them."""
    summary = prepare(
        recordings, data, PrepareConfig(), earlier=before, progress=sys.stderr.isatty()
    )
    say(summary.describe())
    splits = _read_splits(data)
    labeled, valid, test = (_transcribed(splits[name]) for name in SPLITS)
    try:
        if not labeled or not valid:
            raise ValueError(
                f"{transcripts} leaves {len(labeled)} transcribed recordings to train on and "
                f"{len(valid)} to validate on; transcribe at least twenty, spread over the "
                "recordings."
            )
        check_plan(size, budget, splits["train"], labeled)
    except ValueError:
        _write_splits(data, before)
        raise
    transcribed = len(labeled) + len(valid) + len(test)
    if any(before.values()) and len(test) < PrepareConfig.test_share * transcribed / 2:
        say(
            f"Tested on are the {len(test)} of {transcribed} transcribed recordings that were held "
            "out before, so that scores can be compared; another --out holds out its own."
        )
    return splits


def check_plan(
    size: str, budget: Budget, unlabeled: Sequence[Utterance], labeled: Sequence[Utterance]
) -> None:
    """ValueError, before any of the runs has begun, where one of them could not be done.

    Args:
        size: of the model.
        budget: the minutes of the runs.
        unlabeled: what is pretrained on.
        labeled: what is fine-tuned on; each has a transcript.
    """
    first, tuning = _pretraining(size, budget), _tuning(size, budget)
    train_set, _ = pretraining.hold_out_valid(unlabeled, first.loop.seed)
    frames, task = sum(_frames(train_set, first.model)), first.contrastive
    if task is not None and task.quantizer == "kmeans" and frames < task.entries:
        need_s = task.entries * first.model.hop_samples / first.model.sample_rate
        raise ValueError(
            f"Pretraining finds {task.entries} codes (contrastive.entries), which takes "
            f"{need_s:.0f} s of recordings at least, and there are "
            f"{60 * _minutes(train_set):.1f} s: give more recordings, or fewer codes with "
            "`speechssl pretrain --contrastive.entries N`."
        )
    texts = [u.text or "" for u in labeled]
    tokenizer = train_tokenizer(tuning.tokenizer, texts, allow_smaller=True)
    rows = [tuning.upsample * n for n in _frames(labeled, tuning.model)]
    needed = [ctc_min_frames(tokenizer.encode(text)) for text in texts]
    if all(need > most for need, most in zip(needed, rows, strict=True)):
        raise ValueError(
            f"Each of the {len(labeled)} transcripts to learn from has more characters than its "
            f"recording has frames for the size {size}: look at the transcripts, or take another "
            "--size."
        )
    _check_memory(size, first.model)


def _frames(utterances: Sequence[Utterance], model: ModelConfig) -> list[int]:
    """The most frames that a model can have of each utterance; short ones are padded to one."""
    rate, hop = model.sample_rate, model.hop_samples
    return [max(round(u.duration_s * rate) // hop, 1) for u in utterances]


def _check_memory(size: str, model: ModelConfig) -> None:
    """ValueError where not even the weights, gradients and optimizers of the two models that learn
    at the same time fit in memory."""
    context = model.context
    weights = context.num_layers * (4 * context.dim**2 + 2 * context.dim * context.ffn_dim)
    need, free = 2 * BYTES_PER_WEIGHT * weights, memory(pick_device("auto")).free
    if need > free:
        raise ValueError(
            f"Two models of the size {size} learn at the same time, and take more than "
            f"{need / 1e9:.1f} GB of memory, of which {free / 1e9:.1f} GB are free: give a smaller "
            "--size."
        )


def _join_transcripts(folder: Path, transcripts: Path) -> list[Recording]:
    """Every recording of the folder, with what the table says of it; ValueError where the table
    has no transcripts, or names files that are not in the folder, or one of them twice."""
    rows = read_table(transcripts, audio_folder=folder, needs_text=True)
    joined, elsewhere = join_folder(folder, rows)
    if elsewhere:
        raise ValueError(
            f"{transcripts} names {len(elsewhere)} recordings that are not in {folder}, the first "
            f"is {elsewhere[0].audio}."
        )
    return joined


def compare_with_scratch(
    *,
    unlabeled: Sequence[Utterance],
    labeled: Path,
    valid: Path,
    test: Sequence[Utterance],
    out: Path,
    size: str,
    budget: Budget,
    title: str,
) -> int:
    """Pretrain on `unlabeled`, fine-tune on the manifest `labeled` with and without it, score both
    on `test`.

    Finished parts are not done again when the command is given again.
    """
    scratch, tuned = out / SCRATCH, out / TUNED
    train_set, valid_set = _transcribed(read_manifest(labeled)), _transcribed(read_manifest(valid))
    with _at_the_same_time(_from_scratch(size, labeled, valid, scratch, budget), scratch):
        say(f"\nPretraining on {_minutes(unlabeled):.0f} minutes without transcripts ...")
        config = _pretraining(size, budget)
        pretraining.pretrain(config, unlabeled, out / PRETRAINING, announce=True)
        say(f"\nFine-tuning on {_minutes(train_set):.1f} minutes with transcripts ...")
        tuning, init = _tuning(size, budget), load_model(out / PRETRAINING)
        finetuning.finetune(tuning, train_set, valid_set, tuned, init=init, announce=True)
    rows = [
        Row(name, out / name, evaluate(load_model(out / name), test)) for name in (TUNED, SCRATCH)
    ]
    difference = compare(rows[1].result, rows[0].result)
    samples = _samples(rows)
    page = write_report(
        [out / PRETRAINING, *(row.run for row in rows)],
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


def _pretraining(size: str, budget: Budget) -> pretraining.PretrainConfig:
    config = pretraining.preset(size)
    return replace(config, loop=replace(config.loop, budget_minutes=budget.pretrain))


def _tuning(size: str, budget: Budget) -> finetuning.FinetuneConfig:
    config = finetuning.preset(size)
    return replace(config, loop=replace(config.loop, budget_minutes=budget.finetune))


def _make_room(
    out: Path,
    unlabeled: Sequence[Utterance],
    labeled: Sequence[Utterance],
    valid: Sequence[Utterance],
    test: Sequence[Utterance],
    size: str,
    before: Splits,
) -> None:
    """Set aside what learned from other data or was scored on others, with the manifests of
    `before`."""
    inputs = _inputs(unlabeled, _transcribed(labeled), _transcribed(valid), size)
    stale = _stale(out, inputs, before, size)
    scored = _transcribed(before.get("test", ())) or _transcribed(before.get("dev", ()))
    if stale or (scored and _heard(scored) != _heard(test)):
        _set_aside(out, stale, before)


def _inputs(
    unlabeled: Sequence[Utterance],
    labeled: Sequence[Utterance],
    valid: Sequence[Utterance],
    size: str,
) -> dict[str, dict[str, str]]:
    """Digests of the data that each run learns from."""
    texts = [u.text or "" for u in labeled]
    tokenizer = train_tokenizer(finetuning.preset(size).tokenizer, texts, allow_smaller=True)
    tuning = finetuning_inputs(labeled, valid, None, tokenizer)
    del tuning["initial model"]
    return {
        PRETRAINING: pretraining_inputs(unlabeled, [], None),
        TUNED: tuning,
        SCRATCH: tuning,
    }


def _stale(out: Path, inputs: Mapping[str, dict[str, str]], before: Splits, size: str) -> list[str]:
    """The runs in `out` that learned from other data, or began with a model that is not there any
    more. One of a version that kept no digests is taken to have learned from `before`."""
    train, dev = (before.get(name, ()) for name in SPLITS[:2])
    texts = _transcribed(train)
    old = _inputs(train, texts, _transcribed(dev), size) if texts else {}
    states = {name: newest_progress(out / name) for name in inputs}
    stale = [
        name
        for name, state in states.items()
        if state and changed(state.inputs or old.get(name, {}), inputs[name])
    ]
    gone = PRETRAINING in stale or not states[PRETRAINING]
    tuned = None if TUNED in stale else states[TUNED]
    if tuned and (gone or not _began_with(tuned, out / PRETRAINING)):
        stale.append(TUNED)
    return stale


def _began_with(tuned: Progress, pretrained: Path) -> bool:
    """Whether a fine-tuning began with the model that lies in a pretraining run's folder."""
    try:
        init = load_model(pretrained)
    except (FileNotFoundError, ValueError):  # no validation yet, or a damaged one
        return False
    name = "initial model"
    return not changed(tuned.inputs, {name: pretraining_inputs([], [], init)[name]})


def _set_aside(out: Path, runs: Sequence[str], before: Splits) -> None:
    """Move what is of other data or of a model that is gone, the scores and the report to a folder,
    with the manifests of then, and say so. No command may be at work in the runs."""
    number = 1
    while (folder := out / f"earlier-{number}").exists():
        number += 1
    _write_splits(folder / "data", before)
    folder.mkdir(exist_ok=True)
    for name in ("results.json", "report.html", *(f"{run}.log" for run in runs)):
        if (out / name).exists():
            (out / name).rename(folder / name)
    for run in runs:
        (out / run).rename(folder / run)
    anew = f", and {', '.join(runs)} begun anew" if runs else ""
    say(
        f"{out} holds results of other data or of a pretrained model that is gone: they are kept "
        f"in {folder}{anew}."
    )
    if runs and PRETRAINING not in runs and has_state(out / PRETRAINING):
        say("The pretrained model stays, as its recordings are the same.")


def _heard(utterances: Iterable[Utterance]) -> list[tuple[str, str]]:
    """What a set is scored on."""
    return [(name_key(u.id), u.text or "") for u in utterances]


def _transcribed(utterances: Iterable[Utterance]) -> list[Utterance]:
    return [u for u in utterances if u.is_labeled]


def _from_scratch(size: str, labeled: Path, valid: Path, run: Path, budget: Budget) -> list[str]:
    """The command that fine-tunes from scratch with the minutes that the pretrained model gets."""
    command = [sys.executable, "-m", "speechssl.cli", "finetune", "--init", "scratch"]
    command += ["--size", size, "--train", str(labeled), "--valid", str(valid), "--out", str(run)]
    return [*command, "--budget-minutes", str(budget.finetune)]


@contextmanager
def _at_the_same_time(command: Sequence[str], run: Path) -> Iterator[None]:
    """Run a command beside what is done in here, each on half of the cores; its lines go to
    ``RUN.log``, and the last one into the RuntimeError if it fails."""
    threads = max(torch.get_num_threads() // 2, 1)
    torch.set_num_threads(threads)
    log = run.with_name(f"{run.name}.log")
    say(f"\nMeanwhile a model learns from scratch on the same transcripts: {log}")
    with log.open("w", encoding="utf-8") as lines:
        beside = subprocess.Popen(
            command,
            stdout=lines,
            stderr=subprocess.STDOUT,
            env={**os.environ, "OMP_NUM_THREADS": str(threads)},
        )
    try:
        yield
        code = beside.wait()
    finally:
        if beside.poll() is None:
            beside.terminate()  # it saves its state
            beside.wait()
    if code:
        last = log.read_text(encoding="utf-8").strip().splitlines()[-1:]
        raise RuntimeError(f"Fine-tuning from scratch failed: {''.join(last)} See {log}.")


def say(line: str) -> None:
    """A line for the person, on stderr."""
    print(line, file=sys.stderr, flush=True)


def _read_splits(data: Path) -> dict[Split, list[Utterance]]:
    """The manifests that `prepare` wrote; an empty list where there is none."""
    paths = {split: data / f"{split}.jsonl" for split in SPLITS}
    return {split: read_manifest(p) if p.exists() else [] for split, p in paths.items()}


def _write_splits(data: Path, splits: Splits) -> None:
    for split, utterances in splits.items():
        if utterances:
            write_manifest(data / f"{split}.jsonl", utterances)


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
    with writing(path) as file:
        file.write(json.dumps(data, indent=2, default=str) + "\n")
