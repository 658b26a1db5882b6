"""Uploads on the disk: in a folder of this process that is gone when it ends.

A file's name is random: what a client calls its recording is only shown. A process that was killed
leaves its folder, which the next service of the same person removes.
"""

import contextlib
import os
import secrets
import shutil
import tempfile
from pathlib import Path

from speechssl.system import try_lock

PREFIX = "speechssl-serve-"
_LOCK = "lock"


class Spool:
    """The folder."""

    def __init__(self, parent: Path | None = None) -> None:
        """In `parent`, which is the folder for temporary files (``TMPDIR``). OSError where nothing
        can be written there."""
        parent = Path(tempfile.gettempdir()) if parent is None else parent
        remove_leftovers(parent)
        self.folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
        self._lock = (self.folder / _LOCK).open("wb", buffering=0)
        self._lock.write(str(os.getpid()).encode())
        try_lock(self._lock.fileno())

    def place(self) -> Path:
        """Of a new file, which is not there yet."""
        return self.folder / secrets.token_hex(16)

    @staticmethod
    def remove(path: Path) -> None:
        """A file that may be gone already."""
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)

    def used_bytes(self) -> int:
        """Of all uploads."""
        total = 0
        for path in self.folder.iterdir():
            with contextlib.suppress(OSError):
                total += path.stat().st_size * (path.name != _LOCK)
        return total

    def close(self) -> None:
        """Remove the folder and all that is in it."""
        self._lock.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def remove_leftovers(parent: Path) -> None:
    """The folders of services that do not run any more."""
    for folder in parent.glob(PREFIX + "*"):
        try:
            with (folder / _LOCK).open("r+b") as lock:
                # A process may lock again what it has locked.
                is_ours = lock.read(20) == str(os.getpid()).encode()
                is_left = not is_ours and try_lock(lock.fileno())
        except OSError:  # another person's, or one that is being made
            continue
        if is_left:
            shutil.rmtree(folder, ignore_errors=True)
