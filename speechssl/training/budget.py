"""The clock of a run over all its sessions, and how many steps fit into its minutes."""

import time
from collections import deque
from typing import Literal

import torch

ClockKind = Literal["wall", "processor"]

_FIRST_STEPS = 5
"""Not measured where there are many: they compile, allocate and fill caches."""
_MEASURED_STEPS = 20
"""Steps before the first plan that is made of them."""
_WINDOW = 100
"""Steps whose mean duration is that of the next ones."""
_UNKNOWN_SHARE = 0.07
"""Share of the budget kept for validations before the first one has been timed."""
_MARGIN_SHARE = 0.01
"""Kept for the last save, beside the time for validations."""


class Clock:
    """Seconds of the run, over all its sessions: wall time, or the processor time of this process
    divided by its threads, which other work on the machine does not shorten."""

    def __init__(self, before_s: float, started: float, kind: ClockKind = "wall") -> None:
        """`before_s` were spent by earlier sessions; this one began at `started`, a
        ``time.monotonic()``."""
        self._now = time.monotonic if kind == "wall" else _processor_s
        # Processor time is counted from here on, and what came before in this process as wall time.
        begun = started if kind == "wall" else _processor_s() - (time.monotonic() - started)
        self._origin = begun - before_s

    @property
    def elapsed_s(self) -> float:
        return self._now() - self._origin


def _processor_s() -> float:
    """Of this process, its threads one after the other, as if one worked at a time as all do."""
    return time.process_time() / torch.get_num_threads()


class Budget:
    """Turns minutes into steps, by measuring, anew all the way to the end.

    Other work on the machine comes and goes, so a plan made in a slow phase is too short and one
    made in a quick phase too long. The plan follows the last steps' pace, up and down, and is made
    more often as the end comes near: at the latest after a fifth of what is left. So a run ends
    with its minutes wherever it was slow, and the schedule, which goes by the share of the planned
    steps that are done, ends with it.
    """

    def __init__(
        self, minutes: float | None, most_steps: int, num_validations: int, clock: Clock
    ) -> None:
        """No `minutes`: every plan is the one before. Never more than `most_steps`."""
        self._limit_s = None if minutes is None else 60 * minutes
        self._most, self._num_validations = most_steps, num_validations
        self._clock = clock
        self._seen, self._first = 0, _FIRST_STEPS
        self._next = _FIRST_STEPS + _MEASURED_STEPS
        self._last_s = clock.elapsed_s
        self._durations: deque[float] = deque(maxlen=_WINDOW)
        self._validation_s: float | None = None

    def first_plan(self, update_s: float | None) -> int:
        """The number of steps of a run that begins, if one takes `update_s`; None: not known, and
        the most until some are measured.

        Where few fit, a plan of measured steps would come after most of them, and they would be
        made at the begin of a schedule that is laid out for all: the learning rate would not rise.
        """
        if self._limit_s is None or not update_s:
            return self._most
        left_s = self._limit_s - self._reserve_s(0, self._most) - self._clock.elapsed_s
        planned = min(max(int(left_s / update_s), 1), self._most)
        self._first = min(_FIRST_STEPS, planned // 5)
        self._next = self._first + max(min(_MEASURED_STEPS, planned // 5), 1)
        return planned

    def plan(self, step: int, max_steps: int) -> int:
        """The number of steps that fits, at least `step`; called after each step."""
        if self._limit_s is None:
            return max_steps
        now = self._clock.elapsed_s
        self._seen += 1
        if self._seen > self._first:
            self._durations.append(now - self._last_s)
        self._last_s = now
        if now >= self._limit_s:
            return step
        if self._seen < self._next:
            return max_steps
        pace_s = sum(self._durations) / len(self._durations)
        left_s = self._limit_s - self._reserve_s(step, max_steps) - now
        planned = min(step + max(int(left_s / max(pace_s, 1e-9)), 0), self._most)
        self._next = self._seen + max(min(self._seen, _WINDOW, (planned - step) // 5), 1)
        return planned

    def validated(self) -> None:
        """Called after each validation (and what was saved with it): it is timed, and no step."""
        now = self._clock.elapsed_s
        self._validation_s, self._last_s = now - self._last_s, now

    def _reserve_s(self, step: int, max_steps: int) -> float:
        """What validations and the last save will take."""
        assert self._limit_s is not None
        if self._validation_s is None:
            return _UNKNOWN_SHARE * self._limit_s
        to_come = self._num_validations * (1 - min(step / max_steps, 1))
        return _MARGIN_SHARE * self._limit_s + max(to_come, 1) * self._validation_s
