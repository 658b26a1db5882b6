"""Runs of an earlier command: kept where their data are the same, set aside where not."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from speechssl.checkpoint import load_model
from speechssl.data.manifest import Utterance, read_manifest, write_manifest
from speechssl.data.prepare import SPLITS
from speechssl.experiment.more_labels import LABELS
from speechssl.experiment.plan import PRETRAINING, runs_of
from speechssl.experiment.splits import Splits, say, transcribed, write_splits
from speechssl.experiment.start import Start
from speechssl.spelling import name_key
from speechssl.system import rename
from speechssl.text import train_tokenizer
from speechssl.training import finetune as finetuning
from speechssl.training.inputs import (
    changed,
    digest_of_model,
    finetuning_inputs,
    pretraining_inputs,
)
from speechssl.training.resume import Progress, has_state, newest_progress


def make_room(
    out: Path,
    unlabeled: Sequence[Utterance],
    labeled: Sequence[Utterance],
    valid: Sequence[Utterance],
    test: Sequence[Utterance],
    size: str,
    before: Splits,
    start: Start | None = None,
) -> None:
    """Set aside what learned from other data, began with another start or was scored on other data,
    with the manifests of `before`."""
    inputs = _inputs(unlabeled, transcribed(labeled), transcribed(valid), size, start)
    stale = _stale(out, inputs, before, size, start)
    scored = transcribed(before.get("test", ())) or transcribed(before.get("dev", ()))
    if stale or (scored and scored_on(scored) != scored_on(test)):
        _set_aside(out, stale, before)


def _inputs(
    unlabeled: Sequence[Utterance],
    labeled: Sequence[Utterance],
    valid: Sequence[Utterance],
    size: str,
    start: Start | None,
) -> dict[str, dict[str, str]]:
    """Digests of the data that each run learns from, and of what it begins with where that is no
    other run's."""
    texts = [u.text or "" for u in labeled]
    tokenizer = train_tokenizer(finetuning.preset(size).tokenizer, texts, allow_smaller=True)
    tuning = finetuning_inputs(labeled, valid, None, tokenizer)
    first = pretraining_inputs(unlabeled, [], None)
    own = "" if start is None else digest_of_model(start.model)
    found = {}
    for run in runs_of(start):
        if run.self_trains:
            continue
        found[run.name] = dict(first if run.pretrains else tuning)
        if run.from_start:
            found[run.name][_INITIAL] = own
        elif run.after:
            del found[run.name][_INITIAL]
    return found


_INITIAL = "initial model"


def _stale(
    out: Path,
    inputs: Mapping[str, dict[str, str]],
    before: Splits,
    size: str,
    start: Start | None,
) -> list[str]:
    """The runs in `out` that learned from other data, or from or after a model that is not there
    any more. One of a version that kept no digests is taken to have learned from `before`."""
    train, dev = (before.get(name, ()) for name in SPLITS[:2])
    texts = transcribed(train)
    old = _inputs(train, texts, transcribed(dev), size, start) if texts else {}
    states = {name: newest_progress(out / name) for name in inputs}
    stale = [
        name
        for name, state in states.items()
        if state and changed(state.inputs or old.get(name, {}), inputs[name])
    ]
    for run in (each for each in runs_of(start) if each.name in states):
        tuned = None if run.name in stale else states[run.name]
        if not run.after or not tuned:
            continue
        gone = run.after in stale or not states[run.after]
        if gone or not _began_with(tuned, out / run.after):
            stale.append(run.name)
    for run in runs_of(start):
        if run.self_trains and (out / run.name).exists() and (stale or not all(states.values())):
            stale.append(run.name)  # its teacher may be one of those
    return stale


def _began_with(tuned: Progress, pretrained: Path) -> bool:
    """Whether a fine-tuning began with the model that lies in a pretraining run's folder."""
    try:
        init = load_model(pretrained)
    except (FileNotFoundError, ValueError):  # no validation yet, or a damaged one
        return False
    return not changed(tuned.inputs, {_INITIAL: digest_of_model(init)})


def _set_aside(out: Path, runs: Sequence[str], before: Splits) -> None:
    """Move what is of other data or of a model that is gone, the scores and the report to a folder,
    with the manifests of then, and say so. No command may be at work in the runs."""
    number = 1
    while (folder := out / f"earlier-{number}").exists():
        number += 1
    write_splits(folder / "data", before)
    folder.mkdir(exist_ok=True)
    if (labels := out / "data" / LABELS).exists():
        write_manifest(folder / "data" / LABELS, read_manifest(labels))
    for name in ("results.json", "report.html", *(f"{run}.log" for run in runs)):
        if (out / name).exists():
            rename(out / name, folder / name)
    for run in runs:
        rename(out / run, folder / run)
    anew = f", and {', '.join(runs)} begun anew" if runs else ""
    say(
        f"{out} holds results of other data or of a pretrained model that is gone: they are kept "
        f"in {folder}{anew}."
    )
    if runs and PRETRAINING not in runs and has_state(out / PRETRAINING):
        say("The pretrained model stays, as its recordings are the same.")


def scored_on(utterances: Iterable[Utterance]) -> list[tuple[str, str]]:
    """What a set is scored on."""
    return [(name_key(u.id), u.text or "") for u in utterances]
