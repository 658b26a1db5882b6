"""Calibrated confidence: how probable it is that a word is right, learned from words that were
compared with transcripts.

CTC's own confidence in a word is the geometric mean of its symbols' probabilities. It ranks words;
how many of those with 0.6 are right it does not say. Logistic regression on its log-odds does
(Platt 1999, "Probabilistic outputs for support vector machines", section 2, with his targets), and
on the number of characters, as a longer word has more places to be wrong. The weight of the
log-odds is not negative: of two words of one length the one with the higher confidence keeps it.

Shapes: N words.
"""

import contextlib
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from speechssl.scoring.confidence import (
    NUM_BINS,
    JudgedWords,
    calibration_error,
    errors_found,
    most_found,
    num_characters,
)

LEAST_WORDS = 100
"""Fewer words say more about themselves than about the model."""
_LEAST_HALF = 0.25
"""Halves are of speakers where each has at least this share of the words, else of utterances."""
_MOST_LOG_ODDS = 12.0
"""Confidences nearer to 0 or 1 are not told apart."""
_MOST_LENGTH = 20
"""Nor are longer words, of which there are few to learn from."""

Halves = Literal["speakers", "utterances"]


GREEDY, WITH_LM = "greedy", "lm"
"""What has a calibration of its own: with a language model more words of low confidence are right.
Beam search without one finds almost the texts of greedy decoding and uses its calibration."""
NOTE = "note"
"""In place of them: why there is none, a sentence."""


class NotCalibratedError(ValueError):
    """There are too few words to calibrate on, or what they teach is of no use for others; the
    sentence says which."""


@dataclass(frozen=True)
class Quality:
    """What a calibration is worth. `after` is of words on which it was not fitted: each half of the
    speakers (or utterances) by a map that was fitted on the other half."""

    num_words: int
    num_wrong: int
    halves: Halves
    error_before: float
    """Expected calibration error of CTC's own confidence, in `num_bins` bins of equal width."""
    error_after: float
    found_before: float | None
    """Share of the wrong words that is among the least confident 20 %; None where none is wrong."""
    found_after: float | None
    most_found: float | None
    """What the best possible order of the words would give."""
    num_bins: int = NUM_BINS

    def sentence(self) -> str:
        """For the person."""
        text = (
            f"expected calibration error {self.error_before:.3f} before and {self.error_after:.3f} "
            f"after, on {self.num_words:,} words ({self.num_bins} bins; fitted on one half of the "
            f"{self.halves}, measured on the other)"
        )
        return text + _found_text(self.found_after, self.most_found)


@dataclass(frozen=True)
class Calibration:
    """From CTC's confidence in a word to the probability that the word is right."""

    intercept: float
    confidence_weight: float
    """Of the log-odds of CTC's confidence; not negative."""
    length_weight: float
    """Of each of a word's characters, up to twenty."""
    decoding: str
    """What the words were decoded with."""
    quality: Quality

    def __call__(self, confidence: float, word: str) -> float:
        """The probability in (0, 1) that `word`, given with `confidence` in [0, 1], is right."""
        log_odds = math.log(max(confidence, 1e-300)) - math.log(max(1 - confidence, 1e-300))
        log_odds = min(max(log_odds, -_MOST_LOG_ODDS), _MOST_LOG_ODDS)
        length = min(num_characters(word), _MOST_LENGTH)
        logit = self.intercept + self.confidence_weight * log_odds + self.length_weight * length
        return 0.5 * (1.0 + math.tanh(0.5 * logit))

    def of(self, words: JudgedWords) -> np.ndarray:
        """(N,) of each word the same."""
        weights = np.array([self.intercept, self.confidence_weight, self.length_weight])
        return _probabilities(_inputs(words), weights)

    def to_json(self) -> dict[str, Any]:
        """For :meth:`from_json`."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: object) -> "Calibration":
        """Raises ValueError where `data` is not what :meth:`to_json` gave."""
        error: Exception | None = None
        try:
            fields = dict(data)  # type: ignore[call-overload]  # a TypeError for what is none
            found = cls(**{**fields, "quality": Quality(**fields["quality"])})
            numbers = [found.intercept, found.confidence_weight, found.length_weight]
            found.quality.sentence()
            if all(map(math.isfinite, numbers)) and found.confidence_weight >= 0:
                return found
        except (KeyError, TypeError, ValueError, OverflowError) as raised:
            error = raised
        raise ValueError(
            "The calibration of the model's confidence is damaged: fit it again with "
            "`speechssl evaluate MODEL MANIFEST --calibrate`."
        ) from error


def stored_calibration(meta: Mapping[str, Any], kind: str) -> Calibration | None:
    """That of a model's ``meta.json``, for words decoded in one of the two ways; None where it has
    none. Raises ValueError where it is damaged."""
    stored = meta.get("calibration")
    if stored is None:
        return None
    if not isinstance(stored, dict):
        return Calibration.from_json(stored)  # which says that it is damaged
    data = stored.get(kind)
    return None if data is None else Calibration.from_json(data)


def calibration_sentences(meta: Mapping[str, Any]) -> list[str]:
    """What a model's ``meta.json`` says of its confidence, for a person; none where it says nothing
    or is damaged."""
    stored = meta.get("calibration")
    if not isinstance(stored, dict):
        return []
    found = [stored[NOTE]] if isinstance(stored.get(NOTE), str) else []
    for kind, name in ((GREEDY, "greedy"), (WITH_LM, "with a language model")):
        with contextlib.suppress(ValueError):
            if (calibration := stored_calibration(meta, kind)) is not None:
                found.append(f"Confidence, {name}: {calibration.quality.sentence()}.")
    return found


def fit_calibration(words: JudgedWords, decoding: str) -> Calibration:
    """Fit on all words; its quality is measured across halves.

    Raises NotCalibratedError where there are fewer than 100 words, or where the fit to one half
    brings the other half no lower Brier score (1950, the mean squared error of probabilities).
    """
    if len(words) < LEAST_WORDS:
        raise NotCalibratedError(
            f"Confidences are not calibrated: there are {len(words)} words to learn it from, and "
            f"{LEAST_WORDS} are needed."
        )
    inputs, right = _inputs(words), words.right
    second, halves = _second_half(words)
    crossed = np.empty(len(words))
    for half in (second, ~second):
        crossed[half] = _probabilities(inputs[half], _fit(inputs[~half], right[~half]))
    raw, fitted = (np.square(p - right).mean() for p in (words.confidences, crossed))
    if fitted >= raw:
        raise NotCalibratedError(
            f"Confidences are not calibrated: what {len(words):,} words teach is on other words no "
            f"better than CTC's own confidence (Brier score {fitted:.3f}, without it {raw:.3f})."
        )
    quality = Quality(
        len(words),
        words.num_wrong,
        halves,
        calibration_error(words.confidences, right),
        calibration_error(crossed, right),
        errors_found(words.confidences, right),
        errors_found(crossed, right),
        most_found(right),
    )
    intercept, confidence_weight, length_weight = _fit(inputs, right).tolist()
    return Calibration(intercept, confidence_weight, length_weight, decoding, quality)


def describe_confidence(words: JudgedWords, calibration: Calibration | None) -> str:
    """How good the confidence in these words is, in a sentence; '' where there is no word."""
    if not len(words):
        return ""
    raw = calibration_error(words.confidences, words.right)
    ranked = words.confidences if calibration is None else calibration.of(words)
    error = f"expected calibration error {raw:.3f} (not calibrated: --calibrate on another set)"
    if calibration is not None:
        after = calibration_error(ranked, words.right)
        error = f"expected calibration error {after:.3f} ({raw:.3f} before calibration)"
    found = _found_text(errors_found(ranked, words.right), most_found(words.right))
    return (
        f"Confidence of {len(words):,} words, {words.num_wrong:,} of them wrong: {error}, "
        f"{NUM_BINS} bins{found}."
    )


def confidence_json(words: JudgedWords, calibration: Calibration | None) -> dict[str, Any]:
    """The same as numbers; shares are fractions, null where no word is wrong."""
    ranked = words.confidences if calibration is None else calibration.of(words)
    return {
        "calibrated": calibration is not None,
        "num_words": len(words),
        "num_wrong": words.num_wrong,
        "num_missing": words.num_missing,
        "num_bins": NUM_BINS,
        "calibration_error": calibration_error(ranked, words.right),
        "raw_calibration_error": calibration_error(words.confidences, words.right),
        "errors_in_least_confident_fifth": errors_found(ranked, words.right),
        "most_possible": most_found(words.right),
    }


def _found_text(found: float | None, most: float | None) -> str:
    if found is None or most is None:
        return ""
    return (
        f"; the least confident 20 % of the words hold {100 * found:.1f} % of the wrong ones "
        f"({100 * most:.1f} % if none were misplaced)"
    )


def _second_half(words: JudgedWords) -> tuple[np.ndarray, Halves]:
    """(N,) bool: the words of about half of the speakers, or where they cannot be halved of every
    second utterance that has words."""
    _, utterances = np.unique(words.utterances, return_inverse=True)
    by_utterance = utterances % 2 == 1
    names = [words.speakers[number] for number in words.utterances]
    if None in names:
        return by_utterance, "utterances"
    speakers, which, sizes = np.unique(
        np.array(names, dtype=object).astype(str), return_inverse=True, return_counts=True
    )
    in_second, filled = np.zeros(len(speakers), dtype=np.bool_), [0, 0]
    for number in np.argsort(-sizes, kind="stable"):
        half = int(filled[1] < filled[0])
        in_second[number] = bool(half)
        filled[half] += int(sizes[number])
    if min(filled) < _LEAST_HALF * len(words):
        return by_utterance, "utterances"
    return in_second[which], "speakers"


def _inputs(words: JudgedWords) -> np.ndarray:
    """(N, 3): one, the log-odds of the confidence, the characters."""
    yes, no = np.maximum(words.confidences, 1e-300), np.maximum(1 - words.confidences, 1e-300)
    log_odds = np.clip(np.log(yes) - np.log(no), -_MOST_LOG_ODDS, _MOST_LOG_ODDS)
    lengths = np.minimum(words.lengths, _MOST_LENGTH)
    return np.stack([np.ones(len(words)), log_odds, lengths], axis=1)


def _fit(inputs: np.ndarray, right: np.ndarray) -> np.ndarray:
    """(N, 3) and (N,) bool -> (3,) weights of least cross-entropy."""
    from scipy.optimize import minimize

    num_right, num_wrong = int(right.sum()), int((~right).sum())
    # Platt's targets: where all words are right the map does not say that none can be wrong.
    targets = np.where(right, (num_right + 1) / (num_right + 2), 1 / (num_wrong + 2))
    scale = np.maximum(np.abs(inputs).max(axis=0, initial=0.0), 1e-9)
    scaled = inputs / scale

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        logits = scaled @ weights
        value = np.logaddexp(0.0, logits) - targets * logits
        gradient = scaled.T @ (_sigmoids(logits) - targets)
        return float(value.sum()), gradient

    bounds = [(None, None), (0.0, None), (None, None)]
    found = minimize(loss, np.zeros(3), jac=True, method="L-BFGS-B", bounds=bounds)
    return np.asarray(found.x / scale)


def _probabilities(inputs: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return _sigmoids(inputs @ weights)


def _sigmoids(logits: np.ndarray) -> np.ndarray:
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * logits)))
