"""Finds the recording that a table means, however it writes the path."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from speechssl.data.layouts.recording import AUDIO_SUFFIXES, nfc, stem


class Finder:
    """Looks names up below `folders`, the first of which wins.

    A name is taken as it is; where there is no such file, with backslashes as slashes, in another
    Unicode form, in other upper and lower case, with another suffix of sound or none, and, where
    it is an absolute path of another machine, by its end. What would fit several files fits none.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        self.folders = list(folders)
        self._texts = [str(folder) for folder in folders]
        self._listings: dict[str, _Listing] = {}

    def find(self, name: str) -> Path:
        """The file on the disk; the place in the first folder where there is none."""
        for text, folder in zip(self._texts, self.folders, strict=True):
            # os.path, as Path.is_file fails on a name that is longer than a file's can be
            if os.path.isfile(os.path.join(text, name)):
                return folder / name
        parts, absolute = _parts(name)
        for first in range(len(parts) if absolute else 1):
            for place in self._texts:
                found = self._descend(place, parts[first:])
                if found is not None:
                    return Path(found)
        return self.folders[0] / name

    def has_recording(self, name: str) -> bool:
        """Whether a name is that of a recording which is there."""
        found = str(self.find(name))
        is_sound = os.path.splitext(found)[1].lower() in AUDIO_SUFFIXES
        return is_sound and os.path.isfile(found)

    def _descend(self, folder: str, parts: Sequence[str]) -> str | None:
        for part in parts[:-1]:
            if part == "..":
                folder = os.path.dirname(folder)
                continue
            found = self._listing(folder).folders.find(part)
            if found is None:
                return None
            folder = os.path.join(folder, found)
        if not parts:
            return None
        listing = self._listing(folder)
        found = listing.files.find(parts[-1]) or listing.stems.find(stem(parts[-1]))
        return None if found is None else os.path.join(folder, found)

    def _listing(self, folder: str) -> "_Listing":
        if folder not in self._listings:
            self._listings[folder] = _Listing(folder)
        return self._listings[folder]


class _Names:
    """Names by their Unicode form and, where that fits none, without regard to case."""

    def __init__(self) -> None:
        self._names: dict[str, list[str]] = {}
        self._folded: dict[str, list[str]] = {}

    def add(self, key: str, name: str) -> None:
        self._names.setdefault(nfc(key), []).append(name)
        self._folded.setdefault(nfc(key).casefold(), []).append(name)

    def find(self, key: str) -> str | None:
        key = nfc(key)
        found = self._names.get(key) or self._folded.get(key.casefold()) or []
        return found[0] if len(found) == 1 else None


class _Listing:
    """What lies in a folder."""

    def __init__(self, folder: str) -> None:
        self.files, self.stems, self.folders = _Names(), _Names(), _Names()
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except (OSError, ValueError):
            return
        for entry in entries:
            if entry.is_dir():
                self.folders.add(entry.name, entry.name)
            elif os.path.splitext(entry.name)[1].lower() in AUDIO_SUFFIXES:
                self.files.add(entry.name, entry.name)
                self.stems.add(stem(entry.name), entry.name)


def _parts(name: str) -> tuple[list[str], bool]:
    """``(the parts of a path, whether it is absolute)``, of this system or of Windows."""
    name = name.removeprefix("file://")
    if "\\" in name:
        name = name.replace("\\", "/")
    drive = re.match(r"[A-Za-z]:", name)
    name = name[2:] if drive else name
    parts = [part for part in name.split("/") if part not in ("", ".")]
    return parts, bool(drive) or name.startswith("/")


def slashes(name: str) -> str:
    """A name of a table as an id: forward slashes, no suffix of sound."""
    return nfc(stem(name.replace("\\", "/") if "\\" in name else name))
