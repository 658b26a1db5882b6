"""``speechssl next``: a model's hypotheses of a pool, what of it to correct first, and the files of
corrections for that."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from speechssl.checkpoint import Checkpoint
from speechssl.data.layouts import Recording
from speechssl.data.manifest import relative_path
from speechssl.data.prepare.drop import Dropped, categories
from speechssl.decoding.align import Word
from speechssl.desk import corrections
from speechssl.desk.choice import Offer, choose, ngrams
from speechssl.desk.corrections import SUFFIX, CorrectedSegment, Corrections, SpokenWord
from speechssl.desk.held_out import TOUCHING_S, HeldOut
from speechssl.desk.labels import audio_digest
from speechssl.desk.pool import Stretch, open_pool
from speechssl.desk.queue import QueueItem, write_queue
from speechssl.files import writing
from speechssl.inference.batching import Unreadable
from speechssl.inference.done import model_digest
from speechssl.inference.recordings import Clip
from speechssl.inference.transcribe import transcribe_files
from speechssl.inference.transcript import Transcript
from speechssl.spelling import free_name, name_key
from speechssl.workers import Processes

LEFT_OUT = "left_out.jsonl"
"""What of the pool cannot be chosen, with the reason."""

LEAST_SPEECH = 0.25
"""A stretch in which the model finds fewer symbols a second than this part of the pool's median is
taken for noise, music or silence: it would teach little for the time it takes."""


@dataclass(frozen=True)
class Candidate:
    """A stretch with a model's hypothesis."""

    stretch: Stretch
    words: tuple[Word, ...]
    """In seconds of the stretch."""
    hypothesis: str
    confidence: float

    @property
    def symbols(self) -> list[tuple[str, float]]:
        """The symbols of the words and how sure the model is of each, never calibrated: where most
        words are wrong, each word's calibrated confidence is near 0 and tells nothing apart."""
        found: list[tuple[str, float]] = []
        for word in self.words:
            if word.parts:
                found += [(part.text, part.confidence) for part in word.parts]
            else:
                own = word.confidence if word.raw_confidence is None else word.raw_confidence
                found += [(character, own) for character in word.text]
        return found


@dataclass(frozen=True)
class Proposal:
    """What to correct first."""

    items: tuple[QueueItem, ...]
    left_out: tuple[Dropped, ...]
    num_stretches: int
    pool_s: float
    """Seconds of what could be chosen."""


def propose(
    checkpoint: Checkpoint,
    records: Sequence[Recording],
    desk: Path,
    minutes: float,
    held_out: HeldOut,
    *,
    source: str,
    processes: Processes = "auto",
    say: Callable[[str], None],
) -> Proposal:
    """Choose up to `minutes` of the recordings, and write queue, corrections and what is left out
    into the folder `desk`. The same arguments give the same choice.

    Args:
        checkpoint: a fine-tuned model.
        records: the pool (:func:`speechssl.desk.pool.find_recordings`).
        desk: folder; corrections that lie there stay, and what somebody worked on is left out.
        minutes: to choose.
        held_out: what must not be corrected.
        source: where `checkpoint` was opened, for further processes.
        processes: most of them for the model.
        say: gets sentences for the person.

    Raises ValueError where nothing is left to choose from, or the model was not fine-tuned.
    """
    checkpoint.require_ctc()
    digest = model_digest(checkpoint)
    known = {path: corrections.read(path) for path in _files(desk)}
    pool = open_pool(records, desk, held_out, list(known.values()))
    left_out = list(pool.left_out)
    if not pool.stretches:
        _write_left_out(desk, left_out)
        raise ValueError(
            f"Nothing of the pool can be corrected ({counts(left_out)}): see {desk / LEFT_OUT}, "
            "or give other recordings."
        )
    candidates, unread = hypotheses(checkpoint, pool.stretches, source, processes, say)
    candidates, useless = _with_speech(candidates)
    left_out += unread + useless
    _write_left_out(desk, left_out)
    if not candidates:
        raise ValueError(
            f"The model finds no speech in any of {len(pool.stretches)} stretches: see "
            f"{desk / LEFT_OUT}; fine-tune it first (speechssl finetune)."
        )
    offers = [_offer(candidate) for candidate in candidates]
    chosen = choose(offers, 60 * minutes)
    if not chosen:
        raise ValueError(f"No stretch is as short as {minutes:g} minutes: raise --minutes.")
    picked = [(candidates[i], gain) for i, gain in chosen]
    names = write_corrections(
        desk, known, [(c.stretch.audio, _segment(c, digest)) for c, _ in picked]
    )
    items = tuple(_item(candidate, gain, *names[i]) for i, (candidate, gain) in enumerate(picked))
    write_queue(desk, items)
    seconds = sum(offer.duration_s for offer in offers)
    return Proposal(items, tuple(left_out), len(candidates), seconds)


def _files(desk: Path) -> list[Path]:
    return corrections.find(desk) if desk.is_dir() else []


def hypotheses(
    checkpoint: Checkpoint,
    stretches: Sequence[Stretch],
    source: str,
    processes: Processes,
    say: Callable[[str], None],
) -> tuple[list[Candidate], list[Dropped]]:
    """What the model makes of each stretch, greedily; and those that cannot be read."""
    clips = [Clip(s.id, s.audio, s.start_s, s.duration_s) for s in stretches]
    found, unread = [], []
    results = transcribe_files(checkpoint, clips, source=source, processes=processes, say=say)
    for stretch, result in zip(stretches, results, strict=True):
        if isinstance(result, Unreadable):
            unread.append(Dropped(stretch.id, stretch.audio, f"unreadable: {result}"))
        else:
            assert isinstance(result, Transcript)
            words = tuple(result.words)
            found.append(Candidate(stretch, words, result.text, result.confidence))
    return found, unread


def _with_speech(candidates: Sequence[Candidate]) -> tuple[list[Candidate], list[Dropped]]:
    """Those in which the model finds about as much to write as elsewhere, and the others."""
    rates = [len(c.symbols) / max(c.stretch.duration_s, 1e-3) for c in candidates]
    least = LEAST_SPEECH * median([rate for rate in rates if rate] or [0.0])
    kept, useless = [], []
    for candidate, rate in zip(candidates, rates, strict=True):
        if rate > 0 and rate >= least:
            kept.append(candidate)
            continue
        reason = (
            f"hardly any speech: the model finds {len(candidate.symbols)} symbols in "
            f"{candidate.stretch.duration_s:.1f} s"
        )
        useless.append(Dropped(candidate.stretch.id, candidate.stretch.audio, reason))
    return kept, useless


def _offer(candidate: Candidate) -> Offer:
    stretch = candidate.stretch
    group = stretch.speaker or os.path.realpath(stretch.audio)
    return Offer(stretch.duration_s, group, ngrams(candidate.symbols), stretch.speaker)


def _segment(candidate: Candidate, digest: str) -> CorrectedSegment:
    stretch = candidate.stretch
    words = tuple(
        SpokenWord(
            word.text,
            round(stretch.start_s + word.start_s, 3),
            round(stretch.start_s + word.end_s, 3),
            round(word.confidence, 4),
        )
        for word in candidate.words
    )
    return CorrectedSegment(
        f"s{round(1000 * stretch.start_s):08d}",
        stretch.start_s,
        stretch.end_s,
        candidate.hypothesis,
        candidate.hypothesis,
        round(candidate.confidence, 4),
        words,
        stretch.speaker,
        model_digest=digest,
    )


def _item(candidate: Candidate, gain: float, file: str, segment: str) -> QueueItem:
    stretch, symbols = candidate.stretch, candidate.symbols
    doubt = sum(1 - confidence for _, confidence in symbols)
    return QueueItem(
        file,
        segment,
        stretch.audio,
        stretch.start_s,
        stretch.end_s,
        candidate.hypothesis,
        round(candidate.confidence, 4),
        stretch.speaker,
        round(gain, 3),
        f"about {doubt:.0f} of {len(symbols)} symbols in doubt",
    )


def write_corrections(
    desk: Path,
    known: Mapping[Path, Corrections],
    segments: Sequence[tuple[Path, CorrectedSegment]],
) -> list[tuple[str, str]]:
    """Put segments of recordings into the desk's corrections; ``(file name, id)`` of each.

    A recording that has corrections (`known`) keeps them: what somebody worked on stays, and of the
    rest what overlaps a new segment is replaced. Raises ChangedMeanwhile.
    """
    by_audio = {os.path.realpath(made.audio): path for path, made in known.items()}
    by_digest = {made.audio_sha256: path for path, made in known.items() if made.audio_sha256}
    taken = {name_key(path.name).casefold() for path in known}
    per_file: dict[Path, list[int]] = {}
    made_of: dict[Path, Corrections] = {}
    for i, (audio, _) in enumerate(segments):
        place = os.path.realpath(audio)
        if place not in by_audio:
            digest = audio_digest(audio)
            if digest not in by_digest:
                path = desk / _free_name(audio, taken)
                made_of[path] = Corrections(audio, digest)
                by_digest[digest] = path
            by_audio[place] = by_digest[digest]
        per_file.setdefault(by_audio[place], []).append(i)
    names: dict[int, tuple[str, str]] = {}
    for path, numbers in per_file.items():
        before = known.get(path) or made_of[path]
        after, ids = _merged(before, [segments[i][1] for i in numbers])
        corrections.write(path, after, before.digest)
        for i, each in zip(numbers, ids, strict=True):
            names[i] = (path.relative_to(desk).as_posix(), each)
    return [names[i] for i in range(len(segments))]


def _free_name(audio: Path, taken: set[str]) -> str:
    return free_name(audio.stem, taken, ending=SUFFIX, key=lambda name: name_key(name).casefold())


def _merged(before: Corrections, new: Sequence[CorrectedSegment]) -> tuple[Corrections, list[str]]:
    """The corrections with new segments, and the ids of these."""
    kept = [s for s in before.segments if s.is_touched or not any(_overlap(s, n) for n in new)]
    taken = {name_key(s.id) for s in kept}
    ids = []
    for segment in new:
        ids.append(free_name(segment.id, taken))
        kept.append(replace(segment, id=ids[-1]))
    kept.sort(key=lambda s: (s.start_s, s.end_s, s.id))
    return replace(before, segments=tuple(kept)), ids


def _overlap(a: CorrectedSegment, b: CorrectedSegment) -> bool:
    return min(a.end_s, b.end_s) - max(a.start_s, b.start_s) > TOUCHING_S


def _write_left_out(desk: Path, left_out: Sequence[Dropped]) -> None:
    root = os.path.abspath(desk)
    with writing(desk / LEFT_OUT) as file:
        for item in left_out:
            row = {
                "audio": relative_path(item.audio, root),
                "reason": item.reason,
                "id": item.id,
            }
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def counts(left_out: Sequence[Dropped]) -> str:
    """How much is left out for which reason, for a person."""
    return ", ".join(f"{name} {count}" for name, count in categories(list(left_out)).items())


def speakers(items: Sequence[QueueItem]) -> dict[str, float]:
    """Minutes of each speaker that is named, the most first."""
    found: dict[str, float] = {}
    for item in items:
        if item.speaker:
            found[item.speaker] = found.get(item.speaker, 0.0) + item.duration_s / 60
    ranked = sorted(found.items(), key=lambda pair: (-pair[1], pair[0]))
    return {name: round(minutes, 1) for name, minutes in ranked}
