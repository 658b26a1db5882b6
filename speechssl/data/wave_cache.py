"""The cache of decoded waves. Shapes: S samples, N items."""

import errno
import hashlib
import json
import os
import shutil
import sys
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from speechssl.audio import AudioError, AudioWarning, file_state, read_with_notes
from speechssl.system import lock, replace

CacheItem = tuple[Path, float, float | None]
"""``(path, start_s, duration_s)``, the arguments of :func:`speechssl.audio.read`."""

_CACHE_VERSION = 2


def read_item(item: CacheItem, sample_rate: int) -> np.ndarray:
    """:func:`speechssl.audio.read`, and AudioError where the part has no sample."""
    wave, notes = _read_with_notes(item, sample_rate)
    for note in notes:
        warnings.warn(note, AudioWarning, stacklevel=2)
    return wave


def _read_with_notes(item: CacheItem, sample_rate: int) -> tuple[np.ndarray, list[str]]:
    path, start_s, duration_s = item
    wave, notes = read_with_notes(
        path, sample_rate=sample_rate, start_s=start_s, duration_s=duration_s
    )
    if len(wave) == 0:
        raise AudioError(f"{path}: the part from {start_s:g} s on is too short to hold a sample.")
    return wave, notes


class WaveCache:
    """Decoded, resampled waves as int16 in one memory-mapped file: reading item i costs a copy.

    Opus decodes at a few hundred times real time; an epoch that decodes every file again is bound
    by that. The cache takes 115 MB an hour at 16 kHz and is shared by all processes through
    the page cache. Two files per list of items lie in its folder, named by a fingerprint of the
    items (path and part) and the rate: `.i16` with the samples and `.json` with the lengths, what
    could not be read, and a digest of the recordings' sizes and times of change; the latter is
    written last, so that a cache that was not finished is never read. Other lists share the folder;
    to free the space, delete it.

    Opens its file on first use in each process, and pickles without it (DataLoader workers).
    """

    def __init__(
        self,
        items: Sequence[CacheItem],
        sample_rate: int,
        data: Path | None = None,
        contents: "_Contents | None" = None,
    ) -> None:
        """Use :meth:`build`. Without `data`: no cache, decode on each read."""
        self.sample_rate = sample_rate
        self.faults: dict[int, str] = contents.faults if contents else {}
        """What could not be read when the cache was made: item -> a sentence."""
        self._items = None if data else list(items)
        self._states = None if data else [file_state(path) for path, _, _ in items]
        self._data = data
        lengths = contents.lengths if contents else np.zeros(0, np.int64)
        self._offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])  # (N + 1,)
        self._samples: np.ndarray | None = None

    @classmethod
    def build(
        cls,
        folder: str | Path,
        items: Sequence[CacheItem],
        sample_rate: int = 16000,
        *,
        progress: bool = False,
        num_threads: int = 2,
        keep: bool = False,
    ) -> "WaveCache":
        """The cache of `items` in `folder`: the one that is there when it fits, else a new one.

        Several processes may call this at once: one builds, the others wait for it. On a full
        or unwritable disk a warning is given and the waves are decoded on each read. Items that
        :func:`read_item` refuses are in `faults`. `keep`: a cache that is there stays as it is
        although recordings have changed or vanished since, so that a run goes on with what it
        began with.
        """
        folder = Path(folder)
        key = _fingerprint(items, sample_rate)
        data, index = folder / f"{key}.i16", folder / f"{key}.json"
        digest = None if keep else _digest_states(items)
        contents = _load_index(data, index, digest)
        if contents is None:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                with _lock(folder / f"{key}.lock"):
                    contents = _load_index(data, index, digest)
                    if contents is None:
                        _need_space(folder, items, sample_rate)
                        contents = _fill(data, index, items, sample_rate, progress, num_threads)
            except OSError as error:
                warnings.warn(
                    f"No wave cache in {folder} ({error.strerror or error}); sound is decoded on "
                    "each read, which is slower.",
                    stacklevel=2,
                )
                return cls(items, sample_rate)
        return cls(items, sample_rate, data, contents)

    @classmethod
    def find(
        cls, folder: str | Path, items: Sequence[CacheItem], sample_rate: int = 16000
    ) -> "WaveCache":
        """The cache of `items` that is in `folder`, in whatever state the recordings are now; where
        there is none, one that decodes on each read. Writes nothing."""
        data = Path(folder) / f"{_fingerprint(items, sample_rate)}.i16"
        contents = _load_index(data, data.with_suffix(".json"), None)
        return cls(items, sample_rate, data if contents else None, contents)

    @property
    def path(self) -> Path | None:
        """The file with the samples; None where there is none, and each read decodes."""
        return self._data

    def num_samples(self) -> np.ndarray | None:
        """(N,) int64, 0 for what could not be read; None where there is no cache."""
        return np.diff(self._offsets) if self._items is None else None

    def __len__(self) -> int:
        return len(self._offsets) - 1 if self._items is None else len(self._items)

    def get(self, index: int) -> np.ndarray:
        """The wave (S,) float32 of item `index`, a new array: what `read` gives, to 16 bits.

        Raises the errors of :func:`read_item` for one of the `faults` and, where there is no cache,
        for a recording that is no longer what it was.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"Item {index} of a wave cache of {len(self)} items.")
        if index in self.faults:
            raise AudioError(self.faults[index])
        if self._items is not None and self._states is not None:
            item = self._items[index]
            now = file_state(item[0])
            if now is not None and now != self._states[index]:
                raise AudioError(f"{item[0]} has changed since the work on it began.")
            # as from a cache, which may be there when the run goes on
            samples = _to_int16(read_item(item, self.sample_rate))
        else:
            if self._samples is None:
                self._samples = _map(self._data)
            samples = self._samples[self._offsets[index] : self._offsets[index + 1]]  # (S,)
        return np.asarray(np.multiply(samples, np.float32(2**-15), dtype=np.float32))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_samples": None}


def _to_int16(wave: np.ndarray) -> np.ndarray:
    """(S,) float32 in [-1, 1] -> (S,) int16."""
    return np.clip(np.rint(wave * 32768.0), -32768, 32767).astype("<i2")


def _map(data: Path | None) -> np.ndarray:
    """(all samples,) int16, read-only; an empty file cannot be mapped."""
    if data is None or data.stat().st_size == 0:
        return np.zeros(0, np.int16)
    return np.asarray(np.memmap(data, dtype="<i2", mode="r"))


@dataclass(frozen=True, slots=True)
class _Contents:
    """What a cache's index says."""

    lengths: np.ndarray
    """(N,) int64 samples; 0 for what could not be read."""
    faults: dict[int, str]


def _fingerprint(items: Sequence[CacheItem], sample_rate: int) -> str:
    digest = hashlib.blake2b(repr((_CACHE_VERSION, sample_rate)).encode(), digest_size=12)
    for path, start_s, duration_s in items:
        key = (os.path.abspath(path), start_s, duration_s)
        digest.update(repr(key).encode(errors="surrogateescape"))
    return digest.hexdigest()


def _digest_states(items: Sequence[CacheItem]) -> str:
    digest = hashlib.blake2b(digest_size=12)
    for path in dict.fromkeys(path for path, _, _ in items):
        digest.update(repr(file_state(path)).encode())
    return digest.hexdigest()


def _load_index(data: Path, index: Path, digest: str | None) -> _Contents | None:
    """A finished cache of recordings in the state `digest` (None: in any); None when there is
    none."""
    try:
        stored = json.loads(index.read_text(encoding="utf-8"))
        lengths = np.array(stored["num_samples"], dtype=np.int64)
        faults = {int(item): reason for item, reason in stored["faults"].items()}
        fits = digest in (None, stored["recordings"]) and len(faults) == np.sum(lengths == 0)
        if not fits or data.stat().st_size != 2 * int(lengths.sum()):
            return None
        return _Contents(lengths, faults)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ArithmeticError):
        return None


def _need_space(folder: Path, items: Sequence[CacheItem], sample_rate: int) -> None:
    needed = sum(2 * sample_rate * (duration_s or 0) for _, _, duration_s in items)
    if shutil.disk_usage(folder).free < needed:
        raise OSError(errno.ENOSPC, f"it needs {needed / 1e9:.1f} GB and the disk has less")


def _fill(
    data: Path,
    index: Path,
    items: Sequence[CacheItem],
    sample_rate: int,
    progress: bool,
    num_threads: int,
) -> _Contents:
    from tqdm import tqdm

    noted: dict[str, None] = {}

    def decode(item: CacheItem) -> np.ndarray | str:
        try:
            wave, notes = _read_with_notes(item, sample_rate)
            noted.update(dict.fromkeys(notes))
            return _to_int16(wave)
        except (AudioError, OSError) as error:
            return str(error)

    part = data.with_suffix(f".{os.getpid()}.part")
    recordings = _digest_states(items)  # before they are read: a later change is seen next time
    lengths: list[int] = []
    faults: dict[int, str] = {}
    try:
        with part.open("wb") as file, ThreadPoolExecutor(num_threads) as threads:
            waves = _ordered(threads, decode, items, window=4 * num_threads)
            for wave in tqdm(
                waves, "decoding", len(items), unit="rec", disable=not progress, file=sys.stderr
            ):
                if isinstance(wave, str):
                    faults[len(lengths)] = wave
                    lengths.append(0)
                    continue
                file.write(wave.tobytes())
                lengths.append(len(wave))
            file.flush()
            os.fsync(file.fileno())
        replace(part, data)
        part.write_text(
            json.dumps({"num_samples": lengths, "faults": faults, "recordings": recordings}),
            encoding="utf-8",
            newline="\n",
        )
        replace(part, index)
    finally:
        part.unlink(missing_ok=True)
    if noted:
        num = len(noted) - 1
        others = f" So it is with {num} other{'s' if num > 1 else ''}." if num else ""
        warnings.warn(next(iter(noted)) + others, AudioWarning, stacklevel=3)
    return _Contents(np.array(lengths, dtype=np.int64), faults)


def _ordered(
    threads: ThreadPoolExecutor, work: Any, items: Sequence[CacheItem], window: int
) -> Iterator[np.ndarray | str]:
    """``map(work, items)`` on threads, in order, never more than `window` results ahead."""
    waiting: deque[Future[np.ndarray | str]] = deque()
    try:
        for item in items:
            waiting.append(threads.submit(work, item))
            if len(waiting) >= window:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """One process at a time; the lock of a killed process is gone."""
    with path.open("wb") as file:
        lock(file.fileno())
        for old in path.parent.glob(f"{path.stem}.*.part"):
            old.unlink(missing_ok=True)  # left by a process that was killed
        yield
