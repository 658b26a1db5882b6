"""Which pseudo-labels are learned from, and with which weight: pure functions of the labels.

The confidence of a label is the length-normalised likelihood of Kahn, Lee and Hannun
(arXiv:1909.09116, section 3.2), as a probability for a character:

    exp(log p(text | speech) / number of symbols),

where p sums over all CTC paths that spell the text. Refused before it are, as there, labels that
repeat themselves, and labels that no one could have said in the time.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from speechssl.data.manifest import Utterance
from speechssl.selftraining.config import SelfTrainConfig
from speechssl.spelling import is_blank
from speechssl.text import UNKNOWN

LEAST_WEIGHT = 1e-4
"""Of a label that is kept: a weight is above 0."""
LONGEST_S = 30.0
"""An utterance of the pool beyond this is not labelled: it is no single utterance."""

_LONGEST_PIECE = 30
"""Characters of what is looked for in a row."""


@dataclass(frozen=True)
class Label:
    """What a teacher wrote for an utterance of the pool."""

    utterance: Utterance
    """Its transcript, if it has one, is the true one."""
    text: str
    confidence: float
    """In [0, 1]; 0 where there is no text."""
    error: str = ""
    """Why the recording could not be read."""


@dataclass(frozen=True)
class Range:
    """What is usual in the transcripts of people."""

    slowest: float
    """Characters a second."""
    fastest: float
    repeats: int
    """The most times that something stands in a row."""

    @classmethod
    def of(cls, labeled: Sequence[Utterance]) -> "Range":
        """Of utterances with transcripts; those of no length are not looked at."""
        rates = [len(u.text or "") / u.duration_s for u in labeled if u.duration_s > 0]
        repeats = max((most_repeats(u.text or "") for u in labeled), default=1)
        return cls(min(rates, default=0.0), max(rates, default=float("inf")), repeats)


@dataclass(frozen=True)
class Gated:
    """The labels of a round."""

    kept: tuple[Label, ...]
    """In the order of the pool."""
    refused: tuple[tuple[Label, str], ...]
    """The others, each with the reason."""
    threshold: float
    """The least confidence of those that are kept; 1 where there is none."""

    def reasons(self) -> dict[str, int]:
        """How many were refused for each reason, the most frequent first."""
        return dict(Counter(reason for _, reason in self.refused).most_common())


UNREADABLE, TOO_LONG, EMPTY = "unreadable", "too long", "empty"
UNKNOWN_SYMBOL, LOOP = "unknown symbol", "loop"
TOO_SLOW, TOO_FAST, UNSURE = "too slow", "too fast", "confidence"
"""Reasons."""


def gate(labels: Sequence[Label], config: SelfTrainConfig, usual: Range, number: int) -> Gated:
    """The labels of a pool that round `number` (from 1) learns from.

    Args:
        labels: of every utterance of the pool.
        config: the thresholds.
        usual: of the transcripts of people.
        number: of the round: `keep` grows with it. The share is of the whole pool; where fewer are
            plausible, all of them are kept. Of equal confidences the first in the pool is kept.
    """
    reasons = [implausible(label, config, usual) for label in labels]
    plausible = [i for i, reason in enumerate(reasons) if not reason]
    if config.min_confidence is not None:
        chosen = {i for i in plausible if labels[i].confidence >= config.min_confidence}
    else:
        ranked = sorted(plausible, key=lambda i: -labels[i].confidence)
        chosen = set(ranked[: round(config.share(number) * len(labels))])
    kept = tuple(label for i, label in enumerate(labels) if i in chosen)
    refused = tuple(
        (label, reasons[i] or UNSURE) for i, label in enumerate(labels) if i not in chosen
    )
    return Gated(kept, refused, min((label.confidence for label in kept), default=1.0))


def implausible(label: Label, config: SelfTrainConfig, usual: Range) -> str:
    """The reason why a label cannot be right, whatever its confidence; '' for the others."""
    seconds, text = label.utterance.duration_s, label.text
    if label.error:
        return UNREADABLE
    if seconds > LONGEST_S:
        return TOO_LONG
    if is_blank(text):
        return EMPTY
    if UNKNOWN in text:
        return UNKNOWN_SYMBOL
    if most_repeats(text) > max(config.max_repeats, usual.repeats):
        return LOOP
    rate = len(text) / seconds if seconds > 0 else float("inf")
    if rate < usual.slowest / config.rate_margin:
        return TOO_SLOW
    return TOO_FAST if rate > usual.fastest * config.rate_margin else ""


def most_repeats(text: str) -> int:
    """The most times that a piece of up to 30 characters stands in a row: 1 in "abc", 3 in
    "na na na"."""
    codes = np.array([ord(char) for char in f"{text} "])  # the last word ends like the others
    most = 1
    for size in range(1, min(_LONGEST_PIECE, len(codes) // 2) + 1):
        differs = np.flatnonzero(codes[size:] != codes[:-size])
        bounds = np.concatenate([[-1], differs, [len(codes) - size]])
        most = max(most, (int(np.diff(bounds).max()) - 1) // size + 1)
    return most


def weight_of(label: Label, config: SelfTrainConfig) -> float:
    """In the loss, in (0, 1]."""
    return max(round(label.confidence**config.weight_power, 6), LEAST_WEIGHT)
