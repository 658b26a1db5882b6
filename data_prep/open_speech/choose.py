"""Which crops are taken: at most so many hours of a source, and some speakers held out."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from data_prep.open_speech.clip import Source
from speechssl.rng import rng

Row = dict[str, Any]
"""A crop, as :mod:`jobs` writes it down."""

DEV_SHARE = 0.05
LARGEST_SHARE = 0.3
"""A speaker with more of a source's hours is not held out."""
FEWEST_SPEAKERS = 4
"""Of a source of which some are held out."""


def capped(rows: Sequence[Row], cap_h: float | None, seed: int, name: str) -> list[Row]:
    """Crops of `cap_h` hours at most, in their order: by turns one of each speaker, drawn."""
    if cap_h is None or _hours(rows) <= cap_h:
        return list(rows)
    generator = rng(seed, "cap", name)
    speakers: dict[str, list[int]] = defaultdict(list)
    for i in generator.permutation(len(rows)):
        speakers[_speaker(rows[i])].append(int(i))
    turns = sorted(
        (turn, speaker, i) for speaker, own in speakers.items() for turn, i in enumerate(own)
    )
    taken, left_s = set(), cap_h * 3600
    for _, _, i in turns:
        if rows[i]["duration_s"] <= left_s:
            taken.add(i)
            left_s -= rows[i]["duration_s"]
    return [row for i, row in enumerate(rows) if i in taken]


def held_out(rows: Sequence[Row], source: Source, seed: int) -> set[str]:
    """Speakers of a source for dev: drawn until they have DEV_SHARE of its hours; none where the
    source has too few, or does not say well enough who speaks."""
    seconds: dict[str, float] = defaultdict(float)
    for row in rows:
        if row["speaker"] is not None:
            seconds[row["speaker"]] += row["duration_s"]
    total = sum(seconds.values())
    if not source.held_out or len(seconds) < FEWEST_SPEAKERS:
        return set()
    names = sorted(seconds)
    chosen: set[str] = set()
    for i in rng(seed, "dev", source.name).permutation(len(names)):
        if sum(seconds[name] for name in chosen) >= DEV_SHARE * total:
            break
        if seconds[names[i]] <= LARGEST_SHARE * total:
            chosen.add(names[i])
    return chosen


def _speaker(row: Row) -> str:
    return row["speaker"] or row["id"]


def _hours(rows: Sequence[Row]) -> float:
    return sum(row["duration_s"] for row in rows) / 3600
