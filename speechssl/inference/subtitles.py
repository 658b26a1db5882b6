"""Subtitles: the words of a transcript as cues of few short lines that can be read in their time.

Words are put into cues by dynamic programming over all places where a cue may end: at the end of a
sentence rather than behind a comma, there rather than at a pause, there rather than anywhere; as
few cues as possible, each with the time that it needs. Lines are broken in the same way. Lengths
are characters as a person counts them (:mod:`speechssl.text.graphemes`).
"""

import math
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from speechssl.decoding.align import Word
from speechssl.inference.cue_times import Spoken, TimeRules, cue_times, ms
from speechssl.inference.transcript import PAUSE_S, Transcript, break_places
from speechssl.spelling import is_blank
from speechssl.text.graphemes import graphemes, width

_CHAIN_FRAMES = 12
_LEAD_S = 0.5


@dataclass(frozen=True)
class SubtitleConfig:
    """What a cue may be; the defaults are those of Netflix's guide for adults (Timed Text Style
    Guide, General Requirements 1, 3, 5, and its English template, 2 and 5)."""

    lines: int = 2
    """At most."""
    characters: int = 42
    """Of a line, at most; wide letters of East Asia count twice."""
    speed: float = 17.0
    """Characters that are read in a second, at most."""
    min_s: float = 5 / 6
    max_s: float = 7.0
    gap_frames: int = 2
    """Between two cues, at least."""
    fps: float = 24.0
    """Frames a second of the picture."""
    delay_s: float = 3.0
    """How long after its words a cue may begin, where they are too fast to be read."""

    def __post_init__(self) -> None:
        """Raises ValueError for what no cue can be."""
        for name, low, high in _LIMITS:
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(
                    f"subtitle {name} must be from {low:g} to {high:g}, got {value:g}."
                )
        if not self.min_s <= self.max_s:
            raise ValueError(
                f"subtitle min_s must not be above max_s, got {self.min_s:g} and {self.max_s:g}."
            )

    @property
    def most_characters(self) -> int:
        """Of a cue: what its lines hold, and what is read in its longest time."""
        return min(self.lines * self.characters, max(int(self.speed * self.max_s), 2))

    def needed_ms(self, num_characters: int) -> int:
        """How long a cue must be shown."""
        read_ms = math.ceil(1000 * num_characters / self.speed)
        return min(max(math.ceil(1000 * self.min_s), read_ms), int(1000 * self.max_s))


_LIMITS = (
    ("lines", 1, 10),
    ("characters", 2, 1000),
    ("speed", 1, 1000),
    ("min_s", 0, 60),
    ("max_s", 0.5, 3600),
    ("gap_frames", 0, 100),
    ("fps", 1, 1000),
    ("delay_s", 0, 60),
)

PROFILES = {
    "adults": SubtitleConfig(),
    "children": SubtitleConfig(speed=13.0),
    "teletext": SubtitleConfig(characters=37, fps=25.0),
}
"""By name: Netflix's for adults and for children, and with the lines of teletext."""


@dataclass(frozen=True)
class Cue:
    """One subtitle."""

    start_ms: int
    end_ms: int
    lines: tuple[str, ...]
    """At least one, none empty."""
    needed_ms: int
    """How long it should be shown; it is shown for less where speech leaves no room."""

    @property
    def is_rushed(self) -> bool:
        """Shown for less than it should be."""
        return self.end_ms - self.start_ms < self.needed_ms


@dataclass(frozen=True, slots=True)
class _Atom:
    """What is never cut: a word, or a piece of one that is longer than a line."""

    text: str
    start_ms: int
    end_ms: int
    joined: bool
    """No space before it."""
    width: int

    def after(self, used: int) -> int:
        """The width of a line of width `used` that goes on with it."""
        return used + self.width + (used > 0 and not self.joined)


def to_cues(
    transcript: Transcript,
    config: SubtitleConfig = PROFILES["adults"],
    *,
    keep_segments: bool = False,
) -> list[Cue]:
    """The cues of a transcript: every word is in one, in order; none is empty, none overlaps.

    With `keep_segments` none holds words of two segments.
    """
    atoms: list[_Atom] = []
    ends: list[int] = []
    parts = [s.words for s in transcript.segments] if keep_segments else [transcript.words]
    for words in parts:
        own = _atoms(words, config, atoms[-1] if atoms else None)
        ends += [len(atoms) + end for end in _cue_ends(own, config)]
        atoms += own
    groups = [atoms[start:end] for start, end in pairwise([0, *ends])]
    lines = [_lines(group, config) for group in groups]
    needed = [config.needed_ms(_width(group)) for group in groups]
    spoken = [
        Spoken(group[0].start_ms, group[-1].end_ms, need)
        for group, need in zip(groups, needed, strict=True)
    ]
    times = cue_times(spoken, ms(transcript.duration_s), _rules(config))
    return [
        Cue(start, end, text, need)
        for (start, end), text, need in zip(times, lines, needed, strict=True)
    ]


def _rules(config: SubtitleConfig) -> TimeRules:
    frame_s = 1 / config.fps
    return TimeRules(
        frame_ms=math.ceil(1000 * frame_s),
        gap_ms=math.ceil(1000 * config.gap_frames * frame_s),
        chain_ms=math.floor(1000 * _CHAIN_FRAMES * frame_s),
        max_ms=int(1000 * config.max_s),
        delay_ms=int(1000 * config.delay_s),
        lead_ms=int(1000 * _LEAD_S),
    )


# --- atoms ----------------------------------------------------------------------------------------


def _atoms(words: Sequence[Word], config: SubtitleConfig, before: _Atom | None) -> list[_Atom]:
    """The words behind `before` whole, except those that fill more than a line; times rise."""
    most = min(config.characters, config.most_characters)
    atoms: list[_Atom] = []
    for word in words:
        text = " ".join(word.text.split())
        if is_blank(text):
            continue
        whole = (text, word.start_s, word.end_s)
        pieces = [whole] if width(text) <= most else _pieces(replace(word, text=text))
        for number, (piece, start_s, end_s) in enumerate(pieces):
            start = max(ms(start_s), before.start_ms if before else 0)
            end = max(ms(end_s), start)
            joined = before is not None and (word.joined or number > 0)
            before = _Atom(piece, start, end, joined, width(piece))
            atoms.append(before)
    return atoms


def _pieces(word: Word) -> list[tuple[str, float, float]]:
    """(text, start, end) of what of a long word stays together: its tokens where these are known,
    none of which begins within a character; else its characters, evenly in time."""
    if "".join(part.text for part in word.parts) == word.text:
        bounds = [0, *break_places(word.parts), len(word.parts)]
        groups = [word.parts[a:b] for a, b in pairwise(bounds) if a < b]
        texts = ["".join(part.text for part in group) for group in groups]
        if graphemes(word.text) == [c for text in texts for c in graphemes(text)]:
            return [
                piece
                for text, group in zip(texts, groups, strict=True)
                for piece in _evenly(text, group[0].start_s, group[-1].end_s)
            ]
    return _evenly(word.text, word.start_s, word.end_s)


def _evenly(text: str, start_s: float, end_s: float) -> list[tuple[str, float, float]]:
    clusters = graphemes(text)
    step = (end_s - start_s) / len(clusters)
    return [(c, start_s + i * step, start_s + (i + 1) * step) for i, c in enumerate(clusters)]


# --- cues -----------------------------------------------------------------------------------------


def _cue_ends(atoms: Sequence[_Atom], config: SubtitleConfig) -> list[int]:
    """Behind which atoms cues end, so that the sum of their costs is least."""
    num = len(atoms)
    best = [0.0] + [math.inf] * num
    begins = [0] * (num + 1)
    breaks = [_break(atoms, place) for place in range(num + 1)]
    for start in range(num):
        inner = 0.0
        for end, total in _fitting(atoms, start, config):
            if end - start > 1:
                inner += 0.5 * (breaks[end - 1] < _COMMA)  # a sentence ends within
            cost = best[start] + 1.0 + inner + breaks[end]
            cost += _shortage_s(atoms, start, end, config.needed_ms(total), config)
            if cost < best[end]:
                best[end], begins[end] = cost, start
    ends = []
    while num:
        ends.append(num)
        num = begins[num]
    return ends[::-1]


def _fitting(
    atoms: Sequence[_Atom], start: int, config: SubtitleConfig
) -> Iterator[tuple[int, int]]:
    """(end, characters) of the cues that begin with atom `start`: they fit into the lines and the
    time, and no pause is within. One atom always fits."""
    yield start + 1, atoms[start].width
    lines, used, total = 1, atoms[start].width, atoms[start].width
    for end in range(start + 1, len(atoms)):
        atom = atoms[end]
        total = atom.after(total)
        if (used := atom.after(used)) > config.characters:
            lines, used = lines + 1, atom.width
        too_long = atom.end_ms - atoms[start].start_ms > 1000 * config.max_s
        if lines > config.lines or total > config.most_characters or too_long:
            break
        if _pause_s(atoms, end) >= PAUSE_S:
            break
        yield end + 1, total


_SENTENCE, _COMMA, _PLAIN, _INSIDE = 0.0, 0.3, 1.0, 2.0
"""What a break costs behind a sentence, behind a comma, elsewhere, and within a word."""


def _break(atoms: Sequence[_Atom], place: int) -> float:
    """The cost of a break before atom `place`; the end of the text is that of a sentence."""
    pause_s = _pause_s(atoms, place)
    if place == len(atoms) or pause_s >= PAUSE_S:
        return _SENTENCE
    last = atoms[place - 1].text.rstrip("\"'”’»)]}」』）")[-1:]
    if last and last in _STOPS:
        return _SENTENCE
    if last and (last in ",;:—–" or unicodedata.name(last, "").endswith(_COMMAS)):
        return _COMMA
    plain = _INSIDE if atoms[place].joined else _PLAIN
    return plain - 0.5 * min(pause_s / PAUSE_S, 1.0)


_STOPS = frozenset(".!?…。！？．｡؟۔।॥።፧፨།༎၊။៖។៕ฯ")
_COMMAS = (" COMMA", " SEMICOLON", " COLON", "IDEOGRAPHIC COMMA")


def _pause_s(atoms: Sequence[_Atom], place: int) -> float:
    """Silence before atom `place`; 0 at the ends."""
    if not 0 < place < len(atoms):
        return 0.0
    return max(atoms[place].start_ms - atoms[place - 1].end_ms, 0) / 1000


def _shortage_s(
    atoms: Sequence[_Atom], start: int, end: int, needed_ms: int, config: SubtitleConfig
) -> float:
    """Seconds that a cue would lack until the next one begins."""
    if end == len(atoms):
        return 0.0
    room = atoms[end].start_ms - atoms[start].start_ms - 1000 * config.gap_frames / config.fps
    return max(needed_ms - room, 0.0) / 1000


def _width(atoms: Sequence[_Atom]) -> int:
    """Characters of a cue: those of its lines, and one for each space where a line breaks."""
    total = 0
    for atom in atoms:
        total = atom.after(total)
    return total


# --- lines ----------------------------------------------------------------------------------------


def _lines(atoms: Sequence[_Atom], config: SubtitleConfig) -> tuple[str, ...]:
    """A cue's lines: as few as possible, broken at punctuation, about equally long."""
    num = len(atoms)
    best = [0.0] + [math.inf] * num
    begins = [0] * (num + 1)
    for start in range(num):
        used = 0
        for end in range(start + 1, num + 1):
            used = atoms[end - 1].after(used)
            if used > config.characters and end > start + 1:
                break
            cost = best[start] + _LINE + (used / config.characters) ** 2
            if end < num:
                cost += _LINE_BREAK * _break(atoms, end)
            if cost < best[end]:
                best[end], begins[end] = cost, start
    lines: list[str] = []
    while num:
        lines.append(_text(atoms[begins[num] : num]))
        num = begins[num]
    return tuple(lines[::-1])


_LINE = 10.0
_LINE_BREAK = 0.25


def _text(atoms: Sequence[_Atom]) -> str:
    return "".join(" " * (i > 0 and not a.joined) + a.text for i, a in enumerate(atoms))
