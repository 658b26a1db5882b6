"""One walk through a folder: its recordings, and the files that may hold their transcripts."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from speechssl.audio.listing import walk
from speechssl.data.layouts.dialect import (
    CELL_SUFFIXES,
    JSON_SUFFIXES,
    is_headless,
    names_paths,
    read_names,
)
from speechssl.data.layouts.finder import Finder
from speechssl.data.layouts.recording import AUDIO_SUFFIXES, nfc, stem
from speechssl.data.layouts.unused import NEVER_TEXT, may_hold_text

_OURS = {
    *("probe_cache.jsonl", "metrics.jsonl", "results.json", "model.safetensors", "config.json"),
}
"""Files by which a folder is known that `prepare` or a training has written, or that is a model."""


@dataclass(frozen=True)
class Listing:
    """What lies below a folder."""

    folder: Path
    audio: list[str]
    """Paths of all recordings, in the order of :func:`speechssl.audio.list_audio`."""
    documents: list[str]
    """Paths of all files that may hold transcripts or times, sorted: those with a suffix or name of
    such, and whatever else has the name of a recording beside it."""

    @classmethod
    def of(cls, folder: Path) -> "Listing":
        audio: list[str] = []
        documents: list[str] = []
        others: list[str] = []
        for folder_name, names in walk(folder):
            ours = not _OURS.isdisjoint(names)
            parent = str(Path(folder_name))
            prefix = "" if parent == "." else os.path.join(parent, "")
            for name in names:
                if os.path.splitext(name)[1].lower() in AUDIO_SUFFIXES:
                    audio.append(prefix + name)
                elif not ours and may_hold_text(name):
                    documents.append(prefix + name)
                elif not ours and os.path.splitext(name)[1].lower() not in NEVER_TEXT:
                    others.append(prefix + name)
        if others:
            bases = {os.path.splitext(path)[0] for path in audio}
            documents += (path for path in others if not bases.isdisjoint(_bases(path)))
        audio.sort(key=lambda path: path.split(os.sep))
        return cls(folder, audio, sorted(documents))

    @classmethod
    def of_one(cls, recording: Path) -> "Listing":
        """A single recording, and the files beside it that have its name."""
        wanted = nfc(recording.stem).casefold()
        beside = (
            str(path)
            for path in recording.parent.iterdir()
            if nfc(path.stem).casefold() == wanted and may_hold_text(path.name)
        )
        return cls(recording.parent, [str(recording)], sorted(beside))

    @cached_property
    def by_name(self) -> dict[str, list[str]]:
        """The recordings of each name, without folder and suffix."""
        found: dict[str, list[str]] = {}
        for path in self.audio:
            found.setdefault(nfc(stem(os.path.basename(path))), []).append(path)
        return found

    @cached_property
    def tables(self) -> dict[str, list[Path]]:
        """Tables whose header names paths, by the folder in which they lie; no JSON that has the
        name of a recording, which is of that one."""
        names = {os.path.splitext(path)[0] for path in self.audio}
        found: dict[str, list[Path]] = {}
        for text in self.documents:
            base, suffix = os.path.splitext(text)
            is_json = suffix.lower() in JSON_SUFFIXES
            if suffix.lower() in CELL_SUFFIXES or (is_json and base not in names):
                path = Path(text)
                if names_paths(read_names(path)) and not (is_json and is_manifest(path)):
                    found.setdefault(str(path.parent), []).append(path)
        return found

    def headless_tables(self, audio_folders: Sequence[str]) -> list[Path]:
        """Tables of the folder itself that have no header and begin with a recording's name."""
        here = [Path(path) for path in self.documents if path.lower().endswith(CELL_SUFFIXES)]
        here = [path for path in here if path.parent == self.folder]
        if not here:
            return []
        finder = Finder([self.folder / name for name in audio_folders])
        return [path for path in here if is_headless(path, finder.has_recording)]

    def shards(self) -> list[Path]:
        """The tar files below the folder."""
        return [Path(path) for path in self.documents if path.lower().endswith(".tar")]


def _bases(path: str) -> tuple[str, str]:
    """A path without its last suffix, and without all of them."""
    folder, name = os.path.split(path)
    return os.path.splitext(path)[0], os.path.join(folder, name.split(".")[0])


def is_manifest(path: Path) -> bool:
    """Whether a .jsonl is a manifest of this package."""
    return path.suffix == ".jsonl" and {"id", "audio", "sample_rate"} <= set(read_names(path))
