"""The whole job, on synthetic speech and on a person's own recordings."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

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
    check_plan,
    check_settings,
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
    validation_cer,
    write_results,
)
from speechssl.experiment.splits import read_splits, say, transcribed
from speechssl.experiment.stages import Trainings
from speechssl.experiment.stale import make_room
from speechssl.experiment.start import Start, choose_start
from speechssl.experiment.with_lm import LM_FILE, score_with_lm
from speechssl.inference.evaluate import evaluate
from speechssl.report.page import Sample, write_report
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
    on `test`; with a start that too, as it is, pretrained, and with a student of the better one.

    A pretraining has all cores, in `processes`; of two fine-tunings at the same time each half.

    Finished parts are not done again when the command is given again. `earlier` are models of
    before, by the names of their runs (:func:`earlier_models`), beside which the new ones are put.
    """
    earlier = earlier or {}
    trainings = Trainings(out, unlabeled, labeled, valid, size, budget, processes, start)
    done = [run for stage in stages(start) if trainings.do(stage) for run in stage]
    tuned = [run for run in done if not run.pretrains]
    # What begins with the start first, and of that what learned last.
    tuned.sort(key=lambda run: (run.name in (TUNED, SCRATCH), not run.self_trains))
    rows = [
        Row(run.name, out / run.name, evaluate(load_model(out / run.name), test)) for run in tuned
    ]
    chosen = rows[0] if start is None else None
    with_lm, best = _with_lm(rows, chosen, labeled, valid, test, out)
    pairs = differences(rows, SCRATCH, TUNED)
    before = earlier or {}
    changes = [
        change(row.name, row.run, row.result, before[row.name], test)
        for row in rows
        if row.name in before
    ]
    shown = samples([*rows, *(row for row in with_lm if row.run == best.run)])
    runs = [*(run for run in done if run.pretrains), *tuned]
    page = write_report(
        [run.log_folder(out) for run in runs],
        out / "report.html",
        names=[run.name for run in runs],
        title=title,
        scores=scores([*rows, *with_lm]),
        samples=shown,
    )
    write_results(out / "results.json", rows, pairs, changes, with_lm)
    said = [in_words(pair, alone=start is None) for pair in pairs]
    said += [each.in_words() for each in changes]
    print(plain_table([*rows, *with_lm]), *said, sep="\n")
    lm = out / LM_FILE if with_lm else None
    if lm:
        print(f"LM: a language model of the labelled transcripts alone, {lm}.")
    _print_samples(shown[:3])
    print(f"\nReport: {page}\n{_offer(best, lm, is_chosen=start is not None)}")
    return 0


def _offer(best: Row, lm: Path | None, *, is_chosen: bool) -> str:
    """The recogniser that a person is to take, and why."""
    how = ", with this language model" if lm else ""
    why = f" (fewest errors on the validation set{how})" if is_chosen else ""
    with_it = f", with --lm {lm}" if lm else ""
    return f"Transcriber: {best.run / 'best'}{why}{with_it}"


def _print_samples(shown: Sequence[Sample]) -> None:
    """What was said, and below it what each model writes."""
    width = max(len(name) for sample in shown for name, _ in sample.hypotheses) + 2
    for sample in shown:
        print(f"\n  {'said:':{width}} {sample.reference}")
        for name, written in sample.hypotheses:
            print(f"  {name + ':':{width}} {written}")


def _with_lm(
    rows: Sequence[Row],
    best: Row | None,
    labeled: Path,
    valid: Path,
    test: Sequence[Utterance],
    out: Path,
) -> tuple[list[Row], Row]:
    """Scores with a language model of the labels, none, and a sentence, where there can be none;
    and `best`, or where that is None the model with the fewest errors on the validation set."""
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
        return [], best or min(rows, key=lambda row: validation_cer(row.run))
