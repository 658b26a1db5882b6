"""Machine code of loops (numba), kept on disk in the user's cache folder.

Left to itself numba writes beside the source: into the installed package, which may be another
user's, read-only, or checked for changes. ``NUMBA_CACHE_DIR`` is followed where it is set.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from speechssl.caches import cache_subfolder, writable


def njit(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """``numba.njit`` of a function; compiled at its first call, and in each process anew where no
    cache folder can be written. Raises ImportError where numba does not load."""
    import numba

    before = numba.config.CACHE_DIR
    folder = writable(Path(before)) if before else cache_subfolder("numba")
    try:
        numba.config.CACHE_DIR = str(folder or "")  # read when the function is wrapped
        made: Callable[..., Any] = numba.njit(cache=bool(folder), **options)(function)
    finally:
        numba.config.CACHE_DIR = before
    return made
