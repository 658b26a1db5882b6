"""How good a model's confidence in its words is: whether it says how many are right, and whether
the wrong words are where it is low.

Shapes: N words, B bins.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from unicodedata import normalize as unicode_form

import numpy as np

from speechssl.scoring.alignment import right_words

NUM_BINS = 10
"""Of equal width in [0, 1]."""
LEAST_CONFIDENT = 0.2
"""The share of the words that a person would look at first."""


@dataclass(frozen=True)
class JudgedWords:
    """Words that a model gave, and whether they are right."""

    confidences: np.ndarray
    """(N,) float64 in [0, 1]."""
    lengths: np.ndarray
    """(N,) int: characters of each word (:func:`num_characters`)."""
    right: np.ndarray
    """(N,) bool: equal to the word of the transcript that it is aligned with."""
    utterances: np.ndarray
    """(N,) int: the number of each word's utterance."""
    speakers: tuple[str | None, ...]
    """Of each utterance."""
    num_missing: int = 0
    """Words of the transcripts that the model left out: errors without a word to mark."""

    def __len__(self) -> int:
        return len(self.confidences)

    @property
    def num_wrong(self) -> int:
        """Substituted and inserted words."""
        return int((~self.right).sum())


def judge(
    references: Sequence[str],
    words: Sequence[Sequence[tuple[str, float]]],
    speakers: Sequence[str | None],
    *,
    normalizer: str = "none",
) -> JudgedWords:
    """Align each utterance's words, (text, confidence), with its transcript.

    A word is right where the alignment behind the word error rate has it equal; one of which the
    normaliser leaves nothing is left out. Raises ValueError where the sequences differ in length.
    """
    rows: list[tuple[float, int, bool, int]] = []
    missing = 0
    for number, (reference, said, _) in enumerate(zip(references, words, speakers, strict=True)):
        verdicts, num = right_words(reference, [text for text, _ in said], normalizer)
        missing += num
        rows += [
            (confidence, num_characters(text), verdict, number)
            for (text, confidence), verdict in zip(said, verdicts, strict=True)
            if verdict is not None
        ]
    columns = list(zip(*rows, strict=True)) or [(), (), (), ()]
    return JudgedWords(
        np.array(columns[0], dtype=np.float64),
        np.array(columns[1], dtype=np.int64),
        np.array(columns[2], dtype=np.bool_),
        np.array(columns[3], dtype=np.int64),
        tuple(speakers),
        missing,
    )


def num_characters(word: str) -> int:
    """Code points of the word in NFC, at least one."""
    return max(len(word if word.isascii() else unicode_form("NFC", word)), 1)


def calibration_error(confidences: np.ndarray, right: np.ndarray) -> float:
    """Expected calibration error in ten bins of equal width: over the bins, the difference between
    mean confidence and share of right words, weighted by the bin's share of the words (Guo et al.
    2017, arXiv:1706.04599, section 2).

    `confidences` (N,) in [0, 1], `right` (N,) bool; 0 where there is no word.
    """
    if not len(confidences):
        return 0.0
    bins = np.minimum((confidences * NUM_BINS).astype(np.int64), NUM_BINS - 1)  # (N,)
    gaps = np.bincount(bins, confidences - right, minlength=NUM_BINS)  # (B,)
    return float(np.abs(gaps).sum() / len(confidences))


def errors_found(
    confidences: np.ndarray, right: np.ndarray, share: float = LEAST_CONFIDENT
) -> float | None:
    """The share of the wrong words that is among the least confident `share` of all words.

    By chance it is `share`. Words of one confidence are taken in equal parts. None where no word is
    wrong.
    """
    num_wrong = int((~right).sum())
    if not num_wrong:
        return None
    values, which = np.unique(confidences, return_inverse=True)
    sizes = np.bincount(which, minlength=len(values)).astype(np.float64)  # words of each value
    wrong = np.bincount(which, ~right, minlength=len(values))
    before = np.cumsum(sizes) - sizes
    taken = np.clip((share * len(right) - before) / sizes, 0.0, 1.0)
    return float((taken * wrong).sum() / num_wrong)


def most_found(right: np.ndarray, share: float = LEAST_CONFIDENT) -> float | None:
    """What :func:`errors_found` would be if every wrong word were less confident than every right
    one; None where no word is wrong."""
    num_wrong = int((~right).sum())
    return min(share * len(right) / num_wrong, 1.0) if num_wrong else None
