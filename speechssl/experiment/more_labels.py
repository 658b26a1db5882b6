"""More labels for an experiment that is there: what was corrected since, beside its transcripts.

What is held out stays as it is, to the byte, so that scores before and after are of the same
recordings; labels of it are not learned from.
"""

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from speechssl.data.layouts import Recording, Split
from speechssl.data.manifest import Utterance, read_manifest, relative_path, write_manifest
from speechssl.data.prepare import PrepareConfig
from speechssl.data.prepare.drop import Dropped, categories
from speechssl.data.prepare.inspection import inspect
from speechssl.data.prepare.split import MAX_SHARED_SHARE
from speechssl.data.prepare.transcripts import sentence_key
from speechssl.desk.corrections import SUFFIX
from speechssl.desk.held_out import TOUCHING_S, HeldOut
from speechssl.desk.labels import to_manifest
from speechssl.experiment.splits import Splits, say, transcribed, write_splits
from speechssl.spelling import free_name, name_key

LABELS = "labels.jsonl"
"""In the folder of the data: what is fine-tuned on, where there are more labels."""
HELD_OUT: tuple[Split, ...] = ("dev", "test")


def keep_held_out(data: Path, before: Splits, splits: dict[Split, list[Utterance]]) -> None:
    """Bring the held-out manifests of `data`, and those of `splits`, to what they were `before`.

    Recordings that are new in them (of a speaker or a sentence that is held out) are named, and
    neither learned from nor scored. Raises ValueError, with the manifests of `before` in place,
    where one that was held out is gone or has another transcript.
    """
    for split in HELD_OUT:
        if not before.get(split):
            continue
        now = {_known(u): u for u in splits[split]}
        gone = [u for u in before[split] if _known(u) not in now]
        if gone:
            write_splits(data, before)
            raise ValueError(
                f"With --more-labels what is held out stays as it is, and {len(gone)} recordings "
                f"of {data / split}.jsonl are gone or have another transcript ({_named(gone)}): "
                "put them back, or give the command without --more-labels first."
            )
        known = {_known(u) for u in before[split]}
        added = [u for u in splits[split] if _known(u) not in known]
        if added:
            say(
                f"{len(added)} new recordings ({_named(added)}) are of speakers or sentences that "
                f"are held out in {split}: they are neither learned from nor scored."
            )
            _note(data, [Dropped(u.id, u.audio, f"held out: new in {split}") for u in added])
        splits[split] = [now[_known(u)] for u in before[split]]
        write_manifest(data / f"{split}.jsonl", splits[split])


def _known(u: Utterance) -> tuple[str, float, float, str]:
    return u.id, round(u.start_s, 6), round(u.duration_s, 6), u.text or ""


def read_labels(places: Iterable[Path]) -> list[Utterance]:
    """The labels of desks (folders or files of corrections) and of manifests, in their order.

    Raises FileNotFoundError or ValueError where one cannot be read, or has no label.
    """
    found: list[Utterance] = []
    for place in places:
        if place.is_dir() or place.name.endswith(SUFFIX):
            labels = to_manifest(place)
            why = "no checked segment in which something is said"
        else:
            labels, why = transcribed(read_manifest(place)), "no transcript"
        if not labels:
            raise ValueError(
                f"--more-labels {place} has {why}: correct some first, or leave it out."
            )
        found += labels
    return found


def with_labels(data: Path, splits: Splits, labels: Sequence[Utterance]) -> list[Utterance]:
    """What is fine-tuned on: the transcribed recordings of train, with `labels` in place of those
    that they overlap, and the other labels behind them.

    Labels of held-out recordings, or with a sentence that is held out (where that is not usual, as
    it is of commands), are left out and named. Raises ValueError where no label is left.
    """
    manifests = [data / f"{split}.jsonl" for split in HELD_OUT if splits.get(split)]
    held_out = HeldOut(manifests)
    sentences = {
        sentence_key(u.text) for split in HELD_OUT for u in splits.get(split, ()) if u.text
    }
    kept, dropped = [], []
    for u in _last_of_each(labels):
        if manifest := _held_out_in(held_out, u):
            dropped.append(Dropped(u.id, u.audio, f"held out: it is in {manifest}"))
        else:
            kept.append(u)
    shared = [u for u in kept if sentence_key(u.text or "") in sentences]
    if shared and len(shared) <= MAX_SHARED_SHARE * len(kept):
        reason = "shared sentence: it is in dev or test too"
        dropped += [Dropped(u.id, u.audio, reason) for u in shared]
        kept = [u for u in kept if u not in shared]
    if dropped:
        reasons = ", ".join(f"{name} {num}" for name, num in categories(dropped).items())
        say(
            f"{len(dropped)} of the {len(labels)} labels are not learned from ({reasons}); "
            f"{data / 'dropped.jsonl'} names them."
        )
        _note(data, dropped)
    if not kept:
        raise ValueError(
            "None of the labels of --more-labels can be learned from: all are of held-out "
            "recordings or sentences."
        )
    old = transcribed(splits["train"])
    by_file = _by_file(kept)
    rest = [u for u in old if not any(_overlap(u, x) for x in by_file.get(_file(u), ()))]
    if len(rest) < len(old):
        say(f"{len(old) - len(rest)} transcripts are replaced by what was corrected of them.")
    return [*rest, *_with_own_ids(rest, kept)]


def write_labels(data: Path, learned_from: Sequence[Utterance]) -> None:
    """Write ``labels.jsonl``, or remove that of an earlier command where there are none more."""
    path = data / LABELS
    if learned_from:
        write_manifest(path, learned_from)
    elif path.exists():
        path.unlink()
        say("The earlier models learned from --more-labels too, which are not given this time.")


def _held_out_in(held_out: HeldOut, u: Utterance) -> str:
    files = held_out.files_of(u.audio)
    if manifest := held_out.part(files, u.start_s, u.start_s + u.duration_s):
        return manifest
    record = Recording(u.id, u.audio, u.start_s, u.duration_s)
    return held_out.whole(record, u.duration_s, inspect(record, PrepareConfig()).digest)


def _last_of_each(labels: Sequence[Utterance]) -> list[Utterance]:
    """Without those of which a later label corrects a part again."""
    found = list(_by_file(labels).values())
    kept: list[Utterance] = []
    for same_file in found:
        for place, u in enumerate(same_file):
            if not any(_overlap(u, later) for later in same_file[place + 1 :]):
                kept.append(u)
    if len(kept) < len(labels):
        say(f"{len(labels) - len(kept)} labels are there again further on: the last ones count.")
    return kept


def _file(u: Utterance) -> str:
    return os.path.realpath(u.audio)


def _by_file(utterances: Iterable[Utterance]) -> dict[str, list[Utterance]]:
    found: dict[str, list[Utterance]] = {}
    for u in utterances:
        found.setdefault(_file(u), []).append(u)
    return found


def _overlap(a: Utterance, b: Utterance) -> bool:
    """Of two stretches of one file."""
    ends = min(a.start_s + a.duration_s, b.start_s + b.duration_s)
    return ends - max(a.start_s, b.start_s) > TOUCHING_S


def _with_own_ids(others: Iterable[Utterance], labels: Iterable[Utterance]) -> list[Utterance]:
    """The labels, each with an id that no other utterance has."""
    taken = {name_key(u.id) for u in others}
    return [replace(label, id=free_name(label.id, taken, mark="_")) for label in labels]


def _note(data: Path, dropped: Iterable[Dropped]) -> None:
    """Into ``dropped.jsonl``, behind what `prepare` dropped."""
    root = os.path.abspath(data)
    with (data / "dropped.jsonl").open("a", encoding="utf-8", newline="\n") as file:
        for item in dropped:
            audio = relative_path(item.audio, root)
            row = {"audio": audio, "reason": item.reason, "id": item.id}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def _named(utterances: Sequence[Utterance]) -> str:
    more = ", ..." if len(utterances) > 3 else ""
    return ", ".join(u.id for u in utterances[:3]) + more
