"""What the columns of a table mean: their usual names, and times in their usual forms."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

# fmt: off
PATH_COLUMNS = (
    "path", "audio", "file", "filename", "wav", "audio_path", "file_name", "wav_path",
    "audio_filepath", "audio_file_path", "audio_file", "audio_filename", "audio_file_name",
    "filepath", "file_path", "wav_file", "wav_filename", "wav_filepath", "wavfile", "recording",
    "sound", "sound_file", "clip", "mp3", "flac", "ogg", "fname",
)
TEXT_COLUMNS = (
    "text", "sentence", "transcript", "transcription", "transcripts", "transcriptions",
    "sentences", "texts", "normalized_text", "normalised_text", "text_normalized",
    "normalized_transcript", "normalized_transcription", "normalized_sentence",
    "orthographic_transcription", "orthographic", "orthography", "utterance", "utterances",
    "label", "labels", "words", "phrase", "prompt", "trans", "txt", "caption", "content",
    "raw_text", "raw_transcription", "raw_transcript", "target_text", "ground_truth", "reference",
    "ref", "annotation",
)
SPEAKER_COLUMNS = (
    "speaker", "client_id", "spk", "speaker_id", "spk_id", "speaker_name", "spkr", "speakerid",
    "talker", "participant",
)
ID_COLUMNS = ("id", "utt_id", "utterance_id", "uttid", "utt", "segment_id")
TIER_COLUMNS = ("tier", "tier_name", "tier_id")
SPLIT_COLUMNS = ("split", "subset", "partition")
# fmt: on

ROLES = {
    "path": PATH_COLUMNS,
    "text": TEXT_COLUMNS,
    "speaker": SPEAKER_COLUMNS,
    "id": ID_COLUMNS,
    "split": SPLIT_COLUMNS,
}

TimeRole = Literal["start", "end", "duration"]

_TIME_WORDS: dict[str, TimeRole] = {
    **dict.fromkeys(
        ("start", "begin", "beg", "onset", "xmin", "tmin", "t0", "from", "offset", "in"), "start"
    ),
    **dict.fromkeys(("end", "stop", "xmax", "tmax", "t1", "to", "until", "out"), "end"),
    **dict.fromkeys(("duration", "dur", "length", "len"), "duration"),
}
_UNITS: dict[str, float] = {
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1.0),
    **dict.fromkeys(("ms", "msec", "msecs", "millis", "millisecond", "milliseconds"), 0.001),
}
_ONLY_IN_PAIRS = {"from", "to", "until", "t0", "t1", "in", "out"}
"""Words that mean a time only where a table has both a start and an end."""
_COUNTS = {"sample", "samples", "frame", "frames"}
_FILLERS = {
    *("time", "times", "at", "timestamp", "position", "pos", "segment", "seg", "utterance"),
    *(
        "utt",
        "audio",
        "clip",
        "file",
        "recording",
        "sentence",
        "word",
        "wav",
        "in",
        "t",
        "tc",
        "timecode",
    ),
}
_CLOCK = {"hh", "mm", "ss"}
_GLUED = re.compile(r"^(start|begin|end|stop|dur|duration|offset)(time|ms|msec|sec|secs|s)$")
_LIKE_TEXT_OR_TIME = re.compile(
    r"(.*_)?(text|trans|sentence|word|utter|phrase|label|start|begin|onset|offset|dur|time|end\b"
    r"|stop\b)(?!.*_(id|ids|domain|count|num|number|source|lang|language|locale|type|hash)$).*"
)


def column_name(name: str) -> str:
    """A name in a header as it is compared: ``"Start (s)"`` and ``startS`` are ``start_s``."""
    name = re.sub(r"([a-z])([A-Z])", r"\1_\2", name.strip())
    return re.sub(r"[\W_]+", "_", name.lower()).strip("_")


@dataclass(frozen=True)
class TimeColumn:
    """A column of times."""

    name: str
    role: TimeRole
    unit_s: float | None
    """Seconds in its unit; None where its name gives none, 0 where it counts samples or frames."""


def time_column(name: str) -> TimeColumn | None:
    """What a column counts whose :func:`column_name` is `name`; None where that is no time."""
    words = [word for word in name.split("_") if word]
    if len(words) == 1 and words[0] in _UNITS:  # "seconds" alone is how long it is
        return TimeColumn(name, "duration", _UNITS[words[0]]) if len(name) > 2 else None
    if words and (glued := _GLUED.match(words[0])):
        words[:1] = glued.groups()
    unit_s: float | None = None
    if _CLOCK & set(words):  # "hh:mm:ss.ms", of ELAN
        unit_s, words = 1.0, [w for w in words if w not in _CLOCK and w not in _UNITS]
    rest = [word for word in words if word not in _FILLERS]
    for word in rest:
        if word in _UNITS:
            unit_s = _UNITS[word]
        elif word in _COUNTS:
            unit_s = 0.0
    roles = [word for word in rest if word not in _UNITS and word not in _COUNTS]
    if not roles and words[-1:] == ["in"]:  # "tc_in", beside "tc_out"
        roles = ["in"]
    if len(roles) != 1 or roles[0] not in _TIME_WORDS:
        return None
    return TimeColumn(name, _TIME_WORDS[roles[0]], unit_s)


@dataclass(frozen=True)
class Columns:
    """The place of each field in a row; None: the table has no such column."""

    places: dict[str, int | None]
    """Of path, text, speaker, id and split."""
    times: dict[TimeRole, tuple[int, TimeColumn]]
    unused: tuple[str, ...]
    """Names, as written, of columns that look like text or times and are not used."""


def find_columns(names: Sequence[str]) -> Columns:
    """What the names of a header mean; ValueError (of the table, unnamed) where it is unclear."""
    header = [column_name(name) for name in names]
    places = {role: _first(header, known) for role, known in ROLES.items()}
    if places["path"] is None and places["id"] is not None and places["text"] is not None:
        places["path"] = places["id"]  # the files are named after the ids
    taken = {place for place in places.values() if place is not None}
    times: dict[TimeRole, list[tuple[int, TimeColumn]]] = {"start": [], "end": [], "duration": []}
    for place, name in enumerate(header):
        column = time_column(name) if place not in taken else None
        if column is not None:
            times[column.role].append((place, column))
    if any(column.name == "onset" for _, column in times["start"]):
        ends = [(p, c) for p, c in times["start"] if c.name.startswith("offset")]
        times["end"] += [(p, TimeColumn(c.name, "end", c.unit_s)) for p, c in ends]
        times["start"] = [found for found in times["start"] if found not in ends]
    if not (times["start"] and times["end"]):  # alone they may be anything
        for role in ("start", "end"):
            times[role] = [f for f in times[role] if f[1].name.split("_")[-1] not in _ONLY_IN_PAIRS]
    chosen = {role: min(found, key=_unit_rank) for role, found in times.items() if found}
    taken |= {place for place, _ in chosen.values()}
    same = {column.role for _, column in chosen.values()}
    unused = [
        name.strip()
        for place, name in enumerate(names)
        if place not in taken
        and _LIKE_TEXT_OR_TIME.fullmatch(header[place])
        and not ((column := time_column(header[place])) and column.role in same)
    ]
    _check_times(chosen)
    return Columns(places, chosen, tuple(unused))


def _first(header: Sequence[str], names: Sequence[str]) -> int | None:
    name = next((name for name in names if name in header), None)
    if name is None:
        return None
    if header.count(name) > 1:
        raise ValueError(f"has {header.count(name)} columns named {name}: one of them may stay")
    return header.index(name)


def _unit_rank(found: tuple[int, TimeColumn]) -> int:
    unit_s = found[1].unit_s
    return 1 if unit_s is None else 2 if unit_s == 0 else 0


def _check_times(chosen: dict[TimeRole, tuple[int, TimeColumn]]) -> None:
    for _, column in chosen.values():
        if column.unit_s == 0:
            raise ValueError(
                f"has a column {column.name} that counts samples or frames: give seconds, in a "
                "column named start_s, end_s or duration_s"
            )
    if "end" in chosen and "start" not in chosen and "duration" not in chosen:
        raise ValueError(
            f"has a column of ends ({chosen['end'][1].name}) and none of starts: add one named "
            "start_s"
        )


_CLOCK_TIME = re.compile(r"(?:(\d{1,4}):)?(\d{1,4}):(\d{1,2}(?:[.,]\d+)?)")
_NUMBER = re.compile(r"([-+]?(?:\d+(?:[.,]\d*)?|[.,]\d+)(?:[eE][-+]?\d+)?)\s*([a-z]*)")


def parse_time(value: str, unit_s: float) -> float | None:
    """Seconds of a cell: ``1.5``, ``1,5``, ``1500 ms``, ``0:01.5``, ``00:00:01,500``; a number has
    the unit of its column. None where it is no time from 0 on, below 1e9 s, or is unclear."""
    try:
        seconds = float(value) * unit_s  # most are
    except ValueError:
        seconds = -1.0
        if clock := _CLOCK_TIME.fullmatch(value):
            hours, minutes, rest = clock.groups()
            seconds = int(hours or 0) * 3600 + int(minutes) * 60 + float(rest.replace(",", "."))
        elif number := _NUMBER.fullmatch(value.lower()):
            digits, unit = number.groups()
            scale = unit_s if not unit else _UNITS.get(unit, math.nan)
            if scale == 1.0 or not re.search(r",\d{3}$", digits):  # 1,500 ms: 1.5 or 1500?
                seconds = float(digits.replace(",", ".")) * scale
    return round(seconds, 6) if 0 <= seconds < 1e9 else None
