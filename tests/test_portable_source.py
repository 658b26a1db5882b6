"""By reading the source: what only Linux or POSIX has is called in speechssl/system.py alone, text
files name their encoding and, where they are written, how lines end."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SYSTEM = "speechssl/system.py"

MODULES = {
    *("fcntl", "resource", "pwd", "grp", "spwd", "termios", "tty", "pty", "syslog", "readline"),
    *("curses", "crypt", "nis", "msvcrt", "winreg", "_winapi", "posix", "nt"),
}
FUNCTIONS = """
fork forkpty link symlink readlink killpg getpgid setpgid setsid getsid getppid getloadavg getuid
geteuid getgid getegid uname sysconf statvfs fstatvfs pread pwrite preadv pwritev mkfifo chown
lchown fchmod fchown nice getpriority setpriority wait wait3 wait4 waitid posix_spawn sync
fdatasync sendfile kill replace rename renames register_at_fork sched_getaffinity
"""
OS = set(FUNCTIONS.split())
SIGNALS = {"SIGINT", "SIGTERM", "SIG_IGN", "SIG_DFL"}
"""What every system has."""
EXCEPTIONS = {
    ("speechssl/audio/mpg123.py", "os.register_at_fork"): "where there is one",
    ("speechssl/model/fast/loops.py", "os.register_at_fork"): "where there is one",
    ("speechssl/training/team.py", "os.register_at_fork"): "where there is one",
    ("speechssl/compare/plan.py", "os.sched_getaffinity"): "where there is one",
    ("speechssl/workers/process.py", "signal.pthread_sigmask"): "where there is one",
    ("speechssl/workers/process.py", "signal.SIG_BLOCK"): "for that",
    ("speechssl/workers/process.py", "signal.SIG_SETMASK"): "for that",
}


def sources() -> Iterator[tuple[str, ast.Module]]:
    for folder in ("speechssl", "recipes", "data_prep"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            name = path.relative_to(ROOT).as_posix()
            yield name, ast.parse(path.read_text(encoding="utf-8"))


def system_calls(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, what) of each use of a module, a function or a signal that some system lacks."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names if alias.name.split(".")[0] in MODULES]
        elif isinstance(node, ast.ImportFrom):
            stem = (node.module or "").split(".")[0]
            found = [stem] if stem in MODULES and not node.level else []
            if stem in ("os", "signal"):
                names = [alias.name for alias in node.names]
                found += [f"{stem}.{name}" for name in names if name in OS | {"alarm", "pause"}]
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            where, name = node.value.id, node.attr
            lacking = {
                "os": name in OS,
                "signal": name in ("alarm", "setitimer", "pause", "sigwait")
                or (name.startswith(("SIG", "pthread_")) and name not in SIGNALS),
            }
            found = [f"{where}.{name}"] if lacking.get(where) else []
        elif isinstance(node, ast.keyword) and node.arg in ("start_new_session", "preexec_fn"):
            found = [node.arg]
        elif isinstance(node, ast.Constant) and node.value in ("fork", "forkserver"):
            found = [f"start method {node.value}"]
        else:
            continue
        yield from ((getattr(node, "lineno", 0), name) for name in found)


def test_only_one_module_calls_what_some_system_lacks():
    wrong = [
        f"{name}, line {line}: {what}"
        for name, tree in sources()
        for line, what in system_calls(tree)
        if name != SYSTEM and (name, what) not in EXCEPTIONS
    ]
    assert not wrong, "\n".join(wrong)


def test_every_exception_is_needed():
    used = {(name, what) for name, tree in sources() for _, what in system_calls(tree)}
    assert set(EXCEPTIONS) <= used


def careless_files(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, what) of each text file without encoding, or that is written without newline."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        given = {keyword.arg for keyword in node.keywords}
        if ast.unparse(node.func) in ("os.open", "tarfile.open", "read_text"):  # not of a Path
            continue
        if name in ("run", "Popen", "check_output") and {"text", "universal_newlines"} & given:
            if "encoding" not in given:
                yield node.lineno, f"{name} without encoding"
        elif name in ("read_text", "write_text"):
            if "encoding" not in given:
                yield node.lineno, f"{name} without encoding"
            if name == "write_text" and "newline" not in given:
                yield node.lineno, "write_text without newline"
        elif name in ("open", "fdopen") and (mode := _mode(node)) and "b" not in mode:
            if "encoding" not in given:
                yield node.lineno, f"{name} {mode!r} without encoding"
            if set(mode) & set("wax") and "newline" not in given:
                yield node.lineno, f"{name} {mode!r} without newline"


def _mode(call: ast.Call) -> str:
    """'' where it opens no file by a mode."""
    values = [*call.args, *(keyword.value for keyword in call.keywords if keyword.arg == "mode")]
    modes = [v.value for v in values if isinstance(v, ast.Constant) and isinstance(v.value, str)]
    return next((mode for mode in modes if mode and set(mode) <= set("rwabxt+")), "")


def test_text_files_are_utf8_and_end_their_lines_alike():
    wrong = [
        f"{name}, line {line}: {what}"
        for name, tree in sources()
        for line, what in careless_files(tree)
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import fcntl", ["fcntl"]),
        ("def f():\n    import resource", ["resource"]),
        ("from pwd import getpwuid", ["pwd"]),
        ("import os\nos.killpg(1, 2)", ["os.killpg"]),
        ("import os\npid = os.fork()", ["os.fork"]),
        ("import os\nos.replace('a', 'b')", ["os.replace"]),
        ("from os import link", ["os.link"]),
        ("import signal\nx = signal.SIGUSR1", ["signal.SIGUSR1"]),
        ("import signal\nx = (signal.SIGINT, signal.SIGTERM, signal.SIG_IGN)", []),
        ("signal.metric", []),
        ("Popen(x, start_new_session=True)", ["start_new_session"]),
        ("get_context('fork')", ["start method fork"]),
        ("from . import resource", []),
        ("import os\nos.path.join('a')", []),
    ],
)
def test_the_rule_itself(source, found):
    assert [what for _, what in system_calls(ast.parse(source))] == found


@pytest.mark.parametrize(
    ("source", "num"),
    [
        ("open('a', 'w')", 2),
        ("path.open('a', encoding='utf-8')", 1),
        ("path.open('w', encoding='utf-8', newline='\\n')", 0),
        ("path.open('rb')", 0),
        ("path.read_text()", 1),
        ("path.write_text(x, encoding='utf-8')", 1),
        ("subprocess.run(c, text=True)", 1),
        ("subprocess.run(c, encoding='utf-8')", 0),
    ],
)
def test_the_rule_of_files_itself(source, num):
    assert len(list(careless_files(ast.parse(source)))) == num
