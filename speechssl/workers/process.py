"""A worker process: as the process that started it sees it, and what runs in it."""

import contextlib
import os
import pickle
import signal
import threading
import time
import traceback
from _thread import interrupt_main
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import get_context, resource_tracker
from multiprocessing.connection import Connection
from types import FrameType
from typing import Any

from speechssl import system

GRACE_S = 1.0
"""Seconds that a worker gets to take away half of a file, when the work is interrupted."""


@dataclass(frozen=True)
class Outcome:
    """What came of a group."""

    result: Any = None
    error: Exception | None = None
    is_for_others: bool = False
    """Whether it failed for want of memory, which another process may have."""
    elapsed_s: float = 0.0

    def value(self) -> Any:
        if self.error is not None:
            raise self.error
        return self.result


_PIPES = threading.Lock()


def expect_workers(modules: Sequence[str]) -> None:
    """Let the server from which workers fork import `modules` already, while this process imports
    its own; does nothing where workers are spawned."""
    if _context(modules).get_start_method() == "spawn":
        return
    from multiprocessing import forkserver  # which Windows lacks

    with _PIPES, _deaf_to_ctrl_c():
        forkserver.ensure_running()


def _context(modules: Sequence[str]) -> Any:
    """How workers begin here, with `modules` imported in the server if they fork from one."""
    context: Any = get_context(system.worker_start_method())
    if context.get_start_method() != "spawn":
        context.set_forkserver_preload([*modules])
    return context


class Worker:
    """A process that answers, as this process sees it."""

    def __init__(self, modules: Sequence[str] = ()) -> None:
        """`modules` are imported once for all workers, where the system can; the first worker of
        this process decides which."""
        context = _context(modules)
        self._connection, theirs = context.Pipe()
        watched, self._alive = context.Pipe(duplex=False)
        self.process = context.Process(target=_serve, args=(theirs, watched), daemon=True)
        with _PIPES, _deaf_to_ctrl_c():
            self.process.start()
        theirs.close()
        watched.close()

    def ask(self, what: object) -> Outcome:
        """EOFError or OSError where the process has ended."""
        self._connection.send(what)
        answer: Outcome = self._connection.recv()
        return answer

    def stop(self) -> None:
        """Tell it to end, whatever it does; from any thread, as often as one likes."""
        with _PIPES:
            self._alive.close()

    def end(self, grace_s: float) -> None:
        self.process.join(grace_s)
        self.process.kill()
        self.process.join()

    def dismiss(self) -> None:
        """It has nothing more to do: an idle one ends by that."""
        self._connection.close()
        self.stop()

    def how_it_ended(self) -> str:
        self.process.join(5.0)
        code = self.process.exitcode
        if code is not None and code == -getattr(signal, "SIGKILL", 9):
            return "it was killed, perhaps for want of memory"
        return f"exit code {code}"


@contextlib.contextmanager
def _deaf_to_ctrl_c() -> Iterator[None]:
    """A process that is started here does not see Ctrl-C, which a terminal sends to all: this
    process decides. (On Windows it is deaf from when it serves.)"""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # which lets the signal through again when it begins
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(connection: Connection, alive: Connection) -> None:
    """The worker: a job, then groups, until the other side closes."""
    stopping = threading.Event()

    def interrupted(_number: int, _frame: FrameType | None) -> None:
        if stopping.is_set():
            raise KeyboardInterrupt

    def watch() -> None:
        with contextlib.suppress(EOFError, OSError):
            alive.recv()  # nothing is ever sent
        stopping.set()
        interrupt_main()  # so that half of a file is taken away
        time.sleep(GRACE_S)
        os._exit(1)

    signal.signal(signal.SIGINT, interrupted)
    threading.Thread(target=watch, daemon=True).start()
    with contextlib.suppress(EOFError, OSError, KeyboardInterrupt):
        begun = outcome_of(lambda _: connection.recv().start(), None)
        connection.send(portable(Outcome(error=begun.error)))
        while begun.error is None:
            connection.send(portable(outcome_of(begun.result, connection.recv())))
    os._exit(0)  # nothing is left to do, and tearing torch down takes time


def outcome_of(work: Callable[[Any], Any], items: Any) -> Outcome:
    began = time.monotonic()
    try:
        result = work(items)
    except Exception as error:
        return Outcome(None, error, _is_short_of_memory(error), time.monotonic() - began)
    return Outcome(result, elapsed_s=time.monotonic() - began)


def _is_short_of_memory(error: Exception) -> bool:
    """MemoryError, or what torch raises for it on a CPU."""
    return isinstance(error, MemoryError) or "allocate memory" in str(error)


def portable(outcome: Outcome) -> Outcome:
    """With an error that can be pickled, and that says where in the worker it was raised."""
    error = outcome.error
    if error is None:
        return outcome
    trace = "".join(traceback.format_exception(error))
    try:
        copied = pickle.loads(pickle.dumps(error))
    except Exception:
        copied = RuntimeError(f"{type(error).__name__}: {error}")
    copied.add_note(f"In a worker process:\n{trace}")
    return Outcome(None, copied, outcome.is_for_others, outcome.elapsed_s)
