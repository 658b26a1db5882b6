"""CTC forced alignment: which frames does each token of a known text take, and when is each word?

CTC posteriors are peaky: a trained model often gives a token a single frame and the blank the
rest. So a word starts within about a frame of the truth, but its end, the end of its last token's
frames, comes early rather than late: the tail of a long vowel counts as blank.

Shapes: T frames, V vocabulary, N tokens, Z = 2N + 1 states: blank, token, blank, token, ..., blank.
"""

import sys
from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, overload

import numpy as np

from speechssl.compiled import njit
from speechssl.text import BLANK_ID, UNKNOWN_ID, WORD_MARK, Tokenizer, ctc_min_frames

_FLOOR = -1e4  # log-probability in place of -inf: improbable stays apart from impossible
_WILDCARD_COST = np.float32(1e-3)  # a frame goes to the symbol itself rather than to a wildcard


@dataclass(frozen=True, slots=True)
class TokenSpan:
    """One token on the frames ``[start_frame, end_frame)``.

    `confidence` in [0, 1] is the geometric mean of the token's probability over these frames. It
    ranks tokens and words of one model; :mod:`speechssl.scoring.calibration` calibrates words.
    """

    id: int
    start_frame: int
    end_frame: int
    confidence: float


@dataclass(frozen=True, slots=True)
class Alignment:
    """The tokens in order, and the log-probability (nats) of the one best path through them."""

    tokens: tuple[TokenSpan, ...]
    log_prob: float


@dataclass(frozen=True, slots=True)
class Word:
    """One word in seconds of the source.

    `confidence` in [0, 1] is the geometric mean of its tokens', or where the model is calibrated
    the probability that the word is right.
    """

    text: str
    start_s: float
    end_s: float
    confidence: float
    joined: bool = False
    """No space stands between it and the word before: the vocabulary has none, or it is the rest of
    a word that was cut."""
    parts: Sequence["Word"] = field(default=(), compare=False, repr=False)
    """Its tokens, whose texts joined are its text: where a word that is too long can be cut."""
    posterior: float | None = None
    """Of a beam search: see :class:`speechssl.decoding.greedy.Hypothesis`."""
    raw_confidence: float | None = None
    """Where `confidence` is calibrated: CTC's own, the geometric mean of the tokens'."""


class WordParts(Sequence[Word]):
    """The tokens of a word, in a third of the memory that as many :class:`Word` take: ten hours of
    speech have half a million."""

    __slots__ = ("_numbers", "_texts")

    def __init__(self, texts: Iterable[str], numbers: Iterable[float]) -> None:
        """`numbers` are start_s, end_s and confidence of each, one after the other."""
        self._texts = tuple(map(sys.intern, texts))
        self._numbers = array("d", numbers)

    def __len__(self) -> int:
        return len(self._texts)

    @overload
    def __getitem__(self, index: int) -> Word: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[Word, ...]: ...

    def __getitem__(self, index: int | slice) -> Word | tuple[Word, ...]:
        places = range(len(self._texts))[index]
        return self._word(places) if isinstance(places, int) else tuple(map(self._word, places))

    def _word(self, place: int) -> Word:
        start_s, end_s, confidence = self._numbers[3 * place : 3 * place + 3]
        return Word(self._texts[place], start_s, end_s, confidence)


def align(log_probs: np.ndarray, ids: Sequence[int]) -> Alignment:
    """The most probable CTC path that spells `ids` (Viterbi; Graves et al. 2006, section 4.1).

    `log_probs` is (T, V) float32 with the valid frames only; `ids` hold no blank. The unknown
    symbol is a wildcard: in each frame it scores (almost) as the best symbol other than the blank,
    so that characters which the vocabulary lacks get a time, and their neighbours keep theirs.
    Memory is T x Z bytes: align long recordings in pieces. Raises ValueError if the frames are too
    few, if an id is no symbol, or if `log_probs` holds NaN.
    """
    emissions, columns = _emissions(log_probs, ids)
    num_frames = len(emissions)
    needed = ctc_min_frames(ids)
    if num_frames < needed:
        raise ValueError(
            f"The text is too long for the audio: {len(ids)} tokens + {needed - len(ids)} repeats "
            f"need {needed} frames, and there are {num_frames}."
        )
    if num_frames == 0:
        return Alignment((), 0.0)
    states, may_skip = _states(ids, columns)
    path, log_prob = _compiled_viterbi()(emissions, states, may_skip)
    frames = emissions[np.arange(num_frames), states[path]].astype(np.float64)  # (T,)
    bounds = np.searchsorted(path, np.arange(2 * len(ids) + 2))  # first frame of each state
    tokens = tuple(
        TokenSpan(int(token), start, end, float(np.exp(frames[start:end].mean())))
        for token, start, end in zip(
            ids, bounds[1:-1:2].tolist(), bounds[2::2].tolist(), strict=True
        )
    )
    return Alignment(tokens, float(log_prob))


def word_times(
    tokens: Sequence[TokenSpan],
    tokenizer: Tokenizer,
    *,
    hop_s: float,
    duration_s: float,
    offset_s: float = 0.0,
) -> list[Word]:
    """Group `tokens` to words, as the tokenizer cuts them, with times in seconds of the source.

    Frame t begins at ``offset_s + t * hop_s``. A word lasts from the first frame of its first token
    to the end of its last token; the space between words belongs to none. Times are monotone, words
    do not overlap, and everything lies within ``[0, duration_s]``, the source's length.
    """
    spellings = tokenizer.spellings
    joined = not any(WORD_MARK in spelling for spelling in spellings)
    words = []
    for word in tokenizer.words([token.id for token in tokens]):
        spans = tokens[word.start : word.end]
        texts = [spellings[span.id].replace(WORD_MARK, "") for span in spans]
        numbers: list[float] = []
        for span in spans:
            bounds_s = (
                _time_s(frame, hop_s, offset_s, duration_s)
                for frame in (span.start_frame, span.end_frame)
            )
            numbers += (*bounds_s, span.confidence)
        whole = "".join(texts) == word.text
        words.append(
            Word(
                text=word.text,
                start_s=numbers[0],
                end_s=numbers[-2],
                confidence=mean_confidence(spans),
                joined=joined,
                # The letters of some change with their place in it.
                parts=WordParts(texts, numbers) if whole else (),
            )
        )
    return words


def mean_confidence(tokens: Sequence[TokenSpan]) -> float:
    """Geometric mean of the confidences of at least one token, in [0, 1]."""
    logs = np.log(np.maximum([token.confidence for token in tokens], np.exp(-100.0)))
    return float(np.exp(logs.mean()))


def _time_s(frame: int, hop_s: float, offset_s: float, duration_s: float) -> float:
    return min(max(offset_s + frame * hop_s, 0.0), duration_s)


def _emissions(log_probs: np.ndarray, ids: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """(T, V) float32, or (T, V + 1) with a column for the wildcard; and the (N,) columns of ids."""
    if log_probs.ndim != 2:
        raise ValueError(
            f"log_probs must be (frames, vocabulary), and has shape {log_probs.shape}."
        )
    vocab_size = log_probs.shape[1]
    for i in ids:
        if not BLANK_ID < i < vocab_size:
            raise ValueError(
                f"The id {i} cannot be aligned: ids must be above the blank ({BLANK_ID}) and below "
                f"the vocabulary size {vocab_size}."
            )
    if np.isnan(log_probs).any():
        raise ValueError("log_probs holds NaN: the model's output is broken, so no path is best.")
    emissions = np.maximum(log_probs.astype(np.float32, copy=False), np.float32(_FLOOR))
    columns = np.array(ids, dtype=np.int64)
    if UNKNOWN_ID in ids:
        best = emissions[:, UNKNOWN_ID:].max(axis=1, keepdims=True)  # (T, 1), all but the blank
        emissions = np.concatenate([emissions, best - _WILDCARD_COST], axis=1)  # (T, V + 1)
        columns[columns == UNKNOWN_ID] = vocab_size
    return np.ascontiguousarray(emissions), columns


def _states(ids: Sequence[int], columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(Z,) column of each state; (Z,) bool: may a path leap over the blank before the state?"""
    states = np.full(2 * len(ids) + 1, BLANK_ID, dtype=np.int64)
    states[1::2] = columns
    may_skip = np.zeros(len(states), dtype=np.bool_)
    may_skip[3::2] = columns[1:] != columns[:-1]
    return states, may_skip


@cache
def _compiled_viterbi() -> Callable[..., Any]:
    """`_viterbi` through numba, which keeps the machine code on disk where it finds a place."""
    return njit(_viterbi)


def _viterbi(
    emissions: np.ndarray, states: np.ndarray, may_skip: np.ndarray
) -> tuple[np.ndarray, float]:
    """(T, V) float32, (Z,) int64, (Z,) bool -> the state of each frame (T,) int64, and its score.

    Among equal paths the one whose later states begin earlier wins. Needs at least
    `ctc_min_frames` frames, and one.
    """
    num_frames, num_states = len(emissions), len(states)
    back = np.zeros((num_frames, num_states), dtype=np.uint8)  # how many states a path came forward
    best = np.full(num_states, -np.inf)  # score of the best path to each state, now
    for z in range(min(2, num_states)):
        best[z] = emissions[0, states[z]]
    for t in range(1, num_frames):
        for z in range(num_states - 1, -1, -1):  # downwards: best[z - 1] is still the last frame's
            score, step = best[z], 0
            if z >= 1 and best[z - 1] > score:
                score, step = best[z - 1], 1
            if z >= 2 and may_skip[z] and best[z - 2] > score:
                score, step = best[z - 2], 2
            best[z] = score + emissions[t, states[z]]
            back[t, z] = step
    z = num_states - 1
    if num_states > 1 and best[z - 1] > best[z]:
        z -= 1
    log_prob = best[z]
    path = np.empty(num_frames, dtype=np.int64)
    for t in range(num_frames - 1, -1, -1):
        path[t] = z
        z -= back[t, z]
    return path, log_prob
