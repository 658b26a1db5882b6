"""The folder for what this user's programs can make again: compiled loops, measured speeds.

The places are those of the package platformdirs, and an environment variable of this package's own
comes before them. What lies there may be deleted at any time.
"""

import json
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

VARIABLE = "SPEECHSSL_CACHE"
"""Environment variable that names another folder."""

_IN_HOME = {"darwin": "Library/Caches", "win32": "AppData/Local"}


def cache_folder(
    environ: Mapping[str, str] = os.environ, platform: str = sys.platform
) -> Path | None:
    r"""The folder, which need not exist; None where there is no home to put it in.

    ``$SPEECHSSL_CACHE``, else ``speechssl`` in ``$XDG_CACHE_HOME`` or ``~/.cache``; on macOS in
    ``$XDG_CACHE_HOME`` or ``~/Library/Caches``; on Windows ``%LOCALAPPDATA%\speechssl\Cache``.
    """
    if own := environ.get(VARIABLE, "").strip():
        try:
            return Path(own).expanduser().absolute()
        except RuntimeError:  # ~ and no home
            return None
    given = Path(environ.get("LOCALAPPDATA" if platform == "win32" else "XDG_CACHE_HOME", ""))
    if given.is_absolute():  # a relative one is to be ignored (XDG base directories)
        place = given
    else:
        try:
            home = Path.home()
        except RuntimeError:
            return None
        place = home / _IN_HOME.get(platform, ".cache")
    return place / "speechssl" / ("Cache" if platform == "win32" else "")


def writable(folder: Path | None) -> Path | None:
    """The same folder, made; None where nothing can be written there."""
    if folder is None:
        return None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError:
        return None


def cache_subfolder(name: str) -> Path | None:
    """A folder in the cache folder, made; None where there can be none: do without the cache."""
    folder = cache_folder()
    return writable(folder and folder / name)


def kept_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file; an empty one where there is none, or it is damaged."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
