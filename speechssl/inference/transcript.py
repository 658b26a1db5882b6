"""What was heard in a recording: phrases and words with their times."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from speechssl.decoding.align import Word

MAX_SEGMENT_S = 7.0
"""A segment longer than this is cut between two words: what a subtitle shows at once."""

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
        return " ".join(word.text for word in self.words)

    @property
    def confidence(self) -> float:
        return mean_confidence([word.confidence for word in self.words])


@dataclass(frozen=True)
class Transcript:
    """What was heard in one recording. Times are seconds of the recording."""

    audio: str
    """The recording, as the person named it."""
    duration_s: float
    segments: tuple[Segment, ...]
    confidence: float
    """In [0, 1]: the geometric mean over the words; where there is none, how sure the model is of
    that. It ranks recordings and words of one model; it is not calibrated."""
    narrow_band: bool = False
    """Nothing above 4 kHz was heard, as over a telephone, where the model hears more."""

    @property
    def text(self) -> str:
        return " ".join(segment.text for segment in self.segments)

    @property
    def words(self) -> list[Word]:
        return [word for segment in self.segments for word in segment.words]


def to_segments(words: Sequence[Word]) -> tuple[Segment, ...]:
    """Cut words into phrases at pauses, and where a phrase would be too long."""
    groups: list[list[Word]] = []
    for word in words:
        group = groups[-1] if groups else []
        paused = group and word.start_s - group[-1].end_s >= PAUSE_S
        if not group or paused or word.end_s - group[0].start_s > MAX_SEGMENT_S:
            groups.append([word])
        else:
            group.append(word)
    return tuple(Segment(tuple(group)) for group in groups)


def mean_confidence(values: Sequence[float]) -> float:
    """Geometric mean of at least one confidence in [0, 1]."""
    return float(np.exp(np.log(np.maximum(values, 1e-30)).mean()))
