"""The transcript of a recording: phrases and words with their times.

Scripts without spaces (Chinese, Japanese, Thai, Khmer, ...) give a single word for a whole stretch
of speech. A word that is longer than a subtitle is cut at its silences and between its tokens.
"""

import unicodedata
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, pairwise

import numpy as np

from speechssl.decoding.align import Word
from speechssl.decoding.greedy import Alternative
from speechssl.text import columns_of

MAX_SEGMENT_S = 7.0
"""A segment longer than this is cut between two words: what a subtitle shows at once."""

MAX_WORD_COLUMNS = 84
"""A word wider than this is cut: two lines of 42 columns, of which a Chinese character takes two,
are a usual limit of subtitles."""

PAUSE_S = 0.6
"""Words this far apart are in two segments."""


@dataclass(frozen=True)
class Segment:
    """A phrase: words without a long pause between them."""

    words: tuple[Word, ...]
    """At least one."""

    @property
    def start_s(self) -> float:
        return self.words[0].start_s

    @property
    def end_s(self) -> float:
        return self.words[-1].end_s

    @property
    def text(self) -> str:
        return join_words(self.words)

    @property
    def confidence(self) -> float:
        return words_confidence(self.words)


@dataclass(frozen=True)
class Alternatives:
    """What else a stretch of a recording may say (n-best), the best text first."""

    start_s: float
    end_s: float
    texts: tuple[Alternative, ...]


@dataclass(frozen=True)
class Transcript:
    """The text of one recording. Times are seconds of the recording."""

    audio: str
    """The recording, as the person named it."""
    duration_s: float
    segments: tuple[Segment, ...]
    confidence: float
    """In [0, 1]: of a calibrated model the share of the words that is probably right, of others the
    geometric mean over the words. Where there is no word: how sure the model is of that, which is
    never calibrated."""
    narrow_band: bool = False
    """The recording has nothing above 4 kHz, as over a telephone, and the model's rate is above."""
    notes: tuple[str, ...] = ()
    """What is missing of the recording, was changed, or makes errors likely: sentences that name
    it."""
    alternatives: tuple[Alternatives, ...] = ()
    """Of each stretch that was decoded at once, where a beam search was asked for them."""
    calibrated: bool = False
    """Whether the confidence of a word is the probability that it is right."""
    speaker: str = ""
    """Whose it is, where a transcript is of one channel."""

    @property
    def text(self) -> str:
        return join_words(self.words)

    @property
    def words(self) -> list[Word]:
        return [word for segment in self.segments for word in segment.words]


def join_words(words: Sequence[Word]) -> str:
    """The text of words, with a space before each that has one."""
    return "".join(" " * (i > 0 and not w.joined) + w.text for i, w in enumerate(words))


def to_segments(words: Sequence[Word]) -> tuple[Segment, ...]:
    """Cut words into phrases at pauses, and where a phrase would be too long.

    Only a word that is too long itself is cut too. Nothing is lost: the texts of the segments,
    joined as :func:`join_words` does, are the text of the words. Times stay in their order.
    """
    groups: list[list[Word]] = []
    for word in chain.from_iterable(map(_cut, words)):
        group = groups[-1] if groups else []
        paused = group and word.start_s - group[-1].end_s >= PAUSE_S
        long = group and word.end_s - group[0].start_s > MAX_SEGMENT_S
        wide = word.joined and columns_of(join_words([*group, word])) > MAX_WORD_COLUMNS
        if not group or paused or long or wide:
            groups.append([word])
        else:
            group.append(word)
    return tuple(Segment(tuple(group)) for group in groups)


def _cut(word: Word) -> list[Word]:
    """A word in pieces that fit into a segment, as far as its tokens allow; most stay whole."""
    parts = word.parts
    if len(parts) < 2 or not _is_long(parts):
        return [word]
    places = break_places(parts)
    pauses = [k for k in places if parts[k].start_s - parts[k - 1].end_s >= PAUSE_S]
    bounds = [0, *pauses, len(parts)]
    todo = list(pairwise(bounds))[::-1]
    found: list[Word] = []
    while todo:
        start, end = todo.pop()
        inside = places[bisect_left(places, start + 1) : bisect_left(places, end)]
        if inside and _is_long(parts[start:end]):
            middle = _best_place(parts, inside, start, end)
            todo += [(middle, end), (start, middle)]
        else:
            joined = bool(found) or word.joined
            found.append(_piece(parts[start:end], joined, word))
    return found


def _is_long(parts: Sequence[Word]) -> bool:
    if parts[-1].end_s - parts[0].start_s > MAX_SEGMENT_S:
        return True
    return columns_of("".join(part.text for part in parts)) > MAX_WORD_COLUMNS


def _piece(parts: Sequence[Word], joined: bool, word: Word) -> Word:
    """Some parts of a word; a calibrated confidence is that of the whole word."""
    own = mean_confidence([part.confidence for part in parts])
    is_raw = word.raw_confidence is None
    return Word(
        text="".join(part.text for part in parts),
        start_s=parts[0].start_s,
        end_s=parts[-1].end_s,
        confidence=own if is_raw else word.confidence,
        joined=joined,
        parts=tuple(parts),
        posterior=word.posterior,
        raw_confidence=None if is_raw else own,
    )


def break_places(parts: Sequence[Word]) -> list[int]:
    """The parts before which the word may be cut: not within what a person sees as one letter."""
    places, before = [], ""
    for k, part in enumerate(parts):
        if part.text and before and not is_bound(before, part.text[0]):
            places.append(k)
        before = part.text[-1:] or before
    return places


def is_bound(before: str, after: str) -> bool:
    """Whether two characters belong together: letter and mark, what a virama or a joiner holds
    together, a Thai or Lao vowel and its consonant, Japanese letters that begin no line."""
    marks = unicodedata.category(after)[0] == "M" or unicodedata.combining(before) == 9
    return (
        marks
        or "Cf" in map(unicodedata.category, before + after)
        or (before in _BEFORE_CONSONANT or after in _AFTER_LETTER)
    )


_BEFORE_CONSONANT = "เแโใไເແໂໃໄ"
_AFTER_LETTER = "ะาำๅๆฯະາຳໆຯーっゃゅょぁぃぅぇぉッャュョァィゥェォ々ゝヽ"


def _best_place(parts: Sequence[Word], places: Sequence[int], start: int, end: int) -> int:
    """Among the places in the middle half (if none, all) the longest silence; among equal ones that
    next to the middle."""
    start_s, end_s = parts[start].start_s, parts[end - 1].end_s
    middle_s, quarter_s = (start_s + end_s) / 2, (end_s - start_s) / 4

    def distance_s(k: int) -> float:
        return abs((parts[k - 1].end_s + parts[k].start_s) / 2 - middle_s)

    def silence_s(k: int) -> float:
        return round(parts[k].start_s - parts[k - 1].end_s, 3)

    central = [k for k in places if distance_s(k) <= quarter_s]
    if not central:
        return min(places, key=lambda k: (distance_s(k), abs(2 * k - start - end)))
    return min(central, key=lambda k: (-silence_s(k), distance_s(k), abs(2 * k - start - end)))


def words_confidence(words: Sequence[Word]) -> float:
    """Of at least one word: the mean of calibrated confidences, which is the share of them that is
    probably right; else the geometric mean."""
    values = [word.confidence for word in words]
    if all(word.raw_confidence is not None for word in words):
        return float(np.mean(values))
    return mean_confidence(values)


def mean_confidence(values: Sequence[float]) -> float:
    """Geometric mean of at least one confidence in [0, 1]."""
    return float(np.exp(np.log(np.maximum(values, 1e-30)).mean()))
