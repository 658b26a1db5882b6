"""The whole job, on synthetic speech and on a person's own recordings."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from speechssl.checkpoint import load_model
from speechssl.data.layouts import read_transcribed
from speechssl.data.manifest import Utterance, read_manifest
from speechssl.data.synthetic import make_corpus
from speechssl.experiment.changes import change, earlier_models
from speechssl.experiment.folder import prepare_splits
from speechssl.experiment.more_labels import LABELS, read_labels, with_labels, write_labels
from speechssl.experiment.plan import (
    SCRATCH,
    TUNED,
    Budget,
    Run,
    check_plan,
    check_settings,
    config_of,
    runs_of,
    stages,
)
from speechssl.experiment.results import (
    Row,
    differences,
    in_words,
    plain_table,
    samples,
    scores,
    write_results,
)
from speechssl.experiment.splits import minutes_of, read_splits, say, transcribed
from speechssl.experiment.stale import make_room
from speechssl.experiment.start import Start, choose_start
from speechssl.experiment.with_lm import LM_FILE, score_with_lm
from speechssl.inference.evaluate import evaluate
from speechssl.interop.sources import open_model
from speechssl.report.page import Sample, write_report
from speechssl.system import NEW_GROUP, ask_to_end
from speechssl.training import finetune as finetuning
from speechssl.training import pretrain as pretraining
from speechssl.training.processes import Processes
from speechssl.training.resume import has_state
from speechssl.training.runfolder import run_lock


def demo(out: Path, minutes: float, processes: Processes = 1, init: str | None = None) -> int:
    """The whole job on an embedded corpus: synthetic speech of many voices, few of them
    transcribed; `init` as of :func:`choose_start`.

    Raises BusyRunError, with nothing changed, where another command is at work in `out`.
    """
    start, size = choose_start(init, None)
    budget = Budget.of(minutes, start)
    began = time.monotonic()
    with run_lock(out):
        with _alone_in_runs(out, start):
            check_settings(out, size, budget, _options("--minutes", start), start)
            if start is not None:
                say(start.describe())
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
            check_plan(size, budget, unlabeled, labeled)
            make_room(out, unlabeled, labeled, valid, test, size, before={}, start=start)
        return compare_with_scratch(
            unlabeled=unlabeled,
            labeled=corpus.train,
            valid=corpus.dev,
            test=test,
            out=out,
            size=size,
            budget=budget,
            title="speechssl demo: synthetic speech",
            processes=processes,
            start=start,
        )


def run_folder(
    folder: Path,
    transcripts: Path,
    out: Path,
    budget_minutes: float,
    size: str | None,
    processes: Processes = 1,
    init: str | None = None,
    more_labels: Sequence[Path] = (),
) -> int:
    """The same on a person's own recordings, of which `transcripts` (TSV or CSV) names a few;
    `size` and `init` as of :func:`choose_start`.

    When more of them are transcribed and the command is given again, what was held out stays so,
    the pretrained model stays, and the others learn anew from all that is transcribed; how the
    error rate changed on what is held out is said. `more_labels` are desks or manifests with what
    was corrected: with them the held-out manifests stay as they are to the byte.

    Raises BusyRunError, with nothing changed, where another command is at work in `out`.
    """
    start, size = choose_start(init, size)
    budget = Budget.of(budget_minutes, start)
    source, labels = read_transcribed(folder, transcripts), read_labels(more_labels)
    data = out / "data"
    labeled, valid = data / (LABELS if labels else "train.jsonl"), data / "dev.jsonl"
    with run_lock(out):
        with _alone_in_runs(out, start):
            options = _options("--budget-minutes or --size", start)
            check_settings(out, size, budget, options, start)
            if start is not None:
                say(start.describe())
            learned = any(has_state(out / run.name) for run in runs_of(start))
            before = read_splits(data) if learned else {}
            keep = bool(labels) and any(before.values())
            splits = prepare_splits(source, transcripts, data, before, size, budget, keep=keep)
            test = transcribed(splits["test"]) or transcribed(splits["dev"])
            train, valid_set = splits["train"], splits["dev"]
            learn_from = with_labels(data, splits, labels) if labels else train
            make_room(out, train, learn_from, valid_set, test, size, before, start)
            write_labels(data, learn_from if labels else [])
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
            start=start,
            earlier=earlier_models(out, test, runs_of(start)),
        )


def _options(own: str, start: Start | None) -> str:
    """The options of a command on which the runs depend; --init where a start is among them, which
    may have come with the package since the runs began."""
    return own if start is None else f"{own.replace(' or', ',')} or --init"


@contextmanager
def _alone_in_runs(out: Path, start: Start | None) -> Iterator[None]:
    """Keep other commands out of the runs that lie in `out`, one of which may have outlived the
    command that started it."""
    with ExitStack() as held:
        for run in runs_of(start):
            if (out / run.name).is_dir():
                held.enter_context(run_lock(out / run.name))
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
    start: Start | None = None,
    earlier: Mapping[str, Path] | None = None,
) -> int:
    """Pretrain on `unlabeled`, fine-tune on the manifest `labeled` with and without it, score both
    on `test`; with a start that too, as it is and pretrained.

    A pretraining has all cores, in `processes`; of two fine-tunings at the same time each half.

    Finished parts are not done again when the command is given again. `earlier` are models of
    before, by the names of their runs (:func:`earlier_models`), beside which the new ones are put.
    """
    earlier = earlier or {}
    job = _Job(out, unlabeled, labeled, valid, size, budget, processes, start)
    for stage in stages(start):
        job.do(stage)
    tuned = [run for run in runs_of(start) if not run.pretrains]
    tuned.sort(key=lambda run: run.name in (TUNED, SCRATCH))  # what begins with the start first
    rows = [
        Row(run.name, out / run.name, evaluate(load_model(out / run.name), test)) for run in tuned
    ]
    pairs = differences(rows, SCRATCH, TUNED)
    changes = [
        change(row.name, row.run, row.result, earlier[row.name], test)
        for row in rows
        if row.name in earlier
    ]
    best = rows[0] if start is None else min(rows, key=_validation_cer)
    with_lm = _with_lm(rows, best, labeled, valid, test, out)
    of_best = [row for row in with_lm if row.run == best.run]
    shown = samples([*rows, *of_best])
    page = write_report(
        [*(out / run.name for run in runs_of(start) if run.pretrains), *(row.run for row in rows)],
        out / "report.html",
        title=title,
        scores=scores([*rows, *with_lm]),
        samples=shown,
    )
    write_results(out / "results.json", rows, pairs, changes, with_lm)
    print(plain_table([*rows, *with_lm]))
    for pair in pairs:
        print(in_words(pair, alone=start is None))
    for each in changes:
        print(each.in_words())
    if with_lm:
        print(f"LM: a language model of the labelled transcripts alone, {out / LM_FILE}.")
    _print_samples(shown[:3])
    why = "" if start is None else " (fewest errors on the validation set)"
    with_it = f", with --lm {out / LM_FILE}" if of_best else ""
    print(f"\nReport: {page}\nTranscriber: {best.run / 'best'}{why}{with_it}")
    return 0


def _print_samples(shown: Sequence[Sample]) -> None:
    """What was said, and below it what each model writes."""
    width = max(len(name) for sample in shown for name, _ in sample.hypotheses) + 2
    for sample in shown:
        print(f"\n  {'said:':{width}} {sample.reference}")
        for name, written in sample.hypotheses:
            print(f"  {name + ':':{width}} {written}")


def _with_lm(
    rows: Sequence[Row],
    best: Row,
    labeled: Path,
    valid: Path,
    test: Sequence[Utterance],
    out: Path,
) -> list[Row]:
    """Scores with a language model of the labels; none, and a sentence, where there can be none."""
    try:
        return score_with_lm(
            rows,
            best,
            labeled=read_manifest(labeled),
            valid=read_manifest(valid),
            test=test,
            out=out,
        )
    except ValueError as error:
        say(f"Not scored with a language model of the transcripts: {error}")
        return []


def _validation_cer(row: Row) -> float:
    """Of the model that is kept."""
    return float(load_model(row.run).meta["valid"]["cer"])


@dataclass(frozen=True)
class _Job:
    """The runs of an experiment."""

    out: Path
    unlabeled: Sequence[Utterance]
    labeled: Path
    valid: Path
    size: str
    budget: Budget
    processes: Processes
    start: Start | None

    def do(self, stage: Sequence[Run]) -> None:
        """The first run in here, the second, if there is one, in a process of its own."""
        first, *others = stage
        if first.pretrains:
            self._pretrain(first)
            return
        processes = self.processes
        if others and processes != "auto":
            processes = max(processes // 2, 1)
        with ExitStack() as beside:
            for run in others:
                command = self._command(run, processes)
                beside.enter_context(_at_the_same_time(command, self.out / run.name))
            self._finetune(first, processes)

    def _pretrain(self, run: Run) -> None:
        source = f", from {self._called(run)}" if self.start is not None else ""
        minutes = minutes_of(self.unlabeled)
        say(f"\nPretraining on {minutes:.0f} minutes without transcripts{source} ...")
        config = config_of(run, self.size, self.budget, self.start)
        assert isinstance(config, pretraining.PretrainConfig)
        pretraining.pretrain(
            config,
            self.unlabeled,
            self.out / run.name,
            init=self.start.model if run.from_start and self.start is not None else None,
            announce=True,
            processes=self.processes,
        )

    def _finetune(self, run: Run, processes: Processes) -> None:
        train_set, valid_set = (
            transcribed(read_manifest(path)) for path in (self.labeled, self.valid)
        )
        source = f", from {self._called(run)}" if self.start is not None else ""
        minutes = minutes_of(train_set)
        say(f"\nFine-tuning on {minutes:.1f} minutes with transcripts{source} ...")
        config = config_of(run, self.size, self.budget, self.start)
        assert isinstance(config, finetuning.FinetuneConfig)
        init = run.init(self.out, self.start)
        try:
            finetuning.finetune(
                config,
                train_set,
                valid_set,
                self.out / run.name,
                init=open_model(init),
                announce=True,
                processes=processes,
            )
        except ValueError as error:
            if "--batch_s" not in str(error):  # what would fit in memory
                raise
            raise ValueError(f"{error} `speechssl finetune --init {init}` takes these.") from error

    def _called(self, run: Run) -> str:
        """What a run begins with, in words."""
        return run.after or (
            self.start.source if run.from_start and self.start else "fresh weights"
        )

    def _command(self, run: Run, processes: Processes) -> list[str]:
        """The command that fine-tunes with the minutes that the run beside it gets."""
        init = run.init(self.out, self.start)
        command = [sys.executable, "-m", "speechssl.cli", "finetune", "--init", init]
        if init == "scratch":
            command += ["--size", self.size]
        command += ["--train", str(self.labeled), "--valid", str(self.valid)]
        command += ["--out", str(self.out / run.name)]
        minutes = str(self.budget.finetune)
        return [*command, "--budget-minutes", minutes, "--processes", str(processes)]


@contextmanager
def _at_the_same_time(command: Sequence[str], run: Path) -> Iterator[None]:
    """Run a command beside what is done in here, each on half of the cores; its lines go to
    ``RUN.log``, and the last one into the RuntimeError if it fails."""
    all_threads = torch.get_num_threads()
    threads = max(all_threads // 2, 1)
    torch.set_num_threads(threads)
    log = run.with_name(f"{run.name}.log")
    source = command[command.index("--init") + 1]
    how = "from scratch" if source == "scratch" else f"from {source}"
    say(f"\nMeanwhile a model learns {how} on the same transcripts: {log}")
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
        torch.set_num_threads(all_threads)
        if beside.poll() is None:
            ask_to_end(beside)  # it saves its state
            beside.wait()
    if code:
        last = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
        raise RuntimeError(f"Fine-tuning {how} failed: {''.join(last)} See {log}.")
