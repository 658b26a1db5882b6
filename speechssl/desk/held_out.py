"""What must not be corrected and learned from: recordings that are held out for scores.

A recording is known again by where it lies, by the content of its file, by its sound (in any format
without loss), and by its name where its length agrees too (in another format).
"""

import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from speechssl import audio, shards
from speechssl.data.layouts import Recording
from speechssl.data.layouts.recording import stem
from speechssl.data.manifest import Utterance, read_manifest
from speechssl.data.prepare import PrepareConfig
from speechssl.data.prepare.inspection import inspect
from speechssl.desk.labels import audio_digest
from speechssl.spelling import name_key
from speechssl.training.runfolder import VALID_SET

ALIKE_S = 0.2
"""By which the length of a recording may differ in another format: encoders add some silence."""
TOUCHING_S = 0.01
"""Two stretches that share less do not overlap."""


@dataclass(frozen=True)
class _Stretch:
    """A part of a recording that is held out, and the manifest that says so."""

    start_s: float
    end_s: float
    manifest: str


class HeldOut:
    """The recordings of manifests; asked for one recording of a pool after the other."""

    def __init__(self, manifests: Iterable[Path], *, labels: Iterable[Path] = ()) -> None:
        """`manifests`: all of their utterances; `labels`: those that have a transcript.

        Raises what :func:`read_manifest` raises, and ValueError where a recording is not there: it
        could not be known again under another name.
        """
        self._stretches: dict[str, list[_Stretch]] = defaultdict(list)  # by file
        self._sizes: dict[int, list[str]] = defaultdict(list)
        self._stems: dict[str, list[str]] = defaultdict(list)
        self._names: dict[str, list[tuple[float, str]]] = defaultdict(list)
        self._lengths: dict[int, list[tuple[Utterance, str]]] = defaultdict(list)
        self._digests: dict[str, str] = {}
        self._sounds: dict[tuple[str, float, float], str] = {}
        for path in manifests:
            self._add(path, read_manifest(path))
        for path in labels:
            self._add(path, [u for u in read_manifest(path) if u.is_labeled])

    def _add(self, manifest: Path, utterances: Sequence[Utterance]) -> None:
        missing = [u for u in utterances if audio.file_state(u.audio) is None]
        if missing:
            raise ValueError(
                f"{len(missing)} recordings of {manifest} are not there (the first: "
                f"{missing[0].audio}), so that it cannot be told whether they are in the pool: put "
                "them back, mend the manifest, or leave it out."
            )
        for u in utterances:
            place = os.path.realpath(u.audio)
            if place not in self._stretches:
                self._sizes[_size(u.audio)].append(place)
                self._stems[_stem(u.audio)].append(place)
            self._stretches[place].append(
                _Stretch(u.start_s, u.start_s + u.duration_s, str(manifest))
            )
            self._names[name_key(u.id)].append((u.duration_s, str(manifest)))
            self._lengths[round(u.duration_s)].append((u, str(manifest)))

    def __bool__(self) -> bool:
        return bool(self._stretches)

    def whole(self, record: Recording, duration_s: float, sound: str) -> str:
        """The manifest that holds a recording (or the part of it that the pool names) out as a
        whole; '' where none does.

        `sound` is the digest of its samples (:attr:`.inspection.Inspection.digest`).
        """
        for name in {name_key(record.id), _stem(record.audio)}:
            for length_s, manifest in self._names.get(name, ()):
                if abs(length_s - duration_s) <= ALIKE_S:
                    return manifest
        near = round(duration_s)
        for length in (near - 1, near, near + 1):
            for u, manifest in self._lengths.get(length, ()):
                if abs(u.duration_s - duration_s) <= ALIKE_S and self._sound(u) == sound:
                    return manifest
        return ""

    def files_of(self, path: Path) -> list[str]:
        """The held-out files that are the file `path`."""
        place = os.path.realpath(path)
        found = [place] if place in self._stretches else []
        for other in self._sizes.get(_size(path), ()):
            if other not in found and self._digest(other) == self._digest(place):
                found.append(other)
        for other in self._stems.get(_stem(path), ()):
            if other not in found and self._lasts_as_long(other, path):
                found.append(other)
        return found

    def part(self, files: Iterable[str], start_s: float, end_s: float) -> str:
        """The manifest that holds out something of a stretch of one of :func:`files_of`; '' where
        none does."""
        for place in files:
            for held in self._stretches[place]:
                if min(end_s, held.end_s) - max(start_s, held.start_s) > TOUCHING_S:
                    return held.manifest
        return ""

    def _digest(self, place: str) -> str:
        if place not in self._digests:
            self._digests[place] = audio_digest(Path(place))
        return self._digests[place]

    def _sound(self, u: Utterance) -> str:
        key = (str(u.audio), u.start_s, u.duration_s)
        if key not in self._sounds:
            record = Recording(u.id, u.audio, u.start_s, u.duration_s)
            self._sounds[key] = inspect(record, PrepareConfig()).digest
        return self._sounds[key]

    def _lasts_as_long(self, place: str, path: Path) -> bool:
        try:
            lengths_s = [audio.probe(Path(each)).duration_s for each in (place, path)]
        except (audio.AudioError, OSError):
            return True  # rather one too many
        return abs(lengths_s[0] - lengths_s[1]) <= ALIKE_S


def _size(path: Path) -> int:
    """Bytes of a recording; -1 where it is not there."""
    member = shards.read_member(path) if ".tar" in str(path) else None
    if member is not None:
        return len(member)
    state = audio.file_state(path)
    return state[0] if state else -1


def _stem(path: Path) -> str:
    return name_key(stem(path.name))


def known_sets(model: str) -> tuple[list[Path], list[Path]]:
    """``(held-out manifests, manifests of what is transcribed already)`` that lie where `model` was
    made: the validation set of its run, and the sets of `speechssl run`."""
    place = Path(model)
    if not place.is_dir():
        return [], []
    place = place.resolve()
    runs = [place, place.parent]
    held = [run / VALID_SET for run in runs] + [
        run.parent / "data" / f"{split}.jsonl" for run in runs for split in ("dev", "test")
    ]
    labeled = [
        run.parent / "data" / f"{name}.jsonl" for run in runs for name in ("train", "labels")
    ]
    return [path for path in held if path.is_file()], [path for path in labeled if path.is_file()]
