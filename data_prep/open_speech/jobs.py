"""What one process works on at a time: the clips of a speaker and session, from files to crops."""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.open_speech.clip import Clip, Source
from data_prep.open_speech.crops import Drop, crops_of, pieces_of, single
from data_prep.open_speech.decode import SAMPLE_RATE
from data_prep.open_speech.pauses import HOP_S, active_frames
from speechssl.audio import file_state, write
from speechssl.files import writing
from speechssl.workers import Group

_VERSION = 1
"""Of what is written: with another one, everything is made anew."""
_ALONE = 200
"""Clips of unknown speakers that are worked on at a time."""


@dataclass(frozen=True)
class Job:
    """Clips that are worked on together."""

    source: str
    key: str
    """Unique within the source."""
    clips: tuple[Clip, ...]
    joins: bool
    """Whether they are of one speaker and session, so that they may be joined."""

    @property
    def name(self) -> str:
        """Of its files: ASCII, and another one for another key."""
        plain = re.sub(r"[^a-z0-9]+", "-", self.key.lower()).strip("-")
        if plain == self.key:
            return plain
        mark = blake2b(self.key.encode(), digest_size=3).hexdigest()
        return "-".join(filter(None, (plain[:40], mark)))


def jobs_of(source: Source, clips: Iterable[Clip]) -> list[Job]:
    """A job for each speaker, session and language, sorted; clips of unknown speakers by number."""
    known: dict[str, list[Clip]] = {}
    unknown: dict[str, list[Clip]] = {}
    for clip in clips:
        if clip.speaker is None:
            unknown.setdefault(clip.language, []).append(clip)
        else:
            key = "/".join(filter(None, (clip.language, clip.speaker, clip.session)))
            known.setdefault(key, []).append(clip)
    jobs = [Job(source.name, key, tuple(members), True) for key, members in known.items()]
    for language, members in unknown.items():
        for first in range(0, len(members), _ALONE):
            key = f"{language}-{first // _ALONE:03d}"
            jobs.append(Job(source.name, key, tuple(members[first : first + _ALONE]), False))
    return sorted(jobs, key=lambda job: job.key)


@dataclass(frozen=True)
class Making:
    """How a process makes the crops of a job, below the folder `out`."""

    out: Path
    seed: int

    def start(self) -> "Making":
        return self

    def __call__(self, jobs: tuple[Job, ...]) -> list[Path]:
        return [self.make(job) for job in jobs]

    def path(self, job: Job) -> Path:
        """The list of what was made: it is written when all of it is there."""
        return self.out / "parts" / job.source / f"{job.name}.jsonl"

    def is_made(self, job: Job) -> bool:
        """Whether the list is there, and of the same clips and settings."""
        try:
            with self.path(job).open(encoding="utf-8") as file:
                return json.loads(file.readline()) == {"made_of": self._mark(job)}
        except (OSError, ValueError):
            return False

    def make(self, job: Job) -> Path:
        path = self.path(job)
        if self.is_made(job):
            return path
        pieces, drops = pieces_of(job.clips)
        crops = crops_of(pieces, self.seed, job.source, job.key) if job.joins else single(pieces)
        rows = []
        for number, crop in enumerate(crops):
            name = f"{job.source}-{job.name}-{number:04d}"
            place = f"audio/{job.source}/{name}.flac"
            write(self.out / place, crop.wave, SAMPLE_RATE)
            active_s = float(np.count_nonzero(active_frames(crop.wave))) * HOP_S
            rows.append(
                {
                    "id": name,
                    "audio": place,
                    "duration_s": round(len(crop.wave) / SAMPLE_RATE, 6),
                    "active_s": round(active_s, 2),
                    "language": job.clips[0].language,
                    "speaker": job.clips[0].speaker,
                    "band_hz": crop.band_hz,
                    "peak": round(float(np.abs(crop.wave).max()), 3),
                    "rms": round(float(np.sqrt(np.mean(np.square(crop.wave)))), 5),
                    "pieces": list(crop.pieces),
                    "texts": crop.texts,
                    "phones": crop.phones,
                }
            )
        with writing(path) as file:
            for row in ({"made_of": self._mark(job)}, *rows, *map(_drop_row, drops)):
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
        return path

    def _mark(self, job: Job) -> str:
        digest = blake2b(repr((_VERSION, self.seed, job.joins)).encode(), digest_size=16)
        for clip in job.clips:
            digest.update(repr((_facts(clip), file_state(clip.audio))).encode())
        return digest.hexdigest()


def _facts(clip: Clip) -> tuple[Any, ...]:
    return clip.name, clip.language, clip.speaker, clip.text, clip.phones, clip.span


def _drop_row(drop: Drop) -> dict[str, str]:
    return {"dropped": drop.name, "reason": drop.reason}


def rows_of(path: Path) -> Iterator[dict[str, Any]]:
    """Of a job's list: crops with an ``id``, and what was dropped."""
    with path.open(encoding="utf-8") as file:
        next(file)
        for line in file:
            yield json.loads(line)


def groups_of(jobs: Iterable[Job]) -> Iterator[Group[Job]]:
    for job in jobs:
        yield Group((job,), 2.0 * len(job.clips), f"{job.source} {job.key}")
