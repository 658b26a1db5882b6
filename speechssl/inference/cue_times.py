"""When each subtitle is shown: as its words are said, and long enough to be read.

Times are whole milliseconds. What always holds: a cue lasts a frame at least and `max_ms` at most,
begins after the one before has ended, `gap_ms` later, and lies in the recording (unless its words
have no room there). What holds where there is room for it: the time that a cue needs to be read.
For that it may end later than its words, begin up to `delay_ms` later where speech is too fast to
be read, and begin earlier where nothing else is shown.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Spoken:
    """What a cue shows."""

    start_ms: int
    end_ms: int
    """Of its words; they rise from cue to cue."""
    needed_ms: int
    """To be read."""


@dataclass(frozen=True, slots=True)
class TimeRules:
    """See the head of this file."""

    frame_ms: int
    gap_ms: int
    chain_ms: int
    """A shorter pause between two cues becomes the gap: it would only flicker."""
    max_ms: int
    delay_ms: int
    lead_ms: int


def ms(seconds: float) -> int:
    """Whole milliseconds, downwards (a thousandth of one is rounding noise)."""
    return math.floor(seconds * 1000 + 1e-3)


def cue_times(cues: Sequence[Spoken], duration_ms: int, rules: TimeRules) -> list[tuple[int, int]]:
    """(start, end) of each cue in milliseconds, in a recording of `duration_ms`."""
    latest = _latest_starts(cues, duration_ms, rules)
    times: list[tuple[int, int]] = []
    free = 0
    for i, cue in enumerate(cues):
        start = max(cue.start_ms, free)
        is_last = i == len(cues) - 1
        end = cue.end_ms if is_last else min(cue.end_ms, cues[i + 1].start_ms - rules.gap_ms)
        end = max(end, start + cue.needed_ms)
        end = min(
            end, start + rules.max_ms, duration_ms if is_last else latest[i + 1] - rules.gap_ms
        )
        end = max(end, start + rules.frame_ms)
        times.append((start, end))
        free = end + rules.gap_ms
    return _chained(_led(times, cues, rules), rules)


def _latest_starts(cues: Sequence[Spoken], duration_ms: int, rules: TimeRules) -> list[int]:
    """How late each cue may begin: `delay_ms` late at most, and so that it and all that follow have
    the time they need; but as its words begin where that is not possible."""
    latest = [0] * len(cues)
    following = duration_ms + rules.gap_ms
    for i in reversed(range(len(cues))):
        cue = cues[i]
        possible = min(cue.start_ms + rules.delay_ms, following - rules.gap_ms - cue.needed_ms)
        latest[i] = following = max(cue.start_ms, possible)
    return latest


def _led(
    times: Sequence[tuple[int, int]], cues: Sequence[Spoken], rules: TimeRules
) -> list[tuple[int, int]]:
    """Cues that are too short begin earlier, into the pause before them; the last one, behind which
    the recording ends, as much as it needs."""
    found: list[tuple[int, int]] = []
    for i, ((start, end), cue) in enumerate(zip(times, cues, strict=True)):
        if end - start < cue.needed_ms:
            free = found[-1][1] + rules.gap_ms if found else 0
            lead = rules.delay_ms if i == len(cues) - 1 else rules.lead_ms
            start = min(start, max(end - cue.needed_ms, free, cue.start_ms - lead))
        found.append((start, end))
    return found


def _chained(times: Sequence[tuple[int, int]], rules: TimeRules) -> list[tuple[int, int]]:
    """Pauses that are shorter than `chain_ms` become the gap."""
    found = list(times)
    for i in range(len(times) - 1):
        (start, end), (following, _) = times[i], times[i + 1]
        if following - end < rules.chain_ms:
            found[i] = (start, min(following - rules.gap_ms, start + rules.max_ms))
    return found
