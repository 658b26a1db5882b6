"""What is known of a recording, and what can be wrong with it."""

import os
from dataclasses import dataclass
from pathlib import Path

from speechssl import shards


class AudioError(ValueError):
    """A file that cannot be used as sound; the message is one sentence that names the file."""


class AudioWarning(UserWarning):
    """Something of a recording is missing, or is not as it was recorded; the message is a sentence
    that names the file."""


@dataclass(frozen=True, slots=True)
class AudioInfo:
    """What a recording is, by its header and by what lies behind it."""

    path: Path
    sample_rate: int
    """Samples a second and channel, of the file itself."""
    num_samples: int
    """Samples of one channel that are there, whatever the header states."""
    channels: int
    format: str
    """Container as soundfile names it, e.g. ``WAV``."""
    subtype: str
    """Coding as soundfile names it, e.g. ``PCM_16``."""
    problem: str = ""
    """A sentence that names the file where sound is missing that its header states, else empty.
    What only decoding shows is in the notes of :class:`speechssl.audio.Blocks`."""

    @property
    def duration_s(self) -> float:
        return self.num_samples / self.sample_rate


def file_state(path: Path) -> tuple[int, int] | None:
    """Size and time of change; None where there is no such file."""
    try:
        stat = os.stat(shards.file_of(path))
    except OSError:
        return None
    return stat.st_size, stat.st_mtime_ns
