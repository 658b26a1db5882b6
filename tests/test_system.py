"""What differs between systems, each form of it, whichever system runs the test."""

import io
import os
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import pytest

from speechssl import system

posix = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (("SIGTERM", "SIGUSR1"), ("SIGTERM", "SIGUSR1")),  # Linux, macOS
        (("SIGTERM", "SIGBREAK"), ("SIGTERM", "SIGBREAK")),  # Windows
        (("SIGTERM",), ("SIGTERM",)),
        ((), ()),
    ],
)
def test_the_signals_of_a_system(names, found, monkeypatch):
    given = {name: f"number of {name}" for name in names}
    monkeypatch.setattr(system, "signal", types.SimpleNamespace(SIGINT=2, **given))
    assert system.preemption_signals() == tuple(given[name] for name in found)


@pytest.mark.parametrize(
    ("platform", "has_fork", "method"),
    [
        ("linux", True, "fork"),
        ("linux", False, "spawn"),
        ("darwin", True, "spawn"),  # where fork is not safe
        ("win32", False, "spawn"),
    ],
)
def test_how_workers_begin(platform, has_fork, method, monkeypatch):
    monkeypatch.setattr(system.sys, "platform", platform)
    monkeypatch.setattr(system, "os", types.SimpleNamespace(**({"fork": 1} if has_fork else {})))
    assert system.start_method() == method


@pytest.mark.parametrize(
    ("usual", "folder", "method"),
    [
        ("fork", "/tmp", "forkserver"),
        ("fork", "/tmp/" + "x" * 80, "spawn"),  # too long for the name of its socket
        ("spawn", "/tmp", "spawn"),
    ],
)
def test_how_workers_beside_threads_begin(usual, folder, method, monkeypatch):
    monkeypatch.setattr(system, "start_method", lambda: usual)
    monkeypatch.setattr(system.tempfile, "gettempdir", lambda: folder)
    assert system.worker_start_method() == method


class Process:
    """What is sent to it."""

    pid = 0

    def __init__(self):
        self.sent = []

    def send_signal(self, number):
        self.sent.append(number)

    def terminate(self):
        self.sent.append("terminate")

    def kill(self):
        self.sent.append("kill")


def test_on_windows_a_process_is_asked_by_ctrl_break(monkeypatch):
    monkeypatch.setattr(system, "signal", types.SimpleNamespace(CTRL_BREAK_EVENT="break"))
    monkeypatch.setattr(system, "os", types.SimpleNamespace())
    monkeypatch.setattr(system, "NEW_GROUP", 512)
    process = Process()
    system.ask_to_end(process)
    system.kill(process)
    assert process.sent == ["break", "kill"]
    assert system.own_group() == {"creationflags": 512}


def test_without_groups_and_signals_a_process_is_ended(monkeypatch):
    monkeypatch.setattr(system, "signal", types.SimpleNamespace())
    monkeypatch.setattr(system, "os", types.SimpleNamespace())
    process = Process()
    system.ask_to_end(process)
    system.kill(process)
    assert process.sent == ["terminate", "kill"]


@posix
def test_a_group_is_ended_with_what_it_started():
    shell = ["sh", "-c", "sleep 60 & echo $!; wait"]
    process = subprocess.Popen(shell, stdout=subprocess.PIPE, **system.own_group())
    child = int(process.stdout.readline())
    system.ask_to_end(process)
    assert process.wait(20) == -signal.SIGTERM
    system.kill(process)  # it has ended: nothing happens
    process.stdout.read()  # ends when the child has
    process.stdout.close()
    deadline = time.monotonic() + 20
    while _is_there(child):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _is_there(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    return True


@posix
def test_a_process_without_a_group_of_its_own_ends_alone():
    process = subprocess.Popen(["sleep", "60"])
    system.ask_to_end(process)
    assert process.wait(20) == -signal.SIGTERM


CHILD = """
import signal, sys, time
from speechssl.system import end_with_parent
def stop(*_):
    print("saved", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
end_with_parent()
print("begun", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("piped", [True, False])
def test_a_process_ends_with_the_one_that_started_it(piped):
    code = [sys.executable, "-c", CHILD]
    stdin = subprocess.PIPE if piped else subprocess.DEVNULL
    process = subprocess.Popen(code, stdin=stdin, stdout=subprocess.PIPE)
    assert process.stdout.readline().strip() == b"begun"
    if piped:
        process.stdin.close()  # as the system does when the starting process has ended
        assert process.wait(30) == 0
        assert process.stdout.read().strip() == b"saved"
    else:
        assert process.poll() is None
        process.kill()
        process.wait()
    process.stdout.close()


HOLD = """
import sys, time
from speechssl.system import try_lock
file = open(sys.argv[1], "a+")
print(try_lock(file.fileno()), flush=True)
time.sleep(60)
"""


def test_a_lock_is_gone_when_its_process_is_killed(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "lock")], stdout=subprocess.PIPE
    )
    assert process.stdout.readline().strip() == b"True"
    with (tmp_path / "lock").open("a+") as file:
        assert not system.try_lock(file.fileno())
        process.kill()
        process.wait()
        system.lock(file.fileno())
        assert system.try_lock(file.fileno())
    process.stdout.close()


@pytest.mark.parametrize(
    ("error", "got"),
    [
        (None, True),
        (PermissionError(13, "taken"), False),
        (BlockingIOError(11, "taken"), False),
        (OSError(37, "no locks available"), True),
    ],
)
@pytest.mark.parametrize("name", ["fcntl", "msvcrt"])
def test_a_lock_of_each_system(name, error, got, tmp_path, monkeypatch):
    def act(*_):
        if error:
            raise error

    module = types.SimpleNamespace(lockf=act, LOCK_EX=2, LOCK_NB=4, locking=act, LK_NBLCK=2)
    monkeypatch.setattr(system, "_module", lambda asked: module if asked == name else None)
    with (tmp_path / "lock").open("a+") as file:
        assert system.try_lock(file.fileno()) is got


def test_windows_locks_no_byte_that_anybody_reads(tmp_path, monkeypatch):
    places = []
    locking = lambda number, *_: places.append(os.lseek(number, 0, os.SEEK_CUR))  # noqa: E731
    module = types.SimpleNamespace(locking=locking, LK_NBLCK=2)
    monkeypatch.setattr(system, "_module", lambda name: module if name == "msvcrt" else None)
    with (tmp_path / "lock").open("w+", newline="\n") as file:
        assert system.try_lock(file.fileno())
        file.write("process 1\n")
    assert places == [1 << 30]


def test_a_system_without_locks_has_none_to_wait_for(tmp_path, monkeypatch):
    monkeypatch.setattr(system, "_module", lambda _: None)
    with (tmp_path / "lock").open("a+") as file:
        assert system.try_lock(file.fileno())


@pytest.mark.parametrize("positioned", [True, False])
def test_bytes_at_a_place(positioned, tmp_path, monkeypatch):
    if not positioned:
        names = [name for name in dir(os) if name not in ("pread", "pwrite")]
        monkeypatch.setattr(
            system, "os", types.SimpleNamespace(**{name: getattr(os, name) for name in names})
        )
    path = tmp_path / "bytes"
    path.write_bytes(b"0123456789")
    number = os.open(path, os.O_RDWR)
    system.write_at(number, b"ab\r\n", 3)
    assert system.read_at(number, 4, 2) == b"2ab\r"
    assert system.read_at(number, 99, 8) == b"89"
    assert system.read_at(number, 4, 10) == b""
    os.close(number)
    assert path.read_bytes() == b"012ab\r\n789"


def test_a_file_that_is_open_elsewhere_is_moved_when_it_is_free(tmp_path, monkeypatch):
    (tmp_path / "new").write_bytes(b"new")
    (tmp_path / "old").write_bytes(b"old")
    real, tries = os.replace, []

    def replace(source, target):
        tries.append(source)
        if len(tries) < 3:
            raise PermissionError(13, "It is used by another process")
        real(source, target)

    monkeypatch.setattr(system.os, "replace", replace)
    with pytest.raises(PermissionError):  # at once, where no virus scanner has it
        system.replace(tmp_path / "new", tmp_path / "old")
    monkeypatch.setattr(system, "_RETRY_S", 5.0)
    system.replace(tmp_path / "new", tmp_path / "old")
    assert (tmp_path / "old").read_bytes() == b"new"
    (tmp_path / "folder").mkdir()
    system.rename(tmp_path / "folder", tmp_path / "other")
    assert (tmp_path / "other").is_dir()


def test_a_folder_that_cannot_be_synced_is_no_error(tmp_path, monkeypatch):
    (tmp_path / "a").touch()
    system.sync(tmp_path / "a")
    system.sync(tmp_path)

    def windows(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(system.os, "open", windows)
    system.sync(tmp_path)


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("sub/x", "sub/x"),
        ("10:30 ä", "10_30 ä"),
        ('a<b>c"d|e?f*g\\h', "a_b_c_d_e_f_g_h"),
        ("ends.", "ends_"),
        ("ends. ", "ends__"),
        ("con", "_con"),
        ("sub/AUX.txt", "sub/_AUX.txt"),
        ("com1", "_com1"),
        ("com10", "com10"),
        ("conscience", "conscience"),
        ("tab\there", "tab_here"),
    ],
)
def test_names_of_files_on_windows(name, made):
    assert system.file_name(name, windows=True) == made
    assert system.file_name(name, windows=False) == name


def test_memory_of_a_system_that_says_nothing(monkeypatch):
    monkeypatch.setattr(system, "os", types.SimpleNamespace())
    monkeypatch.setattr(system, "Path", lambda _: Path("/nothing/here"))
    assert system.total_memory() is None
    assert system.free_memory() is None


def test_memory_of_windows(monkeypatch):
    import ctypes

    def status(pointer):
        found = pointer._obj
        assert found.size == ctypes.sizeof(found) >= 64
        found.total, found.free = 16 << 30, 5 << 30
        return 1

    kernel = types.SimpleNamespace(GlobalMemoryStatusEx=status)
    monkeypatch.setattr(ctypes, "windll", types.SimpleNamespace(kernel32=kernel), raising=False)
    monkeypatch.setattr(system, "os", types.SimpleNamespace())
    monkeypatch.setattr(system, "Path", lambda _: Path("/nothing/here"))
    assert system.total_memory() == 16 << 30
    assert system.free_memory() == 5 << 30


def test_the_memory_of_this_machine():
    assert (system.total_memory() or 1) >= (system.free_memory() or 0)
    assert system.num_cpus() >= 1


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-16"])
def test_any_script_is_printed_on_any_terminal(encoding, monkeypatch):
    out, err = io.BytesIO(), io.BytesIO()
    for name, raw in (("stdout", out), ("stderr", err)):
        monkeypatch.setattr(sys, name, io.TextIOWrapper(raw, encoding=encoding, newline="\n"))
    system.utf8_streams()
    print("kɛ́ ş 你")
    print("Ωε \udc80", file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    assert out.getvalue() == "kɛ́ ş 你\n".encode()
    assert err.getvalue() == "Ωε \\udc80\n".encode()


def test_streams_that_are_none_are_left_alone(monkeypatch):
    """As under pythonw, which has no terminal."""
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    system.utf8_streams()
