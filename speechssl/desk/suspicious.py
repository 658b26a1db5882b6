"""Transcripts that look wrong (``speechssl check``) as a queue to correct and as a tier of ELAN."""

import math
from collections.abc import Sequence
from pathlib import Path

from speechssl.annotations import Annotations, Segment, Tier
from speechssl.annotations.eaf_writing import add_tier, write_eaf
from speechssl.data.layouts.recording import stem
from speechssl.data.manifest import Utterance
from speechssl.desk import corrections
from speechssl.desk.corrections import CorrectedSegment
from speechssl.desk.propose import write_corrections
from speechssl.desk.queue import QueueItem, write_queue
from speechssl.files import replacing
from speechssl.inference.check import Judged
from speechssl.spelling import free_name, name_key

TIER = "suspicious"
LARGEST = 1e6
"""In place of an infinite suspicion, which JSON cannot hold."""


def queue_suspicious(
    desk: Path, judged: Sequence[Judged], utterances: Sequence[Utterance], model_digest: str
) -> list[QueueItem]:
    """Write suspicious transcripts into the folder `desk`, in their order: each as an unchecked
    segment whose text is the transcript and whose hypothesis is the model's.

    Raises ValueError where a file of corrections there is broken, ChangedMeanwhile.
    """
    known = {p: corrections.read(p) for p in (corrections.find(desk) if desk.is_dir() else ())}
    pairs = _with_utterances(judged, utterances)
    given = [(u.audio, _segment(one, u, model_digest)) for one, u in pairs]
    names = write_corrections(desk, known, given)
    items = [
        QueueItem(
            file,
            key,
            audio,
            segment.start_s,
            segment.end_s,
            segment.hypothesis,
            segment.confidence,
            segment.speaker,
            round(min(one.suspicion, LARGEST), 3),
            why(one),
        )
        for one, (audio, segment), (file, key) in zip(judged, given, names, strict=True)
    ]
    write_queue(desk, items)
    return items


def _with_utterances(
    judged: Sequence[Judged], utterances: Sequence[Utterance]
) -> list[tuple[Judged, Utterance]]:
    """Each with its utterance; ids may be there once in each of several manifests."""
    known = {(u.id, str(u.audio), u.start_s): u for u in utterances}
    return [(one, known[one.id, one.audio, one.start_s]) for one in judged]


def _segment(judged: Judged, u: Utterance, model_digest: str) -> CorrectedSegment:
    return CorrectedSegment(
        f"s{round(1000 * u.start_s):08d}",
        u.start_s,
        round(u.start_s + u.duration_s, 6),
        judged.hypothesis,
        judged.transcript,
        round(math.exp(-max(judged.own_loss, 0.0)), 4),
        (),
        name_key(u.speaker or ""),
        model_digest=model_digest,
    )


def why(judged: Judged) -> str:
    """What speaks against a transcript, for a person."""
    if math.isinf(judged.suspicion):
        return "the recording is too short for its transcript"
    return (
        f"transcript in doubt: {judged.suspicion:.2f} nats a symbol, CER {100 * judged.cer:.0f} %"
    )


def write_tiers(
    folder: Path, judged: Sequence[Judged], utterances: Sequence[Utterance]
) -> list[Path]:
    """Write a file of ELAN for each recording with suspicious transcripts; the files.

    It is a copy of the ``x.eaf`` beside ``x.wav``, in which all else is as it was, with a tier
    `suspicious` more; where there is none a new one, with the transcripts too. An annotation of the
    tier is the model's hypothesis and what speaks against the transcript.

    Raises FileExistsError, before anything is written, where a file is there.
    """
    found: dict[Path, list[tuple[Judged, Utterance]]] = {}
    for one, u in _with_utterances(judged, utterances):
        found.setdefault(u.audio, []).append((one, u))
    targets: dict[Path, Path] = {}
    taken: set[str] = set()
    for audio in found:
        targets[audio] = folder / f"{free_name(stem(audio.name), taken, key=str.casefold)}.eaf"
    if there := [path for path in targets.values() if path.exists()]:
        raise FileExistsError(f"{there[0]} is there and is not overwritten: give another folder.")
    for audio, target in targets.items():
        _write(target, audio, found[audio])
    return list(targets.values())


def _write(target: Path, audio: Path, found: Sequence[tuple[Judged, Utterance]]) -> None:
    """The file of one recording."""
    rows = sorted(found, key=lambda pair: pair[1].start_s)
    marks = Tier(TIER, tuple(_annotation(u, f"{one.hypothesis} [{why(one)}]") for one, u in rows))
    own = audio.with_name(f"{stem(audio.name)}.eaf")
    if own.is_file():
        data, _ = add_tier(own.read_bytes(), marks, own)
    else:
        texts = Tier("transcript", tuple(_annotation(u, one.transcript) for one, u in rows))
        data = write_eaf(Annotations((texts, marks)), audio, target.parent).encode()
    with replacing(target) as part:
        part.write_bytes(data)


def _annotation(u: Utterance, text: str) -> Segment:
    return Segment(u.start_s, u.start_s + u.duration_s, " ".join(text.split()), u.speaker or "")
