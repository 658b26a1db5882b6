"""Stops that are asked for: SIGINT by a person, SIGTERM and SIGUSR1 by a cluster,
SIGBREAK by Windows (Ctrl-Break, a closed console)."""

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from speechssl.system import preemption_signals

INTERRUPTED, PREEMPTED = 1, 2


class InterruptedRunError(Exception):
    """The run was told to stop and has saved its state."""


class PreemptedRunError(InterruptedRunError):
    """The same, told by a cluster that needs the machine and will start the command again."""


class Stop:
    asked = 0
    """`INTERRUPTED`, `PREEMPTED`, or 0 while nobody has asked."""


@contextmanager
def stop_signals() -> Iterator[Stop]:
    """SIGINT and those of :func:`preemption_signals` ask for a stop after the present step; a
    second SIGINT stops at once."""
    stop = Stop()

    def ask(number: int, _frame: FrameType | None) -> None:
        if stop.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.asked = INTERRUPTED if number == signal.SIGINT else PREEMPTED

    with _handling(ask, (signal.SIGINT, *preemption_signals())):
        yield stop


@contextmanager
def preemptible() -> Iterator[None]:
    """Around the loop, where sound is decoded and plans are made, a signal of preemption ends the
    run at once: there is nothing to save, and to the cluster it has not failed."""

    def end(_number: int, _frame: FrameType | None) -> None:
        raise PreemptedRunError("Stopped outside of the updates. The same command goes on.")

    with _handling(end, preemption_signals()):
        yield


@contextmanager
def _handling(
    handler: Callable[[int, FrameType | None], None], numbers: Sequence[signal.Signals]
) -> Iterator[None]:
    """Let `handler` take these signals."""
    try:
        old = {number: signal.signal(number, handler) for number in numbers}
    except ValueError:  # not the main thread: signals are somebody else's
        yield
        return
    try:
        yield
    finally:
        for number, before in old.items():
            signal.signal(number, before)
