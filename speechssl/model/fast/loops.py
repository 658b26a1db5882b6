"""Compiled loops (numba): loaded where they can be, and run by as many threads as torch may use.

The modules that hold them import numba, which a broken installation may lack; whoever calls them
has a plain form for that.

The threads are those of torch's own OpenMP library where that is GNU's: after each of torch's
operations they spin for a while, and would take half of their cores from any other threads.
"""

import ctypes
import functools
import importlib
import itertools
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from threadpoolctl import ThreadpoolController
from torch import Tensor

Call = Callable[[], None]


@functools.cache
def load(name: str) -> ModuleType | None:
    """A module of loops beside this one, compiled at their first call and kept on disk; None where
    numba does not load."""
    try:
        return importlib.import_module(f"speechssl.model.fast.{name}")
    except (ImportError, OSError):
        return None


def over_rows(loop: Callable[..., None], num: int, *args: object, least: int = 1) -> None:
    """``loop(first, last, *args)`` for all of `num` rows, a part of them in each thread, which is
    at least `least` rows where there are so many."""
    parts = min(torch.get_num_threads(), max(num // max(least, 1), 1))
    ends = [num * part // parts for part in range(parts + 1)]
    side_by_side([functools.partial(loop, *part, *args) for part in itertools.pairwise(ends)])


def side_by_side(calls: Sequence[Call]) -> None:
    """Make all calls, each in a thread, as many at a time as torch may use."""
    threads = torch.get_num_threads()
    if threads == 1 or len(calls) == 1:
        for call in calls:
            call()
    elif (openmp := _openmp()) is not None:
        _in_team(openmp, threads, calls)
    else:
        others = [_pool(threads).submit(call) for call in calls[1:]]
        calls[0]()
        for other in others:
            other.result()


class _OneThread:
    """See :func:`products_of_one_thread`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._limit: Any = None

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._limit = _blas().limit(limits=1)
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._limit.restore_original_limits()


_one_thread = _OneThread()


def products_of_one_thread() -> AbstractContextManager[None]:
    """A block in which ``np.dot`` of compiled loops takes one thread.

    It is that of scipy's BLAS, which otherwise starts a thread for each core inside of each of
    ours, and writes a warning for each product. The limit is of the whole process: of several
    threads that are in such a block the last one lifts it.
    """
    return _one_thread


@functools.cache
def _blas() -> ThreadpoolController:
    import scipy.linalg.cython_blas  # noqa: F401 (loads it)

    found: ThreadpoolController = ThreadpoolController().select(user_api="blas")
    return found


def _in_team(openmp: ctypes.CDLL, threads: int, calls: Sequence[Call]) -> None:
    """Make the calls in torch's team of threads, of which none may be left out: OpenMP would end
    those that are not asked for."""
    errors: list[BaseException] = []

    def work(_: object) -> None:
        try:
            for call in calls[openmp.omp_get_thread_num() :: openmp.omp_get_num_threads()]:
                call()
        except BaseException as error:  # raised below, in the thread that called
            errors.append(error)

    openmp.GOMP_parallel(_WORK(work), None, threads, 0)
    if errors:
        raise errors[0]


_WORK = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


@functools.cache
def _openmp() -> ctypes.CDLL | None:
    """The GNU OpenMP library that torch has loaded; None where it has another."""
    try:
        lines = Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return None
    paths = {line.split(maxsplit=5)[5] for line in lines if "/libgomp" in line}
    own = [path for path in sorted(paths) if path.startswith(str(Path(torch.__file__).parent))]
    try:
        library = ctypes.CDLL((own or sorted(paths))[0])
        library.GOMP_parallel.argtypes = [_WORK, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
        library.GOMP_parallel.restype = None
    except (IndexError, OSError, AttributeError):
        return None
    return library


@functools.cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads - 1, thread_name_prefix="loops")


def _forked() -> None:
    """A forked process has none of the threads, and OpenMP waits for its own in vain."""
    _pool.cache_clear()
    globals()["_openmp"] = lambda: None
    globals()["_one_thread"] = _OneThread()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


def array(values: Tensor) -> np.ndarray:
    """The memory of a CPU tensor as the loops take it: bfloat16 as uint16."""
    values = values.detach()
    if values.dtype == torch.bfloat16:
        values = values.view(torch.uint16)
    return values.numpy()
