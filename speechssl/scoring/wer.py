"""Word and character error rates with 95 % intervals, paired comparison, and readable alignments.

Conventions. A rate is a fraction: (substitutions + deletions + insertions) / reference length,
summed over the corpus first, so that words of an utterance without a reference count as insertions.
Words are what spaces separate; characters are code points of the NFC text, spaces included (as
jiwer counts them). The name of the normaliser is part of every result.

Arrays: N utterances, U resampled units (utterances or speakers), R resamples, C columns of counts.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from speechssl.rng import rng
from speechssl.text import columns_of, normalize

NUM_RESAMPLES = 2000
MIN_SPEAKERS = 5  # fewer clusters make a bootstrap over speakers meaningless

Edit = tuple[str, int, int, int, int]  # (kind, reference start, end, hypothesis start, end)


@dataclass(frozen=True, slots=True)
class ErrorCounts:
    """Edits that turn a reference of `length` units (words or characters) into the hypothesis."""

    length: int
    substitutions: int
    deletions: int
    insertions: int

    @property
    def errors(self) -> int:
        return self.substitutions + self.deletions + self.insertions

    @property
    def rate(self) -> float:
        """Errors / length. An empty reference counts as one unit, so that the rate stays finite."""
        return self.errors / max(self.length, 1)


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
        """The object that ``speechssl evaluate --out`` writes: ready for `json.dump`, no NaN."""
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
    words = [_count(edits) for edits in _align(reference_texts, hypothesis_texts, "words")]
    characters = [_count(e) for e in _align(reference_texts, hypothesis_texts, "characters")]
    columns = (ids, reference_texts, hypothesis_texts, words, characters, speakers)
    utterances = tuple(UtteranceResult(*row) for row in zip(*columns, strict=True))
    return _summarise(utterances, normalizer, seed)


def character_errors(references: Sequence[str], hypotheses: Sequence[str]) -> list[int]:
    """Substitutions, deletions and insertions of characters in each pair of texts, as :func:`score`
    counts them without a normaliser."""
    _check_lengths(references=references, hypotheses=hypotheses)
    reference_texts = [normalize(text, "none") for text in references]
    hypothesis_texts = [normalize(text, "none") for text in hypotheses]
    edits = _align(reference_texts, hypothesis_texts, "characters")
    return [_count(each).errors for each in edits]


def compare(a: EvalResult, b: EvalResult, *, seed: int = 0) -> Comparison:
    """How much better b is than a, by paired bootstrap: both are resampled on the same utterances.

    (Bisani and Ney 2004, doi:10.1109/ICASSP.2004.1326009.) The interval of the difference is much
    narrower than the two intervals side by side suggest. Raises ValueError if the results are not
    of the same utterances, references and normaliser.
    """
    _check_comparable(a, b)
    units, resampled = _units(a.utterances)
    counts = np.concatenate([_counts(a.utterances), _counts(b.utterances)], axis=1)  # (N, 8)
    sums = _resample(_sum_by(counts, units), seed)  # (R, 8)
    points = counts.sum(axis=0, keepdims=True)  # (1, 8)
    return Comparison(
        wer=_difference(points[:, [0, 1, 4, 5]], sums[:, [0, 1, 4, 5]]),
        cer=_difference(points[:, [2, 3, 6, 7]], sums[:, [2, 3, 6, 7]]),
        num_utterances=len(a.utterances),
        resampled=resampled,
    )


def format_alignment(reference: str, hypothesis: str, *, width: int = 100) -> str:
    """Reference over hypothesis, word under word, for a monospaced font; S, D and I mark errors.

    Both texts are compared as given (normalise them first). Missing words are shown as asterisks;
    lines longer than `width` columns continue in a new block.
    """
    ref_words, hyp_words = reference.split(), hypothesis.split()
    edits = next(_align([" ".join(ref_words)], [" ".join(hyp_words)], "words"))
    columns = []
    for ref_word, hyp_word, mark in _pair_words(ref_words, hyp_words, edits):
        size = max(columns_of(ref_word), columns_of(hyp_word))
        cells = (ref_word or "*" * size, hyp_word or "*" * size, mark)
        columns.append(tuple(cell + " " * (size - columns_of(cell)) for cell in cells))
    blocks = ["\n".join(_rows(block)) for block in _wrap(columns, width - len("REF: "))]
    return "\n\n".join(blocks)


# --- jiwer ----------------------------------------------------------------------------------------


def _align(
    references: Sequence[str], hypotheses: Sequence[str], unit: Literal["words", "characters"]
) -> Iterator[list[Edit]]:
    """The edits of each pair of single-spaced texts, by jiwer.

    This is all that speechssl uses of jiwer: `process_words` and `process_characters` of jiwer 3
    and 4. Empty references do not go through it, because jiwer 3 refuses them.
    """
    import jiwer

    process: Callable[..., Any]
    if unit == "words":
        process, reduce = jiwer.process_words, jiwer.ReduceToListOfListOfWords()
        split: Callable[[str], Sequence[str]] = str.split
    else:
        process, reduce = jiwer.process_characters, jiwer.ReduceToListOfListOfChars()
        split = list
    filled = [i for i, text in enumerate(references) if text]
    chunks: dict[int, Any] = {}
    if filled:
        output = process(
            [references[i] for i in filled],
            [hypotheses[i] for i in filled],
            reference_transform=reduce,
            hypothesis_transform=reduce,
        )
        chunks = dict(zip(filled, output.alignments, strict=True))
    for i, hypothesis in enumerate(hypotheses):
        if i in chunks:
            yield [
                (c.type, c.ref_start_idx, c.ref_end_idx, c.hyp_start_idx, c.hyp_end_idx)
                for c in chunks[i]
            ]
        else:
            yield [("insert", 0, 0, 0, len(split(hypothesis)))] if hypothesis else []


def _count(edits: Sequence[Edit]) -> ErrorCounts:
    sizes = {"equal": 0, "substitute": 0, "delete": 0, "insert": 0}
    for kind, ref_start, ref_end, hyp_start, hyp_end in edits:
        sizes[kind] += max(ref_end - ref_start, hyp_end - hyp_start)
    length = sizes["equal"] + sizes["substitute"] + sizes["delete"]
    return ErrorCounts(length, sizes["substitute"], sizes["delete"], sizes["insert"])


# --- the bootstrap --------------------------------------------------------------------------------


def _summarise(utterances: tuple[UtteranceResult, ...], normalizer: str, seed: int) -> EvalResult:
    units, resampled = _units(utterances)
    counts = _counts(utterances)  # (N, 4)
    sums = _resample(_sum_by(counts, units), seed)  # (R, 4)
    num_words, word_errors, num_characters, character_errors = (int(x) for x in counts.sum(axis=0))
    wer_low, wer_high = _interval(_rates(sums[:, :2]))
    cer_low, cer_high = _interval(_rates(sums[:, 2:]))
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


def _units(
    utterances: Sequence[UtteranceResult],
) -> tuple[np.ndarray, Literal["utterance", "speaker"]]:
    """(N,) int number of the unit that each utterance is resampled with, and what a unit is."""
    speakers = [u.speaker for u in utterances]
    if None not in speakers and len(set(speakers)) >= MIN_SPEAKERS:
        order = {speaker: i for i, speaker in enumerate(dict.fromkeys(speakers))}
        return np.array([order[s] for s in speakers]), "speaker"
    return np.arange(len(utterances)), "utterance"


def _counts(utterances: Sequence[UtteranceResult]) -> np.ndarray:
    """(N, 4) float64: words, word errors, characters, character errors."""
    rows = [
        (u.words.length, u.words.errors, u.characters.length, u.characters.errors)
        for u in utterances
    ]
    return np.array(rows, dtype=np.float64)


def _sum_by(counts: np.ndarray, units: np.ndarray) -> np.ndarray:
    """(N, C) counts of utterances -> (U, C) counts of units."""
    sums = np.zeros((int(units.max()) + 1, counts.shape[1]))
    np.add.at(sums, units, counts)
    return sums


def _resample(counts: np.ndarray, seed: int) -> np.ndarray:
    """(U, C) counts -> (R, C) sums over R draws of U units with replacement.

    Sums of whole numbers, so exact in any order.
    """
    num_units = len(counts)
    generator = rng(seed, "bootstrap")
    sums = np.empty((NUM_RESAMPLES, counts.shape[1]))
    for r in range(NUM_RESAMPLES):
        draws = generator.integers(num_units, size=num_units, dtype=np.int32)
        sums[r] = np.bincount(draws, minlength=num_units) @ counts
    return sums


def _rates(sums: np.ndarray) -> np.ndarray:
    """(R, 2) lengths and errors -> (<=R,) rates, without resamples that drew no reference."""
    sums = sums[sums[:, 0] > 0]
    return np.asarray(sums[:, 1] / sums[:, 0])


def _interval(values: np.ndarray) -> tuple[float, float]:
    """95 % percentile interval (Efron and Tibshirani 1993, chapter 13)."""
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def _difference(points: np.ndarray, sums: np.ndarray) -> Difference:
    """(1, 4) corpus and (R, 4) resampled counts: length and errors of a, length and errors of b."""
    sums = sums[sums[:, 0] > 0]
    point_a, point_b = _rates(points[:, :2]), _rates(points[:, 2:])  # (1,)
    rate_a, rate_b = _rates(sums[:, :2]), _rates(sums[:, 2:])  # (R,)
    low, high = _interval(rate_b - rate_a)
    reduction = reduction_low = reduction_high = None
    if point_a[0] > 0:
        reduction = float(1 - point_b[0] / point_a[0])
        if (rate_a > 0).all():
            reduction_low, reduction_high = _interval(1 - rate_b / rate_a)
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


# --- showing an alignment -------------------------------------------------------------------------


def _pair_words(
    ref_words: Sequence[str], hyp_words: Sequence[str], edits: Sequence[Edit]
) -> Iterator[tuple[str, str, str]]:
    """(reference word or "", hypothesis word or "", mark), in reading order."""
    marks = {"equal": "", "substitute": "S", "delete": "D", "insert": "I"}
    for kind, ref_start, ref_end, hyp_start, hyp_end in edits:
        for k in range(max(ref_end - ref_start, hyp_end - hyp_start)):
            ref_word = ref_words[ref_start + k] if ref_start < ref_end else ""
            hyp_word = hyp_words[hyp_start + k] if hyp_start < hyp_end else ""
            yield ref_word, hyp_word, marks[kind]


def _wrap(columns: Sequence[tuple[str, ...]], width: int) -> Iterator[list[tuple[str, ...]]]:
    """Blocks of columns at most `width` wide, at least one column each; one block if none."""
    block: list[tuple[str, ...]] = []
    used = 0
    for column in columns:
        size = columns_of(column[0]) + 1
        if block and used + size - 1 > width:
            yield block
            block, used = [], 0
        block.append(column)
        used += size
    yield block


def _rows(block: Sequence[tuple[str, ...]]) -> Iterator[str]:
    for i, label in enumerate(("REF: ", "HYP: ", "     ")):
        row = label + " ".join(column[i] for column in block)
        if i < 2 or row.strip():
            yield row.rstrip()
