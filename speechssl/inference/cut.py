"""A long recording with its text, cut into utterances for training.

Cuts lie in pauses between aligned words. What stands beside a stretch that does not fit (words that
were not said, speech that is not in the text) goes with it up to the next pause: there the times of
words are least certain.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from speechssl.decoding.align import Word
from speechssl.inference.align import AlignedText
from speechssl.inference.transcript import join_words, mean_confidence

MIN_PAUSE_S = 0.1
"""Words this far apart have a pause between them in which a recording can be cut."""

MARGIN_S = 0.3
"""Of a pause an utterance gets its half, and so much at most."""

MIN_CONFIDENCE = 0.1
"""Utterances below are left out; measured in docs/alignment.md."""

MIN_UTTERANCE_S = 1.0
"""Shorter utterances are joined to the next one where that fits."""


@dataclass(frozen=True, slots=True)
class Cut:
    """A stretch of the recording."""

    start_s: float
    end_s: float
    text: str
    confidence: float
    """Geometric mean over its words; 0 where there is none."""
    reason: str = ""
    """Why it is left out; empty for an utterance."""


@dataclass(frozen=True, slots=True)
class _Run:
    """Words ``[start, end)`` of the text that follow each other in text and recording."""

    start: int
    end: int


def cut_aligned(
    aligned: AlignedText, *, max_s: float, min_confidence: float = MIN_CONFIDENCE
) -> list[Cut]:
    """The utterances of at most `max_s`, and what is left out with the reason, in their order.

    Each word of the text is in exactly one of them.
    """
    bad_ends = {extra.before_word for extra in aligned.extra}
    cuts: list[Cut] = []
    here = 0  # words before are in a cut
    for run in _runs(aligned.words, bad_ends):
        inner = _between_pauses(aligned, run)
        cuts += _left_out(aligned, here, inner.start)
        here = inner.end
        for part in _utterances(aligned, inner, max_s):
            cuts.append(_utterance(aligned, part, max_s, min_confidence))
    return cuts + _left_out(aligned, here, len(aligned.words))
