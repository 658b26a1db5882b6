"""What transcripts in a folder were made from, so that the same work is not done twice.

The record is one file of JSON lines beside the transcripts, a line for each, written when the
transcript is in its place. A line that was cut off, or whose transcript is gone, counts for
nothing: that recording is transcribed again.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from speechssl import __version__
from speechssl.checkpoint import Checkpoint, hash_tensors
from speechssl.files import sha256
from speechssl.inference.recordings import Clip
from speechssl.model import config as model_config

RECORD = ".speechssl-done.jsonl"

State = Literal["to do", "done", "edited", "unknown"]
"""``done``: the same work gave the transcript that lies there. ``edited``: it was changed by hand
since. ``unknown``: there is one of which nothing is recorded."""


@dataclass(frozen=True)
class Made:
    """A line of the record."""

    output: str
    """Below the folder, with slashes."""
    work: str
    """Digest of recording, model and options."""
    content: str
    """Digest of what was written."""


class DoneRecord:
    """Of one folder."""

    def __init__(self, folder: Path, model: Checkpoint, options: Mapping[str, Any]) -> None:
        """`options`: everything that a transcript depends on, as JSON; files in it as digests."""
        self._folder, self._path = folder, folder / RECORD
        self._made = {made.output: made for made in _read(self._path)}
        self._last: tuple[bytes | Path, str] = b"", digest_of(b"")
        self._how = {
            "speechssl": __version__,
            "model": model_digest(model),
            "options": dict(options),
        }

    def work_of(self, clip: Clip) -> str:
        """The digest of what is to be done; '' where the recording cannot be read."""
        if not isinstance(clip.source, bytes | Path):
            return ""
        try:
            if self._last[0] != clip.source:  # parts of a recording follow each other
                self._last = clip.source, digest_of(clip.source)
        except OSError:
            return ""
        audio = self._last[1]
        what: dict[str, Any] = {**self._how, "audio": audio, "channel": clip.channel}
        if clip.duration_s is not None:
            what["part"] = clip.start_s, clip.duration_s
        text = json.dumps(what, sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    def state(self, output: Path, work: str) -> State:
        """Of the transcript that `work` is to give."""
        try:
            content = digest_of(output)
        except OSError:  # there is none
            return "to do"
        made = self._made.get(self._name(output))
        if made is None:
            return "unknown"
        if content != made.content:
            return "edited"
        return "done" if work and made.work == work else "to do"

    def add(self, output: Path, work: str) -> None:
        """Record a transcript that is in its place."""
        made = Made(self._name(output), work, digest_of(output))
        self._made[made.output] = made
        line = json.dumps(asdict(made), ensure_ascii=True) + "\n"
        with self._path.open("a+b") as file:
            if file.tell() and _last_byte(self._path) != b"\n":  # a line that was cut off
                line = "\n" + line
            file.write(line.encode())

    def _name(self, output: Path) -> str:
        return output.relative_to(self._folder).as_posix()


def model_digest(checkpoint: Checkpoint) -> str:
    """Of all that a transcript depends on: weights, form, symbols, calibration."""
    digest = hashlib.blake2b(digest_size=16)
    hash_tensors(digest, checkpoint.model.state_dict())
    symbols = checkpoint.tokenizer.symbols if checkpoint.tokenizer else []
    form = model_config.to_dict(checkpoint.speech.config)
    rest = [form, list(symbols), checkpoint.meta.get("calibration")]
    digest.update(json.dumps(rest, sort_keys=True, default=str).encode())
    return digest.hexdigest()


def digest_of(content: Path | bytes) -> str:
    """Of a file's bytes; OSError where it cannot be read."""
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    if not content.is_file():  # a pipe can be read once only
        raise FileNotFoundError(f"{content} is no file.")
    return sha256(content)


def _read(path: Path) -> list[Made]:
    """The lines that are whole."""
    found = []
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return []
    for line in lines:
        try:
            fields = json.loads(line)
            made = Made(**fields)
        except (ValueError, TypeError, RecursionError):
            continue
        if all(isinstance(value, str) for value in asdict(made).values()):
            found.append(made)
    return found


def _last_byte(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(-1, 2)
        return file.read(1)
