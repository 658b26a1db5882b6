"""Log-probabilities of recordings of any length on one grid of frames: from pause to pause.

Where speech has no pause to cut at, windows overlap (`chunks` in `recordings`). Each has
`CONTEXT_S` of the next one, and the rows are joined in the middle of what both have, so that each
frame of the recording is there once, from the window in which it has context on both sides. What
goes on for longer than `LONGEST_S` is decoded in parts that end between two words.

Shapes: B batch, T rows of log-probabilities (frames), V vocabulary.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Generic, TypeVar

import torch
from torch import Tensor

from speechssl.decoding.align import TokenSpan
from speechssl.decoding.greedy import greedy_decode
from speechssl.inference.batching import End, Unreadable, windows
from speechssl.inference.recordings import Chunk, Clip
from speechssl.model.speech_model import CTCModel, SpeechModel
from speechssl.text import BLANK_ID, Tokenizer

CONTEXT_S = 2.0
"""Seconds that a window has beyond the frames that are taken from it."""

LONGEST_S = 120.0
"""Longest stretch without a pause that is decoded at once; this bounds the memory."""

Result = TypeVar("Result")


@dataclass(frozen=True)
class Stretch(Generic[Result]):
    """What was made of a stretch of a recording, from pause to pause or to the end of a word."""

    start_s: float
    end_s: float
    result: Result


def context_samples(speech: SpeechModel) -> int:
    """What windows of a model share on each side of a cut: a multiple of its hop, and at least what
    a frame has beyond its hop."""
    hop = speech.config.hop_samples
    beyond = speech.encoder.min_samples - hop
    return max(round(CONTEXT_S * speech.config.sample_rate / hop), -(-beyond // hop)) * hop


def own_rows(chunk: Chunk, num_rows: int, hop: int, upsample: int = 1) -> slice:
    """Which of the `num_rows` that a model makes of a chunk are those of its own samples.

    `hop` is of its frames, in samples; each has `upsample` rows. Raises ValueError where the model
    makes fewer of them.
    """
    first = chunk.before // hop * upsample
    if not chunk.goes_on:
        return slice(first, num_rows)
    last = first + (chunk.end - chunk.start) // hop * upsample
    if last > num_rows:
        raise ValueError(
            f"max_chunk_s is too short for this model, whose frames reach further than the "
            f"{chunk.ahead} samples that two chunks share: give more."
        )
    return slice(first, last)


class Stitcher(Generic[Result]):
    """Joins the rows of chunks that go on in each other, and decodes what is complete."""

    def __init__(
        self,
        decode: Callable[[Tensor, Tensor], list[Result]],
        tokenizer: Tokenizer,
        model: CTCModel,
        longest_s: float = LONGEST_S,
    ) -> None:
        self._decode, self._tokenizer = decode, tokenizer
        self._hop_s, self._rate = model.hop_s, model.speech.config.sample_rate
        self._longest = max(int(longest_s / self._hop_s), 2)
        self._rows: list[Tensor] = []
        self._start_s, self._done = 0.0, 0

    def forget(self) -> None:
        """The recording cannot be read on."""
        self._rows = []

    def add(self, chunk: Chunk, found: Result | Tensor) -> Iterator[Stretch[Result]]:
        """The next chunk and what was made of it: its result where it is alone, else its own rows
        (T, V). Gives what is complete."""
        if not isinstance(found, Tensor):
            yield Stretch(chunk.start / self._rate, chunk.end / self._rate, found)
            return
        if not chunk.before:
            self._start_s, self._done = chunk.start / self._rate, 0
        self._rows.append(found)
        while sum(map(len, self._rows)) > self._longest:
            rows = torch.cat(self._rows)  # (T, V)
            place = word_boundary(rows, self._tokenizer, self._longest // 2, self._longest)
            yield self._made(rows[:place], self._time_s(self._done + place))
            self._done += place
            self._rows = [rows[place:].clone()]
        if not chunk.goes_on:
            yield self._made(torch.cat(self._rows), chunk.end / self._rate)
            self._rows = []

    def _made(self, rows: Tensor, end_s: float) -> Stretch[Result]:
        (result,) = self._decode(rows[None], torch.tensor([len(rows)], device=rows.device))
        return Stretch(self._time_s(self._done), end_s, result)

    def _time_s(self, row: int) -> float:
        return self._start_s + row * self._hop_s


def stretches(
    clips: Iterable[Clip],
    infer: Callable[[Sequence[Chunk]], Sequence[Result | Tensor]],
    stitcher: Stitcher[Result],
    speech: SpeechModel,
    *,
    batch_s: float,
    max_chunk_s: float,
) -> Iterator[Stretch[Result] | End | Unreadable]:
    """The stretches of each clip and then its End, or an Unreadable in its place. `infer` gives for
    each chunk what :meth:`Stitcher.add` takes."""
    for window in windows(
        clips,
        speech.config.sample_rate,
        grid=speech.config.hop_samples,
        batch_s=batch_s,
        max_chunk_s=max_chunk_s,
        context=context_samples(speech),
    ):
        found = iter(infer([event for event in window if isinstance(event, Chunk)]))
        for event in window:
            if isinstance(event, Chunk):
                yield from stitcher.add(event, next(found))
                continue
            stitcher.forget()
            yield event


def word_boundary(rows: Tensor, tokenizer: Tokenizer, first: int, last: int) -> int:
    """A frame in [first, last] of (T, V) rows before which they can be cut: in the longest gap
    between two words of the best path, which stays what it is; else where the blank is likeliest.
    """
    (hypothesis,) = greedy_decode(rows[None], torch.tensor([len(rows)], device=rows.device))
    places = [
        (frames, place)
        for frames, place in _gaps(hypothesis.tokens, tokenizer)
        if first <= place <= last
    ]
    if places:
        return max(places)[1]
    return first + int(rows[first : last + 1, BLANK_ID].argmax())


def _gaps(tokens: Sequence[TokenSpan], tokenizer: Tokenizer) -> Iterator[tuple[int, int]]:
    """Between each two words: how many frames lie between them, and where to cut: behind the space,
    where there is one, else in the middle."""
    words = tokenizer.words([token.id for token in tokens])
    for before, behind in pairwise(words):
        end = tokens[before.end - 1].end_frame
        start = tokens[behind.start].start_frame
        spaces = tokens[before.end : behind.start]
        yield start - end, spaces[-1].end_frame if spaces else (start + end) // 2
