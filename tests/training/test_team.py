"""How further processes of a command are started, watched and ended; without training anything."""

import json
import os
import signal
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest

from speechssl.training import team
from speechssl.training.team import LostProcessError, TeamError


def worker() -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-P", "-c", team._COMMAND],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=team._environment(1),
        **team.own_group(),
    )


PLACE = {"rank": 1, "port": 1, "bytes": 10}


@pytest.mark.parametrize("sent", [b"", b"\n", json.dumps(PLACE).encode() + b"\n12345"])
def test_a_process_ends_with_its_input(sent):
    """Also where the first process was killed while it was still giving the run."""
    with worker() as process:
        assert process.communicate(sent, timeout=60) == (b"", None)
        assert process.returncode == 1


@pytest.mark.skipif(sys.platform == "win32", reason="other signals")
def test_signals_are_for_the_first_process():
    with worker() as process:
        process.stdin.write(json.dumps(PLACE).encode() + b"\n123")
        process.stdin.flush()
        while b"training.worker" not in _commandline(process.pid):
            assert process.poll() is None
        assert os.getpgid(process.pid) != os.getpgid(0)  # Ctrl-C does not reach it
        assert process.poll() is None
        process.stdin.close()
        process.wait(60)


def _commandline(pid: int) -> bytes:
    return subprocess.run(["ps", "-o", "args=", "-p", str(pid)], capture_output=True).stdout


def test_a_process_loads_nothing_before_it_has_its_orders():
    code = "import sys, speechssl.training.worker; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_cannot_be_given_to_another_process_is_said():
    with pytest.raises(TeamError, match=r"cannot be given to further processes .*--processes 1\."):
        team._packed(SimpleNamespace(work=lambda: 0))


class Ended(team._Member):
    """A process that has ended with this code, and with these last words."""

    def __init__(self, code: int | None, failure: str = "", log: bytes = b""):
        self._name, self.failure, self.is_ready = "Process 3 of 4", failure, threading.Event()
        self.process = SimpleNamespace(poll=lambda: code)
        self._threads = [threading.Thread(), SimpleNamespace(join=lambda _: None)]
        self._log = SimpleNamespace(seek=lambda _: None, read=lambda: log)


@pytest.mark.parametrize(
    ("member", "said"),
    [
        (Ended(None), ""),
        (Ended(0), ""),
        (Ended(1, "disk full."), "Process 3 of 4 has failed: disk full."),
        (Ended(1, log=b"a\nImportError: x\n"), "Process 3 of 4 has ended with code 1: ImportError"),
        (Ended(-9), "Process 3 of 4 was ended by SIGKILL (the system does that where memory is sh"),
        (Ended(-signal.SIGSEGV), "Process 3 of 4 was ended by SIGSEGV."),
        (Ended(3, log=b"\xff"), "Process 3 of 4 has ended with code 3: \N{REPLACEMENT CHARACTER}"),
    ],
)
def test_why_a_process_has_ended_is_a_sentence(member, said):
    assert member.reason().startswith(said)
    assert bool(member.reason()) == bool(said)


class OwnError(RuntimeError):
    """One of ours, which the others have too."""


OwnError.__module__ = "speechssl.training.loop"


@pytest.mark.parametrize(
    ("raised", "members", "seen"),
    [
        (RuntimeError("Connection closed by peer"), [Ended(None), Ended(-9)], LostProcessError),
        (RuntimeError("no memory"), [Ended(None)], RuntimeError),  # its own
        (OwnError("not finite"), [Ended(1, "x")], OwnError),
        (ValueError("input"), [Ended(1, "x")], ValueError),
        (KeyboardInterrupt(), [Ended(1, "x")], KeyboardInterrupt),
    ],
)
def test_an_error_is_explained_by_the_process_that_caused_it(raised, members, seen, monkeypatch):
    monkeypatch.setattr(team, "_SETTLE_S", 0.1)
    with pytest.raises(BaseException) as error, team._explained(members):  # noqa: PT011
        raise raised
    assert error.type is seen
    if seen is LostProcessError:
        assert str(error.value).endswith("The same command goes on from the newest state.")


def test_a_process_that_does_not_start_is_said_at_once():
    members = [Ended(None), Ended(1, "No module named x.")]
    with pytest.raises(TeamError, match=r"has failed: No module named x\. --processes 1 does"):
        team._wait_until_ready(members)


@pytest.mark.parametrize("notices", [True, False])
def test_a_lost_process_ends_a_command_that_does_not_notice(notices, monkeypatch, capsys):
    ended = []
    monkeypatch.setattr(team, "_NOTICE_S", 0.1)
    monkeypatch.setattr(os, "_exit", ended.append)
    answers = iter([False, notices])
    done = SimpleNamespace(wait=lambda _: next(answers))
    team._watch([Ended(-9)], done)
    assert ended == ([] if notices else [1])
    said = capsys.readouterr().err
    assert said.startswith("speechssl: Process 3 of 4 was ended by SIGKILL") != notices


def test_torchrun_s_variables_do_not_matter_and_modules_are_those_of_here(monkeypatch):
    monkeypatch.setattr(sys, "path", ["", "/somewhere", *sys.path])
    environment = team._environment(3)
    assert environment["OMP_NUM_THREADS"] == "3"
    path = environment["PYTHONPATH"].split(os.pathsep)
    assert path[:2] == [os.getcwd(), os.path.abspath("/somewhere")]
