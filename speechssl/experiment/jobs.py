"""The whole job, on synthetic speech and on a person's own recordings."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch

from speechssl.checkpoint import load_model
from speechssl.data.layouts import read_transcribed
from speechssl.data.manifest import Utterance, read_manifest
from speechssl.data.synthetic import make_corpus
from speechssl.experiment.folder import prepare_splits
from speechssl.experiment.plan import (
    PRETRAINING,
    RUNS,
    SCRATCH,
    TUNED,
    Budget,
    check_plan,
    check_settings,
    pretraining_config,
    tuning_config,
)
from speechssl.experiment.results import (
    Row,
    in_words,
    plain_table,
    samples,
    scores,
    write_results,
)
from speechssl.experiment.splits import minutes_of, read_splits, say, transcribed
from speechssl.experiment.stale import make_room
from speechssl.inference.evaluate import evaluate
from speechssl.report.page import write_report
from speechssl.scoring.wer import compare
from speechssl.system import NEW_GROUP, ask_to_end
from speechssl.training import finetune as finetuning
from speechssl.training import pretrain as pretraining
from speechssl.training.processes import Processes
from speechssl.training.resume import has_state
from speechssl.training.runfolder import run_lock


def demo(out: Path, minutes: float, processes: Processes = 1) -> int:
    """The whole job on an embedded corpus: synthetic speech of many voices, few of them
    transcribed.

    Raises BusyRunError, with nothing changed, where another command is at work in `out`.
    """
    budget = Budget.of(minutes)
    began = time.monotonic()
    with run_lock(out):
        with _alone_in_runs(out):
            check_settings(out, "tiny", budget, "--minutes")
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
            make_room(out, unlabeled, labeled, valid, test, "tiny", before={})
        return compare_with_scratch(
            unlabeled=unlabeled,
            labeled=corpus.train,
            valid=corpus.dev,
            test=test,
            out=out,
            size="tiny",
            budget=budget,
            title="speechssl demo: synthetic speech",
            processes=processes,
        )


def run_folder(
    folder: Path,
    transcripts: Path,
    out: Path,
    budget_minutes: float,
    size: str,
    processes: Processes = 1,
) -> int:
    """The same on a person's own recordings, of which `transcripts` (TSV or CSV) names a few.

    When more of them are transcribed and the command is given again, what was held out stays so,
    and the models learn anew from all that is transcribed.

    Raises BusyRunError, with nothing changed, where another command is at work in `out`.
    """
    budget = Budget.of(budget_minutes)
    source = read_transcribed(folder, transcripts)
    labeled, valid = out / "data" / "train.jsonl", out / "data" / "dev.jsonl"
    with run_lock(out):
        with _alone_in_runs(out):
            check_settings(out, size, budget, "--budget-minutes or --size")
            learned = any(has_state(out / name) for name in RUNS)
            before = read_splits(out / "data") if learned else {}
            splits = prepare_splits(source, transcripts, out / "data", before, size, budget)
            test = transcribed(splits["test"]) or transcribed(splits["dev"])
            make_room(out, splits["train"], splits["train"], splits["dev"], test, size, before)
        return compare_with_scratch(
            unlabeled=splits["train"],
            labeled=labeled,
            valid=valid,
            test=test,
            out=out,
            size=size,
            budget=budget,
            title=f"speechssl: {folder.name}",
            processes=processes,
        )


@contextmanager
def _alone_in_runs(out: Path) -> Iterator[None]:
    """Keep other commands out of the runs that lie in `out`, one of which may have outlived the
    command that started it."""
    with ExitStack() as held:
        for name in RUNS:
            if (out / name).is_dir():
                held.enter_context(run_lock(out / name))
        yield


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
    processes: Processes = 1,
) -> int:
    """Pretrain on `unlabeled`, fine-tune on the manifest `labeled` with and without it, score both
    on `test`.

    The pretraining has all cores, in `processes`; each fine-tuning half of both, at the same time.

    Finished parts are not done again when the command is given again.
    """
    scratch, tuned = out / SCRATCH, out / TUNED
    train_set, valid_set = transcribed(read_manifest(labeled)), transcribed(read_manifest(valid))
    say(f"\nPretraining on {minutes_of(unlabeled):.0f} minutes without transcripts ...")
    config = pretraining_config(size, budget)
    pretraining.pretrain(config, unlabeled, out / PRETRAINING, announce=True, processes=processes)
    half: Processes = "auto" if processes == "auto" else max(processes // 2, 1)
    with _at_the_same_time(_from_scratch(size, labeled, valid, scratch, budget, half), scratch):
        say(f"\nFine-tuning on {minutes_of(train_set):.1f} minutes with transcripts ...")
        tuning, init = tuning_config(size, budget), load_model(out / PRETRAINING)
        finetuning.finetune(
            tuning, train_set, valid_set, tuned, init=init, announce=True, processes=half
        )
    rows = [
        Row(name, out / name, evaluate(load_model(out / name), test)) for name in (TUNED, SCRATCH)
    ]
    difference = compare(rows[1].result, rows[0].result)
    shown = samples(rows)
    page = write_report(
        [out / PRETRAINING, *(row.run for row in rows)],
        out / "report.html",
        title=title,
        scores=scores(rows),
        samples=shown,
    )
    write_results(out / "results.json", rows, difference)
    print(plain_table(rows))
    print(in_words(difference))
    for sample in shown[:3]:
        print(f"\n  said:         {sample.reference}")
        for name, written in sample.hypotheses:
            print(f"  {name + ':':13} {written}")
    print(f"\nReport: {page}\nTranscriber: {rows[0].run / 'best'}")
    return 0


def _from_scratch(
    size: str, labeled: Path, valid: Path, run: Path, budget: Budget, processes: Processes
) -> list[str]:
    """The command that fine-tunes from scratch with the minutes that the pretrained model gets."""
    command = [sys.executable, "-m", "speechssl.cli", "finetune", "--init", "scratch"]
    command += ["--size", size, "--train", str(labeled), "--valid", str(valid), "--out", str(run)]
    return [*command, "--budget-minutes", str(budget.finetune), "--processes", str(processes)]


@contextmanager
def _at_the_same_time(command: Sequence[str], run: Path) -> Iterator[None]:
    """Run a command beside what is done in here, each on half of the cores; its lines go to
    ``RUN.log``, and the last one into the RuntimeError if it fails."""
    threads = max(torch.get_num_threads() // 2, 1)
    torch.set_num_threads(threads)
    log = run.with_name(f"{run.name}.log")
    say(f"\nMeanwhile a model learns from scratch on the same transcripts: {log}")
    with log.open("w", encoding="utf-8", newline="\n") as lines:
        beside = subprocess.Popen(
            command,
            stdout=lines,
            stderr=subprocess.STDOUT,
            env={**os.environ, "OMP_NUM_THREADS": str(threads)},
            creationflags=NEW_GROUP,
        )
    try:
        yield
        code = beside.wait()
    finally:
        if beside.poll() is None:
            ask_to_end(beside)  # it saves its state
            beside.wait()
    if code:
        last = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
        raise RuntimeError(f"Fine-tuning from scratch failed: {''.join(last)} See {log}.")
