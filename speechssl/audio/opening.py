"""Opening a recording: what it holds is found in the stream, since a header may be wrong."""

import os
import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import soundfile

from speechssl import shards
from speechssl.audio import media, mpg123
from speechssl.audio.containers import Part, PartFile, Source, find_parts
from speechssl.audio.info import AudioError, AudioInfo
from speechssl.audio.sniff import NEEDED, name_content

BLOCK_SAMPLES = 1 << 18
"""Samples that are decoded at once, all channels together (16 s at 16 kHz, one channel)."""

LOSSY = {"MP3", "MPEG", "VORBIS", "OPUS", "MPEG_LAYER_I", "MPEG_LAYER_II", "MPEG_LAYER_III"}

NO_LENGTH = 1 << 62
"""soundfile's samples of a file that states none (RFC 9639, 8.2: total samples 0): the largest
64-bit number."""

MOST_S = 100 * 3600.0
"""No recording is longer. A few bytes can state or decode to any length: a FLAC of 1 MB may hold a
week of silence, one of 100 MB two years."""

Place = Path | bytes
"""A file, or what one holds."""

State = tuple[int, int, int]
"""Size, time of change and number of a file: another state is another file."""


class Decoder(soundfile.SoundFile):  # type: ignore[misc]
    """One part of a recording, whose blocks continue each other.

    After every read soundfile seeks to where it already is, and a seek resets the decoder of MP3,
    Vorbis and Opus: blocks then differ from the whole at each border. It leaves that out for files
    that cannot seek, so this one says that it cannot; `seek` works all the same.
    """

    def __init__(self, place: Place, part: Part) -> None:
        self._bytes: PartFile | None = None
        self._next: Decoder | None = None
        given: object
        if part.pieces or isinstance(place, bytes):
            source = Source(place)
            self._bytes = given = PartFile(source, part if part.pieces else _all_of(source))
        else:
            given = _soundfile_name(place)
        try:
            with mpg123.silent():
                super().__init__(given)
        except BaseException:
            self._close_bytes()
            raise
        self.container, self.coding = self.format, self.subtype  # which take a while to ask for
        self._is_mpeg = self.container in LOSSY
        self.is_lossy = self._is_mpeg or self.coding in LOSSY
        self._is_coded = self.is_lossy or self.container == "FLAC"

    def seekable(self) -> bool:
        return False

    def next_block(self, most: int) -> tuple[np.ndarray, str]:
        """Up to `most` samples (S, C) float32, none at the end, and why the next ones do not decode
        (empty: they may)."""
        try:
            if not self._is_coded:
                return self.read(most, dtype="float32", always_2d=True), ""
            out = np.full((most, self.channels), np.nan, np.float32)  # shows what was filled
            try:
                if not self._is_mpeg:
                    return self.read(out=out), ""
                with mpg123.silent():
                    return self.read(out=out), ""
            except soundfile.SoundFileError as error:
                empty = np.isnan(out[:, 0])
                return out[: int(np.argmax(empty)) if empty.any() else most], reason(error)
        except soundfile.SoundFileError as error:
            return np.zeros((0, self.channels), np.float32), reason(error)

    def go_to(self, first: int, preroll_s: float) -> None:
        """The next block begins at sample `first`; lossy coders get some sound before it."""
        if first == 0:
            return
        preroll = min(first, round(preroll_s * self.samplerate)) if self.is_lossy else 0
        with mpg123.silent():
            self.seek(first - preroll)
            if preroll:
                self.read(preroll, dtype="float32")

    def goes_on_with(self, place: Place, part: Part) -> "Decoder":
        """A decoder of another part that is closed with this one."""
        if self._next is not None:
            self._next.close()
        self._next = Decoder(place, part)
        return self._next

    def close(self) -> None:
        super().close()
        self._close_bytes()
        if self._next is not None:
            self._next.close()

    def _close_bytes(self) -> None:
        if self._bytes is not None:
            self._bytes.close()


AnyDecoder = Decoder | media.MediaDecoder


def _all_of(source: Source) -> Part:
    return Part(((0, source.size),))


def _soundfile_name(path: Path) -> str | bytes:
    """Never an integer, which soundfile takes for an open file. Bytes where a file's name is made
    of them: soundfile fails on a str that stands for bytes that are not UTF-8."""
    return os.fspath(path) if os.name == "nt" else os.fsencode(path)


def reason(error: Exception) -> str:
    """soundfile's own words without the path that it repeats."""
    text = str(getattr(error, "error_string", "") or error).strip().rstrip(".")
    return re.sub(r"^Error( opening .*?)? ?: ", "", text) or "the data is damaged"


# ---- what a file holds --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Stretch:
    """A part of a recording that decodes, and how many of its samples there are."""

    part: Part
    own_samples: int
    """Of a channel, at its own rate."""
    num_samples: int
    """At the rate of the recording, which is that of the first stretch."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A recording that can be decoded."""

    place: Place
    name: str
    """For messages."""
    info: AudioInfo
    stretches: tuple[Stretch, ...]
    decoder: AnyDecoder
    """Of the first stretch, at its start."""
    state: State | None
    """Of the file, or None for bytes in memory."""


@dataclass(frozen=True, slots=True)
class _Content:
    """What was found of a file whose header is not to be believed; `stretches` empty: it is."""

    stretches: tuple[Stretch, ...] = ()
    problem: str = ""


def open_recording(place: Place, name: str) -> Opened:
    """Open a file, a member of a shard, or the bytes of one.

    Raises FileNotFoundError for a missing file, and AudioError for what is no sound.
    """
    path = Path(name) if isinstance(place, bytes) else place
    state: State | None = None
    try:
        if isinstance(place, Path):
            place, state = _loaded(place, name)
        if isinstance(place, Path) and state:
            content = _content_once(name, state)
        else:
            content = _content(place, name)
    except PermissionError as error:
        raise AudioError(f"{name} cannot be read ({error.strerror}).") from error
    first = content.stretches[0].part if content.stretches else Part()
    decoder = _decoder(place, first, name)
    stretches = content.stretches
    if not stretches and decoder.frames >= NO_LENGTH:
        decoder.close()
        part = Part(count=True)
        stated_s = decoder.stated_s if isinstance(decoder, media.MediaDecoder) else None
        if state is None:
            content = _measure(place, name, [replace(part, stated_s=stated_s)])
        else:
            content = _counted_once(name, state, stated_s)
        stretches = content.stretches
        decoder = _decoder(place, part, name)
    if not stretches:
        stretches = (Stretch(first, decoder.frames, decoder.frames),)
    info = AudioInfo(
        path,
        decoder.samplerate,
        sum(stretch.num_samples for stretch in stretches),
        decoder.channels,
        decoder.container,
        decoder.coding,
        content.problem,
    )
    if info.num_samples > MOST_S * max(info.sample_rate, 1):
        decoder.close()
        raise AudioError(too_long(name, info.duration_s))
    return Opened(place, name, info, stretches, decoder, state)


def too_long(name: str, seconds: float) -> str:
    """The sentence for a recording beyond :data:`MOST_S`."""
    return (
        f"{name} lasts {seconds / 3600:,.0f} hours or more: up to {MOST_S / 3600:.0f} are read as "
        "one recording; cut it into parts, or see whether it is sound at all."
    )


def _loaded(path: Path, name: str) -> tuple[Place, State]:
    """The bytes of a member of a shard, or the path of a file that can be opened, and its state."""
    try:
        inside = shards.read_member(path)
        status = os.stat(path if inside is None else shards.file_of(path))
    except (PermissionError, AudioError):
        raise
    except FileNotFoundError as error:
        raise FileNotFoundError(_no_such(name) if error.errno else str(error)) from None
    except OSError:  # also for a name that no file can have
        raise FileNotFoundError(_no_such(name)) from None
    except ValueError as error:
        raise AudioError(f"{name} cannot be read: {error}") from error
    state = status.st_size, status.st_mtime_ns, status.st_ino
    if inside is not None:
        return inside, state
    if stat.S_ISDIR(status.st_mode):
        raise AudioError(f"{name} is a folder, not a recording.")
    if not stat.S_ISREG(status.st_mode):
        raise AudioError(f"{name} is no file (a pipe?): give - and pipe the recording in.")
    if status.st_size == 0:
        raise AudioError(f"{name} is empty (0 bytes).")
    return path, state


def _no_such(name: str) -> str:
    drive = _OF_WINDOWS.search(name) if os.sep == "/" else None
    if drive is None:
        return f"No such recording: {name}."
    return (
        f"No such recording: {drive[1]} is a path of Windows, and this system has no drives: "
        "put the recordings beside the manifest and write paths relative to it, with slashes."
    )


_OF_WINDOWS = re.compile(r"(?:^|/)([A-Za-z]:[\\/].*|\\\\[^\\/]+[\\/].*)$")
"""A drive or a network share, at the start or behind the folder of a manifest."""


def _decoder(place: Place, part: Part, name: str) -> AnyDecoder:
    try:
        return Decoder(place, part)
    except (soundfile.SoundFileError, TypeError) as error:
        with Source(place) as source:
            content = name_content(source.at(0, NEEDED))
        why = f"it is {content.name}" if content else _opening_reason(error)
        read = "wav, flac, ogg, opus and mp3 are read"
        suffix = os.path.splitext(name)[1].lower()
        if content.is_sound if content else suffix in media.WITHOUT_HEADER:
            if media.is_installed():
                try:
                    return media.MediaDecoder(place, suffix)
                except media.MediaError as failed:
                    why += f", and {failed}"
            else:
                read = "`pip install 'speechssl[media]'` reads it"
        advice = f"; {read}, anything else can be converted with `ffmpeg -i IN OUT.flac`"
        advice = advice if content is None or content.is_sound else ""
        if content is None and name.lower().endswith((".raw", ".pcm")):
            why = "samples without a header, which would tell their rate and coding"
            advice = "; convert it with, for example, `ffmpeg -f s16le -ar 16000 -i IN OUT.flac`"
        raise AudioError(f"{name} cannot be opened as sound ({why}){advice}.") from error


def _opening_reason(error: Exception) -> str:
    """libsndfile looks for raw files where it knows no format, and says that there is none."""
    text = reason(error)
    return "its format is not known" if "does not exist" in text else text


@lru_cache(maxsize=1 << 14)
def _content_once(name: str, state: State) -> _Content:
    """:func:`_content` of a file in a state: a manifest may read it in many parts."""
    return _content(name, name, state[0])


@lru_cache(maxsize=1 << 10)
def _counted_once(name: str, _state: State, stated_s: float | None) -> _Content:
    part = Part(count=True, stated_s=stated_s)
    return _measure(_loaded(Path(name), name)[0], name, [part])


def _content(given: Place | str, name: str, size: int | None = None) -> _Content:
    """`given`: a file's name, or what it holds."""
    with Source(given, size) as source:
        parts = find_parts(source, name)
    if not parts:
        return _Content()
    return _measure(Path(given) if isinstance(given, str) else given, name, parts)


def _measure(place: Place, name: str, parts: Sequence[Part]) -> _Content:
    """The parts that decode, their lengths, and what is missing of them."""
    stretches: list[Stretch] = []
    problems: list[str] = []
    rate = 0
    there_s = stated_s = tolerance_s = 0.0
    is_cut = False
    for number, part in enumerate(parts):
        try:
            decoder = _decoder(place, part, name)
        except AudioError:
            if number + 1 == len(parts) and not stretches:
                raise
            problems.append(f"{name}: its part {number + 1} of {len(parts)} cannot be opened.")
            continue
        with decoder:
            own, why = decoder.frames, ""
            if part.count or own >= NO_LENGTH:
                own, why = count_samples(decoder)
            rate = rate or decoder.samplerate
            own_s = own / decoder.samplerate
            there_s += own_s
            stated_s += max(part.stated_s or 0.0, own_s * part.stated_ratio)
            tolerance_s += min(0.1, 0.1 if decoder.is_lossy else 0.01 * own_s)
        if own:
            at_rate = own if decoder.samplerate == rate else round(own_s * rate)
            stretches.append(Stretch(part, own, at_rate))
        if why and part.stated_s is None:
            problems.append(f"{name}: {own_s:.3f} s of it decode, what follows does not ({why}).")
        is_cut = is_cut or part.cut
    if stated_s - there_s > tolerance_s:
        problems.append(missing(name, there_s, stated_s))
    elif is_cut:
        problems.append(f"{name} is cut off: {there_s:.3f} s of it are there and are used.")
    if not stretches:
        stretches.append(Stretch(parts[0], 0, 0))
    return _Content(tuple(stretches), " ".join(problems))


def missing(name: str, there_s: float, stated_s: float) -> str:
    """The sentence for a recording of which the end is missing."""
    return (
        f"{name} is cut off or damaged: {there_s:.3f} s of the {stated_s:.3f} s in its header are "
        "there and are used."
    )


def count_samples(decoder: AnyDecoder) -> tuple[int, str]:
    """The samples of a part that decode, and why no more do (empty: it is the end, or there are
    more than any recording may have)."""
    most, count = max(BLOCK_SAMPLES // decoder.channels, 1), 0
    while True:
        if count > MOST_S * decoder.samplerate:
            return count, ""
        block, why = decoder.next_block(most)
        count += len(block)
        if why or len(block) == 0:
            return count, why
