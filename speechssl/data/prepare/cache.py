"""Inspecting many recordings, in threads, with a cache of what was seen of each."""

import json
import os
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from speechssl import shards
from speechssl.data.layouts import Recording
from speechssl.data.prepare.config import PrepareConfig
from speechssl.data.prepare.inspection import Inspection, inspect

_CACHE_VERSION = 3

_CHUNK = 32


def inspect_all(
    records: Sequence[Recording],
    out: Path,
    config: PrepareConfig,
    progress: bool | None,
    num_threads: int | None,
) -> Iterator[Inspection]:
    """Inspections in the order of `records`; new ones are appended to the cache as they come."""
    from tqdm import tqdm

    path = out / "probe_cache.jsonl"
    cache = _load_cache(path)

    def work(chunk: Sequence[Recording]) -> list[tuple[str, Inspection, bool]]:
        results = []
        for record in chunk:
            key = _cache_key(record, config)
            known = cache.get(key)
            results.append((key, known or inspect(record, config), known is None))
        return results

    chunks = [records[first : first + _CHUNK] for first in range(0, len(records), _CHUNK)]
    num_threads = num_threads or os.cpu_count() or 1
    # tqdm's own None means: a bar only where the stream is a terminal.
    disable = None if progress is None else not progress
    with (
        path.open("a", encoding="utf-8") as file,
        ThreadPoolExecutor(num_threads) as threads,
        tqdm(
            total=len(records), desc="reading", unit="rec", disable=disable, file=sys.stderr
        ) as bar,
    ):
        waiting: deque[Future[list[tuple[str, Inspection, bool]]]] = deque()
        for chunk in [*chunks, *[None] * (2 * num_threads)]:
            if chunk is not None:
                waiting.append(threads.submit(work, chunk))
            if waiting and (chunk is None or len(waiting) > 2 * num_threads):
                for key, seen, new in waiting.popleft().result():
                    if new and seen.error is None:
                        file.write(json.dumps([key, *_fields(seen)]) + "\n")
                    bar.update()
                    yield seen


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
