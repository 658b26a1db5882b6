"""What a person corrects of a recording: one JSON file each, ``NAME.corrections.json``.

The model's hypothesis stays beside the text that a person makes of it, with who changed it, when,
and the digest of the model. A segment is a label only when somebody checked it. Texts are compared
in NFC.

A file is written only by whoever has seen it as it is (`expected_digest`): of two people who
correct one recording the second is told, and nothing is lost.
"""

import json
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from speechssl.data.layouts.recording import nfc
from speechssl.data.manifest import relative_path
from speechssl.files import writing
from speechssl.spelling import is_blank, name_key
from speechssl.system import lock

SUFFIX = ".corrections.json"
FORMAT = 1
LOCK = ".corrections.lock"


class ChangedMeanwhile(ValueError):
    """Somebody else has written the file since it was read; one sentence names who and when."""


@dataclass(frozen=True)
class SpokenWord:
    """A word of a hypothesis, in seconds of the recording; `confidence` in [0, 1]."""

    text: str
    start_s: float
    end_s: float
    confidence: float


@dataclass(frozen=True)
class CorrectedSegment:
    """A stretch of a recording, in seconds from its beginning."""

    id: str
    """Unique in its file."""
    start_s: float
    end_s: float
    """After `start_s`."""
    hypothesis: str
    """What the model gave, which nobody changes."""
    text: str
    """What a person made of it; the hypothesis at first."""
    confidence: float = 0.0
    """Of the hypothesis, in [0, 1]: of a calibrated model the share of its words that is probably
    right."""
    words: tuple[SpokenWord, ...] = ()
    """Of the hypothesis."""
    speaker: str = ""
    checked: bool = False
    """Whether a person says that the text is what was said; only then it is a label."""
    editor: str = ""
    """Who changed or checked it last."""
    time: str = ""
    """When: ISO 8601 with the zone."""
    model_digest: str = ""
    """Of the model that gave the hypothesis (:func:`speechssl.inference.done.model_digest`)."""

    @property
    def is_label(self) -> bool:
        """Whether it can be learned from: checked, and something was said."""
        return self.checked and not is_blank(self.text)

    @property
    def is_touched(self) -> bool:
        """Whether a person has worked on it."""
        return self.checked or bool(self.editor or self.time)

    @property
    def is_changed(self) -> bool:
        """Whether the text is another than the hypothesis, in NFC and without white space at the
        ends."""
        return not same_text(self.text, self.hypothesis)


@dataclass(frozen=True)
class Corrections:
    """Of one recording."""

    audio: Path
    """Absolute after :func:`read`; in the file it is relative to the file's folder."""
    audio_sha256: str
    """Of the bytes of the recording's file."""
    segments: tuple[CorrectedSegment, ...] = ()
    """Rising by their beginnings."""
    digest: str = field(default="", compare=False)
    """Of the file that this was read from, for :func:`write`; '' where there is none yet."""

    @property
    def labels(self) -> list[CorrectedSegment]:
        return [segment for segment in self.segments if segment.is_label]


def same_text(a: str, b: str) -> bool:
    """Whether two transcripts are one in NFC, with white space collapsed."""
    return " ".join(nfc(a).split()) == " ".join(nfc(b).split())


def checked(
    segment: CorrectedSegment, text: str, editor: str, when: datetime | None = None
) -> CorrectedSegment:
    """The segment with a person's text, which makes it a label; `when` None: now."""
    return replace(segment, text=text, checked=True, editor=editor, time=stamp(when))


def stamp(when: datetime | None = None) -> str:
    """A time, or now, as the files have it: in UTC, to the second."""
    return (when or datetime.now(UTC)).astimezone(UTC).isoformat(timespec="seconds")


def find(folder: Path) -> list[Path]:
    """The corrections in a folder and below it, by name; those of one file where it is a file.

    Raises FileNotFoundError where there is no such folder or file.
    """
    if folder.is_file():
        return [folder]
    if not folder.is_dir():
        raise FileNotFoundError(f"No such folder of corrections: {folder}.")
    return sorted(folder.rglob(f"*{SUFFIX}"))


def digest(path: Path) -> str:
    """SHA-256 of a file's bytes; '' where there is none: what :func:`write` expects."""
    try:
        return sha256(path.read_bytes()).hexdigest()
    except FileNotFoundError:
        return ""


def read(path: str | Path) -> Corrections:
    """The corrections of a file; FileNotFoundError where there is none, and ValueError, naming the
    segment and the field, where it is no such file."""
    path = Path(path)
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise FileNotFoundError(f"There are no corrections {path}.") from error
    try:
        data = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} holds no JSON: {error}.") from error
    made = from_json(data, str(path), path.parent)
    return replace(made, digest=sha256(content).hexdigest())


def write(path: str | Path, corrections: Corrections, expected_digest: str | None) -> str:
    """Write the corrections of a recording; gives the digest of the file as it now is.

    `expected_digest` is that of the file which the person has changed (:attr:`Corrections.digest`),
    '' or None where there was none. Raises ChangedMeanwhile where the file is another by now, and
    ValueError where the segments are not in order.
    """
    path = Path(path)
    _check(corrections.segments, str(path))
    with _alone(path.parent):
        now = digest(path)
        if now != (expected_digest or ""):
            raise ChangedMeanwhile(_changed(path, now))
        with writing(path) as file:
            file.write(json.dumps(to_json(corrections, path.parent), ensure_ascii=False, indent=1))
            file.write("\n")
        return digest(path)


def _changed(path: Path, now: str) -> str:
    """Who was there meanwhile."""
    if not now:
        return f"{path} is gone since it was opened: keep a copy of your text, and open it anew."
    try:
        segments = read(path).segments
    except ValueError:
        segments = ()
    last = max(segments, key=lambda segment: segment.time, default=None)
    who = f" by {last.editor or 'somebody'} at {last.time}" if last and last.time else ""
    return f"{path} was changed{who} since you opened it: open it anew, and change it there."


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Between the look at a file and its change nobody else writes in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("a+b") as file:
        lock(file.fileno())
        yield


def to_json(corrections: Corrections, folder: Path) -> dict[str, Any]:
    """As a file in `folder` has it: ready for `json.dump`."""
    return {
        "format": FORMAT,
        "audio": relative_path(corrections.audio, os.path.abspath(folder)),
        "audio_sha256": corrections.audio_sha256,
        "segments": [asdict(segment) for segment in corrections.segments],
    }


def from_json(data: Any, where: str, folder: Path) -> Corrections:
    """What :func:`to_json` made, read by the rules; `where` it is for messages.

    Raises ValueError naming the segment and the field. Fields that are not known are refused too,
    for what is not read would be lost when the file is written again.
    """
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise ValueError(f"{where} holds no corrections of format {FORMAT}.")
    fields = _fields(data, {"format", "audio", "audio_sha256", "segments"}, where)
    audio = _text(fields, "audio", where)
    if not audio or "\0" in audio:
        raise ValueError(f"{where}: audio must name the recording.")
    rows = fields.get("segments", [])
    if not isinstance(rows, list):
        raise ValueError(f"{where}: segments must be a list.")
    segments = tuple(_segment(row, f"{where}, segment {n}") for n, row in enumerate(rows, 1))
    _check(segments, where)
    place = Path(os.path.normpath(os.path.join(os.path.abspath(folder), audio)))
    return Corrections(place, _text(fields, "audio_sha256", where), segments)


def _segment(row: Any, where: str) -> CorrectedSegment:
    names = set(CorrectedSegment.__dataclass_fields__)
    fields = _fields(row, names, where)
    texts = ("id", "hypothesis", "text", "speaker", "editor", "time", "model_digest")
    given: dict[str, Any] = {name: _text(fields, name, where) for name in texts}
    given |= {name: _number(fields, name, where) for name in ("start_s", "end_s", "confidence")}
    if not isinstance(fields.get("checked", False), bool):
        raise ValueError(f"{where}: checked must be true or false.")
    if given["time"]:
        _time(given["time"], where)
    words = fields.get("words", [])
    if not isinstance(words, list):
        raise ValueError(f"{where}: words must be a list.")
    made = tuple(_word(word, f"{where}, word {n}") for n, word in enumerate(words, 1))
    return CorrectedSegment(**given, words=made, checked=fields.get("checked", False))


def _word(row: Any, where: str) -> SpokenWord:
    fields = _fields(row, set(SpokenWord.__dataclass_fields__), where)
    times = {name: _number(fields, name, where) for name in ("start_s", "end_s", "confidence")}
    return SpokenWord(_text(fields, "text", where), **times)


def _fields(row: Any, known: set[str], where: str) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise ValueError(f"{where}: not a JSON object in braces.")
    if unknown := sorted(set(row) - known):
        raise ValueError(f"{where}: {unknown[0]} is no field of it ({', '.join(sorted(known))}).")
    return row


def _text(fields: dict[str, Any], name: str, where: str) -> str:
    value = fields.get(name, "")
    if not isinstance(value, str):
        raise ValueError(f"{where}: {name} must be a string.")
    return value


def _number(fields: dict[str, Any], name: str, where: str) -> float:
    value = fields.get(name, 0.0)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    most = 1.0 if name == "confidence" else 1e9
    if not is_number or not math.isfinite(value) or not 0 <= value <= most:
        raise ValueError(f"{where}: {name} must be a number from 0 to {most:g}.")
    return float(value)


def _time(text: str, where: str) -> None:
    try:
        zone = datetime.fromisoformat(text).tzinfo
    except ValueError:
        zone = None
    if zone is None:
        raise ValueError(
            f"{where}: time must be ISO 8601 with a zone, as 2026-01-31T12:00:00+00:00, and is "
            f"{text!r}."
        )


def _check(segments: Sequence[CorrectedSegment], where: str) -> None:
    """ValueError where two segments have one id, or one has no id or no length."""
    seen: set[str] = set()
    for number, segment in enumerate(segments, 1):
        if not segment.id or name_key(segment.id) in seen:
            raise ValueError(
                f"{where}, segment {number}: id {segment.id!r} is empty or there already."
            )
        seen.add(name_key(segment.id))
        if not 0 <= segment.start_s < segment.end_s:
            raise ValueError(
                f"{where}, segment {segment.id}: start_s {segment.start_s:g} must lie before "
                f"end_s {segment.end_s:g}."
            )
    starts = [segment.start_s for segment in segments]
    if starts != sorted(starts):
        raise ValueError(f"{where}: segments must be in the order of their beginnings.")
