"""From recordings as they are found to manifests that training can trust.

``prepare(read_layout("my_folder"), "out")`` decodes every recording once, in threads and in bounded
memory; cuts long ones without a transcript at their quietest moments; drops what cannot be used and
writes down why; splits without leaking a speaker or a sentence; and writes ``train.jsonl``,
``dev.jsonl``, ``test.jsonl`` (those that are not empty), ``summary.json`` and ``dropped.jsonl``.
What was seen in each file is kept in ``probe_cache.jsonl`` (by path, size and time of change), so a
second run is quick; it gives the same bytes.

Reasons in ``dropped.jsonl``, by their first words: `missing`, `unreadable` (not sound, cut off,
does not decode, NaN samples), `too short`, `silent`, `too quiet`, `clipped`, `too long` (with a
transcript), `transcript too long` (CTC cannot align it), `duplicate` (the same sound), `shared
sentence` (see :func:`_drop_shared_sentences`).

A blank transcript (an empty cell or file, or only invisible characters) says nothing: the recording
stays, unlabeled, and the summary counts it. Names are compared in one Unicode form
(:func:`speechssl.spelling.name_key`), so that no speaker is in train and test under two spellings.
"""

import json
import os
import sys
import unicodedata
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from hashlib import blake2b
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from speechssl import shards
from speechssl.audio import NARROW_SHARE, AudioError, Envelope, HighBand, cut_times, stream
from speechssl.data.layouts import Recording, Split
from speechssl.data.manifest import Utterance, relative_path, write_manifest
from speechssl.files import writing
from speechssl.rng import rng
from speechssl.spelling import (
    count_invisible,
    invisible_characters,
    is_blank,
    name_key,
    text_key,
)

SPLITS: tuple[Split, ...] = ("train", "dev", "test")

FULL_SCALE = 0.99
"""Samples at or beyond this count as clipped; the largest 8-bit sample is 0.992. Those of files
that go beyond full scale are divided by their peak before (:class:`speechssl.audio.Blocks`)."""

QUIET_PEAK = 0.01
"""A recording whose largest sample is below this (-40 dBFS) is quiet: the summary says so."""

LEAST_PEAK = 2 / 32768
"""Speech below this (-84 dBFS) is lost in the 16 bits of the wave cache."""

SPEECH_SPREAD_DB = 15.0
"""Loud frames of speech are further above its quiet ones than this; steady noise is within 2 dB."""

MAX_NAMED = 3
"""Recordings that a note of the summary names; ``summary.json`` holds all of them."""

MAX_SHARED_SHARE = 0.25
"""More of train or dev than this is not dropped for sentences that are in dev or test as well."""


@dataclass(frozen=True)
class PrepareConfig:
    """What is kept, cut and held out."""

    max_duration_s: float = 30.0
    """Recordings without a transcript are cut at quiet moments into parts no longer than this."""
    max_labeled_duration_s: float = 60.0
    """Recordings with a transcript cannot be cut and are dropped above this; more costs memory."""
    min_duration_s: float = 0.1
    """Shorter recordings are dropped: less than four frames of 20 ms."""
    silence_dbfs: float = -60.0
    """A recording whose largest sample is below this is silent and dropped, unless its level moves
    as that of speech does."""
    max_clipped_share: float = 0.05
    """A recording with a larger share of its samples at full scale is dropped."""
    dev_share: float = 0.1
    """Share of the hours for dev, where the source has no split of its own; 0 for none."""
    test_share: float = 0.1
    """Share of the hours for test, where the source has no split of its own; 0 for none."""
    seed: int = 0
    """Chooses what is held out; the same seed and source give the same files."""

    def __post_init__(self) -> None:
        if (
            not 0 <= self.dev_share + self.test_share < 1
            or min(self.dev_share, self.test_share) < 0
        ):
            raise ValueError(
                f"dev_share ({self.dev_share}) and test_share ({self.test_share}) must be 0 or "
                "more and together less than 1."
            )
        if not 0 < self.min_duration_s < self.max_duration_s:
            raise ValueError(
                "Durations must be 0 < min_duration_s < max_duration_s, got "
                f"{self.min_duration_s} and {self.max_duration_s}."
            )
        if self.max_duration_s > self.max_labeled_duration_s:
            raise ValueError(
                f"max_labeled_duration_s must be at least {self.max_duration_s}, the "
                f"max_duration_s, got {self.max_labeled_duration_s}: give "
                f"--max-labeled-duration-s {self.max_duration_s:g} too."
            )


@dataclass(frozen=True)
class Dropped:
    """A recording that is in no manifest, and why."""

    id: str
    audio: Path
    reason: str

    @property
    def category(self) -> str:
        """The reason without its particulars: what the summary counts."""
        return self.reason.split(":")[0]


@dataclass(frozen=True)
class SplitSummary:
    """What one manifest holds."""

    utterances: int
    hours: float
    speakers: int
    labeled_utterances: int
    labeled_hours: float


@dataclass(frozen=True)
class PrepareSummary:
    """What `prepare` found; ``summary.json`` holds the same."""

    split_by: str
    """source, speaker, text or recording: what was kept together."""
    splits: dict[str, SplitSummary]
    utterances: int
    hours: float
    speakers: int
    characters: dict[str, int]
    """Every character of the transcripts, most frequent first."""
    sample_rates: dict[str, int]
    """Utterances by the rate of their file, in Hz."""
    sliced_recordings: int
    """Recordings cut into parts because they were too long."""
    dropped: dict[str, int]
    warnings: dict[str, int]
    """How many of each, the zeros left out. Utterances: `low_rate` (file below 16 kHz),
    `narrow_band` (nothing above 4 kHz). Recordings: `blank_transcripts`, `cancelled_channels`
    (in their mean), `beyond_full_scale`, `incomplete` (sound is missing that the header states),
    `quiet` (:data:`QUIET_PEAK`).
    Transcripts: `no_letters` (punctuation alone), `invisible_characters`. And `shared_speakers` and
    `shared_sentences` (in more than one split)."""
    named: dict[str, list[str]]
    """Ids of the recordings of a warning, where it is about recordings or transcripts."""
    missing: list[str]
    """A sentence for each of the `incomplete` recordings."""
    invisible_characters: dict[str, int]
    """Characters of the transcripts that nobody sees: name -> how often, most frequent first."""
    config: PrepareConfig

    def describe(self) -> str:
        """A few lines for a person."""
        lines = [
            f"{self.hours:.2f} h in {self.utterances} utterances, {self.speakers or 'unknown'} "
            f"speakers, {len(self.characters)} characters; split by {self.split_by}"
        ]
        for name, split in self.splits.items():
            lines.append(
                f"  {name:5} {split.utterances:7} utterances {split.hours:8.2f} h, transcribed "
                f"{split.labeled_utterances} ({split.labeled_hours:.2f} h), "
                f"{split.speakers or 'unknown'} speakers"
            )
        if self.sliced_recordings:
            lines.append(f"  cut at quiet moments: {self.sliced_recordings} long recordings")
        for category, count in self.dropped.items():
            lines.append(f"  dropped {count}: {category}")
        for name, count in self.warnings.items():
            ids = self.named.get(name, [])
            first = ", ".join(ids[:MAX_NAMED]) + ", ..." * (len(ids) > MAX_NAMED)
            which = f" ({first})" if ids else ""
            lines.append(f"  note: {_WARNINGS[name].format(count)}{which}")
            if name == "incomplete":
                lines += [f"    {sentence}" for sentence in self.missing[:MAX_NAMED]]
            if name == "invisible_characters":
                found = self.invisible_characters.items()
                lines.append("    " + ", ".join(f"{number} x {c}" for c, number in found))
        return "\n".join(lines)


_WARNINGS = {
    "low_rate": "{} utterances come from files below 16 kHz",
    "narrow_band": "{} utterances hold nothing above 4 kHz though their files could",
    "shared_speakers": "{} speakers are in more than one split",
    "shared_sentences": "{} sentences are in more than one split",
    "blank_transcripts": "{} transcripts are blank, which says nothing of what was said: their "
    "recordings are taken as unlabeled",
    "no_letters": "{} transcripts hold neither a letter nor a digit",
    "invisible_characters": "{} transcripts hold characters that nobody sees",
    "cancelled_channels": "{} recordings have channels that cancel each other when they are mixed: "
    "the loudest channel is taken",
    "beyond_full_scale": "{} recordings have samples beyond full scale: they are divided by their "
    "peak",
    "incomplete": "{} recordings lack sound that their headers state: what is there is taken",
    "quiet": "{} recordings are quiet, with a peak below -40 dBFS: a model that does not normalise "
    "its input gets next to nothing of them",
}


@dataclass(frozen=True)
class _Kept:
    """An utterance on its way into a manifest, with what the manifest does not hold."""

    utterance: Utterance
    split: Split | None
    narrow_band: bool


def prepare(
    recordings: Iterable[Recording],
    out: str | Path,
    config: PrepareConfig | None = None,
    *,
    earlier: Mapping[Split, Sequence[Utterance]] | None = None,
    progress: bool | None = None,
    num_threads: int | None = None,
) -> PrepareSummary:
    """Check, cut, drop and split `recordings`, and write manifests to the folder `out`.

    `earlier` are the splits of before, from which models have learned: what was held out stays held
    out and what was trained on is trained on, so that only new recordings are split anew.
    `progress` None shows a bar when stderr is a terminal. `num_threads` None takes one per core.
    Raises ValueError when there is no recording, or when none can be used; ``dropped.jsonl`` is
    written in the latter case as well.
    """
    config = config or PrepareConfig()
    records = list(recordings)
    if not records:
        raise ValueError("There are no recordings in the source.")
    blank = [i for i, r in enumerate(records) if r.text is not None and is_blank(r.text)]
    for i in blank:
        records[i] = replace(records[i], text=None)
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    usable: list[tuple[Recording, Inspection]] = []
    dropped: list[Dropped] = []
    inspections = _inspect_all(records, out, config, progress, num_threads)
    for record, seen in zip(records, inspections, strict=True):
        reason = _reason_to_drop(record, seen, config)
        if reason is None:
            usable.append((record, seen))
        else:
            dropped.append(Dropped(record.id, record.audio, reason))
    usable, duplicates = _drop_duplicates(usable)
    kept, silent = _utterances(usable)
    dropped += duplicates + silent
    if not kept:
        _write_dropped(out, dropped)
        counts = ", ".join(f"{name} {count}" for name, count in _categories(dropped).items())
        raise ValueError(f"No recording can be used ({counts}); see {out / 'dropped.jsonl'}.")
    split_by, kept = _split(kept, config, earlier or {})
    if split_by == "speaker":
        kept, shared = _drop_shared_sentences(kept)
        dropped += shared
    kept = _unique_ids(kept)
    sliced = sum(len(seen.cuts) > 0 for _, seen in usable)
    named = {"blank_transcripts": [records[i].id for i in blank], **_notable(usable)}
    unseen = count_invisible(record.text for record, _ in usable if record.text)
    missing = [seen.missing for _, seen in usable if seen.missing]
    summary = _summarize(kept, dropped, split_by, sliced, named, missing, unseen, config)
    _write(out, kept, dropped, summary)
    return summary


# ---- looking at sound ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Inspection:
    """What decoding a recording once tells, enough to decide about it later."""

    error: str | None = None
    sample_rate: int = 0
    duration_s: float = 0.0
    peak: float = 0.0
    """The largest absolute sample of any channel."""
    clipped_share: float = 0.0
    beyond_full_scale: bool = False
    """Whether its samples are divided by their peak, which is beyond full scale."""
    spread_db: float = 0.0
    """Of a quiet recording: by how much its loud frames are above its quiet ones."""
    cancels: bool = False
    """Whether its channels cancel each other in their mean, so that one of them is taken."""
    missing: str = ""
    """A sentence where sound is missing that the header states."""
    high_share: float = 0.0
    """Share of the energy above 4 kHz (:class:`speechssl.audio.HighBand`)."""
    digest: str = ""
    """Of the mono samples at the source rate: equal for equal sound in any lossless format."""
    cuts: list[tuple[float, float, bool]] = field(default_factory=list)
    """(start_s, duration_s, silent) of each part of a long recording, in the file."""


def inspect(record: Recording, config: PrepareConfig) -> Inspection:
    """Decode `record` once, block by block; trouble with the file becomes `error`."""
    try:
        return _decode(record, config)
    except FileNotFoundError:
        return Inspection(error="missing: there is no such file")
    except (AudioError, OSError, ValueError) as error:
        return Inspection(error=f"unreadable: {error}")


def _decode(record: Recording, config: PrepareConfig) -> Inspection:
    info, blocks = stream(record.audio, start_s=record.start_s, duration_s=record.duration_s)
    expected_s = record.duration_s or info.duration_s - record.start_s
    hop = max(info.sample_rate // 100, 1)  # 10 ms
    envelope = Envelope(hop) if not record.text and expected_s > config.max_duration_s else None
    digest = blake2b(str(info.sample_rate).encode(), digest_size=16)
    num_samples, clipped, peak, high = 0, 0, 0.0, HighBand(info.sample_rate)
    quiet = _Levels(hop)
    for block in blocks:  # (S, C)
        level = np.abs(block)
        highest = float(level.max())
        peak = max(peak, highest)
        if highest >= FULL_SCALE:
            clipped += int(np.count_nonzero(level >= FULL_SCALE))
        mono = blocks.mix(block)  # (S,)
        if peak < QUIET_PEAK:
            quiet.add(mono)
        high.add(mono)
        digest.update(mono.data)
        if envelope is not None:
            envelope.add(mono)
        num_samples += len(block)
    duration_s = num_samples / info.sample_rate
    cuts: list[tuple[float, float, bool]] = []
    if envelope is not None and duration_s > config.max_duration_s:
        rms = envelope.values()
        floor = 10 ** (config.silence_dbfs / 20)
        if peak < QUIET_PEAK:  # quiet is not silent
            floor = min(floor, 0.01 * peak)
        cuts = _cut_parts(rms, hop / info.sample_rate, duration_s, record.start_s, floor, config)
    return Inspection(
        None,
        info.sample_rate,
        round(duration_s, 6),
        round(peak, 6),
        round(clipped / max(num_samples * info.channels, 1), 6),
        blocks.divisor() > 1,
        round(quiet.spread_db(), 1) if peak < QUIET_PEAK else 0.0,
        blocks.has_cancelled,
        blocks.missing,
        float(f"{high.share:.3g}"),
        digest.hexdigest(),
        cuts,
    )


class _Levels:
    """How far the level of a recording moves: the RMS of frames of `hop` samples."""

    def __init__(self, hop: int) -> None:
        self._hop = hop
        self._parts = [np.zeros(0, np.float32)]

    def add(self, mono: np.ndarray) -> None:
        """The next block (S,) float32; a frame that goes on in the next one is left out."""
        frames = mono[: len(mono) // self._hop * self._hop].reshape(-1, self._hop)
        self._parts.append(np.sqrt(np.square(frames).mean(axis=1)))

    def spread_db(self) -> float:
        """From the 10th to the 95th percentile of the frames that are not zero; 0 where they are
        less than 0.2 s."""
        rms = np.concatenate(self._parts).astype(np.float64)  # (F,)
        rms = rms[rms > 0]
        if len(rms) < 20:
            return 0.0
        low, high = np.percentile(rms, (10, 95))
        return float(20 * np.log10(high / low))


def _cut_parts(
    rms: np.ndarray,
    hop_s: float,
    duration_s: float,
    start_s: float,
    floor: float,
    config: PrepareConfig,
) -> list[tuple[float, float, bool]]:
    """(start_s, duration_s, silent) of each part; one whose frames are all below `floor` is
    silent."""
    edges = [0.0, *cut_times(rms, hop_s, duration_s, config.max_duration_s), duration_s]
    parts = []
    for begin, end in pairwise(edges):
        level = rms[round(begin / hop_s) : max(round(end / hop_s), round(begin / hop_s) + 1)]
        silent = bool(level.max(initial=0.0) < floor)
        parts.append((round(start_s + begin, 6), round(end - begin, 6), silent))
    return parts


# ---- inspecting many, with a cache --------------------------------------------------------------

_CACHE_VERSION = 3
_CHUNK = 32


def _inspect_all(
    records: Sequence[Recording],
    out: Path,
    config: PrepareConfig,
    progress: bool | None,
    num_threads: int | None,
) -> Iterator[Inspection]:
    """Inspections in the order of `records`; new ones are appended to the cache as they come."""
    from tqdm import tqdm

    path = out / "probe_cache.jsonl"
    cache = _load_cache(path)

    def work(chunk: Sequence[Recording]) -> list[tuple[str, Inspection, bool]]:
        results = []
        for record in chunk:
            key = _cache_key(record, config)
            known = cache.get(key)
            results.append((key, known or inspect(record, config), known is None))
        return results

    chunks = [records[first : first + _CHUNK] for first in range(0, len(records), _CHUNK)]
    num_threads = num_threads or os.cpu_count() or 1
    # tqdm's own None means: a bar only where the stream is a terminal.
    disable = None if progress is None else not progress
    with (
        path.open("a", encoding="utf-8") as file,
        ThreadPoolExecutor(num_threads) as threads,
        tqdm(
            total=len(records), desc="reading", unit="rec", disable=disable, file=sys.stderr
        ) as bar,
    ):
        waiting: deque[Future[list[tuple[str, Inspection, bool]]]] = deque()
        for chunk in [*chunks, *[None] * (2 * num_threads)]:
            if chunk is not None:
                waiting.append(threads.submit(work, chunk))
            if waiting and (chunk is None or len(waiting) > 2 * num_threads):
                for key, seen, new in waiting.popleft().result():
                    if new and seen.error is None:
                        file.write(json.dumps([key, *_fields(seen)]) + "\n")
                    bar.update()
                    yield seen


def _fields(seen: Inspection) -> list[Any]:
    return [getattr(seen, name) for name in Inspection.__slots__[1:]]


def _cache_key(record: Recording, config: PrepareConfig) -> str:
    """Changes with the file, the part of it, and how it would be cut. Empty: a missing file."""
    try:
        stat = os.stat(shards.file_of(record.audio))
    except OSError:
        return ""
    cut = 0.0 if record.text else (config.max_duration_s, config.silence_dbfs)
    part = (record.start_s, record.duration_s, cut)
    return f"{os.path.abspath(record.audio)}|{stat.st_size}|{stat.st_mtime_ns}|{part}"


def _load_cache(path: Path) -> dict[str, Inspection]:
    """The inspections of earlier runs; another version or a torn last line is cut away."""
    cache: dict[str, Inspection] = {}
    header = json.dumps({"version": _CACHE_VERSION}) + "\n"
    good = 0
    if path.is_file():
        with path.open("rb") as file:
            if file.readline().decode(errors="replace") == header:
                good = len(header)
                for line in file:
                    try:
                        key, *fields = json.loads(line)
                        fields[-1] = [tuple(cut) for cut in fields[-1]]
                        cache[key] = Inspection(None, *fields)
                    except (ValueError, TypeError, IndexError, RecursionError):
                        break
                    good += len(line)
    with path.open("ab") as file:
        file.truncate(good)
        if not good:
            file.write(header.encode())
    return cache


# ---- keeping and dropping -----------------------------------------------------------------------


def _reason_to_drop(record: Recording, seen: Inspection, config: PrepareConfig) -> str | None:
    if seen.error is not None:
        return seen.error
    text = None if record.text is None else clean_text(record.text)
    peak_dbfs = 20 * np.log10(max(seen.peak, 1e-9))
    if seen.duration_s < config.min_duration_s:
        return f"too short: {seen.duration_s:.3f} s, at least {config.min_duration_s} s are needed"
    if peak_dbfs < config.silence_dbfs and seen.spread_db < SPEECH_SPREAD_DB:
        level = "all samples are zero" if seen.peak == 0 else f"the peak is {peak_dbfs:.0f} dBFS"
        return f"silent: {level}"
    if seen.peak < LEAST_PEAK:
        return f"too quiet: the peak is {peak_dbfs:.0f} dBFS; raise its volume before"
    if seen.clipped_share > config.max_clipped_share:
        return f"clipped: {100 * seen.clipped_share:.1f} % of the samples are at full scale"
    if text is not None and seen.duration_s > config.max_labeled_duration_s:
        return (
            f"too long: {seen.duration_s:.1f} s with a transcript, at most "
            f"{config.max_labeled_duration_s} s"
        )
    if text is not None and ctc_frames_needed(text) > ctc_frames(seen.duration_s):
        return (
            f"transcript too long: {len(text)} characters need {ctc_frames_needed(text)} frames of "
            f"20 ms, {seen.duration_s:.2f} s have {ctc_frames(seen.duration_s)}"
        )
    return None


def clean_text(text: str) -> str:
    """NFC, white space collapsed; nothing else about a transcript is changed here."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def ctc_frames_needed(text: str) -> int:
    """Frames that CTC needs for `text`: one a character and one between equal neighbours."""
    return len(text) + sum(a == b for a, b in pairwise(text))


def ctc_frames(duration_s: float) -> int:
    """Frames of the wav2vec 2.0 encoder: windows of 25 ms every 20 ms (arXiv:2006.11477, 4.2)."""
    return max(int((round(duration_s * 16000) - 400) // 320) + 1, 0)


def _drop_duplicates(
    usable: list[tuple[Recording, Inspection]],
) -> tuple[list[tuple[Recording, Inspection]], list[Dropped]]:
    """One of each sound: first the one held out for test or dev, then one with a transcript."""
    rank = {"test": 0, "dev": 1, "train": 2, None: 3}
    order = sorted(
        range(len(usable)),
        key=lambda i: (rank[usable[i][0].split], usable[i][0].text is None, i),
    )
    first: dict[str, int] = {}
    for index in order:
        first.setdefault(usable[index][1].digest, index)
    unique, dropped = [], []
    for index, (record, seen) in enumerate(usable):
        if first[seen.digest] == index:
            unique.append((record, seen))
        else:
            original = usable[first[seen.digest]][0]
            reason = f"duplicate: the same sound as {original.id}"
            dropped.append(Dropped(record.id, record.audio, reason))
    return unique, dropped


def _utterances(
    usable: list[tuple[Recording, Inspection]],
) -> tuple[list[_Kept], list[Dropped]]:
    """One utterance a recording, or those of a long one, whose silent parts are dropped."""
    kept, dropped = [], []
    for record, seen in usable:
        narrow = seen.high_share < NARROW_SHARE
        text = None if record.text is None else clean_text(record.text)
        whole = Utterance(
            record.id,
            record.audio,
            record.start_s,
            seen.duration_s,
            seen.sample_rate,
            name_key(record.speaker or "") or None,
            text,
        )
        if not seen.cuts:
            kept.append(_Kept(whole, record.split, narrow))
        for number, (start_s, duration_s, silent) in enumerate(seen.cuts):
            name = f"{record.id}-{number:03d}"
            if silent:
                reason = f"silent: the part from {start_s:.2f} s, {duration_s:.2f} s long"
                dropped.append(Dropped(name, record.audio, reason))
            else:
                part = replace(whole, id=name, start_s=start_s, duration_s=duration_s)
                kept.append(_Kept(part, record.split, narrow))
    return kept, dropped


def _unique_ids(kept: list[_Kept]) -> list[_Kept]:
    """A second `x`, in whichever spelling, becomes `x_2`: sources repeat names, manifests must
    not."""
    keys = [name_key(item.utterance.id) for item in kept]
    taken = set(keys)
    seen: set[str] = set()
    result = []
    for item, own in zip(kept, keys, strict=True):
        name, key, number = item.utterance.id, own, 2
        while key in seen or (key != own and key in taken):
            name, number = f"{item.utterance.id}_{number}", number + 1
            key = name_key(name)
        seen.add(key)
        result.append(replace(item, utterance=replace(item.utterance, id=name)))
    return result


# ---- splitting ----------------------------------------------------------------------------------


def _split(
    kept: list[_Kept], config: PrepareConfig, earlier: Mapping[Split, Sequence[Utterance]]
) -> tuple[str, list[_Kept]]:
    """Give each utterance a split, and say what was kept together.

    The split of the source where it has one (what it leaves open goes to train); else by speaker
    when three or more are known (the unknown go to train); else, where there are transcripts, by
    sentence (recordings without go to train: held-out speech is for scoring); else by recording.
    What was in a split `earlier` stays in it.
    """
    if any(item.split for item in kept):
        return "source", [replace(item, split=item.split or "train") for item in kept]
    labeled = any(item.utterance.text for item in kept)
    if len({item.utterance.speaker for item in kept} - {None}) >= 3:
        split_by = "speaker"
        groups = [item.utterance.speaker for item in kept]
    elif labeled:
        split_by = "text"
        texts = (item.utterance.text for item in kept)
        groups = [None if text is None else sentence_key(text) for text in texts]
    else:
        split_by = "recording"
        groups = [name_key(str(item.utterance.audio)) for item in kept]
    hours: dict[str, float] = {}
    for group, item in zip(groups, kept, strict=True):
        if group is not None and (item.utterance.text or not labeled):
            hours[group] = hours.get(group, 0.0) + item.utterance.duration_s
    known = _splits_of_before(kept, groups, earlier)
    chosen = hold_out(hours, config.dev_share, config.test_share, config.seed, known)
    return split_by, [
        replace(item, split=chosen.get(group, "train") if group is not None else "train")
        for group, item in zip(groups, kept, strict=True)
    ]


def _splits_of_before(
    kept: list[_Kept],
    groups: Sequence[str | None],
    earlier: Mapping[Split, Sequence[Utterance]],
) -> dict[str, Split]:
    """The split that a group was in: that of its recordings with a transcript, where there were
    some. A group of which some were in one split and some in another is as a new one.

    A recording is known by where it lies, through whichever link; one that was moved by its name
    and times, as a run knows it again. Both in any Unicode form, but the very same one first.
    """
    places: dict[tuple[str | float, ...], tuple[bool, Split]] = {}
    alike: dict[tuple[str | float, ...], tuple[bool, Split]] = {}
    for split in earlier:
        for utterance in earlier[split]:
            was = utterance.is_labeled, split
            for known in (_name(utterance), _place(utterance)):
                places[known] = alike[_key(known)] = was
    if not places:
        return {}
    found: dict[str, set[tuple[bool, Split]]] = {}
    for item, named, group in zip(kept, _unique_ids(kept), groups, strict=True):
        if group is None:
            continue
        place, name = _place(item.utterance), _name(named.utterance)
        was = places.get(place) or places.get(name)
        was = was or alike.get(_key(place)) or alike.get(_key(name))
        if was:
            found.setdefault(group, set()).add(was)
    splits_of: dict[str, Split] = {}
    for group, seen in found.items():
        splits = {split for had_text, split in seen if had_text} or {split for _, split in seen}
        if len(splits) == 1:
            splits_of[group] = splits.pop()
    return splits_of


def _key(known: tuple[str, *tuple[float, ...]]) -> tuple[str | float, ...]:
    """A :func:`_place` or :func:`_name` in one Unicode form."""
    return name_key(known[0]), *known[1:]


def _place(utterance: Utterance) -> tuple[str, float]:
    """Where an utterance is, whatever its id."""
    return os.path.realpath(utterance.audio), round(utterance.start_s, 6)


def _name(utterance: Utterance) -> tuple[str, float, float]:
    """What an utterance is called, wherever it is: what the digest of a run's inputs is of."""
    return utterance.id, round(utterance.start_s, 6), round(utterance.duration_s, 6)


def hold_out(
    sizes: dict[str, float],
    dev_share: float,
    test_share: float,
    seed: int,
    known: Mapping[str, Split] | None = None,
) -> dict[str, Split]:
    """``{group: "dev" | "test"}`` so that each split has about its share of the total size.

    Groups are taken whole, in an order drawn from `seed`; where even one is more than the share,
    the smallest is taken. One group at least stays for train, and dev comes before test. Groups
    whose split is `known` keep it, and count for their share.
    """
    known = known or {}
    names = sorted(sizes)
    names = [names[i] for i in rng(seed, "split").permutation(len(names))]
    total = sum(sizes.values())
    chosen: dict[str, Split] = {n: split for n, split in known.items() if split != "train"}
    shares: tuple[tuple[Split, float], ...] = (("dev", dev_share), ("test", test_share))
    for split, share in shares:
        filled = sum(sizes.get(name, 0.0) for name in chosen if chosen[name] == split)
        spare = 2 if split == "dev" and test_share > 0 else 1  # groups left for what comes after
        for name in names:
            fits = filled + sizes[name] <= 1.1 * share * total
            free = name not in chosen and name not in known
            if free and fits and len(chosen) < len(names) - spare:
                chosen[name] = split
                filled += sizes[name]
            if filled >= share * total:
                break
        left = [name for name in names if name not in chosen and name not in known]
        if share > 0 and filled == 0 and len(left) > 1:
            chosen[min(left, key=lambda name: sizes[name])] = split
    return chosen


@lru_cache(maxsize=4096)
def _is_letter(character: str) -> bool:
    return unicodedata.category(character)[0] in "LMN"


def sentence_key(text: str) -> str:
    """What makes two sentences the same: letters, marks and digits, whatever their case, width and
    Unicode form."""
    key = text_key(text)
    folded = "".join(c if _is_letter(c) else " " for c in key)
    return " ".join(folded.split()) or key


def _drop_shared_sentences(kept: list[_Kept]) -> tuple[list[_Kept], list[Dropped]]:
    """Take sentences of test out of dev and train, and those of dev out of train.

    Other speakers may have read them too. Where that would cost more than a quarter of train or
    dev (digits or commands: everyone says the same) they stay, and the summary counts them.
    """
    keys = {split: _sentences(kept, split) for split in SPLITS}
    held: dict[str, set[str]] = {"train": keys["dev"] | keys["test"], "dev": keys["test"]}
    result, dropped = [], []
    for item in kept:
        text, where = item.utterance.text, "test" if item.split == "dev" else "dev or test"
        if text and sentence_key(text) in held.get(item.split or "", ()):
            reason = f"shared sentence: it is in {where} too"
            dropped.append(Dropped(item.utterance.id, item.utterance.audio, reason))
        else:
            result.append(item)
    sizes = Counter(item.split for item in kept)
    left = Counter(item.split for item in result)
    if any(sizes[split] - left[split] > MAX_SHARED_SHARE * sizes[split] for split in SPLITS[:2]):
        return kept, []
    return result, dropped


def _sentences(kept: list[_Kept], split: Split) -> set[str]:
    return {sentence_key(k.utterance.text) for k in kept if k.split == split and k.utterance.text}


# ---- writing ------------------------------------------------------------------------------------


def _summarize(
    kept: list[_Kept],
    dropped: list[Dropped],
    split_by: str,
    sliced: int,
    named: dict[str, list[str]],
    missing: list[str],
    unseen: dict[str, int],
    config: PrepareConfig,
) -> PrepareSummary:
    characters = Counter("".join(item.utterance.text or "" for item in kept))
    rates = Counter(item.utterance.sample_rate for item in kept)
    per_split = {split: [k.utterance for k in kept if k.split == split] for split in SPLITS}
    speakers = {split: {u.speaker for u in us} - {None} for split, us in per_split.items()}
    sentences = {split: _sentences(kept, split) for split in SPLITS}
    warnings = {
        "low_rate": sum(item.utterance.sample_rate < 16000 for item in kept),
        "narrow_band": sum(item.narrow_band for item in kept),
        "shared_speakers": _count_shared(list(speakers.values())),
        "shared_sentences": _count_shared(list(sentences.values())),
        **{name: len(ids) for name, ids in named.items()},
    }
    return PrepareSummary(
        split_by=split_by,
        splits={split: _summarize_split(us) for split, us in per_split.items() if us},
        utterances=len(kept),
        hours=_hours(item.utterance for item in kept),
        speakers=len(set().union(*speakers.values())),
        characters=dict(sorted(characters.items(), key=lambda item: (-item[1], item[0]))),
        sample_rates={str(rate): rates[rate] for rate in sorted(rates)},
        sliced_recordings=sliced,
        dropped=_categories(dropped),
        warnings={name: count for name, count in warnings.items() if count},
        named={name: ids for name, ids in named.items() if ids},
        missing=missing,
        invisible_characters=unseen,
        config=config,
    )


def _notable(usable: list[tuple[Recording, Inspection]]) -> dict[str, list[str]]:
    """Ids of the recordings that are used and whose sound or transcript is not as it should be, by
    warning."""
    texts = [(record.id, record.text) for record, _ in usable if record.text]
    return {
        "no_letters": [i for i, text in texts if not any(map(_is_letter, text))],
        "invisible_characters": [i for i, text in texts if invisible_characters(text)],
        "cancelled_channels": [record.id for record, seen in usable if seen.cancels],
        "beyond_full_scale": [record.id for record, seen in usable if seen.beyond_full_scale],
        "incomplete": [record.id for record, seen in usable if seen.missing],
        "quiet": [record.id for record, seen in usable if seen.peak < QUIET_PEAK],
    }


def _count_shared(sets: list[set[Any]]) -> int:
    return sum(count > 1 for count in Counter(x for s in sets for x in s).values())


def _summarize_split(utterances: list[Utterance]) -> SplitSummary:
    labeled = [utterance for utterance in utterances if utterance.text]
    return SplitSummary(
        len(utterances),
        _hours(utterances),
        len({utterance.speaker for utterance in utterances} - {None}),
        len(labeled),
        _hours(labeled),
    )


def _hours(utterances: Iterable[Utterance]) -> float:
    return round(sum(utterance.duration_s for utterance in utterances) / 3600, 4)


def _categories(dropped: list[Dropped]) -> dict[str, int]:
    return dict(sorted(Counter(item.category for item in dropped).items()))


def _write(out: Path, kept: list[_Kept], dropped: list[Dropped], summary: PrepareSummary) -> None:
    _write_dropped(out, dropped)
    for split in SPLITS:
        path = out / f"{split}.jsonl"
        utterances = [item.utterance for item in kept if item.split == split]
        if utterances:
            write_manifest(path, utterances)
        else:
            path.unlink(missing_ok=True)  # of an earlier run with other settings
    with writing(out / "summary.json") as file:
        file.write(json.dumps(asdict(summary), ensure_ascii=False, indent=2) + "\n")


def _write_dropped(out: Path, dropped: list[Dropped]) -> None:
    root = os.path.abspath(out)
    with writing(out / "dropped.jsonl") as file:
        for item in dropped:
            audio = relative_path(item.audio, root)
            row = {"audio": audio, "reason": item.reason, "id": item.id}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
