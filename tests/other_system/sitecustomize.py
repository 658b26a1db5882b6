"""Python as it is elsewhere: what only Linux or POSIX has is taken away, in this process and in all
that it starts. It is imported by itself at their start, as its folder is in PYTHONPATH.

This package's own code finds no module, function or signal of POSIX (libraries keep them: elsewhere
they have other forms), text files have another default encoding and end their lines as Windows does
where nothing else is asked for; for everybody there is no /proc and no /sys, worker processes are
spawned, and a file that is open or mapped is not moved, replaced or deleted.
"""

import builtins
import errno
import importlib
import io
import multiprocessing
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import types

MODULES = {"fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "syslog", "readline"}
FUNCTIONS = """
fork forkpty link symlink killpg getpgid setpgid setsid getsid sched_getaffinity sched_setaffinity
getloadavg getuid geteuid getgid getegid uname sysconf statvfs fstatvfs pread pwrite preadv pwritev
posix_fadvise posix_fallocate mkfifo chown lchown nice getpriority setpriority wait wait3 wait4
waitid register_at_fork sync fdatasync sendfile O_NONBLOCK
"""
SIGNALS = """
SIGUSR1 SIGUSR2 SIGHUP SIGKILL SIGQUIT SIGALRM SIGCHLD SIGPIPE SIGCONT SIGSTOP SIGTSTP SIGWINCH
alarm setitimer pthread_kill pthread_sigmask sigwait pause siginterrupt
"""
MISSING = {os: set(FUNCTIONS.split()), signal: set(SIGNALS.split())}
OURS = ("speechssl", "recipes", "data_prep")

_open, _import, _import_module = io.open, builtins.__import__, importlib.import_module
_locking = importlib.import_module("fcntl").lockf


def is_ours(depth: int) -> bool:
    """Whether the code `depth` calls above the one that asks is this package's."""
    try:
        names = sys._getframe(depth + 1).f_globals
    except ValueError:  # started by the interpreter itself
        return False
    name, spec = names.get("__name__", ""), names.get("__spec__")
    return str(spec.name if name == "__main__" and spec else name).split(".")[0] in OURS


class Lacking(types.ModuleType):
    """A module of which our code does not see everything."""

    def __getattribute__(self, name):
        for module, missing in MISSING.items():
            if self is module and name in missing and is_ours(1):
                raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}")
        return super().__getattribute__(name)


def locking(number, _mode, count):
    """msvcrt.locking: bytes from the present place on."""
    try:
        _locking(number, 6, count, os.lseek(number, 0, os.SEEK_CUR))  # LOCK_EX | LOCK_NB
    except OSError:
        raise PermissionError(errno.EACCES, "Permission denied") from None


MSVCRT = types.SimpleNamespace(LK_NBLCK=2, locking=locking)


def find_module(find):
    def found(name, *rest, **named):
        if is_ours(1):
            if name in MODULES:
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)
            if name == "msvcrt":
                return MSVCRT
        return find(name, *rest, **named)

    return found


def in_use(path):
    """A file at or below `path` that this process has open or mapped; '' where there is none."""
    path = os.path.abspath(path)
    with _open("/proc/self/maps", encoding="utf-8") as file:
        names = {line.rstrip("\n").split(maxsplit=5)[5] for line in file if "/" in line}
    for number in os.listdir("/proc/self/fd"):
        try:
            names.add(os.readlink(f"/proc/self/fd/{number}"))
        except OSError:
            continue
    return next((n for n in names if n == path or n.startswith(f"{path}{os.sep}")), "")


def refusing(function, num_paths):
    """The function, and PermissionError where Windows gives one."""

    def refused(*given, **named):
        for path in given[:num_paths]:
            if not named.get("dir_fd") and (used := in_use(os.fsdecode(path))):
                raise PermissionError(errno.EACCES, "It is used by a process", used)
        return function(*given, **named)

    return refused


def elsewhere(path):
    return isinstance(path, (str, os.PathLike)) and os.fsdecode(path).startswith(
        ("/proc/", "/sys/")
    )


def open_file(path, mode="r", buffering=-1, encoding=None, errors=None, newline=None, **rest):
    if elsewhere(path):
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", str(path))
    if "b" not in mode and any(is_ours(depth) for depth in (1, 2, 3)):
        encoding = "cp1252" if encoding in (None, "locale") else encoding
        if newline is None and set(mode) & set("wax+"):
            newline = "\r\n"
    return _open(path, mode, buffering, encoding, errors, newline, **rest)


def stat_file(path, *rest, stat=os.stat, **named):
    if elsewhere(path):
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", str(path))
    return stat(path, *rest, **named)


def take_away() -> None:
    for module in MISSING:
        module.__class__ = Lacking
    builtins.__import__ = find_module(_import)
    importlib.import_module = find_module(_import_module)
    builtins.open = io.open = open_file
    os.replace, os.rename = refusing(os.replace, 2), refusing(os.rename, 2)
    os.unlink, os.remove = refusing(os.unlink, 1), refusing(os.remove, 1)
    os.stat = stat_file
    shutil._use_fd_functions = False  # by names, which are looked at above
    multiprocessing.set_start_method("spawn", force=True)


_used = (pathlib, subprocess, tempfile)  # which keep the functions that they found
take_away()
