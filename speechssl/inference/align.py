"""A known text and its recording, of any length: when each word is said, and what of one is not in
the other.

Log-probabilities are computed in windows, as for a transcript, and only the columns of the text's
symbols are kept; the path is that of :mod:`speechssl.decoding.lattice`. What that skips is
unaligned.

Shapes: S samples, T frames, V vocabulary.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np

from speechssl.checkpoint import Checkpoint
from speechssl.decoding.align import TokenSpan, Word, mean_confidence
from speechssl.decoding.emissions import Emissions, GapCosts
from speechssl.decoding.lattice import WordPath, align_words
from speechssl.device import keep_freed_memory, pick_device
from speechssl.inference.batching import (
    End,
    InferencePrecision,
    Unreadable,
    batches,
    products,
    runs_alone,
    windows,
)
from speechssl.inference.known_text import KnownText, KnownWord
from speechssl.inference.recordings import Chunk, Clip
from speechssl.inference.stitching import context_samples, own_rows
from speechssl.inference.transcribe import choose_precision, level_note, log_probs
from speechssl.inference.transcript import Transcript, join_words, to_segments
from speechssl.inference.transcript import mean_confidence as mean_of_words
from speechssl.model.config import ModelConfig
from speechssl.model.fast.accelerate import accelerate, in_8_bits

WINDOW_S = 20.0
"""Longest stretch that is one input, and seconds in a batch. Most of the memory is the network's:
less than for transcription, and hardly slower."""

MIN_SYMBOLS = 3
"""Where the model emits fewer symbols beside the text, that is no speech: a breath or a cough."""


@dataclass(frozen=True, slots=True)
class Unaligned:
    """Words that follow each other and are not in the recording."""

    text: str
    line: int
    """Of its first word, from 1 on."""
    first_word: int
    """Number of its first word in the text, from 0 on."""
    num_words: int
    after_s: float
    """Where the words around it are: the end of the one before, the beginning of the one behind."""
    before_s: float


@dataclass(frozen=True, slots=True)
class Extra:
    """Where the model emits what is not in the text, from its first to its last symbol."""

    start_s: float
    end_s: float
    before_word: int
    """Number of the word behind it."""
    num_symbols: int
    """How many, at least one."""

    @property
    def is_speech(self) -> bool:
        """Whether it is more than a breath or a cough."""
        return self.num_symbols >= MIN_SYMBOLS


@dataclass(frozen=True)
class AlignedText:
    """A text with its times."""

    transcript: Transcript
    """The aligned words, in phrases that end where a line of the text does, too."""
    words: tuple[Word | None, ...]
    """Each of the known words; None where it is unaligned."""
    known: KnownText
    unaligned: tuple[Unaligned, ...]
    away: tuple[Extra, ...]

    @property
    def extra(self) -> tuple[Extra, ...]:
        """The speech that is not in the text."""
        return tuple(each for each in self.away if each.is_speech)

    @property
    def num_aligned(self) -> int:
        return sum(word is not None for word in self.words)


@dataclass
class Frames:
    """The frames of a recording: what each costs, and when it is."""

    emissions: Emissions
    hop_s: float
    first: list[int] = field(default_factory=list)
    """The first frame of each window."""
    start_s: list[float] = field(default_factory=list)
    """Where the window begins."""
    end: End | None = None

    def begin(self, start_s: float) -> None:
        """A window begins."""
        self.first.append(self.emissions.num_frames)
        self.start_s.append(start_s)

    def time_s(self, frame: int) -> float:
        """When a frame begins."""
        window = bisect_right(self.first, frame) - 1
        return self.start_s[window] + (frame - self.first[window]) * self.hop_s

    def span_s(self, start_frame: int, end_frame: int, duration_s: float) -> tuple[float, float]:
        """When ``[start_frame, end_frame)`` begins and ends; its windows follow each other."""
        window = bisect_right(self.first, end_frame - 1)
        limit = self.start_s[window] if window < len(self.start_s) else duration_s
        start = min(self.time_s(start_frame), duration_s)
        return start, max(start, min(self.time_s(end_frame - 1) + self.hop_s, limit))


class Aligner:
    """A model ready to align."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        costs: GapCosts | None = None,
        precision: InferencePrecision = "auto",
        batch_s: float = WINDOW_S,
        max_chunk_s: float = WINDOW_S,
    ) -> None:
        """ValueError for a model that was not fine-tuned; `precision` and the rest are those of
        :func:`speechssl.inference.transcribe.transcribe_all`."""
        model, self.tokenizer = checkpoint.require_ctc()
        keep_freed_memory()
        accelerate(model.to(pick_device()).eval())
        self.precision = choose_precision(model, precision)
        self.model = in_8_bits(model) if self.precision == "int8" else model
        self.costs = costs or GapCosts()
        self.batch_s, self.max_chunk_s = batch_s, max_chunk_s

    def __call__(self, clip: Clip, known: KnownText) -> AlignedText:
        """Raises AudioError, OSError or FileNotFoundError where the recording cannot be read, and
        ValueError where it is too long (about a day)."""
        frames = self.frames(
            clip, {i for word in known.words for i in word.ids} | {*known.separator}
        )
        path = self.path(frames, known)
        return to_aligned(path, frames, known, self.model.speech.config)

    def path(self, frames: Frames, known: KnownText) -> WordPath:
        """The best way of a text through the frames of a recording."""
        return align_words(
            frames.emissions,
            [word.ids for word in known.words],
            known.separator,
            self.costs,
            [word.joined for word in known.words],
        )

    def frames(self, clip: Clip, ids: set[int]) -> Frames:
        """What each frame of a recording costs, of the symbols `ids`."""
        config = self.model.speech.config
        made = Frames(Emissions(ids, self.costs.extra), self.model.hop_s)
        for window in windows(
            [clip],
            config.sample_rate,
            grid=config.hop_samples,
            batch_s=self.batch_s,
            max_chunk_s=self.max_chunk_s,
            context=context_samples(self.model.speech),
        ):
            given = [event for event in window if isinstance(event, Chunk)]
            rows = iter(self._rows(given))
            for event in window:
                if isinstance(event, Unreadable):
                    raise event.error
                if isinstance(event, End):
                    made.end = event
                    continue
                made.begin(event.start / config.sample_rate)
                found = next(rows)
                if found is None:
                    seconds = (event.end - event.start) / config.sample_rate
                    made.emissions.add_silence(int(seconds / made.hop_s))
                else:
                    made.emissions.add(found)
        return made

    def _rows(self, chunks: Sequence[Chunk]) -> list[np.ndarray | None]:
        """(T, V) float32 for each chunk; None for digital silence."""
        found: list[np.ndarray | None] = [None] * len(chunks)
        loud = [i for i, chunk in enumerate(chunks) if chunk.wave.any() or not chunk.is_alone]
        given = [chunks[i] for i in loud]
        rate, hop = self.model.speech.config.sample_rate, self.model.speech.config.hop_samples
        device = next(self.model.parameters()).device
        plan = batches(
            given, rate, batch_s=self.batch_s, alone=runs_alone(self.model, self.precision)
        )
        with products(device, self.precision):
            for batch in plan:
                members = [loud[i] for i in batch]
                rows, lengths = log_probs(
                    self.model, [chunks[i].wave for i in members], self.precision
                )
                for i, row, length in zip(
                    members, rows.cpu().numpy(), lengths.tolist(), strict=True
                ):
                    own = own_rows(chunks[i], length, hop, self.model.head.upsample)
                    found[i] = row[own].copy()
        return found


def to_aligned(
    path: WordPath, frames: Frames, known: KnownText, config: ModelConfig
) -> AlignedText:
    """The best way of a text, in seconds of the recording.

    Raises ValueError where too little of both belongs together (:data:`LEAST_OF_TEXT`).
    """
    assert frames.end is not None
    end = frames.end
    duration_s = end.num_samples / config.sample_rate
    words = tuple(
        None if tokens is None else _word(word, tokens, frames, duration_s)
        for word, tokens in zip(known.words, path.words, strict=True)
    )
    num_aligned = sum(word is not None for word in words)
    covered = 1 - sum(gap.num_symbols for gap in path.gaps) / max(path.num_symbols, 1)
    share = num_aligned / len(words)
    if not num_aligned or (share < LEAST_OF_TEXT and covered < LEAST_OF_SPEECH):
        raise ValueError(
            f"The text is not that of {end.name}: {num_aligned} of its {len(words)} words and "
            f"{covered:.0%} of the speech fit together. It may be of another recording or in "
            "another language, or the model makes too many errors on this recording."
        )
    said = [word for word in words if word is not None]
    transcript = Transcript(
        end.name,
        duration_s,
        tuple(segment for line in _lines(words, known) for segment in to_segments(line)),
        mean_of_words([word.confidence for word in said]),
        end.narrow_band,
        (*end.notes, *level_note(end, config)),
    )
    away = tuple(
        Extra(*frames.span_s(gap.start_frame, gap.end_frame, duration_s), gap.word, gap.num_symbols)
        for gap in path.gaps
        if gap.num_symbols
    )
    return AlignedText(transcript, words, known, _unaligned(words, known, duration_s), away)


LEAST_OF_TEXT, LEAST_OF_SPEECH = 0.5, 0.4
"""Where less of the words and of the speech belong together, the text is not that of the recording.
Of other texts up to 0.37 and 0.34 did by chance, of the right one more than 0.9 (docs/log)."""


def _word(known: KnownWord, tokens: Sequence[TokenSpan], frames: Frames, duration_s: float) -> Word:
    start_s, _ = frames.span_s(tokens[0].start_frame, tokens[0].end_frame, duration_s)
    _, end_s = frames.span_s(tokens[-1].start_frame, tokens[-1].end_frame, duration_s)
    return Word(known.text, start_s, end_s, mean_confidence(tokens), known.joined)


def _lines(words: Sequence[Word | None], known: KnownText) -> list[list[Word]]:
    """The aligned words of each line; what was cut into letters is a word again."""
    lines: dict[int, list[list[Word]]] = {}
    before: Word | None = None
    for word, own in zip(words, known.words, strict=True):
        if word is not None:
            line = lines.setdefault(own.line, [])
            if own.joined and before is not None:
                line[-1].append(word)
            else:
                line.append([word])
        before = word
    return [[_whole(letters) for letters in line] for line in lines.values()]


def _whole(letters: Sequence[Word]) -> Word:
    """The word of its letters."""
    if len(letters) == 1:
        return letters[0]
    return Word(
        "".join(letter.text for letter in letters),
        letters[0].start_s,
        letters[-1].end_s,
        mean_of_words([letter.confidence for letter in letters]),
        letters[0].joined,
        tuple(letters),
    )


def _unaligned(
    words: Sequence[Word | None], known: KnownText, duration_s: float
) -> tuple[Unaligned, ...]:
    """The runs of words without times."""
    found: list[Unaligned] = []
    number, after_s = 0, 0.0
    for missing, group in groupby(words, lambda word: word is None):
        run = list(group)
        if missing:
            own = known.words[number : number + len(run)]
            behind = words[number + len(run)] if number + len(run) < len(words) else None
            found.append(
                Unaligned(
                    join_words([Word(w.text, 0.0, 0.0, 0.0, w.joined) for w in own]),
                    own[0].line + 1,
                    number,
                    len(run),
                    after_s,
                    behind.start_s if behind else duration_s,
                )
            )
        else:
            last = run[-1]
            assert last is not None
            after_s = last.end_s
        number += len(run)
    return tuple(found)
