"""Greedy CTC decoding: the best symbol of each frame, runs collapsed, blanks removed.

(Graves et al. 2006, section 3.2, "best path decoding".) Frames at and after an utterance's length
are never looked at, so padding and the other utterances of a batch change nothing.

Shapes: B batch, T frames, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from speechssl.decoding.align import TokenSpan, Word, mean_confidence, word_times
from speechssl.text import BLANK_ID, Tokenizer

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Alternative:
    """Another text that a beam search has found."""

    text: str
    score: float
    """Its log-probability by the sound (nats), and what language models and hotwords add."""


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """The result of decoding one utterance.

    `confidence` in [0, 1] is the geometric mean over the tokens, or over the blank frames where
    there is no token: how sure the model is that nothing was said. 0 if there is no frame.
    """

    tokens: tuple[TokenSpan, ...]
    num_frames: int
    num_blank_frames: int
    confidence: float
    posteriors: tuple[float, ...] = ()
    """Of a beam search, for each word the share in [0, 1] that texts with this word, at this time,
    have of all in the beam; not calibrated."""
    alternatives: tuple[Alternative, ...] = ()
    """Of a beam search that was asked for them (n-best), the best first."""

    @property
    def ids(self) -> list[int]:
        """Token ids without repeats and blanks, ready for `Tokenizer.decode`."""
        return [token.id for token in self.tokens]

    def text(self, tokenizer: Tokenizer) -> str:
        return tokenizer.decode(self.ids)

    def words(
        self, tokenizer: Tokenizer, *, hop_s: float, duration_s: float, offset_s: float = 0.0
    ) -> list[Word]:
        """The words with times in seconds of the source; see :func:`.align.word_times`."""
        words = word_times(
            self.tokens, tokenizer, hop_s=hop_s, duration_s=duration_s, offset_s=offset_s
        )
        if not self.posteriors:
            return words
        pairs = zip(words, self.posteriors, strict=True)
        return [replace(word, posterior=posterior) for word, posterior in pairs]


def greedy_decode(log_probs: Tensor, lengths: Tensor) -> list[Hypothesis]:
    """(B, T, V) float log-probabilities on any device, (B,) int frames -> B hypotheses.

    Raises ValueError for lengths outside [0, T], and if a valid frame holds NaN.
    """
    counts = check_rows(log_probs, lengths)
    if log_probs.shape[1] == 0:
        return [Hypothesis((), 0, 0, 0.0) for _ in counts]
    best, symbols = log_probs.detach().float().max(dim=-1)  # (B, T) each; NaN wins a max
    best_rows, symbol_rows = best.cpu().numpy(), symbols.cpu().numpy()
    return [
        _collapse(symbol_rows[b, :n], best_rows[b, :n].astype(np.float64))
        for b, n in enumerate(counts)
    ]


def check_rows(log_probs: Tensor, lengths: Tensor) -> list[int]:
    """The valid frames of each utterance; ValueError where the shapes or lengths do not fit."""
    if log_probs.dim() != 3 or tuple(lengths.shape) != (log_probs.shape[0],):
        raise ValueError(
            "Decoding needs log_probs (batch, frames, vocabulary) and lengths (batch,), and got "
            f"{tuple(log_probs.shape)} and {tuple(lengths.shape)}."
        )
    counts = [int(n) for n in lengths.tolist()]
    num_frames = log_probs.shape[1]
    if any(not 0 <= n <= num_frames for n in counts):
        raise ValueError(f"lengths must lie between 0 and {num_frames} frames, and are {counts}.")
    return counts


def blank_rate(hypotheses: Sequence[Hypothesis]) -> float:
    """Share of all frames whose best symbol is the blank; 1 if there is no frame.

    A rate near 1 on speech is the commonest way for CTC training to stall.
    """
    num_frames = sum(h.num_frames for h in hypotheses)
    num_blank_frames = sum(h.num_blank_frames for h in hypotheses)
    return num_blank_frames / num_frames if num_frames else 1.0


def _collapse(symbols: np.ndarray, log_probs: np.ndarray) -> Hypothesis:
    """(T,) best symbol of each frame and (T,) its log-probability -> one hypothesis."""
    if np.isnan(log_probs).any():
        raise ValueError("log_probs holds NaN: the model's output is broken, so no text is best.")
    if not len(symbols):
        return Hypothesis((), 0, 0, 0.0)
    starts = np.flatnonzero(np.diff(symbols, prepend=-1))  # (runs,) first frame of each run
    ends = np.append(starts[1:], len(symbols))
    confidences = np.exp(np.add.reduceat(log_probs, starts) / (ends - starts))
    runs = zip(
        symbols[starts].tolist(), starts.tolist(), ends.tolist(), confidences.tolist(), strict=True
    )
    tokens = tuple(TokenSpan(*run) for run in runs if run[0] != BLANK_ID)
    confidence = mean_confidence(tokens) if tokens else float(np.exp(log_probs.mean()))
    num_blank_frames = int((symbols == BLANK_ID).sum())
    return Hypothesis(tokens, len(symbols), num_blank_frames, confidence)
