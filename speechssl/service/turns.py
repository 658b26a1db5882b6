"""Whose chunk is next: the model shared fairly by requests, and batches made across them.

The request that has had least of the model's time gets the next place, and a new one begins a
minute ahead of the others: a clip of three seconds waits for the batch that is being computed and
not for an hour's recording, and two such recordings share the time (start-time fair queueing, Goyal
et al. 1996, with a head start). Every fourth place is of the chunk that has waited longest, so that
many short clips do not keep a long recording from ending.

Shapes: S samples, T rows of log-probabilities, V vocabulary.
"""

import itertools
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

OLDEST_EVERY = 4
"""One place of so many is of the chunk that waits longest."""

MOST_PADDING = 2.0
"""A batch has at most so many times the samples of its chunks."""


class StoppedError(Exception):
    """The request is over: its client went away, it was cancelled, or the service ends."""


class Ticket:
    """A request's claim to the model's time."""

    def __init__(self) -> None:
        self.attained: int | None = None
        """Samples that were computed for it, from where it began on the common clock; None: it did
        not ask yet."""
        self._stopped = threading.Event()

    def stop(self) -> None:
        """Nothing more is computed for it, but for the chunk that is being computed."""
        self._stopped.set()

    @property
    def is_stopped(self) -> bool:
        return self._stopped.is_set()

    def check(self) -> None:
        """Raises StoppedError where it is stopped."""
        if self.is_stopped:
            raise StoppedError


@dataclass(eq=False, slots=True)
class _Place:
    """A chunk that waits."""

    ticket: Ticket
    wave: np.ndarray
    """(S,) float32."""
    number: int
    """In the order of arrival."""
    future: "Future[Tensor]" = field(default_factory=Future)


Forward = Callable[[Sequence[np.ndarray]], Sequence[Tensor]]
"""Waves (S_i,) of a batch -> log-probabilities (T_i, V) of each."""


class Turns:
    """Threads that compute what waits, the fairest place first."""

    def __init__(
        self, forward: Forward, *, threads: int, batch_samples: int, head_start: int
    ) -> None:
        """`forward` is called in `threads` threads at a time, with chunks of at most
        `batch_samples` together, padding included; a longer chunk is a batch alone. A new request
        is `head_start` samples ahead."""
        self._forward, self._batch_samples = forward, batch_samples
        self._head_start, self._clock = head_start, 0
        self._places: list[_Place] = []
        self._numbers, self._taken = itertools.count(), itertools.count(1)
        self._changed = threading.Condition()
        self._is_closed = False
        self.computed_samples, self.busy_s = 0, 0.0
        self._threads = [
            threading.Thread(target=self._work, name=f"model-{i}", daemon=True)
            for i in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def waiting(self) -> int:
        """Chunks."""
        return len(self._places)

    @property
    def waiting_samples(self) -> int:
        with self._changed:
            return sum(len(place.wave) for place in self._places)

    def compute(self, ticket: Ticket, waves: Sequence[np.ndarray]) -> list[Tensor]:
        """Log-probabilities (T_i, V) of waves (S_i,); blocks. Raises StoppedError."""
        with self._changed:
            ticket.check()
            if self._is_closed:
                raise StoppedError
            if ticket.attained is None:
                ticket.attained = self._clock - self._head_start
            places = [_Place(ticket, wave, next(self._numbers)) for wave in waves]
            self._places += places
            self._changed.notify_all()
        return [place.future.result() for place in places]

    def drop_stopped(self) -> None:
        """Take out the places of requests that are stopped; their threads get StoppedError."""
        with self._changed:
            self._drop_stopped()

    def close(self) -> None:
        """End the threads; whoever waits gets StoppedError."""
        with self._changed:
            self._is_closed = True
            for place in self._places:
                place.future.set_exception(StoppedError())
            self._places.clear()
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _drop_stopped(self) -> None:
        kept = []
        for place in self._places:
            if place.ticket.is_stopped:
                place.future.set_exception(StoppedError())
            else:
                kept.append(place)
        self._places = kept

    def _take(self) -> list[_Place]:
        """The next batch; waits for one, and is empty at the end."""
        with self._changed:
            while True:
                self._drop_stopped()
                if self._is_closed:
                    return []
                if self._places:
                    break
                self._changed.wait()
            batch = next_batch(self._places, next(self._taken), self._batch_samples)
            taken = set(map(id, batch))
            self._places = [place for place in self._places if id(place) not in taken]
            for place in batch:
                attained = place.ticket.attained or 0
                self._clock = max(self._clock, attained)
                place.ticket.attained = attained + len(place.wave)
            return batch

    def _work(self) -> None:
        while batch := self._take():
            begun_s = time.perf_counter()
            try:
                rows = self._forward([place.wave for place in batch])
            except BaseException as error:  # whoever waits says it
                for place in batch:
                    place.future.set_exception(error)
                continue
            for place, own in zip(batch, rows, strict=True):
                place.future.set_result(own)
            with self._changed:
                self.computed_samples += sum(len(place.wave) for place in batch)
                self.busy_s += time.perf_counter() - begun_s


def next_batch(places: Sequence[_Place], number: int, batch_samples: int) -> list[_Place]:
    """Those of at least one place that are computed together: first the fairest (in batch `number`
    perhaps the oldest), then the next ones in fair order that fit into `batch_samples` and need
    little padding."""
    fair = sorted(places, key=lambda place: (place.ticket.attained or 0, place.number))
    if number % OLDEST_EVERY == 0:
        fair.insert(0, min(fair, key=lambda place: place.number))
    batch: list[_Place] = []
    longest = total = 0
    for place in dict.fromkeys(fair):
        size = len(place.wave)
        most, new_total = max(longest, size), total + size
        padded = most * (len(batch) + 1)
        if batch and (padded > batch_samples or padded > MOST_PADDING * new_total):
            continue
        batch.append(place)
        longest, total = most, new_total
    return batch
