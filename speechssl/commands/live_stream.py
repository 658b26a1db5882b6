"""A stream on its way through ``speechssl transcribe``: read, transcribed, shown."""

import queue
import shutil
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import IO

import numpy as np

from speechssl.audio import HighBand, Resampler
from speechssl.audio.growing import BLOCK_S, GrowingSound
from speechssl.audio.microphone import Microphone
from speechssl.commands.exits import EXIT_DONE, tell
from speechssl.inference.batching import End
from speechssl.inference.live import LiveEvent, LiveTranscriber
from speechssl.inference.live_writers import LiveWriter
from speechssl.inference.transcribe import level_note
from speechssl.text import columns_of
from speechssl.training.interrupts import stop_signals

WAITING_S, TAKEN_S = 60.0, 5.0
"""Sound that may wait before the sender has to, and how much of it is fed at once."""


class Waiting:
    """Blocks of sound between the thread that reads them and the one that computes."""

    def __init__(
        self, blocks: Iterator[np.ndarray], *, stop: Callable[[], None] | None = None
    ) -> None:
        """`blocks` (S,) are read in a thread from now on, until :data:`WAITING_S` wait; `stop` ends
        them (None: nothing can)."""
        self._stop, self._left = stop, -1
        self._most = round(TAKEN_S / BLOCK_S)
        self._queue: queue.Queue[np.ndarray | Exception | None]
        self._queue = queue.Queue(round(WAITING_S / BLOCK_S))
        threading.Thread(target=self._read, args=(blocks,), daemon=True).start()

    def _read(self, blocks: Iterator[np.ndarray]) -> None:
        try:
            for block in blocks:
                self._queue.put(block)
            self._queue.put(None)
        except Exception as error:  # said by the thread that takes it
            self._queue.put(error)

    @property
    def are_more(self) -> bool:
        """Whether some wait now."""
        return not self._queue.empty()

    def stop(self) -> None:
        """No more is read: what is there is the end."""
        if self._stop is not None:
            self._stop()
        else:
            self._left = self._queue.qsize()

    def take(self, wait_s: float) -> list[np.ndarray] | None:
        """What waits, of some seconds at most; none where nothing comes in `wait_s`, None at the
        end. Raises what the reading has raised."""
        taken: list[np.ndarray] = []
        while len(taken) < self._most:
            if self._left == 0:
                return taken or None
            try:
                block = self._queue.get(timeout=wait_s) if not taken else self._queue.get_nowait()
            except queue.Empty:
                return taken
            self._left -= self._left > 0
            if block is None or isinstance(block, Exception):
                if taken:
                    self._queue.put(block)  # for the next time; nothing comes behind it
                    return taken
                if block is not None:
                    raise block
                return None
            taken.append(block)
        return taken


class Stream:
    """One stream from its first sample to its last text."""

    def __init__(
        self, live: LiveTranscriber, sound: GrowingSound | Microphone, waiting: Waiting, name: str
    ) -> None:
        """`sound` is what `waiting` reads; `name` is for messages."""
        self._live, self._sound, self._waiting, self._name = live, sound, waiting, name
        is_same = sound.sample_rate == live.sample_rate
        self._resampler = None if is_same else Resampler(sound.sample_rate, live.sample_rate)
        self._high, self._peak = HighBand(live.sample_rate), 0.0

    def run(self, writer: LiveWriter) -> int:
        """Until the stream ends or a person ends it (Ctrl-C); what was said until then is shown
        also where reading fails, which is raised afterwards."""
        screen = Screen(writer)
        problem: Exception | None = None
        with stop_signals() as stop:
            is_stopped = False
            while True:
                if stop.asked and not is_stopped:
                    is_stopped = True
                    self._waiting.stop()
                try:
                    blocks = self._waiting.take(0.1)
                except (ValueError, OSError) as error:
                    problem = error
                    break
                if blocks is None:
                    break
                if blocks:
                    wave = np.concatenate([self._at_rate(block) for block in blocks])
                    screen.show(self._feed(wave))
            if self._resampler is not None:
                screen.show(self._feed(self._resampler.finish()))
            screen.show(self._live.finish())
        screen.close()
        for note in (*self._sound.notes, *self._notes()):
            tell(note)
        if problem is not None:
            raise problem
        return EXIT_DONE

    def _at_rate(self, block: np.ndarray) -> np.ndarray:
        return block if self._resampler is None else self._resampler.add(block)

    def _feed(self, wave: np.ndarray) -> list[LiveEvent]:
        self._high.add(wave)
        self._peak = max(self._peak, float(np.abs(wave).max(initial=0.0)))
        return self._live.feed(wave, partials=not self._waiting.are_more)

    def _notes(self) -> list[str]:
        """As a transcript of a recording has them."""
        narrow = self._high.is_narrow
        end = End(self._name, round(self._live.duration_s), narrow, self._peak, ())
        notes = level_note(end, self._live.model_config)
        if narrow:
            notes.append(
                f"{self._name} carries nothing above 4 kHz, as over a telephone; a model that "
                "learned from wider recordings makes more errors on it."
            )
        return notes


class Screen:
    """Final text on standard output; partial text on a terminal, in a last line that is rewritten.

    The two never mix: the line is on stderr, and where stdout goes elsewhere only final text does.
    """

    def __init__(
        self, writer: LiveWriter, *, out: IO[str] | None = None, err: IO[str] | None = None
    ) -> None:
        """`out` and `err`: standard output and stderr by default."""
        self._writer, self._out, self._err = writer, out or sys.stdout, err or sys.stderr
        self._has_line = self._err.isatty() and not writer.holds_partials
        self._width = 0  # of the line that stands
        self._write(writer.header)

    def show(self, events: Sequence[LiveEvent]) -> None:
        """Write what is final; show the last partial text."""
        for event in events:
            if text := self._writer.text(event):
                self._line("")
                self._write(text)
        if events:
            last = events[-1]
            self._line(last.text if last.kind == "partial" else "")

    def close(self) -> None:
        """Nothing partial stays."""
        self._line("")
        if self._writer.num_rushed:
            tell(
                f"{self._writer.num_rushed:,} of {self._writer.num_cues:,} subtitles are shown for "
                "less time than they need, as the speech leaves no more."
            )

    def _write(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()

    def _line(self, text: str) -> None:
        if not self._has_line or not (text or self._width):
            return
        text = fit(text, shutil.get_terminal_size().columns - 1)
        width = columns_of(text)
        blank = " " * max(self._width - width, 0)
        self._err.write(f"\r{text}{blank}" if text else f"\r{blank}\r")
        self._err.flush()
        self._width = width


def fit(text: str, columns: int) -> str:
    """The end of a text, in so many columns of a terminal."""
    if columns_of(text) <= columns:
        return text
    first = 0
    while first < len(text) and columns_of(text[first:]) > columns - 1:
        first += 1
    return f"…{text[first:]}"
