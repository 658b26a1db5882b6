"""The recordings of a desk, by number: a client names an entry of this list and never a path."""

import contextlib
import json
import os
import re
import secrets
import threading
import unicodedata
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import IO, Any

from speechssl import audio
from speechssl.audio.info import file_state
from speechssl.audio.listing import FOREIGN_SUFFIXES, SUFFIXES
from speechssl.desk import corrections
from speechssl.desk.corrections import SUFFIX, Corrections
from speechssl.system import replace

MODELS = "models"
"""In the desk: what was learned there. Recordings are not looked for in it."""


@dataclass(frozen=True)
class Entry:
    """A recording of the desk."""

    id: str
    """Of its file of corrections, by the name: it stays when others come."""
    audio: Path
    corrections: Path
    """Which need not exist."""
    name: str
    """For the person: the place in the desk."""


class DeskIndex:
    """Which recordings a folder holds, and what is known of each."""

    def __init__(self, folder: Path) -> None:
        """The folder is made; NotADirectoryError where there is a file in its place."""
        self.folder = Path(os.path.abspath(folder))
        if self.folder.exists() and not self.folder.is_dir():
            raise NotADirectoryError(f"{folder} is a file: give --desk a folder.")
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._entries: dict[str, Entry] = {}
        self._read: dict[Path, tuple[object, Corrections | str]] = {}
        self._encoded: tuple[tuple[str, str], str] = (("", ""), "")  # of the last that was opened
        self._durations: dict[Path, tuple[object, float | str]] = {}

    def entries(self) -> list[Entry]:
        """All recordings, by name: those that corrections name, and sound files without any."""
        found: dict[str, Entry] = {}
        taken: set[Path] = set()
        for path in corrections.find(self.folder):
            if not self._is_inside(path):
                continue
            made = self._corrections(path)
            if isinstance(made, Corrections):
                taken.add(made.audio)
                place = made.audio
            else:  # which cannot be read: shown with the reason
                place = path.with_name(path.name.removesuffix(SUFFIX))
            found |= self._entry(place, path)
        for place in audio.list_audio(self.folder):
            if place not in taken and self._is_inside(place):
                found |= self._entry(place, self._free_place(place, found))
        with self._lock:
            self._entries = found
        return sorted(found.values(), key=lambda entry: entry.name)

    def entry(self, number: str) -> Entry | None:
        """The recording of an id; None where there is none."""
        if number not in self._entries:
            self.entries()
        return self._entries.get(number)

    def corrections(self, entry: Entry) -> Corrections | None:
        """What is corrected of it; None where nothing is. ValueError for a broken file."""
        made = self._corrections(entry.corrections)
        if isinstance(made, str):
            raise ValueError(made)
        return made

    def segments_json(self, entry: Entry) -> tuple[str, str]:
        """The segments as JSON, and the digest of the file; null and '' where there is none.
        ValueError for a broken file."""
        made = self.corrections(entry)
        if made is None:
            return "null", ""
        kept = self._encoded
        if kept[0] != (entry.id, made.digest):
            rows = corrections.to_json(made, entry.corrections.parent)["segments"]
            text = json.dumps(rows, ensure_ascii=False, separators=(",", ":"))
            kept = self._encoded = ((entry.id, made.digest), text)
        return kept[1], made.digest

    def duration_s(self, entry: Entry) -> float:
        """Its length; ValueError with a sentence where it cannot be read."""
        state = file_state(entry.audio)
        kept = self._durations.get(entry.audio)
        if kept is None or kept[0] != state:
            try:
                value: float | str = audio.probe(entry.audio).duration_s
            except FileNotFoundError:
                value = (
                    f"The recording {entry.audio} is not there: put it back, or mend its path in "
                    f"{entry.corrections.name}."
                )
            except (ValueError, OSError) as error:
                value = str(error)
            kept = self._durations[entry.audio] = (state, value)
        if isinstance(kept[1], str):
            raise ValueError(kept[1])
        return kept[1]

    def summary(self, entry: Entry) -> dict[str, Any]:
        """What a list shows of a recording."""
        row: dict[str, Any] = {"id": entry.id, "name": entry.name, "problem": ""}
        row |= {"duration_s": 0.0, "segments": 0, "checked": 0, "is_transcribed": False}
        try:
            row["duration_s"] = round(self.duration_s(entry), 3)
            made = self.corrections(entry)
        except ValueError as error:
            row["problem"] = str(error)
            return row
        if made is not None:
            row["segments"] = len(made.segments)
            row["checked"] = sum(segment.checked for segment in made.segments)
            row["is_transcribed"] = True
        return row

    def add(self, name: str, file: IO[bytes]) -> Entry:
        """Put a recording into the desk under a name like the one that is given.

        Raises AudioError where it cannot be read as sound; nothing is left of it then.
        """
        clean = safe_name(name)
        # hidden, so that no list shows it; the suffix says how to read some formats
        part = self.folder / f".{secrets.token_hex(8)}{Path(clean).suffix}"
        try:
            with part.open("wb") as target:
                while data := file.read(1 << 20):
                    target.write(data)
            try:
                audio.probe(part)
            except audio.AudioError as error:
                raise audio.AudioError(str(error).replace(str(part), clean)) from error
            with self._lock:
                path = self._new_place(clean)
                replace(part, path)
        finally:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
        return next(entry for entry in self.entries() if entry.audio == path)

    def _new_place(self, name: str) -> Path:
        stem, suffix = os.path.splitext(name)
        path, number = self.folder / name, 1
        while path.exists():
            number += 1
            path = self.folder / f"{stem}-{number}{suffix}"
        return path

    def _entry(self, place: Path, path: Path) -> dict[str, Entry]:
        inside = path.relative_to(self.folder).as_posix()
        number = sha256(inside.encode(errors="surrogateescape")).hexdigest()[:16]
        name = place.relative_to(self.folder).as_posix() if self._is_inside(place) else place.name
        return {number: Entry(number, place, path, name)}

    def _is_inside(self, place: Path) -> bool:
        return place.is_relative_to(self.folder) and not place.is_relative_to(self.folder / MODELS)

    def _free_place(self, place: Path, found: dict[str, Entry]) -> Path:
        """Where corrections of a recording go: another one may have the same name but its
        suffix."""
        usual = place.with_name(place.stem + SUFFIX)
        taken = usual.exists() or any(entry.corrections == usual for entry in found.values())
        return place.with_name(place.name + SUFFIX) if taken else usual

    def _corrections(self, path: Path) -> Corrections | str | None:
        """As they are now, read once; a sentence where they cannot be."""
        state = file_state(path)
        if state is None:
            return None
        kept = self._read.get(path)
        if kept is None or kept[0] != state:
            try:
                made: Corrections | str = corrections.read(path)
            except (ValueError, OSError) as error:
                made = str(error)
            kept = self._read[path] = (state, made)
        return kept[1]


def safe_name(name: str) -> str:
    """A name for a file of this name, which a client gave: its last part, letters, digits, dots,
    dashes and underscores, not hidden, with a suffix of sound."""
    last = re.split(r"[/\\]", unicodedata.normalize("NFC", name))[-1]
    clean = re.sub(r"[^\w.\-]+", "_", last).strip("._-")[:80]
    stem, suffix = os.path.splitext(clean)
    if suffix.lower() not in SUFFIXES | FOREIGN_SUFFIXES:
        stem, suffix = clean, ".wav"
    if re.fullmatch(r"(?i)(con|prn|aux|nul|com\d|lpt\d|models)", stem):
        stem = f"_{stem}"
    return f"{stem.rstrip('._-') or 'recording'}{suffix.lower()}"
