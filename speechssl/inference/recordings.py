"""What a model is given to hear: recordings found, streamed, and cut into chunks at quiet places.

Memory is bounded by the longest chunk, however long a recording is. Shapes: S samples, C channels.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from speechssl import audio

MAX_CHUNK_S = 30.0
"""A recording up to this long is heard whole; a longer one in chunks of half of it to all of it."""

SPARE_S = 1.0
"""No chunk of a long recording is shorter than this."""

SMOOTHING_S = 0.2
"""A cut is made where the energy over this time is least."""


@dataclass(frozen=True)
class Clip:
    """A recording, or a part of one, that is to be heard."""

    name: str
    """As the person gave it: what messages and results show."""
    source: Path | bytes | np.ndarray
    """A file, a whole file in memory (standard input), or a wave (S,) at the model's rate."""
    start_s: float = 0.0
    duration_s: float | None = None
    """None: to the end."""
    folder: Path | None = None
    """The folder it was found in, when a folder was given."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A stretch of a clip."""

    wave: np.ndarray
    """(S,) float32 in [-1, 1] at the model's rate."""
    start: int
    """Its first sample in the clip, at the model's rate."""

    @property
    def end(self) -> int:
        return self.start + len(self.wave)


def as_clip(source: str | Path | np.ndarray) -> Clip:
    """A whole file, or a wave (S,) float32 at the model's rate; ValueError for another shape."""
    if not isinstance(source, np.ndarray):
        return Clip(str(source), Path(source))
    if source.ndim != 1:
        raise ValueError(f"A wave must have the shape (samples,), got {source.shape}.")
    return Clip("wave", source)


def find_clips(places: Sequence[str], stdin: bytes = b"") -> list[Clip]:
    """Files, and the recordings of folders, in the order given; ``-`` stands for `stdin`.

    Raises FileNotFoundError for what does not exist, and ValueError for a folder without
    recordings, before any of them is opened.
    """
    clips = []
    for place in places:
        path = Path(place)
        if place == "-":
            clips.append(Clip("-", stdin))
        elif path.is_dir():
            found = audio.list_audio(path)
            if not found:
                raise ValueError(f"There is no recording in the folder {place}.")
            clips += [Clip(str(each), each, folder=path) for each in found]
        elif path.exists():
            clips.append(Clip(place, path))
        else:
            raise FileNotFoundError(f"No such recording or folder: {place}.")
    return clips


def output_names(clips: Sequence[Clip], *, beside: str = "") -> list[str]:
    """A name for each clip's results, without suffix: different ones for different clips.

    The file's name, below the folder that was given (``sub/x`` for ``folder/sub/x.wav``); with its
    suffix where two files differ in nothing else, and with a number where not even in that.
    No name is another's with `beside`, the ending of what is written beside each result.
    """
    stems, names = [], []
    for clip in clips:
        path = clip.source if isinstance(clip.source, Path) else Path("stdin")
        path = path.relative_to(clip.folder) if clip.folder else Path(path.name)
        stems.append(path.with_suffix("").as_posix())
        names.append(path.as_posix())
    chosen: list[str] = []
    taken: set[str] = set()
    count = Counter(stems)
    tried: Counter[str] = Counter()
    for stem, full in zip(stems, names, strict=True):
        name = base = stem if count[stem] == 1 else full
        while {name, name + beside} & taken:
            tried[base] += 1
            name = f"{base}-{tried[base] + 1}"
        taken |= {name, name + beside}
        chosen.append(name)
    return chosen


def chunks(
    clip: Clip, sample_rate: int, *, grid: int, max_chunk_s: float = MAX_CHUNK_S
) -> Iterator[Chunk]:
    """Hear `clip` in chunks that follow each other without a gap; at least one.

    Cuts lie on multiples of `grid` samples (the model's hop, so that frames stay on one grid).
    Errors are those of :func:`speechssl.audio.read`.
    """
    most = max(int(max_chunk_s * sample_rate) // grid, 4) * grid
    spare = min(int(SPARE_S * sample_rate), most // 4)
    smoothing = int(SMOOTHING_S * sample_rate)
    rest, start = np.zeros(0, np.float32), 0
    for block in stream(clip, sample_rate):
        rest = np.concatenate([rest, block])
        while len(rest) >= most + spare:
            end = audio.quiet_place(rest, most // 2, most, grid, smoothing)
            yield Chunk(rest[:end], start)
            rest, start = rest[end:], start + end
    if len(rest) > most:
        end = audio.quiet_place(rest, most // 2, len(rest) - spare, grid, smoothing)
        yield Chunk(rest[:end], start)
        rest, start = rest[end:], start + end
    yield Chunk(rest, start)


def stream(clip: Clip, sample_rate: int) -> Iterator[np.ndarray]:
    """Blocks (S,) float32 in [-1, 1] that together are what :func:`speechssl.audio.read` gives."""
    if isinstance(clip.source, np.ndarray):
        yield np.asarray(clip.source, dtype=np.float32)
        return
    if isinstance(clip.source, bytes):
        yield audio.read_bytes(clip.source, "standard input", sample_rate=sample_rate)
        return
    info, blocks = audio.stream(clip.source, start_s=clip.start_s, duration_s=clip.duration_s)
    mono: Iterator[np.ndarray] = map(audio.mix, blocks)
    if info.sample_rate != sample_rate:
        mono = audio.resampled(mono, info.sample_rate, sample_rate)
    for block in mono:
        yield np.clip(block, -1.0, 1.0)
