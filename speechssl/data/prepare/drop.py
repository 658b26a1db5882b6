"""Which recordings cannot be used, and why."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from speechssl.data.layouts import Recording
from speechssl.data.prepare.config import PrepareConfig
from speechssl.data.prepare.inspection import Inspection
from speechssl.data.prepare.transcripts import clean_text, ctc_frames, ctc_frames_needed

LEAST_PEAK = 2 / 32768
"""Speech below this (-84 dBFS) is lost in the 16 bits of the wave cache."""

SPEECH_SPREAD_DB = 15.0
"""Loud frames of speech are further above its quiet ones than this; steady noise is within 2 dB."""


@dataclass(frozen=True)
class Dropped:
    """A recording that is in no manifest, and why."""

    id: str
    audio: Path
    reason: str

    @property
    def category(self) -> str:
        """The reason without its particulars: what the summary counts."""
        return self.reason.split(":")[0]


def reason_to_drop(record: Recording, seen: Inspection, config: PrepareConfig) -> str | None:
    if seen.error is not None:
        return seen.error
    text = None if record.text is None else clean_text(record.text)
    peak_dbfs = 20 * np.log10(max(seen.peak, 1e-9))
    if seen.duration_s < config.min_duration_s:
        return f"too short: {seen.duration_s:.3f} s, at least {config.min_duration_s} s are needed"
    if peak_dbfs < config.silence_dbfs and seen.spread_db < SPEECH_SPREAD_DB:
        level = "all samples are zero" if seen.peak == 0 else f"the peak is {peak_dbfs:.0f} dBFS"
        return f"silent: {level}"
    if seen.peak < LEAST_PEAK:
        return f"too quiet: the peak is {peak_dbfs:.0f} dBFS; raise its volume before"
    if seen.clipped_share > config.max_clipped_share:
        return f"clipped: {100 * seen.clipped_share:.1f} % of the samples are at full scale"
    if text is not None and seen.duration_s > config.max_labeled_duration_s:
        return (
            f"too long: {seen.duration_s:.1f} s with a transcript, at most "
            f"{config.max_labeled_duration_s} s; --align MODEL cuts it"
        )
    if text is not None and ctc_frames_needed(text) > ctc_frames(seen.duration_s):
        return (
            f"transcript too long: {len(text)} characters need {ctc_frames_needed(text)} frames of "
            f"20 ms, {seen.duration_s:.2f} s have {ctc_frames(seen.duration_s)}"
        )
    return None


def drop_duplicates(
    usable: list[tuple[Recording, Inspection]],
) -> tuple[list[tuple[Recording, Inspection]], list[Dropped]]:
    """One of each sound: first the one held out for test or dev, then one with a transcript."""
    rank = {"test": 0, "dev": 1, "train": 2, None: 3}
    order = sorted(
        range(len(usable)),
        key=lambda i: (rank[usable[i][0].split], usable[i][0].text is None, i),
    )
    first: dict[str, int] = {}
    for index in order:
        first.setdefault(usable[index][1].digest, index)
    unique, dropped = [], []
    for index, (record, seen) in enumerate(usable):
        if first[seen.digest] == index:
            unique.append((record, seen))
        else:
            original = usable[first[seen.digest]][0]
            reason = f"duplicate: the same sound as {original.id}"
            if record.text is not None and record.text != original.text:
                reason = reason.replace(":", " with another transcript:", 1)
            dropped.append(Dropped(record.id, record.audio, reason))
    return unique, dropped


def categories(dropped: list[Dropped]) -> dict[str, int]:
    return dict(sorted(Counter(item.category for item in dropped).items()))
