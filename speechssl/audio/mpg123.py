"""libmpg123 without its lines on stderr.

libsndfile decodes MP3 by a libmpg123 that prints what it finds odd ("Illegal Audio-MPEG-Header",
"Xing stream size off") and has no switch against it. It prints to the C library's `stderr`, a
variable: for the time of a call it is another stream. File descriptor 2 stays as it is, and so does
all that Python prints. Only with glibc, where this variable may be written to.
"""

import ctypes
import os
import platform
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class _Stream:
    """The C library's stderr, and how many calls want it silent at the moment."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.users = 0
        self.variable: ctypes.c_void_p | None = None
        self.usual: int | None = None
        self.silent: int | None = None
        if platform.libc_ver()[0] != "glibc":
            return
        try:
            libc = ctypes.CDLL(None)
            libc.fopen.restype = ctypes.c_void_p
            self.silent = libc.fopen(os.devnull.encode(), b"w")
            if self.silent:
                self.variable = ctypes.c_void_p.in_dll(libc, "stderr")
        except (OSError, ValueError, AttributeError):
            self.variable = None

    def begin(self) -> None:
        with self.lock:
            if self.variable is not None and self.users == 0:
                self.usual, self.variable.value = self.variable.value, self.silent
            self.users += 1

    def end(self) -> None:
        with self.lock:
            self.users -= 1
            if self.variable is not None and self.users == 0:
                self.variable.value = self.usual

    def reset(self) -> None:
        """In a forked child, which has none of the threads that might hold the lock."""
        self.lock = threading.Lock()
        if self.variable is not None and self.users:
            self.variable.value = self.usual
        self.users = 0


_stream: _Stream | None = None
_making = threading.Lock()


def _find_stream() -> _Stream:
    global _stream
    with _making:
        if _stream is None:
            _stream = _Stream()
            if hasattr(os, "register_at_fork"):
                os.register_at_fork(after_in_child=_stream.reset)
        return _stream


@contextmanager
def silent() -> Iterator[None]:
    """Within it C libraries print nothing; any number of threads may be in it."""
    stream = _stream or _find_stream()
    stream.begin()
    try:
        yield
    finally:
        stream.end()
