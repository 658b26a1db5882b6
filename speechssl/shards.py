"""Recordings inside tar files, as WebDataset writes them: ``shard-0001.tar/key.wav`` is a path.

A member is found through an index beside its shard (``.NAME.tar.index.npy``, 24 bytes a member,
memory-mapped), which is made when the shard is first read, so any member is one seek away. It holds
the size and time of change of the shard that it is of, and is made anew for any other. The tar must
not be compressed; the sound in it is.
"""

import contextlib
import functools
import hashlib
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from speechssl.files import replacing

_MEMBER = np.dtype([("name", "<u8"), ("offset", "<i8"), ("size", "<i8")])
_OPEN = 512
"""Indexes that a process keeps mapped."""


def file_of(path: Path) -> Path:
    """The file that holds `path`: its shard, or itself."""
    found = _locate(path)
    return found[0] if found else path


def read_member(path: Path) -> bytes | None:
    """The bytes of a member of a shard; None where `path` is no path into one.

    Raises FileNotFoundError where the shard has no such member (any more), and ValueError for a
    shard that is no tar file.
    """
    found = _locate(path)
    if found is None:
        return None
    shard, name = found
    with shard.open("rb") as file:
        stat = os.fstat(file.fileno())
        index = _index(shard, stat.st_size, stat.st_mtime_ns)
        place = int(np.searchsorted(index["name"], _hash(name)))
        if place == len(index) or index["name"][place] != _hash(name):
            raise FileNotFoundError(
                f"No such recording: {path}; the shard has no member of that name."
            )
        file.seek(int(index["offset"][place]))
        return file.read(int(index["size"][place]))


def members(shard: Path) -> Iterator[tuple[str, int, int]]:
    """``(name, offset, bytes)`` of every whole file in a shard; ValueError where it is no tar file,
    and at the end of one that was cut off."""
    length = shard.stat().st_size
    try:
        with tarfile.open(shard, "r:") as tar:
            for member in tar:
                if member.isfile() and member.offset_data + member.size <= length:
                    yield member.name.removeprefix("./"), member.offset_data, member.size
    except tarfile.ReadError as error:
        raise ValueError(f"{shard} is no tar file, compressed, or cut off ({error}).") from error


def _locate(path: Path) -> tuple[Path, str] | None:
    if ".tar" not in str(path):
        return None
    for parent in path.parents:
        if parent.suffix == ".tar" and parent.is_file():
            return parent, path.relative_to(parent).as_posix()
    return None


def _hash(name: str) -> np.uint64:
    data = name.encode(errors="surrogateescape")
    return np.frombuffer(hashlib.blake2b(data, digest_size=8).digest(), "<u8")[0]


@functools.lru_cache(maxsize=_OPEN)
def _index(shard: Path, size: int, changed_ns: int) -> np.ndarray:
    """(members,) of `_MEMBER`, sorted by the names' hashes, of the shard as it is now. In its file
    a row comes before them, with the size and time of change of the shard."""
    place = shard.with_name(f".{shard.name}.index.npy")
    state = np.array([(0, size, changed_ns)], dtype=_MEMBER)
    with contextlib.suppress(OSError, ValueError):
        index = np.load(place, mmap_mode="r")
        if index.dtype == _MEMBER and np.array_equal(index[:1], state):
            return np.asarray(index[1:])
    rows: list[tuple[np.uint64, int, int]] = []
    try:
        for name, offset, length in members(shard):
            rows.append((_hash(name), offset, length))
    except ValueError:
        if not rows:  # what comes before a cut is as good as ever
            raise
    index = np.sort(np.array(rows, dtype=_MEMBER), order="name")
    with contextlib.suppress(OSError):  # a folder that cannot be written to
        write_array(place, np.concatenate([state, index]))
    return index


def write_array(place: Path, values: np.ndarray) -> None:
    """Write a .npy file; several processes may do so at a time."""
    with replacing(place) as part, part.open("wb") as file:
        np.save(file, values)
