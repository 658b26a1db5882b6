"""What every file of annotations is turned into: tiers of segments, with the media they are of.

Times are seconds of the recording that is annotated.
"""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Segment:
    """A stretch of a recording with its text."""

    start_s: float
    end_s: float
    text: str
    """One line, without white space at its ends; empty where nothing was written."""
    speaker: str = ""
    words: tuple["Segment", ...] = ()
    """Its words with their times, where they are known."""


@dataclass(frozen=True)
class Tier:
    """Segments that belong together, in the order of their starts."""

    name: str
    segments: tuple[Segment, ...]
    kind: str = ""
    """The linguistic type of ELAN; empty where a format has none."""
    speaker: str = ""
    """The participant of ELAN."""
    language: str = ""
    parent: str = ""
    """The tier on which it depends, if it does."""

    @property
    def num_texts(self) -> int:
        """How many of the segments have a text."""
        return sum(bool(segment.text) for segment in self.segments)


@dataclass(frozen=True)
class Media:
    """A recording as a file of annotations names it."""

    places: tuple[str, ...]
    """Its paths or addresses, the more likely first."""
    origin_s: float = 0.0
    """Where in the recording the time of the annotations is zero."""


@dataclass(frozen=True)
class Unplaced:
    """An annotation that has no place in time, so that it is no segment."""

    tier: str
    id: str
    text: str
    reason: str
    """Without a full stop."""


@dataclass(frozen=True)
class Annotations:
    """All tiers of a file."""

    tiers: tuple[Tier, ...]
    media: tuple[Media, ...] = ()
    duration_s: float | None = None
    """Of the recording, where the file says it."""
    unplaced: tuple[Unplaced, ...] = field(default=(), repr=False)


def one_line(text: str) -> str:
    """A text without line breaks, tabs and repeated white space."""
    return " ".join(text.split())
