"""The further processes of a training: started, watched and ended by the first one, which is the
command itself.

They are fresh interpreters, so that they start alike on every system, and get the run through a
pipe (:mod:`.worker`). The first process alone writes, speaks and takes signals.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import IO, Any

from torch.distributed.distributed_c10d import PrefixStore

from speechssl.system import own_group
from speechssl.training import worker
from speechssl.training.job import Job, Order, open_store
from speechssl.training.pack import pack

_COMMAND = "from speechssl.training.worker import main; main()"
_START_S = 300.0
"""Until a process has loaded what it needs, on a disk that sleeps."""
_SETTLE_S = 3.0
"""From the error of the first process until the one that caused it is known to have ended."""
_NOTICE_S = 60.0
"""From the end of a process until the first one must have noticed it."""

_open_pipes: set[int] = set()
"""Ends that a process which is forked from this one must not keep open."""


class LostProcessError(RuntimeError):
    """One of the processes that share a training has ended; the sentence says why."""


class TeamError(RuntimeError):
    """The further processes could not be started."""


class _Member:
    """One further process."""

    def __init__(self, rank: int, world: int, port: int, threads: int, data: bytes) -> None:
        self.is_ready, self.failure = threading.Event(), ""
        self._place = {"rank": rank, "port": port, "bytes": len(data)}
        self._name = f"Process {rank + 1} of {world}"
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  (closed with the member)
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", _COMMAND],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=_environment(threads),
            **own_group(),
        )
        _open_pipes.add(self._pipe.fileno())
        self._threads = [
            threading.Thread(target=self._feed, args=(data,), daemon=True),
            threading.Thread(target=self._listen, daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    @property
    def _pipe(self) -> IO[bytes]:
        assert self.process.stdin is not None
        return self.process.stdin

    def _feed(self, data: bytes) -> None:
        with contextlib.suppress(OSError, ValueError):  # it has ended
            self._pipe.write(json.dumps(self._place).encode() + b"\n" + data)
            self._pipe.flush()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            message: dict[str, Any] = json.loads(line)
            if message.get(worker.READY):
                self.is_ready.set()
            self.failure = message.get(worker.FAILED, self.failure)

    def reason(self) -> str:
        """Why it has ended, a sentence; '' while it works, or where it has done its work."""
        code = self.process.poll()
        if not code:
            return ""
        self._threads[1].join(1.0)  # its last words may still be on their way
        return f"{self._name} {self._cause(code).rstrip('.')}."

    def _cause(self, code: int) -> str:
        if self.failure:
            return f"has failed: {self.failure}"
        if code < 0:
            name = signal.Signals(-code).name
            short = " (the system does that where memory is short)" if name == "SIGKILL" else ""
            return f"was ended by {name}{short}"
        self._log.seek(0)
        last = self._log.read().decode(errors="replace").strip().splitlines()[-1:]
        return f"has ended with code {code}: {''.join(last)}"

    def end(self) -> None:
        """End it, whatever it does: it has nothing to save."""
        _open_pipes.discard(self._pipe.fileno())
        if self.is_ready.is_set():  # it has read all of its input, whose end is for it to end
            with contextlib.suppress(OSError, subprocess.TimeoutExpired):
                self._pipe.close()
                self.process.wait(_SETTLE_S)
        self.process.kill()
        self.process.wait()
        for stream in (self._pipe, self.process.stdout, self._log):
            with contextlib.suppress(OSError):
                assert stream is not None
                stream.close()


def _environment(threads: int) -> dict[str, str]:
    """Of a further process: the same modules as here, and no variables of `torchrun`."""
    path = os.pathsep.join(os.path.abspath(entry) for entry in sys.path)
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": str(threads)}


def _close_pipes() -> None:
    """In a process that was forked: else the pipes would not end with the first process."""
    for number in _open_pipes:
        with contextlib.suppress(OSError):
            os.close(number)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_pipes)


class Team:
    """This process and further ones, to which it gives orders.

    Raises, from any method:
        TeamError: the further processes do not start.
        LostProcessError: one of them has ended before its work was done.
    """

    def __init__(self, job: Job, num: int, threads: int) -> None:
        """Start `num` - 1 processes, with a copy of the job each; they may use `threads` threads
        before they get an order."""
        self._job, self._num_orders = job, 0
        self._store = open_store(0, is_first=True)
        self._members: list[_Member] = []
        self._done = threading.Event()
        data = _packed(job)
        try:
            for rank in range(1, num):
                self._members.append(_Member(rank, num, self._store.port, threads, data))
            _wait_until_ready(self._members)
        except BaseException:
            self.end()
            raise
        threading.Thread(target=_watch, args=(self._members, self._done), daemon=True).start()

    @contextmanager
    def following(self, order: Order) -> Iterator[None]:
        """In here the processes do what is ordered, and this one must do the same."""
        number, self._num_orders = self._num_orders, self._num_orders + 1
        self._store.set(f"order-{number}", json.dumps(asdict(order)))
        group = PrefixStore(f"group-{number}", self._store)
        with _explained(self._members), self._job.together(order, 0, group):
            yield

    def end(self) -> None:
        """End the further processes, whatever they do."""
        self._done.set()
        for member in self._members:
            member.end()


def _packed(job: Job) -> bytes:
    try:
        return pack(job)
    except Exception as error:
        raise TeamError(
            f"This run cannot be given to further processes ({error}): give --processes 1."
        ) from error


def _wait_until_ready(members: Sequence[_Member]) -> None:
    deadline = time.monotonic() + _START_S
    for member in members:
        while not member.is_ready.wait(0.05):
            if reason := _reason(members):
                raise TeamError(f"{reason} --processes 1 does without further processes.")
            if time.monotonic() > deadline:
                raise TeamError(
                    f"Further processes have not started within {_START_S:.0f} s: give "
                    "--processes 1."
                )


def _reason(members: Sequence[_Member]) -> str:
    """Why the first process that has ended too early did so; '' where all of them work."""
    return next((reason for member in members if (reason := member.reason())), "")


@contextmanager
def _explained(members: Sequence[_Member]) -> Iterator[None]:
    """The error of a lost connection becomes the reason why it was lost."""
    try:
        yield
    except RuntimeError as error:
        if type(error).__module__.startswith("speechssl"):
            raise
        deadline = time.monotonic() + _SETTLE_S
        while not (reason := _reason(members)) and time.monotonic() < deadline:
            time.sleep(0.05)
        if not reason:
            raise
        raise LostProcessError(f"{reason} {_ADVICE}") from error


_ADVICE = "The same command goes on from the newest state."


def _watch(members: Sequence[_Member], done: threading.Event) -> None:
    """End the command where a process is lost and this one does not notice, busy or waiting."""
    while not done.wait(1.0):
        if reason := _reason(members):
            if not done.wait(_NOTICE_S):
                print(f"speechssl: {reason} {_ADVICE}", file=sys.stderr, flush=True)
                os._exit(1)
            return
