"""What a model is given: recordings found, streamed, and cut into chunks at quiet places.

Memory is bounded by the longest chunk, however long a recording is. Shapes: S samples, C channels.
"""

import os
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from speechssl import audio
from speechssl.inference.standard_input import NAME
from speechssl.system import file_name

MAX_CHUNK_S = 30.0
"""A recording up to this long is one input; a longer one in chunks of half of it to all of it."""

SPARE_S = 1.0
"""No chunk of a long recording is shorter than this."""

SMOOTHING_S = 0.2
"""A cut is made where the energy over this time is least."""


@dataclass(frozen=True)
class Clip:
    """A recording, or a part of one, that a model is to be given."""

    name: str
    """As the person gave it: what messages and results show."""
    source: Path | bytes | np.ndarray
    """A file, a whole file in memory (short standard input), or a wave at the model's rate in one
    of the forms of :func:`speechssl.audio.as_wave`."""
    start_s: float = 0.0
    duration_s: float | None = None
    """None: to the end."""
    folder: Path | None = None
    """The folder it was found in, when a folder was given."""
    channel: int | None = None
    """The one to take, from 0; None: all of them, mixed."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A stretch of a clip."""

    wave: np.ndarray
    """(S,) float32 in [-1, 1] at the model's rate."""
    start: int
    """Its first own sample in the clip, at the model's rate."""
    ahead: int = 0
    """Samples at the end of `wave` that belong to the next chunk."""
    before: int = 0
    """Samples at the beginning of `wave` that belong to the chunk before: above 0 where that one
    goes on in this one."""
    goes_on: bool = False
    """Whether the speech goes on in the next chunk: there is no pause between them."""

    @property
    def end(self) -> int:
        return self.start + len(self.wave) - self.before - self.ahead

    @property
    def own(self) -> np.ndarray:
        """(S,) the samples that are of no other chunk."""
        return self.wave[self.before : len(self.wave) - self.ahead]

    @property
    def is_alone(self) -> bool:
        """Whether there is a pause, or an end, on both sides."""
        return not self.before and not self.goes_on


def as_clip(source: str | Path | np.ndarray) -> Clip:
    """A whole file, or a wave at the model's rate; AudioError for an array that is no wave."""
    if not isinstance(source, str | os.PathLike | np.ndarray):
        raise TypeError(
            "A recording is the path of a file or a NumPy array of samples, and not "
            f"{type(source).__name__}: make an array of samples with numpy.asarray."
        )
    if not isinstance(source, np.ndarray):
        return Clip(str(source), Path(source))
    audio.as_wave(source)
    return Clip("wave", source)


def find_clips(places: Sequence[str], stdin: bytes | Path = b"") -> list[Clip]:
    """Files, and the recordings of folders, in the order given; ``-`` stands for `stdin`
    (:func:`speechssl.inference.standard_input.standard_input`).

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


def split_channels(clip: Clip) -> list[Clip]:
    """A clip for each channel of a recording; the clip itself where it has only one, or cannot be
    read, which is said where it is to be."""
    try:
        if isinstance(clip.source, bytes):
            info, blocks = audio.stream_bytes(clip.source, "standard input")
            blocks.close()
        else:
            info = audio.probe(Path(str(clip.source)))
    except (audio.AudioError, OSError):
        return [clip]
    if info.channels == 1:
        return [clip]
    return [replace(clip, channel=channel) for channel in range(info.channels)]


def output_names(clips: Sequence[Clip], *, beside: str = "") -> list[str]:
    """A name for each clip's results, without suffix: different ones for different clips.

    The file's name, below the folder that was given (``sub/x`` for ``folder/sub/x.wav``). Where
    several would have the same, with their suffixes if these differ (``x.wav``, ``x.flac``), else
    below as many of their folders as tell them apart (``a/x`` and ``b/x``); a recording that is
    given twice gets a number, and so does one that differs only by upper and lower case or the
    Unicode form, which are one on Windows and macOS. No name is another's with `beside`, the ending
    of what is written beside each result.
    """
    paths = [_parts(clip) for clip in clips]
    names = [_name(path, depth, suffix=False) for path, depth in paths]
    groups: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        groups.setdefault(name, []).append(index)
    for members in groups.values():
        if len(members) > 1:
            distinct = _distinct_names([paths[index] for index in members])
            for index, name in zip(members, distinct, strict=True):
                names[index] = name
    taken: set[str] = set()
    tried: Counter[str] = Counter()
    for index, base in enumerate(map(file_name, names)):
        key = first = _as_one(base)
        while key in taken or key + beside in taken:
            tried[first] += 1
            key = f"{first}-{tried[first] + 1}"
        taken |= {key, key + beside}
        names[index] = base + key.removeprefix(first)
    return names


def _as_one(name: str) -> str:
    """The same for names that are one file on some system."""
    return name.lower() if name.isascii() else unicodedata.normalize("NFC", name).casefold()


def _parts(clip: Clip) -> tuple[tuple[str, ...], int]:
    """Where a clip lies, and how many of the last parts of that are its name."""
    if not isinstance(clip.source, Path) or clip.name == "-":
        return ("stdin",), 1
    path = tuple(os.path.abspath(clip.source).split(os.sep)[1:])
    return path, len(clip.source.relative_to(clip.folder).parts) if clip.folder else 1


def _name(path: tuple[str, ...], depth: int, *, suffix: bool) -> str:
    name = "/".join(path[-depth:])
    return name if suffix else os.path.splitext(name)[0]


def _distinct_names(paths: Sequence[tuple[tuple[str, ...], int]]) -> list[str]:
    """Names that differ where the paths do, of as few folders as possible."""
    num_paths = len({path for path, _ in paths})
    for more in range(max(len(path) for path, _ in paths) + 1):
        for suffix in (False, True):
            names = [_name(path, depth + more, suffix=suffix) for path, depth in paths]
            if len(set(names)) == num_paths:
                return names
    raise AssertionError("different paths have different names")


def chunks(
    clip: Clip,
    sample_rate: int,
    *,
    grid: int,
    max_chunk_s: float = MAX_CHUNK_S,
    ahead: int = 0,
    context: int = 0,
    notes: list[str] | None = None,
) -> Iterator[Chunk]:
    """Read `clip` in chunks that follow each other without a gap; at least one.

    A cut is made at the quietest moment of the second half of `max_chunk_s`. Where that is no pause
    (:func:`speechssl.audio.is_pause`) and there is a `context`, windows overlap instead: the cut
    lies in the middle of what both chunks have.

    Args:
        clip: the recording.
        sample_rate: of the chunks, Hz.
        grid: cuts lie on multiples of so many samples (the model's hop, so that frames stay on one
            grid).
        max_chunk_s: longest chunk.
        ahead: samples that each chunk but the last has of the next one. With as many as a frame has
            beyond its hop, the chunks have as many frames as the whole.
        context: samples that each of two chunks has of the other where no pause is between them, a
            multiple of `grid`; at most a quarter of the longest chunk.
        notes: gets the sentences of :attr:`speechssl.audio.Blocks.notes`.

    Errors are those of :func:`speechssl.audio.read`.
    """
    most = max(int(max_chunk_s * sample_rate) // grid, 4) * grid
    spare = max(min(int(SPARE_S * sample_rate), most // 4), min(ahead + grid, 2 * grid))
    smoothing = int(SMOOTHING_S * sample_rate)
    context = min(context, most // 4 // grid * grid)
    rest, start, before = np.zeros(0, np.float32), 0, 0
    blocks = stream(clip, sample_rate, notes)
    while True:
        block = next(blocks, None)
        if block is not None:
            rest = np.concatenate([rest, block])
        while len(rest) >= most + spare if block is not None else len(rest) > most:
            last = min(most, len(rest) - spare)
            end = audio.quiet_place(rest, most // 2, last, grid, smoothing)
            if not context or audio.is_pause(rest, end, most // 2, last, smoothing):
                chunk = Chunk(rest[: end + ahead], start, ahead, before)
                shared = 0
            else:
                chunk = Chunk(rest[:most], start, context, before, goes_on=True)
                end, shared = most - context, context
            yield chunk
            rest, start, before = rest[end - shared :], chunk.end, shared
        if block is None:
            yield Chunk(rest, start, before=before)
            return


def stream(clip: Clip, sample_rate: int, notes: list[str] | None = None) -> Iterator[np.ndarray]:
    """Blocks (S,) float32 in [-1, 1] that together are what :func:`speechssl.audio.read` gives;
    what that warns of is added to `notes`."""
    notes = [] if notes is None else notes
    if isinstance(clip.source, np.ndarray):
        wave, said = audio.as_wave(clip.source, clip.name)
        notes += said
        yield wave
        return
    try:
        if isinstance(clip.source, bytes):
            info, blocks = audio.stream_bytes(clip.source, NAME)
        else:
            info, blocks = audio.stream(
                clip.source, start_s=clip.start_s, duration_s=clip.duration_s
            )
        mono = blocks.mono() if clip.channel is None else blocks.channel(clip.channel)
        if info.sample_rate != sample_rate:
            mono = audio.resampled(mono, info.sample_rate, sample_rate)
        for block in mono:
            yield np.clip(block, -1.0, 1.0)
    except audio.AudioError as error:
        raise audio.AudioError(_named(str(error), clip)) from error
    notes += [_named(note, clip) for note in blocks.notes]


def _named(sentence: str, clip: Clip) -> str:
    """A sentence about a recording, which for standard input does not name a temporary file."""
    if clip.name != "-" or not isinstance(clip.source, Path):
        return sentence
    return sentence.replace(str(clip.source), NAME)
