"""What Linux, macOS and Windows do differently: signals, processes, locks, files, memory.

No other module calls what one of these systems lacks (tests/test_portable_source.py). What is there
is found out by looking, not by the system's name, wherever that is possible.
"""

import contextlib
import importlib
import io
import os
import re
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

_RETRY_S = 2.0 if sys.platform == "win32" else 0.0
"""Windows does not move a file that a virus scanner or an indexer has open, which is soon over."""
_LOCKED_BYTE = 1 << 30
"""Windows lets nobody read what is locked: a byte behind the end of the file is."""

NEW_GROUP: int = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)
"""``creationflags`` of Popen on Windows for a process that can be asked to end; 0 elsewhere."""


def utf8_streams() -> None:
    """UTF-8 on stdout and stderr, whatever the terminal's or the pipe's encoding is (cp1252 on
    Windows): transcripts are in any script."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")


def preemption_signals() -> tuple[signal.Signals, ...]:
    """By which a cluster or the system asks a program to end: SIGTERM, and SIGUSR1 or (on Windows:
    Ctrl-Break, the closed console) SIGBREAK where there is one."""
    names = ("SIGTERM", "SIGUSR1", "SIGBREAK")
    return tuple(getattr(signal, name) for name in names if hasattr(signal, name))


def start_method() -> str:
    """How worker processes begin: ``fork`` on Linux, where it is quick; ``spawn`` elsewhere.

    macOS has fork, but its own libraries do not survive it.
    """
    return "fork" if sys.platform == "linux" and hasattr(os, "fork") else "spawn"


def num_cpus() -> int:
    """Logical processors that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def own_group() -> dict[str, Any]:
    """Arguments of Popen for a process that a Ctrl-C in this one's terminal does not reach, and
    that :func:`ask_to_end` and :func:`kill` reach with all that it has started."""
    return {"creationflags": NEW_GROUP} if NEW_GROUP else {"start_new_session": True}


def ask_to_end(process: "subprocess.Popen[Any]") -> None:
    """Tell a process to save and end, with its group where it has its own (on Windows it must).
    Does nothing where it has ended."""
    if hasattr(signal, "CTRL_BREAK_EVENT"):  # a SIGTERM of Windows ends it at once
        with contextlib.suppress(OSError):
            process.send_signal(signal.CTRL_BREAK_EVENT)
    elif not _signal_group(process, "SIGTERM"):
        process.terminate()


def kill(process: "subprocess.Popen[Any]") -> None:
    """End a process, with its group where it has its own, at once."""
    if not _signal_group(process, "SIGKILL"):
        process.kill()


def _signal_group(process: "subprocess.Popen[Any]", name: str) -> bool:
    """Send a signal to the process's own group; False where it has none."""
    killpg, getpgid = getattr(os, "killpg", None), getattr(os, "getpgid", None)
    number = getattr(signal, name, None)
    try:
        if not (killpg and getpgid and number) or getpgid(process.pid) != process.pid:
            return False
        killpg(process.pid, number)
    except (ProcessLookupError, PermissionError):  # it has ended
        pass
    return True


def end_with_parent() -> None:
    """Ask this process to end (SIGTERM) when the one that started it with ``stdin=PIPE`` is gone:
    the pipe then ends. Does nothing where stdin is no pipe."""
    try:
        if not stat.S_ISFIFO(os.fstat(0).st_mode):
            return
    except OSError:  # no stdin
        return

    def watch() -> None:
        with contextlib.suppress(OSError):
            while os.read(0, 1 << 10):
                pass
        interrupt()

    threading.Thread(target=watch, daemon=True).start()


def interrupt() -> None:
    """SIGTERM to this process itself; its handler runs in the main thread."""
    if sys.platform == "win32":  # where os.kill ends the process at once
        import _thread

        _thread.interrupt_main(signal.SIGTERM)
    else:
        os.kill(os.getpid(), signal.SIGTERM)


def try_lock(number: int) -> bool:
    """Lock an open file (for writing) against other processes; False where one of them has it.

    The lock is gone when the file is closed or the process has ended, however it ended, and also
    where processes that it forked live on. True on a disk or a system that knows no locks.
    """
    if (fcntl := _module("fcntl")) is not None:
        return _tried(lambda: fcntl.lockf(number, fcntl.LOCK_EX | fcntl.LOCK_NB))
    if (msvcrt := _module("msvcrt")) is not None:
        os.lseek(number, _LOCKED_BYTE, os.SEEK_SET)
        return _tried(lambda: msvcrt.locking(number, msvcrt.LK_NBLCK, 1))
    return True


def _tried(lock: Callable[[], object]) -> bool:
    try:
        lock()
    except (PermissionError, BlockingIOError):  # EACCES, EAGAIN: somebody has it
        return False
    except OSError:  # a disk that knows no locks
        return True
    return True


def lock(number: int) -> None:
    """The same, waiting for the other process."""
    while not try_lock(number):
        time.sleep(0.05)


def _module(name: str) -> Any:
    """A module of one system only; None elsewhere."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def open_to_read(path: str | Path) -> int:
    """A file descriptor for :func:`read_at`."""
    return os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))


def read_at(number: int, count: int, start: int) -> bytes:
    """Up to `count` bytes of an open file from `start` on. Where there is no ``pread`` the file
    must be this thread's own."""
    if hasattr(os, "pread"):
        return os.pread(number, count, start)
    os.lseek(number, start, os.SEEK_SET)
    return os.read(number, count)


def write_at(number: int, data: bytes, start: int) -> None:
    """Write all of `data` from `start` on; as :func:`read_at`."""
    if not hasattr(os, "pwrite"):
        os.lseek(number, start, os.SEEK_SET)
    view = memoryview(data)
    while len(view):
        if hasattr(os, "pwrite"):
            written = os.pwrite(number, view, start)
        else:
            written = os.write(number, view)
        view, start = view[written:], start + written


def replace(source: Path, target: Path) -> None:
    """Give a file the name of another one, or of none, at once."""
    _again(lambda: os.replace(source, target))


def rename(source: Path, target: Path) -> None:
    """Give a file or a folder a name that none has."""
    _again(lambda: source.rename(target))


def _again(move: Callable[[], object]) -> None:
    """Until it works, on Windows for a while."""
    deadline = time.monotonic() + _RETRY_S
    while True:
        try:
            move()
            return
        except PermissionError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(0.05)


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk. Windows syncs no folders, and
    files only where they are open for writing."""
    is_folder = path.is_dir()
    with contextlib.suppress(PermissionError):  # a folder there; a file that may only be read
        flags = os.O_RDONLY if os.name != "nt" or is_folder else os.O_RDWR
        number = os.open(path, flags | getattr(os, "O_BINARY", 0))
        try:
            os.fsync(number)
        finally:
            os.close(number)


def file_name(name: str, windows: bool = sys.platform == "win32") -> str:
    """A relative path with slashes as one that can be written; on Windows signs that it does not
    allow become ``_``, and names of devices (``CON``, ``aux.x``) get one."""
    if not windows:
        return name
    return "/".join(_portable(part) for part in name.split("/"))


def _portable(part: str) -> str:
    part = _NOT_IN_NAMES.sub("_", part)
    part = re.sub(r"[. ]+$", lambda end: "_" * len(end[0]), part)
    return f"_{part}" if _DEVICE.match(part) else part


_NOT_IN_NAMES = re.compile(r'[<>:"|?*\\\x00-\x1f]')
_DEVICE = re.compile(
    r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])\s*(\.|$)", re.IGNORECASE
)


def total_memory() -> int | None:
    """Bytes of the machine; None where the system does not say."""
    if hasattr(os, "sysconf"):
        with contextlib.suppress(ValueError, OSError):
            return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    status = _windows_memory()
    return status[0] if status else None


def free_memory() -> int | None:
    """Bytes that programs can still get; None where the system does not say."""
    with contextlib.suppress(OSError):
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        found = (line.split()[1] for line in lines if line.startswith("MemAvailable"))
        return next((1024 * int(kilobytes) for kilobytes in found), None)
    status = _windows_memory()
    return status[1] if status else None


def used_memory() -> int | None:
    """Bytes of memory that this process holds now; None where the system does not say."""
    with contextlib.suppress(OSError, ValueError, IndexError, AttributeError):
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")
    return None


def _windows_memory() -> tuple[int, int] | None:
    """(total, free) bytes, by GlobalMemoryStatusEx."""
    import ctypes

    libraries = getattr(ctypes, "windll", None)
    if libraries is None:
        return None
    numbers = [(name, ctypes.c_ulonglong) for name in ("total", "free", "a", "b", "c", "d", "e")]
    fields = [("size", ctypes.c_ulong), ("load", ctypes.c_ulong), *numbers]
    status = type("MemoryStatus", (ctypes.Structure,), {"_fields_": fields})()
    status.size = ctypes.sizeof(status)
    if not libraries.kernel32.GlobalMemoryStatusEx(ctypes.byref(status)):
        return None
    return int(status.total), int(status.free)
