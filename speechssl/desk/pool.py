"""The stretches of a pool that can be corrected, and what of it cannot, with the reason."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from speechssl.data.layouts import Recording
from speechssl.data.layouts.dialect import TABLE_SUFFIXES
from speechssl.data.manifest import read_manifest
from speechssl.data.prepare import PrepareConfig
from speechssl.data.prepare.cache import inspect_all
from speechssl.data.prepare.drop import Dropped, drop_duplicates, reason_to_drop
from speechssl.data.prepare.inspection import Inspection
from speechssl.desk.corrections import Corrections
from speechssl.desk.held_out import TOUCHING_S, HeldOut
from speechssl.inference.recordings import find_clips
from speechssl.spelling import is_blank, name_key
from speechssl.workers import Processes

SEGMENT_S = 15.0
"""A longer recording is cut at quiet places into parts of at most so much: what a person can keep
in mind while correcting it."""

CONFIG = PrepareConfig(max_duration_s=SEGMENT_S)


@dataclass(frozen=True)
class Stretch:
    """A recording or a part of one, in seconds of its file."""

    id: str
    audio: Path
    start_s: float
    end_s: float
    speaker: str

    @property
    def duration_s(self) -> float:
        return self.end_s - self.start_s


@dataclass(frozen=True)
class Pool:
    """What may be chosen, in the order of the recordings, and what may not."""

    stretches: tuple[Stretch, ...]
    left_out: tuple[Dropped, ...]


def find_recordings(places: Sequence[str]) -> list[Recording]:
    """The recordings of files, folders and manifests (or tables), in the order given.

    Raises FileNotFoundError for what does not exist, and ValueError for a folder without recordings
    or a damaged manifest, before any recording is opened.
    """
    found: list[Recording] = []
    for place in places:
        path = Path(place)
        if path.suffix.lower() in TABLE_SUFFIXES:
            found += [
                Recording(u.id, u.audio, u.start_s, u.duration_s, u.speaker, u.text)
                for u in read_manifest(path)
            ]
        elif place == "-":
            raise ValueError("A pool is files, folders and manifests, not standard input.")
        else:
            for clip in find_clips([place]):
                file = Path(str(clip.source))
                name = file.relative_to(clip.folder) if clip.folder else Path(file.name)
                found.append(
                    Recording(name.with_suffix("").as_posix(), Path(os.path.abspath(file)))
                )
    return found


def open_pool(
    records: Sequence[Recording],
    out: Path,
    held_out: HeldOut,
    desk: Sequence[Corrections],
    *,
    processes: Processes = 1,
) -> Pool:
    """Look at every recording, cut long ones, and leave out what cannot be used or is held out, has
    a transcript, or is being corrected.

    Args:
        records: see :func:`find_recordings`.
        out: folder for the cache of what was seen.
        held_out: what must not be corrected.
        desk: the corrections that there are.
        processes: as of :func:`inspect_all`.
    """
    left_out: list[Dropped] = []
    untold: list[Recording] = []
    for record in records:
        if is_blank(record.text):
            untold.append(_without_text(record))
        else:
            left_out.append(Dropped(record.id, record.audio, "transcribed: it has a transcript"))
    out.mkdir(parents=True, exist_ok=True)
    usable: list[tuple[Recording, Inspection]] = []
    inspections = inspect_all(untold, out, CONFIG, None, None, processes)
    for record, seen in zip(untold, inspections, strict=True):
        reason = reason_to_drop(record, seen, CONFIG)
        if reason is None and (manifest := held_out.whole(record, seen.duration_s, seen.digest)):
            reason = f"held out: it is in {manifest}"
        if reason is None:
            usable.append((record, seen))
        else:
            left_out.append(Dropped(record.id, record.audio, reason))
    usable, doubles = drop_duplicates(usable)
    stretches: list[Stretch] = []
    files: dict[Path, list[str]] = {}
    busy = _busy(desk)
    for record, seen in usable:
        if record.audio not in files:
            files[record.audio] = held_out.files_of(record.audio)
        for stretch, silent in _cut(record, seen):
            manifest = held_out.part(files[record.audio], stretch.start_s, stretch.end_s)
            reason = f"held out: it is in {manifest}" if manifest else ""
            reason = reason or ("silent: all of it" if silent else "")
            reason = reason or _at_work(busy, stretch)
            if reason:
                left_out.append(Dropped(stretch.id, stretch.audio, reason))
            else:
                stretches.append(stretch)
    return Pool(tuple(stretches), (*left_out, *doubles))


def _without_text(record: Recording) -> Recording:
    return Recording(
        record.id, record.audio, record.start_s, record.duration_s, record.speaker, None
    )


def _cut(record: Recording, seen: Inspection) -> list[tuple[Stretch, bool]]:
    """The parts of a recording, and whether each is silent."""
    speaker = name_key(record.speaker or "")
    start_s, end_s = record.start_s, round(record.start_s + seen.duration_s, 6)
    if not seen.cuts:
        return [(Stretch(record.id, record.audio, start_s, end_s, speaker), False)]
    return [
        (
            Stretch(f"{record.id}-{n:03d}", record.audio, s, round(s + length, 6), speaker),
            silent,
        )
        for n, (s, length, silent) in enumerate(seen.cuts)
    ]


_Busy = dict[str, list[tuple[float, float, bool]]]


def _busy(desk: Sequence[Corrections]) -> _Busy:
    """By file: (start_s, end_s, checked) of segments on which somebody has worked."""
    found: _Busy = {}
    for made in desk:
        found.setdefault(os.path.realpath(made.audio), []).extend(
            (s.start_s, s.end_s, s.checked) for s in made.segments if s.is_touched
        )
    return found


def _at_work(busy: _Busy, stretch: Stretch) -> str:
    for start_s, end_s, is_checked in busy.get(os.path.realpath(stretch.audio), ()):
        if min(end_s, stretch.end_s) - max(start_s, stretch.start_s) > TOUCHING_S:
            return "corrected: somebody " + ("checked it" if is_checked else "is at work on it")
    return ""
