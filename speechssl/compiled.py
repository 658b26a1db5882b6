"""Machine code of loops (numba), kept on disk in the user's cache folder.

Left to itself numba writes beside the source: into the installed package, which may be another
user's, read-only, or checked for changes. ``NUMBA_CACHE_DIR`` is followed where it is set.
"""

import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


def cache_folder(
    environ: Mapping[str, str] = os.environ, platform: str = sys.platform
) -> Path | None:
    """The platform's folder for what a user's programs can make again; None where there is no home.

    ``$XDG_CACHE_HOME`` or ``~/.cache``; ``~/Library/Caches`` on macOS, ``%LOCALAPPDATA%`` on
    Windows.
    """
    try:
        home = Path.home()
    except RuntimeError:
        return None
    given = environ.get("LOCALAPPDATA" if platform == "win32" else "XDG_CACHE_HOME", "")
    if Path(given).is_absolute():  # a relative one is to be ignored (XDG base directories)
        place = Path(given)
    elif platform == "win32":
        place = home / "AppData" / "Local"
    elif platform == "darwin":
        place = home / "Library" / "Caches"
    else:
        place = home / ".cache"
    return place / "speechssl"


def njit(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """``numba.njit`` of a function; compiled at its first call, and in each process anew where no
    cache folder can be written. Raises ImportError where numba does not load."""
    import numba

    before = numba.config.CACHE_DIR
    own = cache_folder()
    folder = _writable(Path(before) if before else own and own / "numba")
    try:
        numba.config.CACHE_DIR = folder  # read when the function is wrapped
        made: Callable[..., Any] = numba.njit(cache=bool(folder), **options)(function)
    finally:
        numba.config.CACHE_DIR = before
    return made


def _writable(folder: Path | None) -> str:
    """A folder, made; empty where nothing can be written there."""
    if folder is None:
        return ""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return str(folder)
    except OSError:
        return ""
