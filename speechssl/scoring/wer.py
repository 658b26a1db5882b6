"""Word and character error rates with 95 % intervals, and paired comparison.

Conventions. A rate is a fraction: (substitutions + deletions + insertions) / reference length,
summed over the corpus first, so that words of an utterance without a reference count as insertions.
Words are what spaces separate; characters are code points of the NFC text, spaces included (as
jiwer counts them). The name of the normaliser is part of every result.

Arrays: N utterances, U resampled units (utterances or speakers), R resamples, C columns of counts.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from speechssl.scoring.alignment import format_alignment
from speechssl.scoring.bootstrap import interval, rates_of, resample, sum_by, units_of
from speechssl.scoring.edits import ErrorCounts, align_texts, count_edits
from speechssl.text import normalize

__all__ = [
    "Comparison",
    "Difference",
    "ErrorCounts",
    "EvalResult",
    "UtteranceResult",
    "character_errors",
    "compare",
    "format_alignment",
    "score",
]


@dataclass(frozen=True, slots=True)
class UtteranceResult:
    """One utterance: the normalised texts that were compared, and what differed."""

    id: str
    reference: str
    hypothesis: str
    words: ErrorCounts
    characters: ErrorCounts
    speaker: str | None = None

    @property
    def wer(self) -> float:
        return self.words.rate

    @property
    def cer(self) -> float:
        return self.characters.rate


@dataclass(frozen=True, slots=True)
class EvalResult:
    """Error rates of a corpus, as fractions, with 95 % bootstrap intervals.

    `resampled` says what the intervals vary: "speaker" answers "what if other people spoke?",
    "utterance" only "what if the same people said something else?" and is too narrow when
    utterances of a speaker are alike. With one unit an interval is the point itself.
    """

    num_utterances: int
    num_words: int
    num_characters: int
    wer: float
    wer_low: float
    wer_high: float
    cer: float
    cer_low: float
    cer_high: float
    substitutions: int  # of words, like the next two
    deletions: int
    insertions: int
    normalizer: str
    resampled: Literal["utterance", "speaker"]
    utterances: tuple[UtteranceResult, ...] = field(repr=False)

    def worst(self, num: int) -> list[UtteranceResult]:
        """The `num` utterances with the highest WER; among equals the one with more errors."""
        ranked = sorted(self.utterances, key=lambda u: (-u.wer, -u.words.errors, -u.cer, u.id))
        return ranked[:num]

    def to_json(
        self, *, manifest: str | list[str], audio_s: float, elapsed_s: float
    ) -> dict[str, Any]:
        """The content of ``speechssl evaluate --out``: ready for `json.dump`, no NaN."""
        return {
            "manifest": manifest,
            "normalizer": self.normalizer,
            "num_utterances": self.num_utterances,
            "num_words": self.num_words,
            "wer": self.wer,
            "wer_low": self.wer_low,
            "wer_high": self.wer_high,
            "cer": self.cer,
            "cer_low": self.cer_low,
            "cer_high": self.cer_high,
            "substitutions": self.substitutions,
            "deletions": self.deletions,
            "insertions": self.insertions,
            "audio_s": float(audio_s),
            "elapsed_s": float(elapsed_s),
            "utterances": [
                {"id": u.id, "reference": u.reference, "hypothesis": u.hypothesis, "wer": u.wer}
                for u in self.utterances
            ],
        }


@dataclass(frozen=True, slots=True)
class Difference:
    """Rate of b minus rate of a, and that as a share of a's rate saved; 95 % intervals.

    `difference` < 0 and `reduction` > 0 mean that b is better. `reduction` and its interval are
    None where a's rate, or that of a resample, is 0.
    """

    difference: float
    difference_low: float
    difference_high: float
    reduction: float | None
    reduction_low: float | None
    reduction_high: float | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two systems on the same utterances; see :func:`compare`."""

    wer: Difference
    cer: Difference
    num_utterances: int
    resampled: Literal["utterance", "speaker"]


def score(
    references: Sequence[str],
    hypotheses: Sequence[str],
    *,
    ids: Sequence[str],
    speakers: Sequence[str | None] | None = None,
    normalizer: str = "none",
    seed: int = 0,
) -> EvalResult:
    """Score `hypotheses` against `references`, both through the normaliser, with intervals.

    Equal arguments give equal intervals. Speakers are resampled where every utterance names one and
    there are at least `MIN_SPEAKERS`. Raises ValueError if the sequences differ in length, or if
    all references are empty, because then no rate is defined.
    """
    speakers = [None] * len(ids) if speakers is None else speakers
    _check_lengths(references=references, hypotheses=hypotheses, ids=ids, speakers=speakers)
    reference_texts = [normalize(text, normalizer) for text in references]
    hypothesis_texts = [normalize(text, normalizer) for text in hypotheses]
    if not any(reference_texts):
        raise ValueError(
            f"No error rate is defined: all {len(ids)} references are empty "
            f'(after the normaliser "{normalizer}").'
        )
    words = [
        count_edits(edits) for edits in align_texts(reference_texts, hypothesis_texts, "words")
    ]
    characters = [
        count_edits(e) for e in align_texts(reference_texts, hypothesis_texts, "characters")
    ]
    columns = (ids, reference_texts, hypothesis_texts, words, characters, speakers)
    utterances = tuple(UtteranceResult(*row) for row in zip(*columns, strict=True))
    return _summarise(utterances, normalizer, seed)


def character_errors(references: Sequence[str], hypotheses: Sequence[str]) -> list[int]:
    """Substitutions, deletions and insertions of characters in each pair of texts, as :func:`score`
    counts them without a normaliser."""
    _check_lengths(references=references, hypotheses=hypotheses)
    reference_texts = [normalize(text, "none") for text in references]
    hypothesis_texts = [normalize(text, "none") for text in hypotheses]
    edits = align_texts(reference_texts, hypothesis_texts, "characters")
    return [count_edits(each).errors for each in edits]


def compare(a: EvalResult, b: EvalResult, *, seed: int = 0) -> Comparison:
    """How much better b is than a, by paired bootstrap: both are resampled on the same utterances.

    (Bisani and Ney 2004, doi:10.1109/ICASSP.2004.1326009.) The interval of the difference is much
    narrower than the two intervals side by side suggest. Raises ValueError if the results are not
    of the same utterances, references and normaliser.
    """
    _check_comparable(a, b)
    units, resampled = units_of([u.speaker for u in a.utterances])
    counts = np.concatenate([_counts(a.utterances), _counts(b.utterances)], axis=1)  # (N, 8)
    sums = resample(sum_by(counts, units), seed)  # (R, 8)
    points = counts.sum(axis=0, keepdims=True)  # (1, 8)
    return Comparison(
        wer=_difference(points[:, [0, 1, 4, 5]], sums[:, [0, 1, 4, 5]]),
        cer=_difference(points[:, [2, 3, 6, 7]], sums[:, [2, 3, 6, 7]]),
        num_utterances=len(a.utterances),
        resampled=resampled,
    )


def _summarise(utterances: tuple[UtteranceResult, ...], normalizer: str, seed: int) -> EvalResult:
    units, resampled = units_of([u.speaker for u in utterances])
    counts = _counts(utterances)  # (N, 4)
    sums = resample(sum_by(counts, units), seed)  # (R, 4)
    num_words, word_errors, num_characters, character_errors = (int(x) for x in counts.sum(axis=0))
    wer_low, wer_high = interval(rates_of(sums[:, :2]))
    cer_low, cer_high = interval(rates_of(sums[:, 2:]))
    return EvalResult(
        num_utterances=len(utterances),
        num_words=num_words,
        num_characters=num_characters,
        wer=word_errors / num_words,
        wer_low=wer_low,
        wer_high=wer_high,
        cer=character_errors / num_characters,
        cer_low=cer_low,
        cer_high=cer_high,
        substitutions=sum(u.words.substitutions for u in utterances),
        deletions=sum(u.words.deletions for u in utterances),
        insertions=sum(u.words.insertions for u in utterances),
        normalizer=normalizer,
        resampled=resampled,
        utterances=utterances,
    )


def _counts(utterances: Sequence[UtteranceResult]) -> np.ndarray:
    """(N, 4) float64: words, word errors, characters, character errors."""
    rows = [
        (u.words.length, u.words.errors, u.characters.length, u.characters.errors)
        for u in utterances
    ]
    return np.array(rows, dtype=np.float64)


def _difference(points: np.ndarray, sums: np.ndarray) -> Difference:
    """(1, 4) corpus and (R, 4) resampled counts: length and errors of a, length and errors of b."""
    sums = sums[sums[:, 0] > 0]
    point_a, point_b = rates_of(points[:, :2]), rates_of(points[:, 2:])  # (1,)
    rate_a, rate_b = rates_of(sums[:, :2]), rates_of(sums[:, 2:])  # (R,)
    low, high = interval(rate_b - rate_a)
    reduction = reduction_low = reduction_high = None
    if point_a[0] > 0:
        reduction = float(1 - point_b[0] / point_a[0])
        if (rate_a > 0).all():
            reduction_low, reduction_high = interval(1 - rate_b / rate_a)
    return Difference(
        float(point_b[0] - point_a[0]), low, high, reduction, reduction_low, reduction_high
    )


# --- checks ---------------------------------------------------------------------------------------


def _check_lengths(**sequences: Sequence[object]) -> None:
    lengths = {name: len(sequence) for name, sequence in sequences.items()}
    if len(set(lengths.values())) > 1:
        given = ", ".join(f"{count} {name}" for name, count in lengths.items())
        raise ValueError(f"Scoring needs one of each for every utterance, and got {given}.")


def _check_comparable(a: EvalResult, b: EvalResult) -> None:
    if a.normalizer != b.normalizer:
        raise ValueError(
            f'Results through different normalisers, "{a.normalizer}" and "{b.normalizer}", '
            "cannot be compared; score both with the same one."
        )
    if len(a.utterances) != len(b.utterances):
        raise ValueError(
            f"A paired comparison needs the same utterances in both results, and one has "
            f"{len(a.utterances)}, the other {len(b.utterances)}."
        )
    for left, right in zip(a.utterances, b.utterances, strict=True):
        if (left.id, left.reference) != (right.id, right.reference):
            raise ValueError(
                "A paired comparison needs the same utterances in the same order, and "
                f'"{left.id}" ({left.reference!r}) stands against '
                f'"{right.id}" ({right.reference!r}).'
            )
