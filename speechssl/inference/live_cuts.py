"""Where a stream of speech is cut: at pauses as they come, else where a file would be.

A pause is a stretch below a level between those of the background and of the speech, both of which
are followed as they change. The cut is made at its quietest place. Where no pause comes a segment
ends as a chunk of a file does (:func:`speechssl.inference.recordings.chunks`): at the quietest
place between half of the longest segment and all of it.

Each decision is a function of the samples before it, in steps of 10 ms: how the stream was sliced
when it was fed changes nothing. Shapes: S samples, F frames of 10 ms.
"""

import math
from bisect import bisect_left
from dataclasses import dataclass
from typing import Literal

import numpy as np

from speechssl import audio
from speechssl.inference.recordings import SMOOTHING_S, SPARE_S

FRAME_S = 0.01
LEVEL_FRAMES = 5
"""The level of a frame is that of so many up to it."""
MIN_SPEECH_S = 0.1
"""A pause ends a segment that has so much above the threshold."""
FLOOR_DB, RANGE_DB = -100.0, 50.0
"""The background counts as at least this loud, and as no more than so far below the speech."""
RISE_DB_S, FALL_DB_S = 2.0, 1.0
"""How quickly the level of the background follows upwards, and that of the speech downwards."""
SHARE, LEAST_DB = 0.3, 6.0
"""The threshold lies at this share of the way from the background to the speech, and at least so
far above the background."""


class Recent:
    """The last samples of a stream, by their numbers in it."""

    def __init__(self) -> None:
        self.first = 0
        """Number of the first sample that is kept."""
        self.wave = np.zeros(0, np.float32)
        """(S,) those that are kept."""

    @property
    def end(self) -> int:
        return self.first + len(self.wave)

    def add(self, samples: np.ndarray) -> None:
        self.wave = np.concatenate([self.wave, samples])

    def between(self, start: int, end: int) -> np.ndarray:
        """Samples [start, end)."""
        return self.wave[start - self.first : end - self.first]

    def drop_before(self, start: int) -> None:
        if start > self.first:
            self.wave = self.wave[start - self.first :].copy()
            self.first = start


@dataclass(frozen=True, slots=True)
class Cut:
    """The end of a segment."""

    start: int
    """First sample of the segment in the stream."""
    end: int
    """The first one behind it; `start` and `end` are on the grid, but for the end of the stream."""
    seen: int
    """The decision was made when the stream had so many samples: those from `end` up to here are
    the future of the segment."""
    kind: Literal["pause", "full", "last"]
    """`full`: no pause came, speech may go on across the cut."""


class Cutter:
    """Decides where segments end; memory is bounded by the longest segment."""

    def __init__(
        self, recent: Recent, sample_rate: int, *, grid: int, pause_s: float | None, max_s: float
    ) -> None:
        """`recent` must hold the samples from `start` on; cuts are multiples of `grid`; with
        `pause_s` None they are those of a file with chunks of `max_s`."""
        self.recent, self.grid = recent, grid
        self._frame = max(round(FRAME_S * sample_rate), 1)
        self._pause = None if pause_s is None else max(round(pause_s / FRAME_S), 1)
        self._most = max(int(max_s * sample_rate) // grid, 4) * grid
        self._spare = max(min(int(SPARE_S * sample_rate), self._most // 4), grid)
        self._smoothing = int(SMOOTHING_S * sample_rate)
        self._levels = Levels()
        self._num = 0  # frames that were looked at
        self._speech: list[int] = []  # those from `start` on that are above the threshold
        self.start = 0
        """Where the open segment begins."""

    @property
    def has_speech(self) -> bool:
        """Whether the open segment has something above the threshold."""
        return len(self._speech) * FRAME_S >= MIN_SPEECH_S

    def next_cut(self) -> Cut | None:
        """The next end of a segment that the samples so far decide; :meth:`open_at` must follow."""
        frame = self._frame
        while (end := (self._num + 1) * frame) <= self.recent.end:
            if self._levels.is_speech(self.recent.between(end - frame, end)):
                self._speech.append(self._num)
            self._num += 1
            if (cut := self._cut(end)) is not None:
                return cut
        return None

    def last_cut(self) -> Cut | None:
        """As :meth:`next_cut`, at the end of the stream, until nothing is left."""
        end = self.recent.end
        if end - self.start > self._most:
            last = end - self.start - self._spare
            return Cut(self.start, self._quietest(self._most // 2, last, end), end, "full")
        return Cut(self.start, end, end, "last") if end > self.start else None

    def limits(self, cut: Cut) -> tuple[int, int]:
        """Between which samples a `full` cut may be moved."""
        return cut.start + self._most // 2, cut.seen - self._spare // 2

    def open_at(self, start: int) -> None:
        """Begin the next segment: at the end of the last one."""
        self.start = start
        first = -(-start // self._frame)
        self._speech = self._speech[bisect_left(self._speech, first) :]

    def _cut(self, now: int) -> Cut | None:
        length = now - self.start
        if self._pause is not None and self.has_speech:
            quiet = self._speech[-1] + 1  # first frame of the pause
            if self._num - quiet >= self._pause:
                place = self._quietest(quiet * self._frame - self.start, length, now)
                return Cut(self.start, place, now, "pause")
        if length >= self._most + self._spare:
            return Cut(self.start, self._quietest(self._most // 2, self._most, now), now, "full")
        return None

    def _quietest(self, first: int, last: int, now: int) -> int:
        """The place between two of the open segment, on the grid; `now` is the end of what may be
        looked at."""
        wave = self.recent.between(self.start, now)
        first = min(first, last // self.grid * self.grid)  # a grid wider than the pause
        return self.start + audio.quiet_place(wave, first, last, self.grid, self._smoothing)


class Levels:
    """The levels of the background and of the speech, and what lies above the threshold."""

    def __init__(self) -> None:
        self._last = [0.0] * LEVEL_FRAMES  # mean squares
        self._num = 0
        self.floor = self.peak = math.nan

    def is_speech(self, frame: np.ndarray) -> bool:
        """Of the next frame (S,)."""
        self._last[self._num % LEVEL_FRAMES] = float(np.dot(frame, frame)) / len(frame)
        self._num += 1
        mean = sum(self._last) / min(self._num, LEVEL_FRAMES)
        level = max(10 * math.log10(mean + 1e-30), FLOOR_DB)
        if self._num == 1:
            self.floor = self.peak = level
        self.peak = max(level, self.peak - FALL_DB_S * FRAME_S)
        self.floor = max(min(level, self.floor + RISE_DB_S * FRAME_S), self.peak - RANGE_DB)
        threshold = self.floor + max(SHARE * (self.peak - self.floor), LEAST_DB)
        return level > threshold
