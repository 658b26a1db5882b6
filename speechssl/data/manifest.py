"""The manifest: JSON lines, one utterance a line, the only list of speech that training reads.

``{"id": "abiayi_102", "audio": "rel/or/abs/path.wav", "start_s": 0.0, "duration_s": 2.95,
"sample_rate": 16000, "speaker": "abiayi", "text": "wó twεrε ya poo"}``. Paths are relative to the
folder of the manifest and have forward slashes on every system; `text` and `speaker` may be
missing, and so may `ipa`, the transcript as phones, and `weight`: how much the transcript counts in
a CTC loss (1.0). Further fields are not looked at.
"""

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import repeat
from pathlib import Path
from typing import Any

from speechssl.audio import AudioInfo, probe
from speechssl.data.layouts import read_layout
from speechssl.data.layouts.dialect import TABLE_SUFFIXES
from speechssl.data.layouts.unused import ADVICE
from speechssl.files import writing
from speechssl.spelling import is_blank, name_key
from speechssl.text.encodings import decode


@dataclass(frozen=True, slots=True)
class Utterance:
    """A stretch of one recording."""

    id: str
    audio: Path
    """Absolute after :func:`read_manifest`."""
    start_s: float
    duration_s: float
    sample_rate: int
    """Of the file, not of what training reads."""
    speaker: str | None = None
    text: str | None = None
    """What was said. None, or blank: nobody wrote it down."""
    weight: float = 1.0
    """Of the transcript in a CTC loss, above 0: less than 1 where it is less certain, as one that a
    model made. Scores do not look at it."""
    ipa: str | None = None
    """What was said as phones, in IPA. None, or blank: it is not known."""

    @property
    def is_labeled(self) -> bool:
        """Whether there is a transcript: a blank one says nothing, not that nothing was said."""
        return not is_blank(self.text)


def read_manifest(path: str | Path) -> list[Utterance]:
    """The utterances of a manifest, in its order.

    `.jsonl` is ours. Fairseq manifests, Kaldi data folders and tables with a header are read too
    (see `layouts`); as they do not say how long a recording is, each header is read.

    Raises FileNotFoundError when there is no such file, and ValueError, naming the file and the
    line, when a line is broken, an id is there twice (in whichever Unicode form) or there is no
    utterance at all.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"No such manifest: {path}.")
    if path.suffix == ".jsonl" and path.is_file():
        utterances = list(_read_jsonl(path))
    else:
        utterances = list(_read_foreign(path))
    if not utterances:
        raise ValueError(f"The manifest {path} is empty: it names no utterance.")
    return utterances


_LINES_OF_TEXT = (".txt", ".lab", ".trn", ".text", ".transcript", ".ltr")


def read_texts(path: str | Path) -> list[str]:
    """The transcripts of a manifest (.jsonl) or a table of recordings (.tsv, .csv, .json), or the
    lines of any other file of text, in UTF-8 or UTF-16.

    Raises FileNotFoundError, or ValueError where that is no text, or a format whose lines are more
    than text (subtitles, office documents).
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix in TABLE_SUFFIXES and suffix != ".jsonl":
        return [r.text for r in read_layout(path, "tsv") if r.text and not is_blank(r.text)]
    if suffix == ".jsonl":
        return [u.text for u in read_manifest(path) if u.text and u.is_labeled]
    if suffix in ADVICE and suffix not in _LINES_OF_TEXT:
        raise ValueError(f"{path} is not read as lines of text: {ADVICE[suffix]}.")
    try:
        lines = decode(path.read_bytes(), path).splitlines()
    except FileNotFoundError as error:
        raise FileNotFoundError(f"There is no text file {path}.") from error
    return [line for line in lines if not is_blank(line)]


def write_manifest(
    path: str | Path,
    utterances: Iterable[Utterance],
    *,
    relative: bool = True,
    notes: Iterable[Mapping[str, Any]] | None = None,
) -> None:
    """Write a manifest, its paths relative to its folder.

    `relative` False: absolute ones, for a manifest that moves and recordings that stay. `notes`:
    further fields of each line, for a person: nothing here reads them.
    """
    path = Path(path)
    root = os.path.abspath(path.parent)
    with writing(path) as file:
        for utterance, further in zip(utterances, notes or repeat({}), strict=False):
            fields = _to_dict(utterance, root)
            if not relative:
                fields["audio"] = os.path.abspath(utterance.audio)
            fields |= further
            file.write(json.dumps(fields, ensure_ascii=False) + "\n")


def relative_path(path: Path, root: str) -> str:
    """`path` from the absolute folder `root`, with forward slashes; absolute on another drive."""
    folder, name = os.path.split(os.path.abspath(path))
    try:
        inside = _relative_folder(folder, root)
    except ValueError:  # another drive
        return os.path.join(folder, name)
    return f"{inside}/{name}" if inside != "." else name


@lru_cache(maxsize=1 << 10)
def _relative_folder(folder: str, root: str) -> str:
    return Path(os.path.relpath(folder, root)).as_posix()


def _to_dict(utterance: Utterance, root: str) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "id": utterance.id,
        "audio": relative_path(utterance.audio, root),
        "start_s": round(utterance.start_s, 6),
        "duration_s": round(utterance.duration_s, 6),
        "sample_rate": utterance.sample_rate,
    }
    if utterance.speaker is not None:
        fields["speaker"] = utterance.speaker
    if utterance.text is not None:
        fields["text"] = utterance.text
    if utterance.ipa is not None:
        fields["ipa"] = utterance.ipa
    if utterance.weight != 1:
        fields["weight"] = utterance.weight
    return fields


def _read_jsonl(path: Path) -> Iterator[Utterance]:
    root = os.path.abspath(path.parent)
    lines: dict[str, int] = {}
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            where = f"{path}, line {number}"
            utterance = parse_line(line, where, root)
            key = name_key(utterance.id)
            if key in lines:
                raise ValueError(
                    f"{where}: id {utterance.id!r} is there already, in line {lines[key]}."
                )
            lines[key] = number
            yield utterance


def parse_line(line: bytes, where: str, root: str) -> Utterance:
    """The utterance of a line; `where` it is for messages, `root` the manifest's absolute folder.

    Raises ValueError naming the field that is wrong.
    """
    try:
        fields = json.loads(line)
    except UnicodeDecodeError:
        raise ValueError(f"{where}: not UTF-8 text.") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"{where}: not JSON ({error.msg} at column {error.colno}).") from None
    except (ValueError, RecursionError):
        raise ValueError(f"{where}: a number too long or brackets too deep to be read.") from None
    if not isinstance(fields, dict):
        raise ValueError(f"{where}: not a JSON object in braces.")
    sample_rate = fields.get("sample_rate")
    if not isinstance(sample_rate, int) or isinstance(sample_rate, bool) or sample_rate <= 0:
        raise ValueError(f"{where}: sample_rate must be a positive whole number.")
    audio, ipa = _string(fields, "audio", where), fields.get("ipa")
    return Utterance(
        id=_string(fields, "id", where),
        audio=Path(_place(audio, root)),
        start_s=_seconds({"start_s": 0.0, **fields}, "start_s", where),
        duration_s=_seconds(fields, "duration_s", where),
        sample_rate=sample_rate,
        speaker=_string(fields, "speaker", where) if fields.get("speaker") is not None else None,
        text=_string(fields, "text", where, empty=True) if fields.get("text") is not None else None,
        weight=_weight(fields["weight"], where) if fields.get("weight") is not None else 1.0,
        ipa=_string(fields, "ipa", where, empty=True) if ipa is not None else None,
    )


def _place(audio: str, root: str) -> str:
    r"""A path of a manifest whose folder is `root`. One that Windows wrote (``clips\x.wav``) is the
    same with slashes where only that is there: elsewhere a name may hold a backslash."""
    place = os.path.normpath(os.path.join(root, audio))
    if os.sep == "/" and "\\" in audio and not _DRIVE.match(audio) and not os.path.exists(place):
        other = os.path.normpath(os.path.join(root, audio.replace("\\", "/")))
        return other if os.path.exists(other) else place
    return place


_DRIVE = re.compile(r"[A-Za-z]:|\\\\")
"""How absolute paths of Windows begin: on a drive, or in the network."""


def _string(fields: dict[str, Any], name: str, where: str, empty: bool = False) -> str:
    value = fields.get(name)
    if not isinstance(value, str) or not (value or empty):
        raise ValueError(
            f"{where}: {name} must be a string{'' if empty else ' that is not empty'}."
        )
    if "\0" in value or _HALF_CHARACTER.search(value):
        raise ValueError(f"{where}: {name} holds a zero byte or half of a surrogate pair.")
    return value


_HALF_CHARACTER = re.compile("[\ud800-\udc7f\udd00-\udfff]")
"""What JSON can write as ``\\ud800`` and nothing can hold; U+DC80 to U+DCFF stand for the bytes of
a file name that is not UTF-8."""


def _seconds(fields: dict[str, Any], name: str, where: str) -> float:
    value = fields.get(name)
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not 0 <= value < 1e9:  # type: ignore[operator]
        raise ValueError(f"{where}: {name} must be a number of seconds, 0 or more and below 1e9.")
    return float(value)  # type: ignore[arg-type]


def _weight(value: Any, where: str) -> float:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not 0 < value <= 1e6:
        raise ValueError(
            f"{where}: weight must be a number above 0, at most 1e6, and is {value!r}."
        )
    return float(value)


def _read_foreign(path: Path) -> Iterator[Utterance]:
    infos: dict[Path, AudioInfo] = {}
    seen: set[str] = set()
    for record in read_layout(path):
        key = name_key(record.id)
        if key in seen:
            raise ValueError(f"{path}: id {record.id!r} is there twice.")
        seen.add(key)
        if record.audio not in infos:
            infos[record.audio] = probe(record.audio)
        info = infos[record.audio]
        duration_s = record.duration_s
        if duration_s is None:
            duration_s = max(info.duration_s - record.start_s, 0.0)
        audio = Path(os.path.abspath(record.audio))
        yield Utterance(
            record.id,
            audio,
            record.start_s,
            duration_s,
            info.sample_rate,
            record.speaker,
            record.text,
        )
