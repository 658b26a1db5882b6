"""Manifests of any length: opened at once, an utterance read from its line when it is asked for.

The index lies beside the manifest (``.NAME.index.npy``, 24 bytes an utterance, memory-mapped):
where each line begins, how long the utterance is, and a digest that tells it from others. It is
made when the manifest is first opened, in one pass that also finds broken lines and ids that are
there twice. It holds the size and time of change of the manifest that it is of, and is made anew
for any other.
"""

import os
import re
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from struct import Struct
from typing import Any, overload

import numpy as np

from speechssl.data.manifest import Utterance, parse_line, read_manifest
from speechssl.shards import write_array
from speechssl.spelling import name_key
from speechssl.system import open_to_read, read_at

_ROW = np.dtype([("offset", "<i8"), ("duration_s", "<f8"), ("digest", "<u8")])
"""Of an utterance. The first row of an index has the manifest's time of change (ns) as offset, the
last one its end."""
_ESCAPE = rb'\\(?:["\\/bfnrt]|u(?!0000|[dD][89a-fA-F])[0-9a-fA-F]{4})'
"""What JSON writes for one character; not for a zero byte nor half of a pair, which are looked at
more closely."""
_STRING = rb'"(?:[^"\\\x00-\x1f]|' + _ESCAPE + rb')+"'
_AS_WRITTEN = re.compile(
    rb'\{"id": "([^"\\\x00-\x1f]+)", "audio": '
    + _STRING
    + rb', "start_s": ([0-9]+(?:\.[0-9]+)?(?:e-[0-9]+)?), '
    rb'"duration_s": ([0-9]+(?:\.[0-9]+)?), "sample_rate": [1-9][0-9]*'
    rb'(?:, "speaker": ' + _STRING + rb')?(?:, "text": (?:' + _STRING + rb'|""))?\}\s*'
)
"""A line of :func:`write_manifest`: id, start and duration; any other form is parsed as JSON, which
takes longer."""
_TWO_FLOATS = Struct("<dd")
LARGE_BYTES = 64 * 2**20
"""A manifest above this (about 400,000 utterances) is indexed instead of read."""


def open_manifest(path: str | Path) -> Sequence[Utterance]:
    """The utterances of a manifest in its order: a list, or an index where it is large."""
    path = Path(path)
    if path.suffix == ".jsonl" and path.is_file() and path.stat().st_size > LARGE_BYTES:
        return ManifestIndex.open(path)
    return read_manifest(path)


class ManifestIndex(Sequence[Utterance]):
    """A manifest on the disk as a sequence. Pickles as its path and its index's."""

    def __init__(self, path: Path, rows: np.ndarray) -> None:
        """Use :meth:`open`. `rows` (N + 1,) of `_ROW`, the last of them at the file's end."""
        self._path, self._rows = path, rows
        self._root = os.path.abspath(path.parent)
        self._file: int | None = None

    @classmethod
    def open(cls, path: str | Path) -> "ManifestIndex":
        """Open a ``.jsonl`` manifest; its index is made where it is missing or out of date.

        Raises ValueError naming the line that is broken or whose id is there already.
        """
        path = Path(path)
        place = path.with_name(f".{path.name}.index.npy")
        if not _is_current(place, path):
            rows = _make_rows(path)
            try:
                write_array(place, rows)
            except OSError:  # a folder that cannot be written to: in memory, and anew next time
                return cls(path, rows[1:])
        return cls(path, np.load(place, mmap_mode="r")[1:])

    def durations_s(self) -> np.ndarray:
        """(N,) float64 seconds."""
        return np.asarray(self._rows["duration_s"][:-1])

    def digests(self) -> np.ndarray:
        """(N,) uint64, as in :func:`digests`."""
        return np.asarray(self._rows["digest"][:-1])

    def __len__(self) -> int:
        return len(self._rows) - 1

    @overload
    def __getitem__(self, index: int) -> Utterance: ...
    @overload
    def __getitem__(self, index: slice) -> list[Utterance]: ...
    def __getitem__(self, index: int | slice) -> Utterance | list[Utterance]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        index = range(len(self))[index]
        if self._file is None:
            self._file = open_to_read(self._path)
        first, last = (int(self._rows["offset"][i]) for i in (index, index + 1))
        line = read_at(self._file, last - first, first).split(b"\n", 1)[0]
        return parse_line(line, f"{self._path}, utterance {index + 1}", self._root)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_file": None}

    def __del__(self) -> None:
        if self._file is not None:
            os.close(self._file)


class Corpora(Sequence[Utterance]):
    """Several corpora one after the other, or some utterances of each; nothing is copied.

    Corpora may use the same ids: utterance ``x`` of the second of several is ``2/x``.
    """

    def __init__(
        self, parts: Sequence[Sequence[Utterance]], chosen: np.ndarray | None = None
    ) -> None:
        """`chosen`: ascending numbers of the utterances, counted over all parts; None: all."""
        self._parts = parts
        self._ends = np.cumsum([len(part) for part in parts])
        self._chosen = chosen

    def sizes(self) -> list[int]:
        """Utterances of each part."""
        ends = self._ends if self._chosen is None else np.searchsorted(self._chosen, self._ends)
        return np.diff(ends, prepend=0).tolist()

    def durations_s(self) -> np.ndarray:
        """(N,) float64 seconds."""
        whole = np.concatenate([durations_s(part) for part in self._parts])
        return whole if self._chosen is None else whole[self._chosen]

    def digests(self) -> np.ndarray:
        """(N,) uint64, as in :func:`digests`."""
        whole = np.concatenate([digests(part) for part in self._parts])
        return whole if self._chosen is None else whole[self._chosen]

    def parts(self) -> list[Sequence[Utterance]]:
        """The utterances of each corpus, as they were given where all of them are there."""
        if self._chosen is None:
            return list(self._parts)
        starts = np.concatenate([[0], self._ends[:-1]]).tolist()
        own = np.split(self._chosen, np.searchsorted(self._chosen, self._ends[:-1]))
        return [
            Corpora([part], chosen - start)
            for part, chosen, start in zip(self._parts, own, starts, strict=True)
        ]

    def choose(self, keep: np.ndarray) -> "Corpora":
        """The utterances where `keep` (N,) is True."""
        chosen = np.flatnonzero(keep)
        return Corpora(self._parts, chosen if self._chosen is None else self._chosen[chosen])

    def __len__(self) -> int:
        return int(self._ends[-1]) if self._chosen is None else len(self._chosen)

    @overload
    def __getitem__(self, index: int) -> Utterance: ...
    @overload
    def __getitem__(self, index: slice) -> list[Utterance]: ...
    def __getitem__(self, index: int | slice) -> Utterance | list[Utterance]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        index = range(len(self))[index]
        if self._chosen is not None:
            index = int(self._chosen[index])
        part = int(np.searchsorted(self._ends, index, side="right"))
        utterance = self._parts[part][index - int(self._ends[part])]
        if len(self._parts) == 1:
            return utterance
        return replace(utterance, id=f"{part + 1}/{utterance.id}")


def corpora_of(ends: np.ndarray, items: Sequence[int]) -> list[int]:
    """The number of the manifest that each utterance is from; `ends` of each manifest, among the
    utterances."""
    found: list[int] = np.searchsorted(ends, items, side="right").tolist()
    return found


def corpus_sizes(utterances: Sequence[Utterance]) -> list[int]:
    """Utterances of each corpus."""
    return utterances.sizes() if isinstance(utterances, Corpora) else [len(utterances)]


def durations_s(utterances: Sequence[Utterance]) -> np.ndarray:
    """(N,) float64 seconds, without reading the lines of an index."""
    if isinstance(utterances, (ManifestIndex, Corpora)):
        return utterances.durations_s()
    return np.array([u.duration_s for u in utterances], dtype=np.float64)


def digests(utterances: Sequence[Utterance]) -> np.ndarray:
    """(N,) uint64, of each utterance's id in its manifest, start and duration, without reading the
    lines of an index: the same wherever the manifest and its recordings lie."""
    if isinstance(utterances, (ManifestIndex, Corpora)):
        return utterances.digests()
    own = b"".join(_digest(_id_bytes(u), u.start_s, u.duration_s) for u in utterances)
    return np.frombuffer(own, "<u8")


def _digest(name: bytes, start_s: float, duration_s: float) -> bytes:
    return blake2b(name + _TWO_FLOATS.pack(start_s, duration_s), digest_size=8).digest()


def _id_bytes(utterance: Utterance) -> bytes:
    return utterance.id.encode(errors="surrogateescape")


def _is_current(place: Path, path: Path) -> bool:
    """Whether the index is whole and of this manifest: of its time of change and its length."""
    try:
        rows, manifest = np.load(place, mmap_mode="r"), path.stat()
    except (OSError, ValueError):
        return False
    if rows.dtype != _ROW or len(rows) < 2:
        return False
    state = (int(rows["offset"][0]), int(rows["offset"][-1]))
    return state == (manifest.st_mtime_ns, manifest.st_size)


def _make_rows(path: Path) -> np.ndarray:
    """(1 + N + 1,) of `_ROW`: the time of change, the utterances, the end of the file."""
    offsets, seconds, ids, own = array("q"), array("d"), array("q"), bytearray()
    changed_ns = path.stat().st_mtime_ns  # before it is read: a later change is seen next time
    for number, offset, line in _lines(path):
        if known := _AS_WRITTEN.fullmatch(line):
            name, start_s, duration_s = known[1], float(known[2]), float(known[3])
        else:
            utterance = parse_line(line, f"{path}, line {number}", "")
            name = _id_bytes(utterance)
            start_s, duration_s = utterance.start_s, utterance.duration_s
        offsets.append(offset)
        seconds.append(duration_s)
        ids.append(hash(name_key(name.decode(errors="surrogateescape"))))
        own += _digest(name, start_s, duration_s)
    if not offsets:
        raise ValueError(f"The manifest {path} is empty: it names no utterance.")
    if len(np.unique(np.frombuffer(ids, np.int64))) < len(ids):
        read_manifest(path)  # names the line
    rows = np.zeros(len(offsets) + 2, _ROW)
    rows["offset"][0], rows["offset"][-1] = changed_ns, path.stat().st_size
    rows["offset"][1:-1], rows["duration_s"][1:-1] = offsets, seconds
    rows["digest"][1:-1] = np.frombuffer(own, "<u8")
    return rows


def _lines(path: Path) -> Iterator[tuple[int, int, bytes]]:
    """``(number, offset, line)`` of the lines that are not blank."""
    offset = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.isspace():
                yield number, offset, line
            offset += len(line)
