"""How far a command is in many recordings, and how long it will still take."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from typing import IO, Any, TypeVar

from speechssl.durations import duration_text

Item = TypeVar("Item")

FIRST_S, EVERY_S = 30.0, 60.0
"""Where there is no terminal: the first line after so many seconds, then one in so many."""


class Progress:
    """A bar where stderr is a terminal, else a line each minute; nothing for one recording.

    The time left is estimated from the recordings' `sizes` (bytes), not from their number: a few
    long ones at the end are seen to come.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        bar: bool = True,
        out: IO[str] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`bar` False: no bar on a terminal, since it shows the results."""
        self._sizes = [max(size, 1) for size in sizes]
        self._out, self._clock = out or sys.stderr, clock
        self._told = clock()
        self._has_told = False
        self._first: tuple[float, int] | None = None  # when the first result came, and its size
        self._done = self._num = 0
        self._bar: Any = None
        terminal = self._out.isatty()
        self._silent = len(sizes) < 2 or (terminal and not bar)
        if terminal and not self._silent:
            from tqdm import tqdm

            self._bar = tqdm(
                total=sum(self._sizes),
                file=self._out,
                desc=f"{self._count()}: ",
                bar_format="{desc}{percentage:3.0f} %|{bar:30}| {elapsed}, {remaining} left",
            )

    def over(self, results: Iterable[Item]) -> Iterator[Item]:
        """`results`, one of each recording, in order; progress is told as they come."""
        try:
            for result in results:
                yield result
                self.step()
        finally:
            if self._bar is not None:
                self._bar.close()

    def step(self) -> None:
        """One more recording is done."""
        size = self._sizes[self._num]
        self._num, self._done = self._num + 1, self._done + size
        if self._bar is not None:
            self._bar.set_description(self._count(), refresh=False)
            self._bar.update(size)
            return
        now = self._clock()
        if self._first is None:  # until then the model was made ready
            self._first = now, size
            return
        if self._silent or now - self._told < (EVERY_S if self._has_told else FIRST_S):
            return
        if self._num < len(self._sizes):
            self._told, self._has_told = now, True
            begun, before = self._first
            left = (now - begun) * (sum(self._sizes) - self._done) / (self._done - before)
            self.tell(f"{self._count()}, about {duration_text(left)} left.")

    def tell(self, sentence: str) -> None:
        """A sentence for the person, above the bar."""
        context = self._bar.external_write_mode(file=self._out) if self._bar else nullcontext()
        with context:
            print(f"speechssl: {sentence}", file=self._out, flush=True)

    def _count(self) -> str:
        return f"{self._num:,} of {len(self._sizes):,} recordings"
