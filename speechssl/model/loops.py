"""Compiled loops (numba): loaded where they can be, and run by as many threads as torch may use.

The modules that hold them import numba, which a broken installation may lack; whoever calls them
has a plain form for that.
"""

import functools
import importlib
import itertools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType

import numpy as np
import torch
from torch import Tensor


@functools.cache
def load(name: str) -> ModuleType | None:
    """A module of loops beside this one, compiled at their first call and kept on disk; None where
    numba does not load."""
    try:
        return importlib.import_module(f"speechssl.model.{name}")
    except (ImportError, OSError):
        return None


def over_rows(loop: Callable[..., None], num: int, *args: object) -> None:
    """``loop(first, last, *args)`` for all of `num` rows, a part of them in each thread."""
    parts = min(torch.get_num_threads(), max(num, 1))
    ends = [num * part // parts for part in range(parts + 1)]
    side_by_side([functools.partial(loop, *part, *args) for part in itertools.pairwise(ends)])


def side_by_side(calls: Sequence[Callable[[], None]]) -> None:
    """Make all calls, each in a thread, as many at a time as torch may use."""
    threads = torch.get_num_threads()
    if threads == 1 or len(calls) == 1:
        for call in calls:
            call()
        return
    others = [_pool(threads).submit(call) for call in calls[1:]]
    calls[0]()
    for other in others:
        other.result()


@functools.cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads - 1, thread_name_prefix="loops")


if hasattr(os, "register_at_fork"):  # a forked process has none of the threads
    os.register_at_fork(after_in_child=_pool.cache_clear)


def array(values: Tensor) -> np.ndarray:
    """The memory of a CPU tensor as the loops take it: bfloat16 as uint16."""
    values = values.detach()
    if values.dtype == torch.bfloat16:
        values = values.view(torch.uint16)
    return values.numpy()
