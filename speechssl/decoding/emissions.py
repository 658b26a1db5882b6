"""What each frame costs, of the symbols that a text needs; see :mod:`speechssl.decoding.lattice`.

Shapes: T frames, V vocabulary, C columns.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from speechssl.text import BLANK_ID, UNKNOWN_ID

UNIT = 512
"""Costs are in 1 / UNIT nats."""

CEILING = 60.0
"""Nats that a symbol costs at most more than the best one of its frame."""

BLANK, FILLER, WILDCARD, FIRST = 0, 1, 2, 3
"""Columns: the blank, what a gap emits, unknown characters, the first symbol of a text."""


@dataclass(frozen=True, slots=True)
class GapCosts:
    """What it costs to leave the text, in nats; see :mod:`speechssl.decoding.lattice`."""

    extra: float = 1.5
    """For each symbol that the model emits in a gap."""
    skip: float = 2.5
    """For each token of a skipped word."""
    enter: float = 15.0
    """For each way from the text into a gap."""


DEFAULT_COSTS = GapCosts()


class Emissions:
    """What each frame costs, collected over the windows of a recording.

    int16 of the columns that a text needs: an hour of 40 ms frames and 60 different symbols takes
    11 MB.
    """

    def __init__(self, ids: Iterable[int], extra: float = DEFAULT_COSTS.extra) -> None:
        """`ids` that the text has; `extra` is that of :class:`GapCosts`."""
        self.ids = sorted(set(ids) - {BLANK_ID, UNKNOWN_ID})
        self._extra = round(extra * UNIT)
        self._costs: list[np.ndarray] = []
        self._best: list[np.ndarray] = []
        self._starts: list[np.ndarray] = []
        self._last = BLANK_ID
        self.num_frames = 0

    @property
    def columns(self) -> dict[int, int]:
        """The column of each id."""
        return {UNKNOWN_ID: WILDCARD, **{i: FIRST + n for n, i in enumerate(self.ids)}}

    def add(self, log_probs: np.ndarray) -> None:
        """The next frames (T, V) float32; ValueError for NaN or ids outside of V."""
        if self.ids and self.ids[-1] >= log_probs.shape[1]:
            raise ValueError(
                f"The id {self.ids[-1]} cannot be aligned: the vocabulary has "
                f"{log_probs.shape[1]} symbols."
            )
        if np.isnan(log_probs).any():
            raise ValueError(
                "log_probs holds NaN: the model's output is broken, so no path is best."
            )
        best = log_probs.max(axis=1, initial=-np.inf)  # (T,)
        symbol = log_probs.argmax(axis=1)  # (T,)
        before = np.concatenate([[self._last], symbol[:-1]])
        starts = (symbol != BLANK_ID) & (symbol != before)  # (T,) a symbol begins
        taken = log_probs[:, [BLANK_ID, BLANK_ID, UNKNOWN_ID, *self.ids]]  # (T, C)
        taken[:, WILDCARD] = log_probs[:, UNKNOWN_ID:].max(axis=1, initial=-np.inf)
        nats = np.minimum(best[:, None] - taken, np.float32(CEILING))
        costs = np.rint(nats * UNIT).astype(np.int16)
        costs[:, WILDCARD] += 1  # a frame goes to the symbol itself rather than to a wildcard
        emitted = np.where(starts, self._extra, 0)
        costs[:, FILLER] = np.minimum(emitted, costs[:, BLANK]) + 1  # and to a blank
        self._costs.append(costs)
        self._best.append(best.astype(np.float32))
        self._starts.append(starts)
        self._last = int(symbol[-1]) if len(symbol) else self._last
        self.num_frames += len(costs)

    def add_silence(self, num_frames: int) -> None:
        """Frames in which nothing can be said."""
        rows = np.full((num_frames, max([UNKNOWN_ID, *self.ids]) + 1), -np.inf, np.float32)
        rows[:, BLANK_ID] = 0.0
        self.add(rows)

    def costs(self) -> np.ndarray:
        """(T, C) int16; the parts that it was collected in are let go."""
        if len(self._costs) != 1:
            empty = np.zeros((0, FIRST + len(self.ids)), np.int16)
            self._costs = [np.concatenate([empty, *self._costs])]
        return self._costs[0]

    def best(self) -> np.ndarray:
        """(T,) float32 log-probability of the best symbol."""
        return np.concatenate([np.zeros(0, np.float32), *self._best])

    def starts(self) -> np.ndarray:
        """(T,) bool: where the model begins to emit a symbol by itself."""
        return np.concatenate([np.zeros(0, bool), *self._starts])
