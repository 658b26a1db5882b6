"""Which files of annotations a folder holds, and of which recordings they are."""

import os
from collections.abc import Iterable
from pathlib import Path

from speechssl.annotations import SUFFIXES, Annotations, Media, is_annotations
from speechssl.audio.listing import SUFFIXES as SOUND_SUFFIXES
from speechssl.data.layouts.columns import find_columns
from speechssl.data.layouts.dialect import CELL_SUFFIXES, read_names
from speechssl.data.layouts.finder import Finder
from speechssl.data.layouts.listing import Listing
from speechssl.data.layouts.recording import nfc
from speechssl.data.layouts.table import AUDIO_FOLDERS

NAMES_ITS_MEDIA = (".eaf", ".ctm", ".stm")
"""Files that need not have the name of their recording."""

_PLAIN = (".txt", ".lab", ".trn")

_MARKS = (".annotations", ".labels")
"""What SayMore puts between the name of a recording, with its suffix, and ``.eaf``; and what is
put between a recording's name and ``.txt`` in labels of Audacity."""


def annotation_files(listing: Listing) -> list[str]:
    """Files of annotations, and tables of times that have the name of a recording beside them."""
    bases = {_key(os.path.splitext(path)[0]) for path in listing.audio}
    found = []
    for document in listing.documents:
        base, suffix = os.path.splitext(document)
        lower = suffix.lower()
        if lower in SUFFIXES:
            found.append(document)
        elif _key(_unmarked(base)) in bases:
            of_one = lower == ".txt" and is_annotations(Path(document))
            if of_one or (lower in CELL_SUFFIXES and is_timed_table(document)):
                found.append(document)
    return found


_ORDER = (".eaf", ".textgrid", ".stm", ".srt", ".vtt", ".ass", ".ssa", ".ttml", ".txt", ".ctm")


def rank(document: str) -> int:
    """Which of several files of one recording is taken: the one that tells most comes first."""
    suffix = os.path.splitext(document)[1].lower()
    return _ORDER.index(suffix) if suffix in _ORDER else len(_ORDER)


def has_annotations(listing: Listing) -> bool:
    """Whether a folder holds files of annotations of recordings that have no plain transcript, or
    files of ELAN, beside which a .txt may be notes."""
    bases = {_key(os.path.splitext(path)[0]) for path in listing.audio}
    names = {_key(path) for path in listing.audio}
    plain = {
        _key(os.path.splitext(d)[0])
        for d in listing.documents
        if d.lower().endswith(_PLAIN) and not (d.lower().endswith(".txt") and _is_labels(d, bases))
    }
    for document in annotation_files(listing):
        base, suffix = os.path.splitext(document)
        base = _key(_unmarked(base))
        ours = base in bases or base in names or suffix.lower() in NAMES_ITS_MEDIA
        if ours and (base not in plain or suffix.lower() == ".eaf"):
            return True
    return False


def _is_labels(document: str, bases: set[str]) -> bool:
    return _key(_unmarked(os.path.splitext(document)[0])) in bases and is_annotations(
        Path(document)
    )


def is_timed_table(document: str) -> bool:
    """Whether a table has columns of starts and texts, and none that names recordings."""
    names = read_names(Path(document))
    try:
        columns = find_columns(names)
    except ValueError:
        return False
    named = columns.places["path"] is not None and columns.places["path"] != columns.places["id"]
    return not named and columns.places["text"] is not None and "start" in columns.times


def _unmarked(base: str) -> str:
    for mark in _MARKS:
        base = base.removesuffix(mark)
    return base


def _key(path: str) -> str:
    """A path as it is compared: in one Unicode form and without regard to case."""
    return nfc(path).casefold()


class Sessions:
    """Finds the recording of a file of annotations among those of a folder, and elsewhere."""

    def __init__(self, listing: Listing) -> None:
        self._listing = listing
        self._by_base: dict[str, list[str]] = {}
        self._by_path: dict[str, str] = {}
        for path in listing.audio:
            self._by_base.setdefault(_key(os.path.splitext(path)[0]), []).append(path)
            self._by_path[_key(path)] = path
        self._by_name: dict[str, list[str]] | None = None
        self._finders: dict[str, Finder] = {}
        self._together: list[set[str]] = []
        """Recordings of one session each: sound and pictures of the same time."""

    def is_table(self, document: str) -> bool:
        """Whether a file of annotations is a table."""
        return document.lower().endswith(CELL_SUFFIXES)

    def beside(self, document: str) -> list[Path]:
        """The recordings that have a file's name, those of sound alone first."""
        base = _unmarked(os.path.splitext(document)[0])
        found = self._by_base.get(_key(base), [])
        if exact := self._by_path.get(_key(base)):
            found = [exact]
        return _sound_first(map(Path, found))

    def find(self, document: str, annotations: Annotations) -> tuple[Path, float] | None:
        """``(recording, where in it the time of the annotations is zero)``; None: it is not there.

        Of several that the file names one of sound alone is taken.
        """
        found = [
            (path, media.origin_s)
            for media in annotations.media
            if (path := self._place_of(media, document)) is not None
        ]
        beside = self.beside(document)
        origins: dict[str, float] = {str(path): origin_s for path, origin_s in found}
        if not found:
            origin_s = annotations.media[0].origin_s if len(annotations.media) == 1 else 0.0
            found = [(path, origin_s) for path in beside]
            origins = {str(path): origin_s for path, origin_s in found}
        if not found:
            return None
        main = _sound_first(path for path, _ in found)[0]
        self._together.append({*origins, *map(str, beside)})
        return main, origins[str(main)]

    def spare(self, mains: set[str]) -> set[str]:
        """Recordings that are of a session of which another one is taken."""
        spare: set[str] = set()
        for together in self._together:
            spare |= {path for path in together if nfc(path) not in mains}
        return spare & set(self._listing.audio)

    def _place_of(self, media: Media, document: str) -> Path | None:
        """Where a recording is that a file names: from the file's folder, at its address, or, where
        it was moved, by its name beside the file or in the folder."""
        folder = os.path.dirname(document)
        if folder not in self._finders:
            roots = [Path(folder), self._listing.folder]
            self._finders[folder] = Finder(
                [root / name for root in roots for name in AUDIO_FOLDERS]
            )
        finder = self._finders[folder]
        for place in media.places:
            if "://" in place:  # an address on the net
                place = place.rsplit("/", 1)[1]
            for name in (place, place.replace("\\", "/").rsplit("/", 1)[-1]):
                if not name:
                    continue
                found = finder.find(name)
                if os.path.isfile(found):
                    return self._as_listed(found)
        names = {nfc(place) for place in media.places}
        listed = [path for name in names for path in self._listing.by_name.get(name, [])]
        listed = listed or self._anywhere(media)
        return Path(listed[0]) if len(set(listed)) == 1 else None

    def _anywhere(self, media: Media) -> list[str]:
        """Recordings in other folders below that have the name of the one that is meant."""
        if self._by_name is None:
            self._by_name = {}
            for path in self._listing.audio:
                self._by_name.setdefault(_key(os.path.basename(path)), []).append(path)
        wanted = {_key(p.replace("\\", "/").rsplit("/", 1)[-1]) for p in media.places}
        return [path for name in wanted for path in self._by_name.get(name, [])]

    def _as_listed(self, found: Path) -> Path:
        """The path by which the folder's walk knows a recording, where it does."""
        listed = self._by_path.get(_key(os.path.normpath(found)))
        return Path(listed) if listed else found


def _sound_first(paths: Iterable[Path]) -> list[Path]:
    """Those of sound alone before those of pictures, whose sound is often packed again."""
    return sorted(paths, key=lambda path: path.suffix.lower() not in SOUND_SUFFIXES)
