"""A file of values of each frame of some utterances, filled bit by bit.

Shapes: N utterances, T frames of one of them, F values of a frame.
"""

import shutil
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

_SEAL_BYTES = 16
_PAGE_BYTES = 4096
Wave = Callable[[], np.ndarray]
"""Gives the whole wave (S,) of an utterance; called only where it is needed."""


class FrameFile:
    """(T, F) float32 of each utterance, in one memory-mapped file that several processes share.

    The file begins with a seal of 16 bytes for each utterance: a digest of what the values depend
    on, of the utterance's wave and of the values themselves. Values whose seal is another one do
    not count as there. So a file that was cut off, overwritten, made by a process that was killed,
    or of recordings that have changed since, gives no wrong value, and several processes may write
    to it at once. A process checks each seal once.

    The file is sparse where the file system allows it: it takes room as it fills up.
    """

    def __init__(self, path: Path, offsets: np.ndarray, width: int, facts: str) -> None:
        """
        Args:
            path: of the file; made where it is missing or of another size.
            offsets: (N + 1,) int64, the frames before each utterance, and of all of them.
            width: F.
            facts: all that the values depend on, beside the wave.

        Raises OSError where it cannot be written, or would take more than half of what is free on
        the disk.
        """
        self.path, self._width = path, width
        self._offsets = np.asarray(offsets, np.int64)
        self._facts = facts.encode()
        num = len(self._offsets) - 1
        seals = num * _SEAL_BYTES
        self._first_byte = max(-(-seals // _PAGE_BYTES), 1) * _PAGE_BYTES
        self.num_bytes = self._first_byte + 4 * width * int(self._offsets[-1])
        """Size of the file when it is full."""
        _make(path, self.num_bytes)
        self._bytes: np.ndarray = np.memmap(path, np.uint8, "r", shape=(self.num_bytes,))
        self._values = self._bytes[self._first_byte :].view("<f4").reshape(-1, width)
        self._seals = self._bytes[:seals].reshape(num, _SEAL_BYTES)
        self._is_checked = np.zeros(num, bool)

    def get(self, item: int, wave: Wave) -> np.ndarray | None:
        """(T, F) float32 of utterance `item`, a view of the file; None where it is not there."""
        values = self._values[self._offsets[item] : self._offsets[item + 1]]
        if not self._is_checked[item]:
            stored = self._seals[item].tobytes()
            if not any(stored) or stored != self._seal(item, wave(), values):
                return None
            self._is_checked[item] = True
        return values

    def put(self, item: int, wave: np.ndarray, values: np.ndarray) -> None:
        """Keep (T, F) float32 of utterance `item`, whose whole wave (S,) is given; OSError where
        the disk does not take it.

        Raises ValueError where T and F are not those of the utterance.
        """
        num = int(self._offsets[item + 1] - self._offsets[item])
        if values.shape != (num, self._width):
            raise ValueError(f"Item {item} has {num} x {self._width} values, got {values.shape}.")
        values = np.ascontiguousarray(values, "<f4")
        seal = self._seal(item, wave, values)
        place = self._first_byte + 4 * self._width * int(self._offsets[item])
        with self.path.open("r+b", buffering=0) as file:
            _write(file, place, values.tobytes())
            _write(file, item * _SEAL_BYTES, seal)

    def _seal(self, item: int, wave: np.ndarray, values: np.ndarray) -> bytes:
        digest = blake2b(self._facts, digest_size=_SEAL_BYTES)
        digest.update(f" {item} {wave.shape} {wave.dtype} {values.shape} ".encode())
        digest.update(np.ascontiguousarray(wave).data)
        digest.update(np.ascontiguousarray(values).data)
        return digest.digest()


def _make(path: Path, num_bytes: int) -> None:
    """A file of this size; what it already holds is left to the seals."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        there = file.tell()
        if there < num_bytes and num_bytes - there > shutil.disk_usage(path.parent).free // 2:
            raise OSError(
                f"it needs {num_bytes / 1e9:.2g} GB, more than half of what is free on the disk"
            )
        if there != num_bytes:
            file.truncate(num_bytes)


def _write(file: Any, place: int, content: bytes) -> None:
    """All of it: an unbuffered file may take less at once. OSError where the disk is full."""
    file.seek(place)
    left = memoryview(content)
    while left:
        left = left[file.write(left) :]
