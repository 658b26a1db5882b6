"""Formats of one line a segment or word: Audacity's labels, CTM and STM of NIST."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from speechssl.annotations.parts import Annotations, Media, Segment, Tier, one_line
from speechssl.text.encodings import decode

_LABEL = re.compile(r"(\d+(?:[.,]\d+)?)\t(\d+(?:[.,]\d+)?)(?:\t(.*))?")
_FREQUENCIES = re.compile(r"\\\t")
"""How the second line of a label begins, which has its range of frequencies."""

PAUSE_S = 0.6
"""Words of a CTM this far apart are in two segments."""

MAX_SEGMENT_S = 15.0
"""Words of a CTM that go on for longer are cut at the longest pause between them."""


def are_labels(text: str) -> bool:
    """Whether a text is Audacity's labels: each line two times and a label, with tabs between."""
    lines = [line for line in text.split("\n") if line.strip() and not _FREQUENCIES.match(line)]
    return bool(lines) and all(_LABEL.fullmatch(line.rstrip("\r")) for line in lines)


def read_labels(path: Path) -> Annotations:
    """Audacity's labels as one tier; a label without a duration (a point) has no segment.

    Raises ValueError that names the first line that is none.
    """
    segments: list[Segment] = []
    for number, line in enumerate(decode(path.read_bytes(), path).split("\n"), 1):
        if not line.strip() or _FREQUENCIES.match(line):
            continue
        match = _LABEL.fullmatch(line)
        if match is None:
            raise ValueError(
                f"{path}, line {number}: {line[:60]!r} is no label of Audacity, which is a start, "
                "an end and a text with tabs between."
            )
        start_s, end_s = (float(match[k].replace(",", ".")) for k in (1, 2))
        if start_s < end_s:
            segments.append(Segment(start_s, end_s, one_line(match[3] or "")))
    segments.sort(key=lambda s: (s.start_s, s.end_s))
    return Annotations((Tier("labels", tuple(segments)),))


def read_ctm(path: Path) -> list[Annotations]:
    """One for each recording that a CTM names (``media``): words joined to segments at pauses.

    Raises ValueError that names the first line that is none of a CTM.
    """
    words: dict[tuple[str, str], list[Segment]] = {}
    for number, fields in _fields(path):
        times = _times(fields[2:4]) if len(fields) >= 5 else None
        if times is None:
            raise ValueError(
                f"{path}, line {number}: {' '.join(fields)[:60]!r} is no line of a CTM: recording, "
                "channel, start, duration, word."
            )
        start_s, duration_s = times
        word = Segment(start_s, round(start_s + duration_s, 6), fields[4])
        words.setdefault((fields[0], fields[1]), []).append(word)
    return _by_recording({key: join_words(found) for key, found in words.items()})


def read_stm(path: Path) -> list[Annotations]:
    """One for each recording that an STM names, with its speakers.

    Raises ValueError that names the first line that is none of an STM.
    """
    found: dict[tuple[str, str], list[Segment]] = {}
    for number, fields in _fields(path):
        times = _times(fields[3:5]) if len(fields) >= 5 else None
        if times is None or times[0] > times[1]:
            raise ValueError(
                f"{path}, line {number}: {' '.join(fields)[:60]!r} is no line of an STM: "
                "recording, channel, speaker, start, end, text."
            )
        text = fields[5:]
        if text and re.fullmatch(r"<[^<>\s]*>", text[0]):  # <o,f0,male>
            text = text[1:]
        said = " ".join(text)
        said = "" if said == "ignore_time_segment_in_scoring" else said
        key = (fields[0], fields[1])
        found.setdefault(key, []).append(Segment(*times, said, speaker=fields[2]))
    return _by_recording({key: sorted(s, key=lambda x: x.start_s) for key, s in found.items()})


def _fields(path: Path) -> Iterator[tuple[int, list[str]]]:
    for number, line in enumerate(decode(path.read_bytes(), path).split("\n"), 1):
        if line.strip() and not line.startswith(";;"):
            yield number, line.split()


def _times(fields: Sequence[str]) -> tuple[float, float] | None:
    try:
        first, second = (float(field) for field in fields)
    except ValueError:
        return None
    return (first, second) if 0 <= first < 1e9 and 0 <= second < 1e9 else None


def _by_recording(found: dict[tuple[str, str], list[Segment]]) -> list[Annotations]:
    """A tier for each channel of a recording."""
    tiers: dict[str, list[Tier]] = {}
    for (recording, channel), segments in found.items():
        tiers.setdefault(recording, []).append(Tier(channel, tuple(segments), kind="channel"))
    return [Annotations(tuple(own), (Media((name,)),)) for name, own in tiers.items()]


def join_words(words: Sequence[Segment]) -> list[Segment]:
    """Words with times as segments: cut at pauses of PAUSE_S, and what is longer than MAX_SEGMENT_S
    at its longest pauses."""
    ordered = sorted(words, key=lambda word: (word.start_s, word.end_s))
    groups: list[list[Segment]] = []
    for word in ordered:
        if groups and word.start_s - groups[-1][-1].end_s < PAUSE_S:
            groups[-1].append(word)
        else:
            groups.append([word])
    made = [part for group in groups for part in _short(group)]
    return [
        Segment(
            part[0].start_s,
            max(word.end_s for word in part),
            " ".join(word.text for word in part),
            words=tuple(part),
        )
        for part in made
        if part[0].start_s < max(word.end_s for word in part)
    ]


def _short(words: list[Segment]) -> list[list[Segment]]:
    """The words of a segment in parts of at most MAX_SEGMENT_S, in order."""
    done: list[list[Segment]] = []
    todo = [words]
    while todo:
        part = todo.pop()
        if len(part) < 2 or part[-1].end_s - part[0].start_s <= MAX_SEGMENT_S:
            done.append(part)
            continue
        middle = len(part) / 2
        pauses = [(part[k].start_s - part[k - 1].end_s, k) for k in range(1, len(part))]
        _, at = max(pauses, key=lambda pause: (round(pause[0], 3), -abs(pause[1] - middle)))
        todo += [part[at:], part[:at]]
    return done
