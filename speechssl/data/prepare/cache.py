"""Inspecting many recordings, in threads or processes, with a cache of what was seen of each."""

import contextlib
import json
import os
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from speechssl import shards
from speechssl.data.layouts import Recording
from speechssl.data.prepare.config import PrepareConfig
from speechssl.data.prepare.inspection import Inspection, inspect
from speechssl.workers import Cluster, Group, Processes, share
from speechssl.workers.cluster import check_missing

_CACHE_VERSION = 3

_CHUNK = 32

THREADS = 4
"""Up to so many cores threads are enough: two took half of the time of one. Beyond, what holds
Python's lock (a few percent of the time) becomes the bound, and processes take their place."""

Keyed = tuple[Recording, str]
"""A recording and its key in the cache."""


def inspect_all(
    records: Sequence[Recording],
    out: Path,
    config: PrepareConfig,
    progress: bool | None,
    num_threads: int | None,
    processes: Processes = 1,
    say: Callable[[str], None] = print,
    cluster: Cluster | None = None,
) -> Iterator[Inspection]:
    """Inspections in the order of `records`; new ones are appended to the cache as they come.

    They are made by `num_threads` (None: one for each core) of this process, or by `processes` of
    one thread each; ``auto`` takes processes where there are more than THREADS cores. The workers
    of a `cluster` take their place. `say` is that of :func:`speechssl.workers.share`.

    Raises ValueError for a recording that is here and that a cluster's worker does not find.
    """
    from tqdm import tqdm

    path = out / "probe_cache.jsonl"
    cache = _load_cache(path)
    num_threads = num_threads or os.cpu_count() or 1
    at_once = processes != "auto"
    if processes == "auto":
        processes = num_threads if num_threads > THREADS else 1
    chunks = _chunks(records, cache, config)
    if cluster is not None:
        found = _on_cluster(list(chunks), Inspecting(config), cluster, say)
    elif processes > 1:
        found = _in_processes(chunks, Inspecting(config), processes, at_once, say)
    else:
        found = _in_threads(chunks, Inspecting(config), num_threads)
    # tqdm's own None means: a bar only where the stream is a terminal.
    disable = None if progress is None else not progress
    with (
        path.open("a", encoding="utf-8", newline="\n") as file,
        contextlib.closing(found),
        tqdm(
            total=len(records), desc="reading", unit="rec", disable=disable, file=sys.stderr
        ) as bar,
    ):
        for chunk, inspections in found:
            fresh = iter(inspections)
            for _, key in chunk.keyed:
                seen = cache.get(key) or next(fresh)
                if key not in cache and seen.error is None:
                    file.write(json.dumps([key, *_fields(seen)]) + "\n")
                bar.update()
                yield seen


@dataclass(frozen=True)
class _Chunk:
    """Recordings that follow each other."""

    keyed: list[Keyed]
    unknown: tuple[Recording, ...]
    """Those that the cache does not hold."""


@dataclass(frozen=True)
class Inspecting:
    """What a process does with recordings."""

    config: PrepareConfig

    def start(self) -> "Inspecting":
        return self

    def __call__(self, records: tuple[Recording, ...]) -> list[Inspection]:
        return [inspect(record, self.config) for record in records]


def _chunks(
    records: Sequence[Recording], cache: dict[str, Inspection], config: PrepareConfig
) -> Iterator[_Chunk]:
    for first in range(0, len(records), _CHUNK):
        keyed = [(r, _cache_key(r, config)) for r in records[first : first + _CHUNK]]
        yield _Chunk(keyed, tuple(record for record, key in keyed if key not in cache))


Found = Generator[tuple[_Chunk, list[Inspection]]]
"""Chunks in their order, with what was seen of the unknown ones."""


def _in_threads(chunks: Iterator[_Chunk], work: Inspecting, num_threads: int) -> Found:
    with ThreadPoolExecutor(num_threads) as threads:
        waiting: deque[tuple[_Chunk, Future[list[Inspection]]]] = deque()
        for chunk in chunks:
            waiting.append((chunk, threads.submit(work, chunk.unknown)))
            if len(waiting) > 2 * num_threads:
                first, future = waiting.popleft()
                yield first, future.result()
        while waiting:
            first, future = waiting.popleft()
            yield first, future.result()


def _in_processes(
    chunks: Iterator[_Chunk],
    work: Inspecting,
    processes: int,
    at_once: bool,
    say: Callable[[str], None],
) -> Found:
    made: deque[_Chunk] = deque()

    def groups() -> Iterator[Group[Recording]]:
        for chunk in chunks:
            made.append(chunk)
            name = str(chunk.keyed[0][0].audio)
            yield Group(chunk.unknown, float(len(chunk.unknown)), f"{name} or one behind it")

    results = share(groups(), work, work, processes=processes, at_once=at_once, say=say)
    with contextlib.closing(results):
        for inspections in results:
            yield made.popleft(), inspections


def _on_cluster(
    chunks: list[_Chunk], work: Inspecting, cluster: Cluster, say: Callable[[str], None]
) -> Found:
    groups = [
        Group(chunk.unknown, float(len(chunk.unknown)), f"{chunk.unknown[0].audio} or one after it")
        for chunk in chunks
        if chunk.unknown
    ]
    with contextlib.closing(cluster.share(groups, work, work, say=say)) as results:
        for chunk in chunks:
            inspections = next(results) if chunk.unknown else []
            for record, seen in zip(chunk.unknown, inspections, strict=True):
                if seen.error is not None and seen.error.startswith("missing"):
                    check_missing(shards.file_of(record.audio))
            yield chunk, inspections


def _fields(seen: Inspection) -> list[Any]:
    return [getattr(seen, name) for name in Inspection.__slots__[1:]]


def _cache_key(record: Recording, config: PrepareConfig) -> str:
    """Changes with the file, the part of it, and how it would be cut. Empty: a missing file."""
    try:
        stat = os.stat(shards.file_of(record.audio))
    except OSError:
        return ""
    cut = 0.0 if record.text else (config.max_duration_s, config.silence_dbfs)
    part = (record.start_s, record.duration_s, cut)
    return f"{os.path.abspath(record.audio)}|{stat.st_size}|{stat.st_mtime_ns}|{part}"


def _load_cache(path: Path) -> dict[str, Inspection]:
    """The inspections of earlier runs; another version or a torn last line is cut away."""
    cache: dict[str, Inspection] = {}
    header = json.dumps({"version": _CACHE_VERSION}) + "\n"
    good = 0
    if path.is_file():
        with path.open("rb") as file:
            if file.readline().decode(errors="replace") == header:
                good = len(header)
                for line in file:
                    try:
                        key, *fields = json.loads(line.decode())
                        fields[-1] = [tuple(cut) for cut in fields[-1]]
                        cache[key] = Inspection(None, *fields)
                    except (ValueError, TypeError, IndexError, RecursionError):
                        break
                    good += len(line)
    with path.open("ab") as file:
        file.truncate(good)
        if not good:
            file.write(header.encode())
    return cache
