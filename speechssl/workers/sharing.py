"""Work in groups, shared with worker processes: an ordered map whose memory is bounded.

This process works too, so that nothing waits for a worker to start, and a worker that ends early
(killed for memory) costs no result: what it was at work on is done here. Workers
fork from a server of one thread that has imported what they need, so that this memory is there once
(:mod:`multiprocessing`'s ``forkserver``); where that is not safe, on macOS and Windows, they are
spawned. They end with this process, however that ends: each watches a pipe that is open as long as
this process lives.

What a group gives must not depend on which process works on it; the groups are made before.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from typing import Any, Generic, Literal, Protocol, TypeVar

from speechssl.workers.process import GRACE_S, Outcome, Worker, outcome_of

Item = TypeVar("Item")
Result = TypeVar("Result")
Given = TypeVar("Given", contravariant=True)
Made = TypeVar("Made", covariant=True)
Processes = int | Literal["auto"]

SETTLE_S = 2.0
"""Seconds after which workers are started where no two groups are done yet: about what a worker
costs before it works, most of it for importing torch."""
WORTH_S = 6.0
"""Seconds of work left, for one process, for which workers are started."""
_AHEAD = 256
"""Groups that may be done before the one whose result is awaited."""


@dataclass(frozen=True)
class Group(Generic[Item]):
    """What one process works on at a time."""

    items: tuple[Item, ...]
    seconds: float
    """Of sound, as far as that is known beforehand: how much work it is."""
    name: str
    """Of its recordings, for sentences."""


class Job(Protocol[Given, Made]):
    """How a worker begins; it is pickled. What `start` gives does the same as `work` of
    :func:`share` does in this process. Its class may name `modules` that a worker is to have
    imported (:class:`speechssl.workers.process.Worker`)."""

    def start(self) -> Callable[[tuple[Given, ...]], Made]: ...


def share(
    groups: Iterable[Group[Item]],
    work: Callable[[tuple[Item, ...]], Result],
    job: Job[Item, Result],
    *,
    processes: int,
    at_once: bool,
    say: Callable[[str], None],
) -> Generator[Result]:
    """``work(group.items)`` for each group, in their order.

    Args:
        groups: made as they are needed.
        work: what this process does.
        job: the same in a worker.
        processes: at most, this one included; no more than there are groups.
        at_once: whether workers are started at the beginning; else when this process has seen that
            more than WORTH_S seconds of work are left.
        say: gets a sentence when workers are started later, and where one is lost.

    An exception of `work` is raised in the place of the group's result, also where it was in a
    worker, and ends the work. So does leaving the iterator: no worker is left then.
    """
    state = _State(groups, say)
    helpers = [
        threading.Thread(target=_help, args=(state, job, place, at_once), daemon=True)
        for place in range(1, processes)
    ]
    ended_well = False
    try:
        for helper in helpers:
            helper.start()
        while state.goes_on():
            if (found := state.next_result()) is not None:
                yield found.value()
            elif (task := state.take()) is not None:
                state.put(task, outcome_of(work, task.group.items))
            else:
                state.wait()
        ended_well = True
    finally:
        state.end(helpers, 0.0 if ended_well else GRACE_S)


@dataclass(frozen=True)
class _Task(Generic[Item]):
    number: int
    group: Group[Item]


class _State(Generic[Item]):
    """What the threads of this process share: one for each worker, and the main one."""

    def __init__(self, groups: Iterable[Group[Item]], say: Callable[[str], None]) -> None:
        self.say = say
        self.workers: list[Worker] = []
        self._changed = threading.Condition()
        self._groups = iter(groups)
        self._waiting: deque[_Task[Item]] = deque()
        self._num_seen = 0
        self._has_all = False
        self._results: dict[int, Outcome] = {}
        self._next = 0
        self._over = False
        self._began = time.monotonic()
        self._rates: list[float] = []
        """Seconds that groups took for each second of sound."""

    def goes_on(self) -> bool:
        with self._changed:
            self._look_ahead(1)
            return self._next < self._num_seen

    def _look_ahead(self, num: int, seconds: float = float("inf")) -> float:
        """Have so many groups, or those of so many seconds, waiting where there are so many -> the
        seconds that are waiting."""
        total = sum(task.group.seconds for task in self._waiting)
        while len(self._waiting) < num and total < seconds and not self._has_all:
            group = next(self._groups, None)
            if group is None:
                self._has_all = True
                break
            self._waiting.append(_Task(self._num_seen, group))
            self._num_seen += 1
            total += group.seconds
        return total

    def next_result(self) -> Outcome | None:
        with self._changed:
            found = self._results.pop(self._next, None)
            if found is not None:
                self._next += 1
                self._changed.notify_all()
            return found

    def take(self) -> _Task[Item] | None:
        """The next group that nobody has; None where there is none, or it is too far ahead."""
        with self._changed:
            self._look_ahead(1)
            return self._waiting.popleft() if not self._over and self._has_work() else None

    def _has_work(self) -> bool:
        return bool(self._waiting) and self._waiting[0].number <= self._next + _AHEAD

    def take_patiently(self) -> _Task[Item] | None:
        """The same for a worker: None only where there will be none."""
        while True:
            if (task := self.take()) is not None:
                return task
            with self._changed:
                if self._over or (self._has_all and self._next == self._num_seen):
                    return None
                self._changed.wait(0.5)

    def put(self, task: _Task[Item], outcome: Outcome) -> None:
        with self._changed:
            self._results[task.number] = outcome
            self._rates.append(outcome.elapsed_s / max(task.group.seconds, 1e-3))
            self._changed.notify_all()

    def give_back(self, task: _Task[Item]) -> None:
        with self._changed:
            self._waiting.appendleft(task)
            self._changed.notify_all()

    def wait(self) -> None:
        """Until something changes; not for ever, so that Ctrl-C is noticed on Windows too."""
        with self._changed:
            if self._next not in self._results and not self._has_work():
                self._changed.wait(0.2)

    def is_worth(self, place: int, at_once: bool) -> bool:
        """Whether worker `place` (from 1) is to be started: asked until that is so, or it is late.

        The best of the rates so far counts, as the first group also pays for what is compiled. A
        group that lasts longer than a worker needs to start is long enough to share the others.
        """
        while True:
            with self._changed:
                self._look_ahead(place + 1)
                if self._over or (self._has_all and not self._waiting):
                    return False
                enough = self._num_seen - self._next > place
                if enough and (at_once or self._lasts()):
                    return True
                if at_once and self._has_all:
                    return False
                self._changed.wait(0.2)

    def _lasts(self) -> bool:
        if len(self._rates) < 2:
            return time.monotonic() - self._began >= SETTLE_S
        enough_s = WORTH_S / max(min(self._rates), 1e-9)
        return self._look_ahead(2**31, enough_s) >= enough_s

    def is_over(self) -> bool:
        return self._over

    def begin_worker(self, job: Job[Any, Any]) -> Worker | None:
        """A fresh worker, known to `end`; None where it is too late."""
        with self._changed:
            if self._over:
                return None
            worker = Worker(getattr(job, "modules", ()))
            self.workers.append(worker)
            return worker

    def end(self, helpers: list[threading.Thread], grace_s: float) -> None:
        """No worker is left afterwards; those at work get `grace_s` to stop."""
        with self._changed:
            self._over = True
            self._changed.notify_all()
            workers = list(self.workers)
        for worker in workers:
            worker.stop()
        until = time.monotonic() + grace_s
        for worker in workers:
            worker.end(max(until - time.monotonic(), 0.0))
        for helper in helpers:
            if helper.ident is not None:
                helper.join()


def _help(state: _State[Item], job: Job[Item, Result], place: int, at_once: bool) -> None:
    """The thread of one worker: starts it, gives it groups, and puts what it answers."""
    if not state.is_worth(place, at_once):
        return
    worker: Worker | None = None
    task: _Task[Item] | None = None
    try:
        if (worker := state.begin_worker(job)) is None:
            return
        if place == 1 and not at_once:
            state.say("Worker processes share the recordings (--processes 1: one process).")
        if (error := worker.ask(job).error) is not None:
            raise error
        while (task := state.take_patiently()) is not None:
            outcome = worker.ask(task.group.items)
            if outcome.is_for_others:
                raise MemoryError
            state.put(task, outcome)
            task = None
    except Exception as error:
        if not state.is_over():
            state.say(_sentence(error, worker, task))
    finally:
        if task is not None:
            state.give_back(task)
        if worker is not None:
            worker.dismiss()


def _sentence(error: Exception, worker: Worker | None, task: _Task[Any] | None) -> str:
    """What is said of a lost worker."""
    if isinstance(error, EOFError | ConnectionError) and worker is not None:
        reason = worker.how_it_ended()
    elif isinstance(error, MemoryError):
        reason = "memory was short"
    else:
        reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    if task is None:
        return f"A worker process could not begin ({reason}); the work goes on without it."
    return (
        f"A worker process ended at work on {task.group.name} ({reason}); another process does "
        "that and the rest."
    )
