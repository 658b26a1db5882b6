"""Live transcription: text of a stream while it comes, partial first, then final.

Samples are kept until their segment ends (:mod:`.live_cuts`); its text is then final, and computed
once from the segment, some sound before it and what is there behind it. Until then partial text is
computed anew from the open segment, no more often than the machine has time for: what is dropped
when it is slow is partial text, never sound.

Where no pause comes the last words stay open: a segment ends between two words, before a part that
the next one is inferred with again, and each of both keeps the rows of log-probabilities on its own
side of the cut.

Shapes: S samples, T rows of log-probabilities, V vocabulary.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import torch
from torch import Tensor

from speechssl.audio import AudioError
from speechssl.checkpoint import Checkpoint
from speechssl.config.bounds import Between, Positive, check_fields
from speechssl.decoding.align import Word
from speechssl.decoding.greedy import Hypothesis, greedy_decode
from speechssl.inference.batching import InferencePrecision
from speechssl.inference.confidence import calibrated
from speechssl.inference.decoders import Decoder
from speechssl.inference.live_cuts import Cut, Cutter, Recent
from speechssl.inference.transcribe import Transcriber, log_probs
from speechssl.inference.transcript import join_words
from speechssl.text import Tokenizer

SILENCE = Hypothesis((), 0, 0, 1.0)


@dataclass(frozen=True)
class LiveConfig:
    """When text is final, and how often there is partial text."""

    pause_s: Annotated[float, Between(0.1, 10)] | None = 0.5
    """A pause of this length makes what was said before it final; None: only `max_s` does."""
    max_s: Annotated[float, Between(2, 60)] = 15.0
    """Where no pause comes text is final after this time at the latest, give or take a second."""
    context_s: Annotated[float, Between(0, 60)] = 2.0
    """Sound before a segment that the model is given with it: models that normalise over their
    input know too little of one word alone."""
    partial_s: Positive | None = 0.3
    """Seconds of sound between two partial texts at least; None: there are none."""
    partial_share: Annotated[float, Between(0, 1, "(]")] = 0.5
    """Partial texts take at most this share of the time; on a slow machine there are fewer."""

    def __post_init__(self) -> None:
        check_fields(self, "live")


@dataclass(frozen=True)
class LiveEvent:
    """Some text. Times are seconds of the stream, from its first sample on."""

    kind: Literal["partial", "final"]
    """A partial text replaces the partial text before it; a final one goes behind the final ones
    before it, never changes, and ends the partial one."""
    text: str
    """Empty where a partial text has turned out to be none."""
    start_s: float
    """Of the first word."""
    end_s: float
    """Of the last word."""
    words: tuple[Word, ...]
    until_s: float
    """The text is that of the stream up to here, behind the last final one. No later word begins
    before the `until_s` of a final text."""


class LiveTranscriber:
    """Transcribes one stream; for another one make another.

    Final texts depend on the samples alone: how they were sliced, and how quick the machine is,
    changes only partial ones. Memory is bounded by the longest segment, and a second is computed at
    most once for final text, beside the sound that segments share.
    """

    def __init__(
        self,
        model: Checkpoint | Transcriber,
        *,
        decoder: Decoder = greedy_decode,
        precision: InferencePrecision = "auto",
        config: LiveConfig | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """
        Args:
            model: a fine-tuned model; or one that is ready already, to be shared by many streams
                (`decoder` and `precision` are then its own).
            decoder: greedily, or what
                :func:`speechssl.inference.decoders.choose_decoder` made for this model.
            precision: as in :func:`speechssl.inference.transcribe.transcribe_all`.
            config: see :class:`LiveConfig`.
            clock: seconds, of which differences are taken.

        Raises ValueError for a model that was not fine-tuned.
        """
        if isinstance(model, Checkpoint):
            model = Transcriber(model, decode=decoder, precision=precision)
        self._ready, self.config, self._clock = model, config or LiveConfig(), clock
        speech = model.model.speech.config
        self.sample_rate = speech.sample_rate
        """Hz, of the samples."""
        self._grid, self._upsample = speech.hop_samples, model.model.head.upsample
        self._context = int(self.config.context_s * self.sample_rate) // self._grid * self._grid
        self._recent = Recent()
        self._cutter = Cutter(
            self._recent,
            self.sample_rate,
            grid=self._grid,
            pause_s=self.config.pause_s,
            max_s=self.config.max_s,
        )
        self._shown = ""  # the partial text that stands
        self._tried_at = 0  # end of the sound of the last partial text
        self._cost_s = 0.0  # what it took
        self._is_finished = False

    @property
    def duration_s(self) -> float:
        """Of the stream so far."""
        return self._recent.end / self.sample_rate

    def feed(self, samples: np.ndarray, *, partials: bool = True) -> list[LiveEvent]:
        """The next samples (S,) float in [-1, 1], at the model's rate, any number of them -> what
        they decide, in order.

        `partials` False: no partial text this time, as where more samples wait already. Samples
        beyond full scale are limited. Raises AudioError for what is no wave, and ValueError after
        :meth:`finish`.
        """
        if self._is_finished:
            raise ValueError("The stream is finished: make another LiveTranscriber for another.")
        self._recent.add(_checked(samples))
        events: list[LiveEvent] = []
        while (cut := self._cutter.next_cut()) is not None:
            events += self._final(cut)
        if partials:
            events += self._partial()
        return events

    def finish(self) -> list[LiveEvent]:
        """The final text of what is left; the stream ends here."""
        self._is_finished = True
        events: list[LiveEvent] = []
        while (cut := self._cutter.last_cut()) is not None:
            events += self._final(cut)
        return events

    def warm_up(self) -> None:
        """Compute something, so that what is done once is done before the first sample."""
        noise = np.random.default_rng(0).uniform(-0.1, 0.1, self.sample_rate).astype(np.float32)
        self._decoded(self._rows(noise))

    def _final(self, cut: Cut) -> list[LiveEvent]:
        """The segment's text is final; what is no longer needed of the sound goes."""
        end, hypothesis = self._segment(cut)
        words = self._words(hypothesis, cut.start, end)
        self._cutter.open_at(end)
        self._recent.drop_before(max(end - self._context, 0))
        self._tried_at = max(self._tried_at, end)
        shown, self._shown = self._shown, ""
        if words:
            return [self._event("final", words, end)]
        return [self._event("partial", [], end)] if shown else []

    def _segment(self, cut: Cut) -> tuple[int, Hypothesis]:
        """Where the segment ends, and what it says."""
        if not self._recent.between(cut.start, cut.seen).any():
            return cut.end, SILENCE
        rows, before = self._window(cut.start, cut.seen)
        end = cut.end
        if cut.kind == "full":
            low, high = self._cutter.limits(cut)
            end = cut.start + self._samples(
                place_between_words(
                    self._greedy(rows[before:]),
                    self._num_rows(end - cut.start),
                    self._num_rows(low - cut.start),
                    self._num_rows(high - cut.start),
                    self._ready.tokenizer,
                )
            )
        last = len(rows) if cut.kind == "last" else before + self._num_rows(end - cut.start)
        return end, self._decoded(rows[before:last])

    def _partial(self) -> list[LiveEvent]:
        """Text of the open segment, where it is time for it and it is another than before."""
        settings, now = self.config, self._recent.end
        if settings.partial_s is None or not self._cutter.has_speech:
            return []
        wait_s = max(settings.partial_s, self._cost_s / settings.partial_share)
        if now - self._tried_at < wait_s * self.sample_rate:
            return []
        begun, self._tried_at = self._clock(), now
        rows, before = self._window(self._cutter.start, now)
        words = self._words(self._decoded(rows[before:]), self._cutter.start, now)
        self._cost_s = self._clock() - begun
        event = self._event("partial", words, now)
        changed, self._shown = event.text != self._shown, event.text
        return [event] if changed else []

    def _window(self, start: int, end: int) -> tuple[Tensor, int]:
        """Rows (T, V) of the sound from some before `start` on up to `end`, and how many of them
        are before `start`."""
        first = max(start - self._context, self._recent.first)
        return self._rows(self._recent.between(first, end)), self._num_rows(start - first)

    def _rows(self, wave: np.ndarray) -> Tensor:
        rows, _ = log_probs(self._ready.model, [wave], self._ready.precision)
        return rows[0]

    def _decoded(self, rows: Tensor) -> Hypothesis:
        if not len(rows):
            return SILENCE
        return self._ready.decode(rows[None], torch.tensor([len(rows)]))[0]

    def _greedy(self, rows: Tensor) -> Hypothesis:
        return greedy_decode(rows[None], torch.tensor([len(rows)]))[0]

    def _num_rows(self, samples: int) -> int:
        return samples // self._grid * self._upsample

    def _samples(self, row: int) -> int:
        return row // self._upsample * self._grid

    def _words(self, hypothesis: Hypothesis, start: int, end: int) -> list[Word]:
        words = hypothesis.words(
            self._ready.tokenizer,
            hop_s=self._ready.model.hop_s,
            duration_s=end / self.sample_rate,
            offset_s=start / self.sample_rate,
        )
        return calibrated(words, self._ready.calibration)

    def _event(
        self, kind: Literal["partial", "final"], words: Sequence[Word], until: int
    ) -> LiveEvent:
        until_s = until / self.sample_rate
        start_s, end_s = (words[0].start_s, words[-1].end_s) if words else (until_s, until_s)
        return LiveEvent(kind, join_words(words), start_s, end_s, tuple(words), until_s)


def place_between_words(
    hypothesis: Hypothesis, wanted: int, low: int, high: int, tokenizer: Tokenizer
) -> int:
    """The row in [low, high] at which to cut: next to `wanted`, and between two words; where these
    rows hold a single word, between two tokens of it.

    Between two words is `wanted` itself where it lies there, else the middle.
    """
    words = tokenizer.words(hypothesis.ids)
    tokens = hypothesis.tokens
    spans = [(tokens[w.start].start_frame, tokens[w.end - 1].end_frame) for w in words]
    for found in (spans, [(token.start_frame, token.end_frame) for token in tokens]):
        bounds = [0, *(bound for span in found for bound in span), hypothesis.num_frames]
        gaps = [(bounds[k], bounds[k + 1]) for k in range(0, len(bounds), 2)]
        places = [
            wanted if first <= wanted <= last else (first + last) // 2 for first, last in gaps
        ]
        inside = [place for place in places if low <= place <= high]
        if inside:
            return min(inside, key=lambda place: (abs(place - wanted), place))
    return wanted


def _checked(samples: np.ndarray) -> np.ndarray:
    if not isinstance(samples, np.ndarray) or samples.dtype.kind != "f" or samples.ndim != 1:
        raise AudioError(
            "A live stream is fed with arrays (samples,) of floats in [-1, 1], got "
            f"{getattr(samples, 'dtype', type(samples).__name__)} of shape "
            f"{getattr(samples, 'shape', '()')}."
        )
    if not np.isfinite(samples).all():
        raise AudioError("The live stream holds NaN or infinite samples.")
    return np.clip(samples, -1.0, 1.0).astype(np.float32, copy=False)
